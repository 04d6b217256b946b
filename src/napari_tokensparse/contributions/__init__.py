"""npe2 contributions, imported only when called."""
