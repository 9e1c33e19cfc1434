"""`metrics.json`: what a finished run has measured, and which files it was measured on.

A file of another run may be whole, and have its own checksum. So the metrics tell the checksums of
the files that they belong to, and what the manifest said: what was put together by hand is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnn2gnn.base import checksums
from cnn2gnn.base.files import BrokenFileError, kept_checksum, read_json
from cnn2gnn.base.shapes import Shape, misfit
from cnn2gnn.runs import manifest
from cnn2gnn.runs.epochs import FILE as EPOCHS
from cnn2gnn.runs.epochs import EpochLog

FILE = "metrics.json"
_TENSORS = ("*.safetensors", "snapshots/*.safetensors", "baselines/**/*.safetensors")

_NUMBER = int | float
_ACCURACIES: Shape = {
    "no_graph": _NUMBER,
    "batch": {"mean": _NUMBER, "std": _NUMBER, "batch_size": int, "repeats": int},
    "inductive": _NUMBER,
    "sorted": _NUMBER,
}
_MODEL: dict[str, Shape] = {"name": str, "parameters": int}
# What readers need: see `base.shapes`.
SHAPE: dict[str, Shape] = {
    "dataset": str,
    "measured": {
        **dict.fromkeys(("processor", "device", "torch", "when"), str),
        "threads": int,
        "gpu": str | None,
    },
    "seed": int,
    "protocol": str,
    "images": {"train": int, "validation": int, "test": int},
    "teacher": {**_MODEL, "accuracy": _NUMBER},
    "student": {
        **_MODEL,
        "bank_megabytes": _NUMBER,
        "scope": str,
        "accuracy": _ACCURACIES,
        "expected_calibration_error": _NUMBER,
        "images_per_second": {"batch": _NUMBER, "inductive": _NUMBER},
    },
    "baselines": {
        "twin?": {"parameters": int, "accuracy": _NUMBER},
        "undistilled?": {"parameters": int},
    },
    "files?": {"*": str | None},  # `belonging`
    "made_from?": {},  # `manifest.measured_with`
}


def belonging(folder: Path) -> dict[str, str | None]:
    """Return the checksums of the files that the results of a run belong to."""
    files = sorted(path for pattern in _TENSORS for path in folder.glob(pattern))
    found = {path.relative_to(folder).as_posix(): kept_checksum(path) for path in files}
    return found | {EPOCHS: _of_epochs(folder)}


def read(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a run whose manifest is `content`.

    Raises:
        FileNotFoundError: the run has not finished.
        BrokenFileError: the file is damaged, or it belongs to other parameters, data or epochs.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the run has not finished; start it again")
    metrics = read_json(path)
    if wrong := misfit(metrics, SHAPE):
        raise BrokenFileError(f"{path} is damaged ({wrong}); delete it and start the run again")
    told, now = metrics.get("made_from", {}), manifest.measured_with(content)
    for name, value in told.items():
        if name not in manifest.FREE and now.get(name) != value:
            raise _other(folder / manifest.FILE, path, f" ({name} is another)")
    told, found = metrics.get("files", {}).get(EPOCHS), _of_epochs(folder)
    if None not in (told, found) and told != found:
        raise _other(folder / EPOCHS, path)
    return metrics


def told_checksum(folder: Path, path: Path) -> str | None:
    """Return the checksum that a file of a finished run must have; None if nobody has told it."""
    if not (folder / FILE).is_file():
        return None
    files = read_json(folder / FILE).get("files")
    return files.get(path.relative_to(folder).as_posix()) if isinstance(files, dict) else None


def _other(file: Path, results: Path, what: str = "") -> BrokenFileError:
    return BrokenFileError(
        f"{file} is not the one that the results in {results} belong to{what}; put the right one "
        "back, or start the run under another name"
    )


def _of_epochs(folder: Path) -> str | None:
    """Checksum of what the epochs brought, but for the time they took; None if there are none."""
    rows = EpochLog.read(folder)
    untimed = [{name: row[name] for name in row if name != "seconds"} for row in rows]
    return checksums.of_json(untimed) if rows else None
