"""Volumes and their files: read, placed, prepared, cut into windows."""
