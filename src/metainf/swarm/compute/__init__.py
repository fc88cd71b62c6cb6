"""A model in blocks: checkpoints read in part, passes with PyTorch, activations as bytes."""
