"""Runs: their folders, what made them, and where it was made."""

from cnn2gnn.runs.run import Run, RunLockedError, load_run, load_splits

__all__ = ["Run", "RunLockedError", "load_run", "load_splits"]
