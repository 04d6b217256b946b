"""From a volume to labels and maps of its tokens."""
