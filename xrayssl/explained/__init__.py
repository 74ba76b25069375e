"""`xrayssl explain`: where a classifier looks, and where recipes look, in pictures and in numbers with nulls."""
