"""What a result depends on besides its parameters: versions, commit, and the machine."""

from __future__ import annotations

import datetime
import hashlib
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import cnn2gnn
from cnn2gnn.base.processor import instructions

PACKAGES = ("torch", "torchvision", "numpy", "lightning-fabric")


def environment() -> dict[str, Any]:
    """Return `versions` by package, `git_commit` (None outside a checkout) and `machine`."""
    return {
        "versions": {
            "cnn2gnn": cnn2gnn.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "git_commit": _git_commit(),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Where and when something is measured."""
    return {
        "platform": platform.platform(),
        "processor": f"{platform.machine()} CPU, {instructions()}",
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def measured(device: str) -> dict[str, Any]:
    """What a time depends on: `machine`, the kind of `device` it ran on, and torch's version."""
    return machine() | {"device": device, "torch": torch.__version__}


def in_words(measured: Mapping[str, Any]) -> str:
    """Say what `measured` holds: "on x86_64 CPU, AMX, 2 threads, torch 2.12.1, 2026-01-31"."""
    where = f"{measured['processor']}, {measured['threads']} threads"
    if measured["device"] != "cpu":
        where = measured["gpu"] or measured["device"]
    return f"on {where}, torch {measured['torch']}, {measured['when'][:10]}"


@cache
def code_hash() -> str:
    """Hash of this package's code: of a checkout that is being edited, a commit says too little."""
    digest, package = hashlib.sha256(), Path(cnn2gnn.__file__).parent
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _git_commit() -> str | None:
    """The commit of this package, if it lies in a checkout of its own."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    where = Path(cnn2gnn.__file__).parents[1]
    if not (where / ".git").exists():  # a wheel inside another project's repository
        return None
    try:
        found = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
