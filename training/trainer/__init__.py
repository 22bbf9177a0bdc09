"""From a recipe to a trained model: samples, batches, steps, checkpoints."""
