"""Whatever is given for a parameter is taken for what it is, or refused in one clear line."""

from __future__ import annotations

import json
from dataclasses import Field, fields
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn2gnn.base.values import base_type
from cnn2gnn.config import Config, ConfigError

GROUPS = get_type_hints(Config)
FIELDS: dict[str, tuple[Field[Any], Any]] = {
    item.name: (item, get_type_hints(group)[item.name])
    for group in GROUPS.values()
    for item in fields(group)
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def refused(parameters: dict[str, Any]) -> str:
    """The error of these parameters, which must be one line; empty if they are taken."""
    try:
        config = Config.from_parameters(parameters)
    except ConfigError as error:
        assert "\n" not in str(error)
        return str(error)
    # what is taken can be kept in a manifest and read again
    assert Config.from_parameters(json.loads(json.dumps(config.parameters()))) == config
    return ""


def outside(item: Field[Any], type_: Any) -> list[Any]:
    """Values of the right type that a field does not allow, from what it declares."""
    meta, step = item.metadata, 1 if base_type(type_) is int else 1e-6
    wrong: list[Any] = [] if meta["minimum"] is None else [meta["minimum"] - step, -(10**9)]
    wrong += [] if meta["maximum"] is None else [meta["maximum"] + step, 10**9]
    wrong += [] if meta["choices"] is None else ["no such thing"]
    return [float(value) if base_type(type_) is float else value for value in wrong]


@pytest.mark.parametrize("name", FIELDS)
def test_each_parameter_refuses_what_it_does_not_allow(name: str) -> None:
    item, type_ = FIELDS[name]
    for value in outside(item, type_):
        said = refused({name: value})
        assert said.startswith(f"{name}={value!r} must be "), (value, said)
    for value in (b"x", [1], {"a": 1}, object, 1j, float("nan"), float("inf")):
        assert refused({name: value}).startswith(f"{name}={value!r} must be ")
    number = base_type(type_) in (int, float)
    assert refused({name: -(10**400) if number else 10**400}).startswith(f"{name}=")


@settings(max_examples=300)
@given(name=st.sampled_from([*FIELDS]), value=VALUES)
def test_any_value_is_taken_or_named(name: str, value: Any) -> None:
    said = refused({name: value})
    assert not said or said.startswith(f"{name}="), said


@pytest.mark.parametrize("name", FIELDS)
def test_a_misspelt_parameter_is_told_its_name(name: str) -> None:
    for wrong in (name + "s", name[:-1], name.upper(), "-" + name):
        if wrong not in FIELDS:
            said = refused({wrong: 1})
            assert said.startswith(f"unknown parameter {wrong!r}: ") and "allowed are " in said


@settings(max_examples=100)
@given(parameters=st.dictionaries(st.sampled_from([*FIELDS]) | st.text(max_size=8), VALUES))
def test_any_parameters_together_are_taken_or_refused(parameters: dict[str, Any]) -> None:
    said = refused(parameters)  # anything but a ConfigError is raised
    # it names one of those that were given, by its value or as unknown
    assert not said or any(f"{name}=" in said or repr(name) in said for name in parameters), said
