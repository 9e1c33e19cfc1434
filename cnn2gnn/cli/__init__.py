"""The command line."""

from cnn2gnn.cli.commands import main

__all__ = ["main"]
