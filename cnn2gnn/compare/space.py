"""The space of a sweep: which parameters are searched, and within which bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any, get_type_hints

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from cnn2gnn.base.values import ConfigError, base_type
from cnn2gnn.compare.grid import PLACES, check_dataset
from cnn2gnn.config import Config

LOG_RATIO = 10  # bounds that lie so far apart are searched on a logarithmic scale


def space(searched: Sequence[str]) -> dict[str, BaseDistribution]:
    """Return the bounds of each parameter that is searched.

    Args:
        searched: `k` takes the bounds that the configuration gives it, or all its choices;
            `k=5:40` lies between two numbers; `loss=kd,dist` is one of several values.

    Raises:
        ConfigError: nothing is searched, a parameter does not exist, is not the user's to give or
            has no bounds of its own, or a bound is not allowed.
    """
    if not searched:
        raise ConfigError("search=[] must name at least one parameter, such as k or k=5:40")
    found: dict[str, BaseDistribution] = {}
    for entry in searched:
        name, sign, bounds = entry.partition("=")
        if name in found:
            raise ConfigError(f"search={entry}: {name} is searched already")
        if sign and not bounds:
            raise ConfigError(f"search={entry} must have values behind the sign, or no sign")
        if name in PLACES:
            raise ConfigError(f"{name} cannot be searched: each trial has its own run")
        item, kind = _parameter(name)
        found[name] = _given(item, kind, bounds) if bounds else _usual(item, kind)
        for value in _extremes(found[name]):
            check_dataset(Config.from_parameters({name: value}).data.dataset)
    return found


def suggest(trial: Trial, bounds: dict[str, BaseDistribution]) -> dict[str, Any]:
    """Return the values that the study wants to try next."""
    values: dict[str, Any] = {}
    for name, within in bounds.items():
        if isinstance(within, IntDistribution):
            values[name] = trial.suggest_int(name, within.low, within.high, log=within.log)
        elif isinstance(within, FloatDistribution):
            values[name] = trial.suggest_float(name, within.low, within.high, log=within.log)
        elif isinstance(within, CategoricalDistribution):
            values[name] = trial.suggest_categorical(name, within.choices)
    return values


def _parameter(name: str) -> tuple[Field[Any], type]:
    Config.from_parameters({name: None} if name not in Config().parameters() else {})  # a typo
    for group in get_type_hints(Config).values():
        for item in fields(group):
            if item.name == name:
                return item, base_type(get_type_hints(group)[name])
    raise AssertionError(name)


def _usual(item: Field[Any], kind: type) -> BaseDistribution:
    choices, search = item.metadata["choices"], item.metadata["search"]
    if choices:
        return CategoricalDistribution([*choices])
    if search is None:
        example = "true,false" if kind is bool else "1:10"
        raise ConfigError(f"search={item.name}: give its values, as in {item.name}={example}")
    return _between(kind, *search)


def _given(item: Field[Any], kind: type, text: str) -> BaseDistribution:
    """What stands behind `name=`: `low:high`, or values with commas between them."""
    low, colon, high = text.partition(":")
    try:
        if colon and kind in (int, float):
            return _between(kind, kind(low), kind(high))
        read = _truth if kind is bool else kind
        values = [read(value) for value in text.split(",")]
        if len({*values}) < len(values):
            raise ValueError("a value occurs twice")
        return CategoricalDistribution(values)
    except ValueError as error:
        raise ConfigError(f"search={item.name}={text}: {error}") from error


def _truth(word: str) -> bool:
    if word not in ("true", "false"):
        raise ValueError(f"{word!r} must be true or false")
    return word == "true"


def _between(kind: type, low: Any, high: Any) -> BaseDistribution:
    log = low > 0 and high / low >= LOG_RATIO
    return (IntDistribution if kind is int else FloatDistribution)(low, high, log=log)


def _extremes(bounds: BaseDistribution) -> Sequence[Any]:
    if isinstance(bounds, CategoricalDistribution):
        return bounds.choices
    assert isinstance(bounds, IntDistribution | FloatDistribution)
    return bounds.low, bounds.high
