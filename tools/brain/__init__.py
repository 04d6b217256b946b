"""Brains made up from the atlas: what the bundled model is trained on."""
