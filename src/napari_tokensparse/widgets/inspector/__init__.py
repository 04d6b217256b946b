"""The Token inspector."""
