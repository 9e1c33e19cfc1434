"""What a run was made from, kept with it: `config.json`, the one manifest of a run.

A result belongs to its data, teacher, parameters, precision and code. The manifest is written when
the run begins, compared whenever it goes on, and its data are compared whenever it is looked at.
"""

from __future__ import annotations

import datetime
import json
import logging
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import cnn2gnn
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import DataError, Splits
from cnn2gnn.data.augmentation import VERSION as AUGMENTATION_VERSION
from cnn2gnn.files import BrokenFileError, write_json
from cnn2gnn.hardware import resolved_hardware
from cnn2gnn.own import Own

FILE = "config.json"
# Parameters that may change between two starts of a run; what they amount to is told or compared.
FREE = ("runs_dir", "device", "devices", "num_nodes", "precision", "data_dir", "download")
log = logging.getLogger(__name__)


def make(config: Config, splits: Splits, own: Own) -> dict[str, Any]:
    """Return the manifest of a run that begins now."""
    return {
        "parameters": config.parameters(),
        "own": own.fingerprints(),
        "data": data_facts(splits),
        "augmentation_version": AUGMENTATION_VERSION,
        "hardware": resolved_hardware(config.runtime),
        "teacher": None,  # its fingerprint, as soon as there is one
        "stages": {},  # what made each stage that is done
        **environment(),
    }


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest of the run in `folder`.

    Raises:
        FileNotFoundError: there is no run in this folder.
        BrokenFileError: it is damaged, or of an older version.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no run in {folder}: {path} is missing")
    try:
        content = json.loads(path.read_text())
        missing = {"parameters", "own", "data", "hardware", "teacher", "stages"} - {*content}
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise BrokenFileError(f"{path} is damaged: {error}") from error
    if missing:
        raise BrokenFileError(
            f"{path} is damaged or of an older version: {', '.join(sorted(missing))} is missing; "
            "start the run under another name"
        )
    return content


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest, atomically."""
    write_json(folder / FILE, content)


def compare(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Check that a run may go on, and tell in one line what has changed that may change.

    Raises:
        DataError: the images are others. ConfigError: a parameter, an object or the precision is.
    """
    check_data(before["data"], now["data"], folder.name)
    then, today = _binding(before), _binding(now)
    changed = [
        f"{name} was {then.get(name)!r}, is {today.get(name)!r}"
        for name in sorted({*then, *today})
        if then.get(name) != today.get(name)
    ]
    if changed:
        raise ConfigError(
            f"run {folder.name!r} exists with other parameters ({'; '.join(changed)}); "
            f"choose another run name or delete {folder}"
        )
    told = differences({"then": _telling(before), "now": _telling(now)})
    if told:
        changes = "; ".join(f"{name} was {a}, is {b}" for name, (a, b) in told.items())
        log.warning("run %s goes on where something differs: %s", folder.name, changes)


def data_facts(splits: Splits) -> dict[str, Any]:
    """Name, classes and fingerprints of a run's images."""
    prints = {f"{name} images": part.fingerprint for name, part in splits._asdict().items()}
    return {"name": splits.train.name, "classes": list(splits.train.classes), **prints}


def check_data(before: Mapping[str, Any], now: Mapping[str, Any], run: str) -> None:
    """Compare the data that a run was made with with those at hand.

    Raises:
        DataError: they differ; what does is named with both values.
    """
    for name in before:
        if before[name] != now[name] and name != "name":  # a folder may have moved
            then, today = (str(facts[name])[:60] for facts in (before, now))
            raise DataError(
                f"the data of run {run!r} are no longer those it was made with: {name} were "
                f"{then}, are {today}; restore them, or start a run of another name"
            )


def differences(contents: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the facts that are not the same in all flat `contents`, with one value each."""
    names = {name: None for content in contents.values() for name in content}
    rows = {name: [content.get(name) for content in contents.values()] for name in names}
    return {name: row for name, row in rows.items() if any(v != row[0] for v in row)}


def _binding(content: Mapping[str, Any]) -> dict[str, Any]:
    """What may not change while a run goes on."""
    parameters = {n: v for n, v in content["parameters"].items() if n not in FREE}
    return {
        **parameters,
        **_prefixed("own", content["own"]),
        "precision": content["hardware"]["precision"],
        "augmentation version": content.get("augmentation_version"),
    }


def _telling(content: Mapping[str, Any]) -> dict[str, Any]:
    """What may change while a run goes on, but is told."""
    machine = {n: v for n, v in content.get("machine", {}).items() if n != "when"}
    hardware = {n: v for n, v in content["hardware"].items() if n != "precision"}
    return {
        **content.get("versions", {}),
        "commit": content.get("git_commit"),
        **machine,
        **hardware,
    }


def _prefixed(prefix: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix} {name}": value for name, value in content.items()}


def environment() -> dict[str, Any]:
    """Return what a result depends on besides the parameters: versions, commit, machine."""
    packages = ("torch", "torchvision", "numpy", "lightning-fabric")
    return {
        "versions": {
            "cnn2gnn": cnn2gnn.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "git_commit": _git_commit(),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Where and when something is measured."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _git_commit() -> str | None:
    """The commit of this package, if it lies in a checkout of its own."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    where = Path(__file__).parent
    if not (where.parent / ".git").exists():  # a wheel inside another project's repository
        return None
    try:
        found = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
