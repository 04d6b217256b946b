"""What became of the tokens, and how the result hangs on the keep ratio."""
