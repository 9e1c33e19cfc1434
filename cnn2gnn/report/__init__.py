"""The report: figures, tables and one page of a run, or one comparison of several."""

from __future__ import annotations

from cnn2gnn.report.writing import Report

__all__ = ["Report"]
