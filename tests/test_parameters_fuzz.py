"""Whatever is given for a parameter is taken for what it is, or refused in one clear line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surfaces.parameters import FIELDS, VALUES, misspelt, outside, take

from cnn2gnn.base.values import base_type
from cnn2gnn.config import ConfigError


def refused(parameters: dict[str, Any]) -> str:
    """The error of these parameters, which must be one line; empty if they are taken."""
    try:
        take(parameters)
    except ConfigError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("name", FIELDS)
def test_each_parameter_refuses_what_it_does_not_allow(name: str) -> None:
    for value in outside(name):
        said = refused({name: value})
        assert said.startswith(f"{name}={value!r} must be "), (value, said)
    for value in (b"x", [1], {"a": 1}, object, 1j, float("nan"), float("inf")):
        assert refused({name: value}).startswith(f"{name}={value!r} must be ")
    number = base_type(FIELDS[name][1]) in (int, float)
    assert refused({name: -(10**400) if number else 10**400}).startswith(f"{name}=")


@settings(max_examples=300)
@given(name=st.sampled_from([*FIELDS]), value=VALUES)
def test_any_value_is_taken_or_named(name: str, value: Any) -> None:
    said = refused({name: value})
    assert not said or said.startswith(f"{name}="), said


@pytest.mark.parametrize("name", FIELDS)
def test_a_misspelt_parameter_is_told_its_name(name: str) -> None:
    for wrong in misspelt(name):
        said = refused({wrong: 1})
        assert said.startswith(f"unknown parameter {wrong!r}: ") and "allowed are " in said


@settings(max_examples=100)
@given(parameters=st.dictionaries(st.sampled_from([*FIELDS]) | st.text(max_size=8), VALUES))
def test_any_parameters_together_are_taken_or_refused(parameters: dict[str, Any]) -> None:
    said = refused(parameters)  # anything but a ConfigError is raised
    # it names one of those that were given, by its value or as unknown
    assert not said or any(f"{name}=" in said or repr(name) in said for name in parameters), said
