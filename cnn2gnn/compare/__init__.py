"""Comparisons: a grid of runs in processes of their own, statistics, one report."""

from cnn2gnn.compare.comparison import Comparison
from cnn2gnn.compare.grid import Grid

__all__ = ["Comparison", "Grid"]
