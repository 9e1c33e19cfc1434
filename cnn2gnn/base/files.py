"""Atomic, pickle-free files: what is on disk is whole or was never there, or is found damaged."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import json
import os
import platform
import secrets
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cnn2gnn.base import checksums
from cnn2gnn.base.values import InputError

# A file that another machine has not touched for so long is nobody's.
ABANDONED_SECONDS = 7 * 24 * 3600
_CHECKED = "checked"  # the entry of a safetensors file that holds checksum and metadata
_OTHER = "it does not have the checksum it was written with"
_LEFT = ".*.*-*-*"  # what `replacing` calls its folders


class BrokenFileError(InputError):
    """A file that is truncated, damaged or of another kind."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; what is there replaces `path` only if the block succeeds.

    It lies in a folder of its own beside `path`: libraries that write (safetensors does) may put
    temporary files of theirs beside theirs. After the block, the new content is on the disk, not
    only in the system's memory.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    writer = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    own = path.with_name(f".{_short(path.name)}.{writer}")
    temporary = own / "whole"
    try:
        own.mkdir()
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask wants it
        yield temporary
        temporary.chmod(mode)  # safetensors keeps its files to their owner
        _to_disk(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # the new name too; not every network volume can, the file is whole
            _to_disk(path.parent)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _machine() -> str:
    """Name what the numbers of processes belong to: a host since its start, or a container on it.

    A host's name alone is not enough: containers and cloned machines share them.
    """
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        numbers = f"{start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not on Linux
        numbers = str(uuid.getnode())
    return f"{platform.node()}-{hashlib.sha256(numbers.encode()).hexdigest()[:8]}"


def _short(name: str) -> str:
    """A name that leaves room for what is put behind it: file systems allow 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:120])


def sweep(folder: str | Path) -> None:
    """Remove what killed writers have left in a folder and below it.

    Whoever opens a folder to go on with it calls this: a file that nobody writes again would keep
    the temporary one beside it for ever. Safe beside other processes, which are still writing.
    """
    for where, folders, files in os.walk(folder):  # what vanishes meanwhile is no error to it
        for name in fnmatch.filter([*folders, *files], _LEFT):
            _remove_if_abandoned(Path(where, name))
        folders[:] = [name for name in folders if not fnmatch.fnmatch(name, _LEFT)]


def _sweep(path: Path) -> None:
    """Remove what killed writers of `path` have left behind."""
    for left in path.parent.glob(f".{glob.escape(_short(path.name))}.*-*-*"):
        _remove_if_abandoned(left)


def _remove_if_abandoned(left: Path) -> None:
    """Remove a temporary folder, or an older version's file, whose writer is gone.

    On a shared volume, a process of another machine may be writing: its number says nothing here,
    so that only its age counts.
    """
    machine, _, writer = left.name.rpartition("-")[0].rpartition("-")
    if not writer.isdecimal():
        return
    with suppress(FileNotFoundError):  # its writer was faster
        ours = machine.endswith(f".{_machine()}")
        dead = ours and not psutil.pid_exists(int(writer))
        old = time.time() - left.stat().st_mtime > ABANDONED_SECONDS
        if dead or (old and not ours):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
    """Write tensors and JSON-able metadata as one safetensors file with a checksum, atomically."""
    whole: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage()
        # safetensors refuses tensors that share their memory; others may be too large for a copy
        if memory.data_ptr() in known or memory.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        known.add(memory.data_ptr())
        whole[name] = tensor
    text = json.dumps(metadata)
    # one entry: the order of several is another in every process, and so would be the file's bytes
    entry = json.dumps({"checksum": checksums.of_tensors(whole, text), "metadata": text})
    with replacing(path) as temporary:
        safetensors.torch.save_file(whole, temporary, {_CHECKED: entry})


def load_tensors(path: str | Path, checksum: str | None = None) -> tuple[dict[str, Tensor], Any]:
    """Return tensors, memory-mapped, and metadata written by `save_tensors`.

    The whole file is read once for its checksum, a second for 2 to 3 GB; files of older versions
    have none.

    Args:
        checksum: the one it must have, as `kept_checksum` told it; None: whichever it says it has.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenFileError: the file is truncated, damaged, not a safetensors file, or another one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            kept = file.metadata() or {}
        if checksum not in (None, _told(kept)):
            raise ValueError("it is another one than it was")
        tensors = safetensors.torch.load_file(path)
        if kept.keys() <= {"json"}:  # of an older version
            return tensors, json.loads(kept.get("json", "null"))
        entry = json.loads(kept[_CHECKED])
        if entry["checksum"] != checksums.of_tensors(tensors, entry["metadata"]):
            raise ValueError(_OTHER)
        return tensors, json.loads(entry["metadata"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BrokenFileError(_damaged(path, error)) from error


def kept_checksum(path: str | Path) -> str | None:
    """Return the checksum that a file says it has, by its head alone; None of older versions.

    Raises:
        BrokenFileError: it is damaged or not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _told(file.metadata() or {})
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BrokenFileError(_damaged(Path(path), error)) from error


def _told(kept: Mapping[str, str]) -> str | None:
    return json.loads(kept[_CHECKED])["checksum"] if _CHECKED in kept else None


def _damaged(path: Path, why: object, advice: str = "delete it and start the run again") -> str:
    return f"{path} is damaged ({why}); {advice}"


def load_state(module: Any, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Load weights into `module`, or say in one line which of them do not fit.

    Raises:
        ValueError: names are missing or unknown, a shape or type differs, or weights are not
            finite.
    """
    _check_fit(module.state_dict(), tensors, source)
    module.load_state_dict(tensors)


def check_claim(make: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Check that the module that `make` builds fits these weights, before it takes any memory.

    What a file says of itself may be larger than any memory, so the module is built on torch's
    device "meta", where tensors have shapes alone.

    Raises:
        ValueError: as `load_state`.
    """
    with torch.device("meta"):
        own = make().state_dict()
    _check_fit(own, tensors, "what it holds")


def _check_fit(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str | Path
) -> None:
    """Raise a ValueError that names the first of the `tensors` that does not fit to `own`."""
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in own]
    wrong += [
        f"{name} has shape {tuple(tensors[name].shape)} where {tuple(own[name].shape)} is needed"
        for name in own
        if name in tensors and own[name].shape != tensors[name].shape
    ]
    wrong += [
        f"{name} is {tensors[name].dtype} where {own[name].dtype} is needed"
        for name in own
        if name in tensors and tensors[name].is_floating_point() != own[name].is_floating_point()
    ]
    wrong += [f"{name} is not finite" for name, tensor in tensors.items() if not _finite(tensor)]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{source} does not fit this model: {wrong[0]}{more}")


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def module_hash(module: Any) -> str:
    """Hash of a module's layers (their options too) and of every number in its state."""
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        # as bytes: numpy knows no bfloat16
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write `content` as readable JSON with a checksum, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(checksums.stamped(content), indent=2) + "\n")


def read_json(path: str | Path, *advice: str) -> dict[str, Any]:
    """Return what `write_json` has written, or what was written by hand without a checksum.

    Args:
        advice: what to do about a damaged file; none: to delete it and start the run again.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenFileError: it is no JSON object, or not the one that was written.
    """
    path = Path(path)
    try:
        content, whole = checksums.unstamped(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise BrokenFileError(_damaged(path, error, *advice)) from error
    if not whole:
        raise BrokenFileError(_damaged(path, _OTHER, *advice))
    if not isinstance(content, dict):
        raise BrokenFileError(_damaged(path, "it holds no object", *advice))
    return content
