"""A bank's tensors as they are saved: in half precision, or compressed to about half of that.

Compressed, a node of d key dimensions takes d + 5 + 2·TOP bytes (a few more with more than 128
classes): keys are int8 with a scale of the node's own, so that a part of the bank keeps its values;
of the probabilities the TOP largest are kept, in steps of 1/255, and the others become zero. What
is packed again, after unpacking, is the same to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOP = 4  # classes whose probability is kept
_INTEGERS = (torch.int8, torch.int16, torch.int32)


def pack(tensors: dict[str, Tensor], compressed: bool) -> dict[str, Tensor]:
    """What is saved of a bank's tensors, by the names of `Bank`'s attributes."""
    packed = {"labels": tensors["labels"].int()}
    if compressed:
        packed["labels"] = _smallest(tensors["labels"])
        packed["keys"], packed["key_scales"] = _quantised(tensors["keys"])
        packed |= _largest(tensors["probabilities"])
    else:
        packed |= {name: tensors[name].half() for name in ("keys", "probabilities")}
    if "pixels" in tensors:
        packed["pixels"] = _bytes(tensors["pixels"])
    if "radii" in tensors:  # bf16: half precision has no room for large distances
        packed["radii"] = tensors["radii"].to(torch.bfloat16 if compressed else torch.float32)
    if "looked_at" in tensors:
        packed["looked_at"] = tensors["looked_at"]
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack`: float32, and int64 labels."""
    tensors = {name: tensor.float() for name, tensor in packed.items()}
    if is_compressed(packed):
        scales = tensors.pop("key_scales")
        tensors["keys"] = tensors["keys"] * scales[:, None]  # (M, d)
        classes = int(tensors.pop("classes"))
        index, value = tensors.pop("top_classes").long(), tensors.pop("top_values") / 255
        probabilities = value.new_zeros(len(value), classes)
        tensors["probabilities"] = probabilities.scatter(1, index, value)  # (M, C)
    tensors["labels"] = packed["labels"].long()
    if "pixels" in tensors and packed["pixels"].dtype == torch.uint8:
        tensors["pixels"] = tensors["pixels"] / 255
    return tensors


def is_compressed(packed: dict[str, Tensor]) -> bool:
    """Whether these tensors came from `pack` with `compressed`."""
    return "key_scales" in packed


def _bytes(pixels: Tensor) -> Tensor:
    """Pixels that were bytes as bytes; samples of another kind as they are."""
    steps = (pixels * 255).round()
    lossless = bool(((steps / 255 == pixels) & (steps >= 0) & (steps <= 255)).all())
    return steps.byte() if lossless else pixels


def _quantised(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Keys `(M, d)` as int8 and the scales `(M,)` that they are multiplied by."""
    # the scale is rounded first, so that key and scale fit each other
    scales = (keys.abs().amax(1) / 127).half()  # (M,)
    steps = keys / scales.float().where(scales > 0, 1)[:, None]
    return steps.round().clamp(-127, 127).to(torch.int8), scales


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
