"""What is written of a result from the window: labels, maps, receipts, the command line."""
