"""Objects and code of the user's own are told apart, and known again in another process."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnn2gnn.base.fingerprints import fingerprint


def closure(alpha: Any) -> Callable[..., Any]:
    def loss(*_: Any) -> Any:
        return alpha

    return loss


def base(x: float, alpha: float = 1.0) -> float:
    return alpha * x


class Weighing:
    """A callable object that knows itself, too."""

    def __init__(self, alpha: Any) -> None:
        self.alpha, self.itself = alpha, self

    def __call__(self, x: Any) -> Any:
        return x


class Scaled(nn.Module):
    """A module whose factor is no weight."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return self.factor * x


MAKERS: list[Callable[[float], Any]] = [
    closure,
    lambda alpha: closure(torch.tensor([alpha])),
    lambda alpha: closure(np.array([alpha] * 5000)),
    lambda alpha: closure({"a": (alpha, {alpha})}),
    lambda alpha: closure(closure(alpha)),
    lambda alpha: closure([Path(str(alpha)), torch.device("cuda", int(alpha)), range(int(alpha))]),
    lambda alpha: functools.partial(base, alpha=alpha),
    Weighing,
    lambda alpha: Weighing(alpha).__call__,
    Scaled,
    lambda alpha: nn.Sequential(Scaled(alpha)),
]


@pytest.mark.parametrize("make", MAKERS)
def test_what_an_object_has_kept_counts(make: Callable[[float], Any]) -> None:
    assert fingerprint(make(1.0)) == fingerprint(make(1.0)) != fingerprint(make(2.0))


def test_defaults_and_source_count() -> None:
    def one(x: int = 1) -> int:
        return x

    def two(x: int = 1) -> int:
        return -x

    before = fingerprint(one)
    assert before.split()[1] != fingerprint(two).split()[1]
    one.__defaults__ = (2,)
    assert fingerprint(one) != before
    assert fingerprint(Weighing) != fingerprint(Scaled)


def twice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def around(x: float) -> Any:
        return 2 * function(x)

    return around


def thrice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def around(x: float) -> Any:
        return 3 * function(x)

    return around


def test_what_a_decorator_does_counts() -> None:
    """Its results say that they are what they are around."""
    assert fingerprint(twice(base)) == fingerprint(twice(base))
    assert len({fingerprint(thing) for thing in (base, twice(base), thrice(base))}) == 3
    assert fingerprint(twice(closure(1.0))) != fingerprint(twice(closure(2.0)))


FACTOR = 1.0


def helped(x: float) -> float:
    return sum([x * FACTOR for _ in range(2)])


def helping(x: float) -> float:
    return helped(x)


def test_what_a_function_uses_of_its_own_file_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [fingerprint(helped), fingerprint(helping)]
    assert before == [fingerprint(helped), fingerprint(helping)]
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert not {*before} & {fingerprint(helped), fingerprint(helping)}


def test_training_mode_and_builtins_have_fingerprints() -> None:
    module = Scaled(1.0)
    assert fingerprint(module) == fingerprint(module.eval())
    assert fingerprint(torch.relu) != fingerprint(torch.tanh)


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    """Also of what was typed into a console, which has no source."""
    (tmp_path / "mine.py").write_text(
        "import functools, numpy\n"
        "class Kept:\n    def __init__(self):\n        self.a = [1, {2: 'b'}]\n"
        "        self.names = numpy.array([str(5), None], dtype=object)\n"
        "    def __call__(self, x):\n        return x\n"
        "def f(x, a=1):\n    return x\n"
        "part = functools.partial(f, a=2)\n"
    )
    code = (
        "from cnn2gnn.base.fingerprints import fingerprint as p; import mine\n"
        "print(p(mine.part), p(mine.Kept()), p(mine.f), p(lambda x: x + 1), p(print))"
    )
    path = [str(Path(__file__).parents[1]), str(tmp_path)]
    environment = {"PYTHONPATH": ":".join(path), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", code]
    said = {
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    (line,) = said
    assert len(line.split()) == 10 and "0x" not in line
