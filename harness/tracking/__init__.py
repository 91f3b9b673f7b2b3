"""Learning curves for TensorBoard and Weights & Biases."""
