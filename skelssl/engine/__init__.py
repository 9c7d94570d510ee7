"""Pre-training: recipes, the training loop, checkpoints, logs."""
