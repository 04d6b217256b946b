"""Keeps threads from importing torch and MONAI at the same time."""

from threading import Lock

IMPORTING = Lock()
"""Held by a thread of a widget while it imports the engine: two at once meet half-made modules."""
