"""Chains of stages: recipes, seeds and label fractions as one graph, in which every training happens once."""
