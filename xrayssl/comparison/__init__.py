"""Recipes compared over seeds: what is told of a mean, of a difference, and how surely."""
