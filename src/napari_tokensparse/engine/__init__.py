"""Inference, training and metrics: frozen events in progress, frozen results at the end."""
