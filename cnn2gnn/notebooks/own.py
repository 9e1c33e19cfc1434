"""Parameters that are a notebook's own, not a run's: declared and checked as those of `config`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cnn2gnn.base.names import run_name, run_names
from cnn2gnn.config import check_group


def _own(*, each: Any = None, minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field with what it allows; what it means and its default stand in the notebook's cell."""
    limits = {"minimum": minimum, "maximum": maximum}
    return field(metadata={"each": each, "choices": None, **limits})


@dataclass(frozen=True)
class Exploring:
    """Of notebook 03."""

    compare: str | None = _own()

    def __post_init__(self) -> None:
        check_group(self)
        if self.compare is not None:
            run_name(self.compare, "compare")


@dataclass(frozen=True)
class Reporting:
    """Of notebook 04."""

    runs: list | None = _own()
    reports_dir: str = _own()

    def __post_init__(self) -> None:
        check_group(self)
        if self.runs is not None:
            run_names(self.runs)


@dataclass(frozen=True)
class WithoutRetraining:
    """Of notebook 05."""

    late: int = _own(minimum=1)
    images_per_class: list = _own(each=int | None, minimum=1)
    noise: list = _own(each=float, minimum=0.001, maximum=0.9)
    label_shares: list = _own(each=float, minimum=0.0001, maximum=0.99)
    seeds: int = _own(minimum=1)

    def __post_init__(self) -> None:
        check_group(self)


@dataclass(frozen=True)
class Comparing:
    """Of notebook 06; what `values` holds is checked by the grid."""

    name: str = _own()
    values: dict = _own()
    jobs: int = _own(minimum=1)
    reports_dir: str = _own()

    def __post_init__(self) -> None:
        check_group(self)
        run_name(self.name, "name")


@dataclass(frozen=True)
class BeyondImages:
    """Of notebook 07."""

    speech: str = _own()
    bands: int = _own(minimum=4)
    texts: str = _own()
    epochs: int = _own(minimum=1)
    teacher_epochs: int = _own(minimum=1)

    def __post_init__(self) -> None:
        check_group(self)
