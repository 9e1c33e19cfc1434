"""Where trained teachers lie: runs of one folder share them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.runs.hardware import resolved_hardware
from cnn2gnn.runs.own import registered


def teacher_folder(config: Config, splits: Splits, precision: str | None = None) -> Path:
    """Where this teacher lies: named by the hash of its data, configuration and precision.

    Args:
        precision: in which it was trained; None: what the configuration amounts to here.
    """
    precision = precision or resolved_hardware(config.runtime)["precision"]
    content = [
        asdict(config.teacher),
        splits.train.augmentation_for(config.data.augmentation),
        splits.train.view_version,
        precision,
        splits.train.fingerprint,
        splits.validation.fingerprint,
        *([registered(config)["teacher"]] if "teacher" in registered(config) else []),
    ]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return Path(config.runtime.runs_dir) / "teachers" / key
