"""Keeps threads from importing torch and MONAI at the same time."""

from threading import Lock

IMPORTING = Lock()
"""Held while a thread of a widget imports the engine, or napari a widget.

Two at once meet half-made modules.
"""
