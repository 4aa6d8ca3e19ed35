"""The memory of a run before it runs: a training step on tensors that have a shape and no content."""
