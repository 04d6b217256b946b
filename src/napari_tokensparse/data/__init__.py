"""Volumes and files, their placement in napari, transforms and windows: no torch at the border."""
