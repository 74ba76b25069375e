"""How a store is made of a corpus, and checked."""
