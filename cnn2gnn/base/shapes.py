"""Whether what a JSON file holds has the shape that its readers need.

A JSON schema says the same; the library for it takes seconds to import, and every command would.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeAlias

Shape: TypeAlias = "type | UnionType | None | list[Shape] | dict[str, Shape]"
OPTIONAL, OTHERS = "?", "*"


def misfit(content: Any, shape: Shape, where: str = "") -> str:
    """Return the first place where `content` is otherwise, in words; empty if it fits.

    Args:
        shape: a type (`int | None`), which true and false are only as `bool`; a list of one shape,
            that of all items; or a dictionary from names to shapes, in which a name that ends in
            `?` may be missing, and `*` is any other name. More names than these do no harm.
    """
    if isinstance(shape, dict):
        return _misfit_of_names(content, shape, where)
    if isinstance(shape, list):
        if not isinstance(content, list):
            return f"{where} is no list"
        found = (misfit(item, shape[0], f"{where}[{at}]") for at, item in enumerate(content))
        return next(filter(None, found), "")
    fits = content is None if shape is None else isinstance(content, shape)
    if isinstance(content, bool) and shape is not bool:
        fits = False
    return "" if fits else f"{where}={content!r:.60} is of another type"


def _misfit_of_names(content: Any, shape: Mapping[str, Shape], where: str) -> str:
    if not isinstance(content, dict):
        return f"{where or 'it'} is no object"
    named = {name.removesuffix(OPTIONAL) for name in shape}
    for name, inner in shape.items():
        names = [name.removesuffix(OPTIONAL)]
        if name == OTHERS:
            names = [other for other in content if other not in named]
        for each in names:
            place = f"{where}.{each}" if where else each
            if each in content:
                if found := misfit(content[each], inner, place):
                    return found
            elif not name.endswith(OPTIONAL):
                return f"{place} is missing"
    return ""
