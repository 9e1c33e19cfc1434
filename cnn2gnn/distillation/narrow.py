"""What bf16 on CPUs gets wrong: the gradient of strided convolutions over maps one pixel wide.

oneDNN (in torch 2.15, with AVX-512's bf16) does not write the gradient of the weights there: it is
whatever lay in that memory, NaN or not. Small images meet it in the last blocks of a deep network.
The results themselves and float32 are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def in_float32(module: nn.Module) -> Iterator[None]:
    """Have such convolutions of `module` compute in float32, whatever autocast says on a CPU.

    Those that somebody has given a forward of their own are left alone.
    """
    found = (m for m in module.modules() if isinstance(m, _CONVOLUTIONS) and max(m.stride) > 1)
    strided = [m for m in found if "forward" not in vars(m)]
    try:
        for convolution in strided:
            convolution.forward = partial(_forward, convolution.forward)  # type: ignore[method-assign]
        yield
    finally:
        for convolution in strided:
            vars(convolution).pop("forward", None)  # the class has it


def _forward(usual: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a convolution makes of `x` `(B, C, …, W)`; `usual` is its own forward."""
    if x.shape[-1] > 1 or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return usual(x)
    with torch.autocast("cpu", enabled=False):
        return usual(x.float())
