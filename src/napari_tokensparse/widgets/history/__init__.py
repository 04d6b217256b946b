"""The runs of a viewer: what each gave, how they agree, and how one comes back into view."""
