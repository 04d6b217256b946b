"""Paths to type or to choose, and those among the settings."""
