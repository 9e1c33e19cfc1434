"""Checksums that a file carries itself: what was damaged on the disk is found where it is read.

CRC-32, as in gzip and PNG: it finds every flipped bit and misses other damage once in four thousand
million times, at gigabytes a second. It is no protection against people.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, uint8

NAME = "checksum"  # its key in JSON


def of_tensors(tensors: Mapping[str, Tensor], text: str) -> str:
    """Checksum of `text` and of the names, types, shapes and bytes of tensors on the CPU."""
    value = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        # as bytes: numpy knows no bfloat16
        value = zlib.crc32(tensor.contiguous().flatten().view(uint8).numpy().data, value)
    return f"{value:08x}"


def of_json(content: Any) -> str:
    """Checksum of what JSON holds, whatever the order of its keys and the spaces between them."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def stamped(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON-able content with its checksum, the last of its keys."""
    read_again = json.loads(json.dumps(content))  # as it will be: keys become text, tuples lists
    return read_again | {NAME: of_json(read_again)}


def unstamped(content: Any) -> tuple[Any, bool]:
    """Return content without its checksum, and whether that is right.

    Content that has none is of an older version, or was written by hand: it is taken as it is.
    """
    if not isinstance(content, dict) or NAME not in content:
        return content, True
    rest = {name: value for name, value in content.items() if name != NAME}
    return rest, content[NAME] == of_json(rest)
