"""Layers that the network is put together of."""
