"""What networks and the engine cost here: multiply-accumulates, seconds, memory."""
