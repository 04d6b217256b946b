"""What the canvas shows of tokens."""
