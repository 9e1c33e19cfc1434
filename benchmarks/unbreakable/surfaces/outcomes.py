"""What came of what was given: refused, survived or lost."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy

import cnn2gnn

KIT = Path(cnn2gnn.__file__).parent
REFUSALS = (ValueError, OSError)  # ConfigError, DataError and BrokenFileError are ValueErrors
LETTERS = 300  # of a case and of an error that are shown


class Told(ValueError):
    """What a command or another process has said when it refused."""


@dataclass(frozen=True)
class Kind:
    """One row of the table: one kind of input to one surface.

    Attributes:
        cases: what is given.
        do: gives a case to the kit, and asserts that what it makes of it is right.
        names: of these a refusal must name one: parameters, files, values.
        refused: whether every case is wrong, so that none may be taken.
        share: of the tries, for what takes long.
    """

    surface: str
    name: str
    cases: SearchStrategy[Any]
    do: Callable[[Any], object]
    names: Callable[[Any], Collection[str]]
    refused: bool = False
    share: float = 1.0


class Outcome(NamedTuple):
    """What came of a case: `refused`, `survived` or `lost`, and why."""

    word: str
    case: Any
    why: str = ""


def fuzz(kind: Kind, tries: int, seed: int) -> list[Outcome]:
    """Draw cases, which depend on `seed` alone, and judge them; fewer where there are no more."""
    outcomes: list[Outcome] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=max(1, round(tries * kind.share)),
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @hypothesis.given(kind.cases)
    def each(case: Any) -> None:
        outcomes.append(judged(kind, case))  # raises nothing: one fault shall not hide the others

    each()
    return outcomes


def judged(kind: Kind, case: Any) -> Outcome:
    """Give a case to the kit and say what came of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # of numpy: numbers went wrong
            kind.do(case)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        why = unclear(error, kind.names(case))
        if not why:
            return Outcome("refused", case, told)
        return Outcome("lost", case, f"{why} ({_where(error)}): {told}")
    if kind.refused:
        return Outcome("lost", case, "taken, though it is wrong")
    return Outcome("survived", case)


def unclear(error: Exception, names: Collection[str]) -> str:
    """Why this is no clear refusal; empty if it is one.

    It is if the kit itself, or the system about a file, says in one line what was wrong.
    """
    if not isinstance(error, REFUSALS):
        return "wrong" if isinstance(error, AssertionError) else "crashed"
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if not (isinstance(error, OSError | Told) or raised_in.is_relative_to(KIT)):
        return f"crashed in {raised_in.name}"
    if "\n" in str(error):
        return "several lines"
    return "" if any(name in str(error) for name in names) else "names nothing"


def _where(error: Exception) -> str:
    """The innermost line of the kit that an error came through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(KIT):
            return f"{Path(frame.filename).relative_to(KIT)}:{frame.lineno}"
    return "not in the kit"


def short(thing: object) -> str:
    """A case or an error in one line that can be read."""
    text = " ".join(str(thing).split())
    return text if len(text) <= LETTERS else text[:LETTERS] + " …"
