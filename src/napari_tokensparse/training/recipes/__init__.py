"""What a network is trained with, chosen from the data."""
