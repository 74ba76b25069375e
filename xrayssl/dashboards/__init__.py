"""Many runs at a glance: on the terminal, and in Weights & Biases."""
