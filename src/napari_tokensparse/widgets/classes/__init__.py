"""The Class list."""
