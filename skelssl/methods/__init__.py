"""Pre-training methods; each is a module with `training_step(batch, draws, step)` and an `encoder`."""
