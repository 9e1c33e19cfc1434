"""Distil a large CNN into a small graph neural network (CNN2GNN, arXiv 2404.14822)."""

from __future__ import annotations

__version__ = "0.1.0"
