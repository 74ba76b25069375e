"""What a run tells Weights & Biases, and what it keeps to itself."""
