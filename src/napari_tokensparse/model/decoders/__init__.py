"""Dense decoders: whatever turns the completed map and the image into logits."""
