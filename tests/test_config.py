"""One list of parameters: strict, typed, and the same for notebooks."""

from __future__ import annotations

from typing import Any

import pytest

from cnn2gnn.config import Config, ConfigError
from cnn2gnn.parameters import Parameters


def test_flat_parameters_return() -> None:
    config = Config.from_parameters(k=7, teacher="resnet56", weight_decay=0)
    assert (config.student.k, config.teacher.teacher) == (7, "resnet56")
    assert config.training.weight_decay == 0.0
    assert Config.from_parameters(config.parameters()) == config


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temprature": 2.0}, "did you mean 'temperature'"),
        ({"k": 0}, "k=0 must be at least 1"),
        ({"k": 2.5}, "k=2.5 must be of type int"),
        ({"k": True}, "k=True must be of type int"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"teacher": "vgg"}, "teacher='vgg' must be one of resnet20, "),
        ({"validation": 0.9}, "validation=0.9 must be from 0.01 to 0.5"),
        ({"scope": "batch", "k": 499}, r"k=499 needs at least k \+ 2 .*graph_batch_size=500"),
        ({"run": "../x"}, "run='../x' must be a plain folder name"),
        ({"run": "teachers"}, "and not 'teachers'"),
    ],
)
def test_a_wrong_parameter_is_one_clear_error(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Config.from_parameters(wrong)
    assert "\n" not in str(error.value)


def test_a_notebook_collects_its_parameters() -> None:
    namespace: dict[str, Any] = {"before": 1}
    given = Parameters(namespace, also=["compare"])
    namespace |= {"given": given, "k": 7, "_i1": "k = 7", "compare": "other"}
    assert given.config().student.k == 7
    namespace |= {"splits": 3, "k": 8}  # the cell is run again after later ones
    assert given.config().student.k == 8
    assert Parameters(namespace).config().student.k == 8  # so is the first cell


def test_a_notebook_refuses_a_misspelt_parameter() -> None:
    namespace: dict[str, Any] = {}
    given = Parameters(namespace)
    namespace["epoch"] = 3
    with pytest.raises(ConfigError, match="unknown parameter 'epoch': did you mean 'epochs'"):
        given.config()
