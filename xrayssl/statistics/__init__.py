"""How good a classifier is: metrics, and how sure they are."""
