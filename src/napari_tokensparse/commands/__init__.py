"""The commands of ``tokensparse``: thin views on the rooms below."""
