"""The names a parameter may take, apart from the heavy modules that implement them."""

from __future__ import annotations

TEACHERS = (
    "resnet20", "resnet56", "resnet110",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
)  # fmt: skip
STEMS = ("linear", "conv-tiny", "conv-small", "conv-base", "features")
GRAPHS = ("adaptive", "none", "random", "fixed", "softmax")
