"""A bank's tensors as they are saved: in half precision, or compressed to an eighth of that.

Compressed, a node of d key dimensions takes d·bits/8 + 3 + 2·TOP bytes (a few more with more than
128 classes): keys have 8, 4 or 2 bits a dimension (see `quantisation`); of the probabilities the
TOP largest are kept, in steps of 1/255, and the others become zero. What is packed again, after
unpacking, is the same to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cnn2gnn.models import quantisation

TOP = 4  # classes whose probability is kept
_INTEGERS = (torch.int8, torch.int16, torch.int32)


def pack(tensors: dict[str, Tensor], bits: int | None, grid: Tensor | None) -> dict[str, Tensor]:
    """What is saved of a bank's tensors, by the names of `Bank`'s attributes.

    Args:
        bits: of a dimension of a key; None: all in half precision.
        grid: that the keys stand on, see `quantisation`; None: one is made for them.
    """
    packed = {"labels": tensors["labels"].int()}
    if bits is not None:
        packed["labels"] = _smallest(tensors["labels"])
        grid = quantisation.grid_of(tensors["keys"], bits) if grid is None else grid
        levels = quantisation.levels(tensors["keys"], grid, bits)
        packed["keys"], packed["grid"] = quantisation.packed(levels, bits), grid
        packed["bits"] = torch.tensor([bits], device=grid.device)
        packed |= _largest(tensors["probabilities"])
    else:
        packed |= {name: tensors[name].half() for name in ("keys", "probabilities")}
    if "pixels" in tensors:
        packed["pixels"] = _bytes(tensors["pixels"])
    if "radii" in tensors:  # bf16: half precision has no room for large distances
        packed["radii"] = tensors["radii"].to(torch.float32 if bits is None else torch.bfloat16)
    if "looked_at" in tensors:
        packed["looked_at"] = tensors["looked_at"]
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Any]:
    """Undo `pack`: tensors in float32, int64 labels, bits and grid by the names of `Bank`'s.

    Raises:
        KeyError, RuntimeError, ValueError: it is nothing that was packed.
    """
    tensors: dict[str, Any] = {name: tensor.float() for name, tensor in packed.items()}
    bits, grid = None, tensors.pop("grid", None)
    if "key_scales" in packed:  # as files were at first: 8 bits, a scale of the node's own
        bits, tensors["keys"] = 8, tensors["keys"] * tensors.pop("key_scales")[:, None]
    elif grid is not None:
        bits = int(tensors.pop("bits"))
        if bits not in quantisation.BITS:
            raise ValueError(f"keys of {bits} bits")
        levels = quantisation.unpacked(packed["keys"], bits, grid.shape[1])
        tensors["keys"] = quantisation.placed(levels, grid, bits)  # (M, d)
    if bits is not None:
        classes = int(tensors.pop("classes"))
        index, value = tensors.pop("top_classes").long(), tensors.pop("top_values") / 255
        probabilities = value.new_zeros(len(value), classes)
        tensors["probabilities"] = probabilities.scatter(1, index, value)  # (M, C)
    tensors["labels"] = packed["labels"].long()
    if "pixels" in tensors and packed["pixels"].dtype == torch.uint8:
        tensors["pixels"] = tensors["pixels"] / 255
    return {**tensors, "bits": bits, "grid": grid}


def _bytes(pixels: Tensor) -> Tensor:
    """Pixels that were bytes as bytes; samples of another kind as they are."""
    steps = (pixels * 255).round()
    lossless = bool(((steps / 255 == pixels) & (steps >= 0) & (steps <= 255)).all())
    return steps.byte() if lossless else pixels


def _largest(probabilities: Tensor) -> dict[str, Tensor]:
    """The largest of the probabilities `(M, C)`, and the classes that they are of."""
    classes = probabilities.shape[1]
    value, index = probabilities.topk(min(TOP, classes), dim=1)  # (M, m)
    return {
        "top_classes": _smallest(index),
        "top_values": (value * 255).round().byte(),
        "classes": torch.tensor([classes], device=index.device),
    }


def _smallest(whole: Tensor) -> Tensor:
    """Whole numbers in the smallest type that holds them."""
    high = int(whole.max()) if whole.numel() else 0
    return whole.to(next(kind for kind in _INTEGERS if high <= torch.iinfo(kind).max))
