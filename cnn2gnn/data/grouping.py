"""A test part of whole groups: no speaker, no patient on both sides."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.source import TEST_SHARE


def apart(groups: Sequence[Any], labels: Sequence[int], column: str) -> tuple[list[str], str]:
    """Return parts of which no group stands on both sides, whatever the table says, and a word.

    The test part is one of the folds of scikit-learn's `StratifiedGroupKFold`, or all others where
    one group is most of the data. Groups that training needs to have every class are left to it.
    Of these it is the one that is nearest to a quarter of the rows, and of each class: the same
    for all seeds.

    Args:
        groups: of each row, None, "" or NaN where it has none; labels: its class.
        column: what errors call the groups.

    Raises:
        DataError: a row has no group, there are fewer than two groups, or training would always
            lack a class.
    """
    # those without would be one group, and their true groups stand on both sides
    if lacking := sum(group is None or group == "" or group != group for group in groups):
        raise DataError(f"group_column={column!r} is missing in {lacking} of {len(groups)} rows")
    names, group = np.unique([str(group) for group in groups], return_inverse=True)
    if len(names) < 2:
        raise DataError(f"group_column={column!r} has one value only, {str(names[0])!r}")
    classes, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))  # rows of each group and class, (G, C)
    np.add.at(counts, (group, label), 1)
    sides = [_less_needed(side, counts) for side in _sides(group, label, counts)]
    sides = [side for side in sides if side.any()]
    if not sides:
        raise DataError(
            f"group_column={column!r} allows no test part: without any of its {len(names)} values "
            "training would lack a class"
        )
    test = min(sides, key=lambda side: _distance(side, counts))  # (G,)
    parts = ["test" if test[one] else "train" for one in group]
    shown = ", ".join(names[test][:3]) + (", …" if test.sum() > 3 else "")
    count = parts.count("test")
    return parts, f"test is all of {column} {shown}: {count}, train {len(parts) - count}"


def _sides(group: np.ndarray, label: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Return sets of groups, each `(G,)` of booleans: the folds, then all but a fold.

    Args:
        group, label: of each row; counts: rows of each group and class, `(G, C)`.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    # it takes no more folds than there are groups, or rows of the largest class
    folds = int(min(len(counts), round(1 / TEST_SHARE), counts.sum(0).max()))
    if folds < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes, which are looked after below
        drawn = list(StratifiedGroupKFold(folds).split(group, label, group))
    sides = [np.isin(np.arange(len(counts)), group[rows]) for _, rows in drawn]
    return sides + [~side for side in sides]


def _less_needed(side: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return a test side less its smallest group of every class that training would lack."""
    side = side.copy()
    for members in counts.T > 0:  # (G,)
        if not (members & ~side).any():
            side[np.where(members, counts.sum(1), np.inf).argmin()] = False
    return side


def _distance(side: np.ndarray, counts: np.ndarray) -> float:
    """How far a test side is from the wanted share, of all rows and of each class on average.

    A class of which it has none, so that results say nothing of it, counts as wholly missed.
    """
    total, found = counts.sum(0), counts[side].sum(0)  # (C,)
    # in rows before they are divided: a sixth and a third are equally far from a quarter
    of_all = abs(found.sum() - TEST_SHARE * total.sum()) / total.sum()
    of_each = np.where(found > 0, abs(found - TEST_SHARE * total) / total, 1)  # (C,)
    return float(of_all + of_each.mean())
