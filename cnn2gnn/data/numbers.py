"""Numbers as users hold them, as float32: converted, or refused, never half of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

_REAL = "biufO"  # kinds of numpy's: bool, integers, floats, and objects, which are asked one by one


def as_float32(values: Any) -> np.ndarray:
    """Return an array, a tensor or lists of numbers as float32 of the same shape.

    What is too large becomes infinity, None becomes NaN.

    Raises:
        ValueError: they are no real numbers (complex ones would lose a half, texts and dates are
            none), or rows of several lengths.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # numpy knows no bfloat16
        values = (values.float() if values.is_floating_point() else values).numpy()
    try:
        found = np.asarray(values)
        if found.dtype.kind not in _REAL:
            raise ValueError(f"{found.dtype} is no real number")
        with np.errstate(over="ignore"):
            return found.astype(np.float32)
    except (TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(str(error)) from error
