"""Atomic, pickle-free files: what is on disk is whole or was never there."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor


class BrokenFileError(ValueError):
    """A file that is truncated, damaged or of another kind."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.chmod(0o644)  # safetensors keeps its files to their owner
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left behind."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        writer = left.suffix[1:]
        if writer.isdecimal() and not psutil.pid_exists(int(writer)):
            left.unlink(missing_ok=True)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
    """Write tensors and JSON-able metadata as one safetensors file, atomically."""
    # cloned: safetensors refuses tensors that share their memory
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(whole, temporary, {"json": json.dumps(metadata)})


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], Any]:
    """Return tensors and metadata written by `save_tensors`.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenFileError: the file is truncated or not a safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("json", "null"))
        return safetensors.torch.load_file(path), metadata
    except (SafetensorError, json.JSONDecodeError) as error:
        raise BrokenFileError(
            f"{path} is damaged ({error}); delete it and start the run again"
        ) from error


def load_state(module: Any, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Load weights into `module`, or say in one line which of them do not fit.

    Raises:
        ValueError: names are missing or unknown, or a shape differs.
    """
    own = module.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in own]
    wrong += [
        f"{name} has shape {tuple(tensors[name].shape)} where {tuple(own[name].shape)} is needed"
        for name in own
        if name in tensors and own[name].shape != tensors[name].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{source} does not fit this model: {wrong[0]}{more}")
    module.load_state_dict(tensors)


def module_hash(module: Any) -> str:
    """Hash of a module's layers (their options too) and of every number in its state."""
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        # as bytes: numpy knows no bfloat16
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as readable JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
