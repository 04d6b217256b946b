"""Models that lie here and models to download."""
