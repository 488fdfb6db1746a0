"""Recipes, networks, patches, the one training loop and weights: what every system shares."""
