"""What each epoch of a training brought: `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnn2gnn.base import checksums
from cnn2gnn.base.files import BrokenFileError, replacing
from cnn2gnn.base.shapes import misfit

FILE = "metrics.jsonl"
GRAPH = "-graph"  # what a student's second stage is called by: `student-graph`


class EpochLog:
    """Rows of `metrics.jsonl`, one per stage and epoch; a repeated epoch replaces its row."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage

    def __call__(self, row: dict[str, Any]) -> None:
        """Append one epoch's row, atomically; the first row carries the checksum of all."""
        kept = [
            old
            for old in self.read(self.folder)
            if old["stage"] != self.stage or old["epoch"] < row["epoch"]
        ]
        rows = json.loads(json.dumps([*kept, {"stage": self.stage, **row}]))
        rows[0] = rows[0] | {checksums.NAME: checksums.of_json(rows)}
        with replacing(self.folder / FILE) as path:
            path.write_text("".join(json.dumps(r) + "\n" for r in rows))

    @staticmethod
    def read(folder: Path) -> list[dict[str, Any]]:
        """Return all rows of a folder, none if it has no log.

        Raises:
            BrokenFileError: they are not those that were written; logs of older versions have no
                checksum.
        """
        path = folder / FILE
        if not path.exists():
            return []
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            told = rows[0].pop(checksums.NAME, None)
            if told is not None and told != checksums.of_json(rows):
                raise ValueError("it does not have the checksum it was written with")
            if wrong := misfit(rows, [{"stage": str, "epoch": int, "*": str | int | float | None}]):
                raise ValueError(wrong)
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise BrokenFileError(
                f"{path} is damaged ({error}); delete it: its epochs are forgotten, what they have "
                "learned is not"
            ) from error
        return rows


def learned(folder: Path) -> bool:
    """Return whether the run in `folder` has learned anything; one that has not begins anew.

    Raises:
        BrokenFileError: see `EpochLog.read`.
    """
    return bool(EpochLog.read(folder)) or any(folder.rglob("*.safetensors"))
