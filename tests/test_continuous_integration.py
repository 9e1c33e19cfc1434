"""What runs on other machines is what `make test` runs here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet
from test_packaging import PROJECT, ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def test_the_workflow_runs_make_test_on_every_python_that_is_promised() -> None:
    workflow = load(ROOT / ".github" / "workflows" / "test.yml")
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML reads `on` as true
    job = workflow["jobs"]["test"]
    minors = [f"3.{minor}" for minor in range(30)]
    promised = [v for v in minors if v in SpecifierSet(PROJECT["requires-python"])]
    assert job["strategy"]["matrix"]["python"] == promised
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[-1] == "make test"
    (setup,) = [s for s in job["steps"] if s.get("uses", "").startswith("actions/setup-python")]
    assert setup["with"]["python-version"] == "${{ matrix.python }}"


def test_the_workflow_is_one_that_github_takes() -> None:
    path = ROOT / ".github" / "workflows" / "test.yml"
    workflow, text = load(path), path.read_text()
    assert set(workflow) <= {"name", True, "permissions", "env", "jobs"}
    known = {"runs-on", "timeout-minutes", "strategy", "env", "steps"}
    for job in workflow["jobs"].values():
        assert {"runs-on", "steps"} <= set(job) <= known
        assert re.fullmatch(r"(ubuntu|macos|windows)-(latest|[\d.]+)", job["runs-on"])
        for step in job["steps"]:
            assert len(step.keys() & {"uses", "run"}) == 1
            assert step.keys() <= {"name", "run"} | ({"uses", "with"} if "uses" in step else set())
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
    expressions = re.findall(r"\$\{\{(.*?)\}\}", text)
    matrix = {f"matrix.{name}" for name in workflow["jobs"]["test"]["strategy"]["matrix"]}
    assert {e.strip() for e in expressions} == matrix


def test_the_workflow_installs_what_a_fresh_machine_lacks() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    needed = set(re.findall(r"missing\+=\((.*?)\)", script)) - {"make"}
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    assert needed and all(package in workflow for package in needed)


def test_a_commit_passes_the_checks_that_make_test_makes() -> None:
    (local,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    entries = {hook["id"]: shlex.split(hook["entry"]) for hook in local["hooks"]}
    assert [entry[:2] for entry in entries.values()] == [
        ["ruff", "check"],
        ["ruff", "format"],
        ["nbstripout", "--extra-keys"],
    ]
    (keys,) = re.findall(r"^STRIP_KEYS := (.*)$", MAKEFILE, re.MULTILINE)
    assert entries["nbstripout"][2] == keys
    assert all("jupyter" in (*h.get("types_or", ()), *h.get("types", ())) for h in local["hooks"])
