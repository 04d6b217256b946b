"""The Batch widget."""
