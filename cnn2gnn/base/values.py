"""What a parameter may be: of its type, in its range, or one clear error."""

from __future__ import annotations

import difflib
import math
import sys
import types
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field
from typing import Any, Union, get_args, get_origin


class InputError(ValueError):
    """What was handed in is at fault, not the program: the command line tells it in one line."""


class ConfigError(InputError):
    """A parameter that does not exist or whose value is not allowed."""


def checked(item: Field[Any], type_: Any, value: Any) -> Any:
    """Return `value` in the type of the configuration's field.

    Where the field says what `each` of a list must be, its limits are those of each.

    Raises:
        ConfigError: it has another type, or is not among what the field allows.
    """
    each = item.metadata.get("each")
    if each is None or value is None:
        return _checked(item.name, item.metadata, type_, value)
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{item.name}={brief(value)} must be a list of one value or more")
    return [_checked(f"{item.name}[{at}]", item.metadata, each, v) for at, v in enumerate(value)]


def _checked(name: str, meta: Mapping[str, Any], type_: Any, value: Any) -> Any:
    base, value = base_type(type_), plain(value)
    if value is None and type_ is not base:
        return None
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) is not base or value != value:
        raise ConfigError(f"{name}={brief(value)} must be of type {base.__name__}")
    if value in (math.inf, -math.inf):
        raise ConfigError(f"{name}={value!r} must be finite")
    if meta["choices"] is not None and not _chosen(value, meta):
        several = " or several, with commas between them" if meta.get("several") else ""
        raise ConfigError(
            f"{name}={brief(value)} must be one of {_listed(meta['choices'])}{several}"
        )
    return _within(name, value, meta["minimum"], meta["maximum"])


def _chosen(value: Any, meta: Mapping[str, Any]) -> bool:
    """Whether a value is among the choices; of several, each is, and none twice."""
    if not meta.get("several"):
        return value in meta["choices"]
    names = value.split(",") if value else []
    return {*names} <= {*meta["choices"]} and len({*names}) == len(names)


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return a whole number, of whatever kind, as one of Python's.

    Raises:
        ConfigError: it is none (true and false are none), or not from `low` to `high`.
    """
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name}={brief(value)} must be a whole number")
    return _within(name, value, low, high)


def _within(name: str, value: Any, low: float | None, high: float | None) -> Any:
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{name}={brief(value)} must be {limits}")
    return value


def brief(value: Any, most: int = 200) -> str:
    """Return the repr of whatever was handed in as one line of at most `most` signs."""
    text = " ".join(line.strip() for line in repr(value).splitlines())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _listed(choices: Collection[str]) -> str:
    """Choices with commas between them; those that are empty or hold some are told by quotes."""
    return ", ".join(repr(c) if not c or "," in c else c for c in choices)


def unknown(name: str, known: Collection[str]) -> ConfigError:
    """Return the error that there is no such parameter; it names the nearest ones."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"unknown parameter {name!r}: {hint}allowed are {', '.join(sorted(known))}")


def plain(value: Any) -> Any:
    """Return a scalar of numpy or torch as the value of Python's that it is; others as they are."""
    # whoever holds one has imported them: a configuration itself needs neither
    numpy, torch = (sys.modules.get(name) for name in ("numpy", "torch"))
    scalar = numpy is not None and isinstance(value, numpy.generic)
    tensor = torch is not None and isinstance(value, torch.Tensor) and value.ndim == 0
    return value.item() if scalar or tensor else value


def base_type(type_: Any) -> type:
    """Return `int` of `int` and of `int | None`."""
    if get_origin(type_) in (Union, types.UnionType):
        return next(t for t in get_args(type_) if t is not type(None))
    return type_


def described(item: Field[Any], *, default: bool = False) -> str:
    """Say what a field of the configuration means, what it allows and what it is by default.

    Names that have been registered since are among what it allows.
    """
    choices = item.metadata["choices"]
    notes = [f"one of {', '.join(filter(None, choices))}"] if choices else []
    if default and item.default is not MISSING and item.default is not None:
        notes.append(f"default: {item.default}")
    return item.metadata["help"] + (f" ({'; '.join(notes)})" if notes else "")
