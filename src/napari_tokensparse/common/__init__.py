"""What every room uses: files, settings, limits on what a stranger wrote, tables."""
