"""What frozen features know: probes and embeddings without a training run."""
