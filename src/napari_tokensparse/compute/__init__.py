"""What computes: devices, memory, batches."""
