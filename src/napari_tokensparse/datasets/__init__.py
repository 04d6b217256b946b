"""Data sets for training: their cases, their check, crops."""
