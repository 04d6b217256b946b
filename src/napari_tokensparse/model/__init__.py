"""The SCD network: config, tokens, encoder, completion, decoder, assembly, checkpoints."""
