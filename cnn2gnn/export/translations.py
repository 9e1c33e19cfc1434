"""What the student's code asks of torch that its converter to ONNX has no words for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

LEAST = -(2**63)  # of int64


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return operators of torch and what says the same in ONNX, as `torch.onnx.export` takes it."""
    return {
        torch.ops.aten.sort.stable: _stable_sort,
        torch.ops.aten.cummax.default: _running_maximum,
    }


def _stable_sort(values: Any, stable: bool, dim: int, descending: bool = False) -> Any:
    """`sort`: TopK of all values; by its definition, of equal ones the first comes first."""
    del stable  # it always is
    op = _words()
    size = op.Shape(values, start=dim, end=dim + 1)
    return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)


def _running_maximum(values: Any, dim: int) -> Any:
    """`cummax` of int64 `(N, n)` along n: of each place, the largest value up to there."""
    op = _words()
    assert dim == 1  # who writes another one sees it here
    places = op.Range(0, values.shape[1], 1)  # (n,)
    before = op.GreaterOrEqual(op.Unsqueeze(places, [1]), places)  # (n, n)
    seen = op.Where(before, op.Unsqueeze(values, [1]), LEAST)  # (N, n, n)
    found = op.ReduceMax(seen, [2], keepdims=0)  # (N, n)
    return found, found  # the second would be its places, which nobody asks for


def _words() -> Any:
    """ONNX's operators as functions; constants may be plain numbers, which their types deny."""
    from onnxscript import opset20

    return opset20
