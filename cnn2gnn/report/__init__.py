"""The report: figures, tables and one page of a run, or one comparison of several."""
