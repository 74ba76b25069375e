"""Predictions for films that belong to no corpus."""
