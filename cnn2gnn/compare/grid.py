"""The grid of a comparison: which values are tried of which parameters, and the cells it has.

# comparison.toml: one value is fixed, of a list each is tried
dataset = "digits"
epochs = 5
loss = ["kd", "dkd"]
seed = [0, 1, 2]

[[variant]]                 # parameters that go together; each is tried with all of the above
graph = "none"
[[variant]]
graph = "adaptive"
k = [10, 20]
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from cnn2gnn.base.files import replacing
from cnn2gnn.base.names import run_name
from cnn2gnn.base.values import ConfigError, brief, plain
from cnn2gnn.config import Config
from cnn2gnn.data import DataError
from cnn2gnn.data.loading import registered
from cnn2gnn.runs.manifest import bound_parameters

GRID_FILE = "comparison.toml"  # as a comparison keeps its grid, in its own folder
VARIANT = "variant"
SEED = "seed"
SEEDS = (SEED, "teacher_seed", "split_seed")
PLACES = ("run", "runs_dir")  # of a cell: not the user's to give
_JOINED = ","  # between the varied values in a cell's name


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        config: all its parameters; varied: those in which cells differ, with this cell's values.
    """

    config: Config
    varied: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its run."""
        return self.config.runtime.run

    @property
    def folder(self) -> Path:
        """The folder of its run."""
        return Path(self.config.runtime.runs_dir, self.name)


@dataclass(frozen=True)
class Grid:
    """All combinations of values, checked before anything runs.

    Args:
        name: of the comparison; its cells' runs are called `name-k=5,seed=0`.
        values: one value or a list of values for each parameter; `variant` holds a list of such
            mappings, each of which is combined with all the others.
        runs_dir: folder of all runs: cells share its teachers.
    """

    name: str
    values: Mapping[str, Any]
    runs_dir: str = "runs"

    def __post_init__(self) -> None:
        run_name(self.name, "name")
        object.__setattr__(self, "values", _plainly(self.values))
        for place in PLACES:
            if place in self.values or any(place in variant for variant in self._variants):
                raise ConfigError(f"{place} cannot be part of a grid: each cell has its own run")

    @classmethod
    def read(cls, path: str | Path, runs_dir: str = "runs") -> Grid:
        """Read a TOML file; the comparison is called as the file is.

        One that is called `comparison.toml`, as a comparison keeps it, is called as its folder is.

        Raises:
            FileNotFoundError: the file is not there.
            ConfigError: it is no TOML.
        """
        path = Path(path)
        try:
            values = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
        except (TOMLKitError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        name = path.resolve().parent.name if path.name == GRID_FILE else path.stem
        return cls(name, values, runs_dir)

    def save(self, path: Path) -> None:
        """Write the grid as TOML, as `read` takes it."""
        with replacing(path) as temporary:
            temporary.write_text(tomlkit.dumps(self.values), encoding="utf-8")

    def cells(self) -> list[Cell]:
        """Return all cells, those of one configuration behind each other.

        Raises:
            ConfigError: a parameter that does not exist or has a wrong value, an unknown data set,
                an empty list, or a value or combination that occurs twice.
        """
        points = list(self._points())
        names = dict.fromkeys(name for point in points for name in point)
        # always told: later a comparison may get more seeds, and its cells keep their names
        varying = [n for n in names if n == SEED or len({repr(p.get(n)) for p in points}) > 1]
        cells: dict[str, Cell] = {}
        for point in points:
            varied = {name: point[name] for name in varying if name in point}
            run = self._run_name(varied)
            config = Config.from_parameters({**point, "run": run, "runs_dir": self.runs_dir})
            check_dataset(config.data.dataset)
            if run in cells:
                raise ConfigError(f"{self.name}: {_said(varied)} occurs twice")
            cells[run] = Cell(config, varied)
        return list(cells.values())

    @property
    def _variants(self) -> list[Mapping[str, Any]]:
        variants = self.values.get(VARIANT, [{}])
        if not isinstance(variants, list) or not all(isinstance(v, Mapping) for v in variants):
            raise ConfigError(
                f"{VARIANT}={brief(variants)} must be tables, each below [[{VARIANT}]]"
            )
        if not variants:
            raise ConfigError(f"{VARIANT}=[] must hold at least one table, below [[{VARIANT}]]")
        return variants

    def _points(self) -> Iterator[dict[str, Any]]:
        common = {SEED: Config().runtime.seed}
        common |= {name: value for name, value in self.values.items() if name != VARIANT}
        for variant in self._variants:
            axes = {
                name: value if isinstance(value, list) else [value]
                for name, value in {**common, **variant}.items()
            }
            for name, axis in axes.items():
                _check_axis(name, axis)
            # seeds vary fastest: the cells of one configuration stand together
            ordered = sorted(axes, key=lambda name: name in SEEDS)
            for combination in itertools.product(*(axes[name] for name in ordered)):
                yield dict(zip(ordered, combination, strict=True))

    def _run_name(self, varied: Mapping[str, Any]) -> str:
        """`name-k=5,seed=0`; where this cannot be a run's name, a hash stands for the values."""
        try:
            return run_name(f"{self.name}-{_said(varied)}")
        except ConfigError:
            mark = hashlib.sha256(_said(varied).encode()).hexdigest()[:8]
            return run_name(f"{self.name}-{mark}")


def binding(given: Mapping[str, Any]) -> dict[str, Any]:
    """What results depend on: not on where they were made, but on the precision asked for."""
    return bound_parameters({"parameters": given}) | {"precision": given.get("precision")}


def check_dataset(name: str) -> None:
    """Check that a data set is registered by this name; whether it is there, its run tells.

    Raises:
        ConfigError: none is.
    """
    try:
        registered(name)
    except DataError as error:
        raise ConfigError(str(error)) from error


def _check_axis(name: str, values: Sequence[Any]) -> None:
    if not values:
        raise ConfigError(f"{name}=[] must hold at least one value")
    for at, value in enumerate(values):
        if value is None:  # TOML, as which a grid is kept, has none
            raise ConfigError(f"{name}=None cannot be part of a grid: leave it out of a variant")
        if value in values[:at]:
            raise ConfigError(f"{name}={brief(value)} occurs twice; each value is tried once")


def _plainly(value: Any) -> Any:
    """Values of Python's own, as a file of TOML takes them, also within tables and lists."""
    if isinstance(value, Mapping):
        return {name: _plainly(inner) for name, inner in value.items()}
    return [*map(_plainly, value)] if isinstance(value, list) else plain(value)


def _said(varied: Mapping[str, Any]) -> str:
    return _JOINED.join(f"{name}={value}" for name, value in varied.items())
