"""Several runs in a row: folds, and label-efficiency curves."""
