"""One list of parameters: strict, typed, and the same for notebooks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from cnn2gnn.base.values import brief, whole_number
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.notebooks import own
from cnn2gnn.notebooks.parameters import Parameters


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
        ({"baselines": "foo"}, "must be one of 'twin,undistilled', twin, undistilled, ''$"),
        ({"validation": 0.9}, "validation=0.9 must be from 0.01 to 0.5"),
        ({"scope": "batch", "k": 499}, r"k=499 needs at least k \+ 2 nodes .*batch_size=500"),
        ({"run": "../x"}, "run='../x' must be a plain folder name"),
        ({"run": "teachers"}, "and not 'teachers'"),
    ],
)
def test_a_wrong_parameter_is_one_clear_error(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Config.from_parameters(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"k": np.int64(5)}, 5),
        ({"k": np.uint8(5)}, 5),
        ({"k": torch.tensor(5)}, 5),
        ({"temperature": np.float32(0.5)}, 0.5),
        ({"temperature": np.float64(0.1)}, 0.1),
        ({"temperature": torch.tensor(0.5, dtype=torch.bfloat16)}, 0.5),
        ({"temperature": np.int32(2)}, 2.0),
        ({"download": np.bool_(True)}, True),
        ({"download": torch.tensor(False)}, False),
        ({"dataset": np.str_("digits")}, "digits"),
        ({"image_size": np.int16(8)}, 8),
    ],
    ids=str,
)
def test_scalars_of_numpy_and_torch_are_what_they_stand_for(
    given: dict[str, Any], meant: Any
) -> None:
    (name,) = given
    config = Config.from_parameters(given)
    found = config.parameters()[name]
    assert (found, type(found)) == (meant, type(meant))
    assert json.loads(json.dumps(config.parameters()))[name] == meant


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": np.float64(5)},
        {"k": np.bool_(True)},
        {"k": torch.tensor(5.0)},
        {"k": np.array([5])},
        {"k": np.array(5)},
        {"k": torch.tensor([5])},
        {"temperature": np.float32("nan")},
        {"temperature": np.bool_(True)},
        {"temperature": np.complex64(1)},
        {"download": np.int64(1)},
        {"dataset": np.bytes_(b"digits")},
        {"k": "5"},
        {"download": 1},
    ],
    ids=str,
)
def test_nothing_else_is_taken_for_another_type(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"^{name}=.* must be of type"):
        Config.from_parameters(wrong)


@pytest.mark.parametrize("name", ["k", "dataset", "run", "kd_weight"])
def test_a_tensor_in_place_of_a_value_is_told_in_one_short_line(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}=tensor.*… must be of type") as told:
        Config.from_parameters({name: torch.zeros(50, 50)})
    assert len(str(told.value)) < 250 and "\n" not in str(told.value)
    assert brief("a\n  b") == repr("a\n  b") and len(brief("x" * 300)) == 200


def test_a_whole_number_is_taken_whatever_its_kind() -> None:
    for value in (3, np.int8(3), torch.tensor(3)):
        assert type(whole_number("n", value, 0)) is int
    with pytest.raises(ConfigError, match="n=9 must be from 0 to 8"):
        whole_number("n", 9, 0, 8)


def test_a_notebook_collects_its_parameters() -> None:
    namespace: dict[str, Any] = {"before": 1}
    given = Parameters(namespace, own.Exploring)
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": [0.1, 2.0]}, {"noise": 0.1}, {"noise": []}, {"images_per_class": [5, 0]},
        {"late": "2"}, {"seeds": 0}, {"label_shares": [None]},
    ],
    ids=str,
)  # fmt: skip
def test_a_notebook_checks_the_parameters_of_its_own(wrong: dict[str, Any]) -> None:
    right = {"late": 2, "images_per_class": [5, None], "noise": [0.1], "label_shares": [0.05]}
    namespace: dict[str, Any] = {}
    given = Parameters(namespace, own.WithoutRetraining)
    namespace |= {**right, "seeds": 1, "k": 7}
    assert given.config().student.k == 7
    (name,) = wrong
    namespace |= wrong
    with pytest.raises(ConfigError, match=rf"^{name}[=\[].* must be "):
        given.config()
