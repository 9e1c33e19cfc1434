"""A bank that changes while it is used: which names its classes have, and what may be taken out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnn2gnn.base.values import brief
from cnn2gnn.data.names import composed
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student


def changeable(student: Student, bank: Bank | None) -> Bank:
    """Return the bank of a student that finds its neighbours by distance.

    Raises:
        ValueError: it has none, or another graph.
    """
    learner = student.network.learner
    if bank is None or learner is None or learner.reach is None:
        raise ValueError(
            f"graph={student.graph_name!r} finds no nearest nodes, or does not say how many (its "
            "`reach`): there is no bank to change"
        )
    return bank


def check_parts(student: Student, bank: Bank | None, classes: tuple[str, ...]) -> None:
    """Check that student, bank and class names belong together.

    Raises:
        ValueError: they do not.
    """
    known = student.shape["classes"]
    late = [] if bank is None else bank.labels[~bank.trained].unique().tolist()
    if len(classes) < known or [*range(known, len(classes))] != late:
        more = f" and a bank with nodes of {len(late)} later ones" if late else ""
        raise ValueError(f"classes: {len(classes)} names for a student of {known} classes{more}")
    if (bank is None) != (student.scope == "none"):
        raise ValueError(
            "bank: a student without graph takes none"
            if bank is not None
            else f"bank: a student of scope {student.scope!r} needs the one it was trained with"
        )
    if bank is None:
        return
    if (bank.radii is None) == (student.network.local_scaling > 0):
        raise ValueError(
            f"bank: {'no ' if bank.radii is None else ''}local scaling in it, the student's is "
            f"{student.network.local_scaling}: take what Student.bank makes"
        )
    width = student.network.keys_width
    found, needed = (bank.keys.shape[1], bank.probabilities.shape[1]), (width, known)
    if found != needed:
        raise ValueError(
            f"bank: (keys, classes) are {found}, the student's {needed}: they do not belong "
            "together"
        )


def as_names(given: Any, parameter: str) -> tuple[str, ...]:
    """Return one name, or several, as text.

    Raises:
        ValueError: one is no text, such as a number: classes go by their names.
    """
    names = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{parameter}: {brief(name)} must be the name of a class, as text")
    return tuple(map(str, names))  # numpy's text too


def as_rows(given: Any) -> Tensor:
    """Return nodes, int64 `(n,)`.

    Raises:
        ValueError: they are no list of integers; a mask would be read as the rows 1 and 0.
    """
    rows = np.asarray(given)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"rows must be integers (n,), not {rows.dtype} {rows.shape}")
    return torch.from_numpy(rows.astype(np.int64))


def names_with(
    classes: tuple[str, ...], named: Sequence[str], new: tuple[str, ...]
) -> tuple[str, ...]:
    """Return `classes` and behind them the `new` ones.

    Args:
        named: the class of each image that is added.

    Raises:
        ValueError: a name is in neither, or that of several classes; or a new one is there
            already, twice, or without image.
    """
    joined = classes + new
    alike = [composed(name) for name in joined]  # é may be one sign or two
    for name in named:
        if name not in joined:
            allowed = ", ".join(map(repr, joined))
            raise ValueError(f"labels: {name!r} must be one of {allowed}, or be named in new")
        if classes.count(name) > 1:
            raise ValueError(f"labels: {name!r} is the name of several classes")
    for name in new:
        if alike.count(composed(name)) > 1:
            raise ValueError(f"new: {name!r} is a class already, or is named twice")
        if name not in named:
            raise ValueError(f"new: no image has the label {name!r}")
    return joined


def check_size(student: Student, bank: Bank, parameter: str) -> None:
    """Check that a smaller bank still has the nodes that every image needs.

    Args:
        parameter: what the error blames.

    Raises:
        ValueError: fewer than k + 2 of the classes that the student was trained on.
    """
    learner = student.network.learner
    assert learner is not None
    left, least = int(bank.trained.sum()), learner.k + 2
    if left < least:
        raise ValueError(
            f"{parameter}: {left} nodes of the classes that the student was trained on would be "
            f"left, k + 2 = {least} are needed"
        )


def shrunk(
    student: Student, bank: Bank, classes: tuple[str, ...], rows: Tensor
) -> tuple[Bank, tuple[str, ...]]:
    """Return the bank without the nodes `rows` `(n,)`, and the classes without empty late ones.

    Raises:
        ValueError: a row that is not there, or too few nodes that the student finds are left.
    """
    bank, known = bank.without(rows), student.shape["classes"]
    check_size(student, bank, "rows")
    bank = student.network.scaled(bank)
    kept = [c for c in range(len(classes)) if c < known or bool((bank.labels == c).any())]
    place = bank.labels.new_full((len(classes) + 1,), -1)  # label −1 meets the last: −1
    place[kept] = torch.arange(len(kept), device=place.device)
    return replace(bank, labels=place[bank.labels]), tuple(classes[c] for c in kept)
