"""What is written of a run: labels, tables, pictures, receipts."""
