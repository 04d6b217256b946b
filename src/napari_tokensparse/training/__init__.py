"""Training of a network, in runs that can be resumed."""
