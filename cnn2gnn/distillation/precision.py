"""Mixed precision by autocast alone."""

from __future__ import annotations

from typing import Any

from lightning_fabric.plugins import MixedPrecision


class Autocast(MixedPrecision):
    """A module is given what it is given; autocast casts what an operation computes with.

    Lightning's own rounds all inputs of a module to half precision first. Those of the graph
    network are features and keys, whose neighbours differ in the digits that would be lost.
    """

    def convert_input(self, data: Any) -> Any:
        """Leave `data` as it is."""
        return data
