"""What each epoch of a training brought: `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnn2gnn.base.files import replacing

GRAPH = "-graph"  # what a student's second stage is called by: `student-graph`


class EpochLog:
    """Rows of `metrics.jsonl`, one per stage and epoch; a repeated epoch replaces its row."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage

    def __call__(self, row: dict[str, Any]) -> None:
        """Append one epoch's row, atomically."""
        kept = [
            old
            for old in self.read(self.folder)
            if old["stage"] != self.stage or old["epoch"] < row["epoch"]
        ]
        with replacing(self.folder / "metrics.jsonl") as path:
            rows = [*kept, {"stage": self.stage, **row}]
            path.write_text("".join(json.dumps(r) + "\n" for r in rows))

    @staticmethod
    def read(folder: Path) -> list[dict[str, Any]]:
        """Return all rows of a folder, none if it has no log."""
        path = folder / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]
