"""What decides which tokens are pruned: sliders, the rule, and tokens that a person pins."""
