"""Distillation: losses, the cache of the teacher's answers, tasks, the training loop, `distil`."""
