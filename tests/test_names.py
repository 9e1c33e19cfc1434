"""Run names: what is allowed works everywhere, the rest is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn2gnn.base.names import joined, run_name, run_names
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.distillation.obtain import obtain_run


@pytest.mark.parametrize(
    "name",
    ["demo", "k=5,seed=0", "mein Lauf ü #2", "تجربة", "_v1.2+fix (a)@b", "9", "x" * 100, "コン"],
)
def test_plain_names_are_taken_as_they_are(name: str) -> None:
    assert run_name(name) == name == Config.from_parameters(run=name).runtime.run


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "{run}", "a:b", "a*", "a?", 'a"', "<a>", "a|b", "50%", "$a"]
    + ["a\nb", "a\0b", ".a", "-a", " a", "a ", "a.", "ü" * 51, "a\udcff", "a\u202eb", "👍", "~a"]
    + ["teachers", "Teachers", "NUL", "con.txt", "com1"],
)
def test_others_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match="^run=.* must be a plain folder name") as error:
        Config.from_parameters(run=name)
    assert "\n" not in str(error.value)


def test_composed_and_decomposed_letters_are_one_name() -> None:
    assert run_name("u\u0308") == run_name("ü") == "ü"


def test_a_name_is_refused_wherever_it_enters(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plain folder name"):
        obtain_run("../demo", tmp_path)
    with pytest.raises(ConfigError, match="^runs='a,b' must be a list of names"):
        run_names("a,b")
    with pytest.raises(ConfigError, match="^runs='a:b' must be a plain folder name"):
        run_names(["a", "a:b"])


def test_a_report_on_many_runs_has_a_folder_that_a_file_system_takes() -> None:
    assert joined(["a", "b"]) == "a-b"
    many = [f"{'x' * 90}-{seed}" for seed in range(9)]
    assert len(joined(many).encode()) <= 255
    assert joined(many) != joined(many[:-1])
