"""What a run was made from, kept with it: `config.json`, the one manifest of a run.

A result belongs to its data, teacher, parameters, precision and code. The manifest is written when
the run begins, compared whenever it goes on, and its data are compared whenever it is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn2gnn.base.files import BrokenFileError, read_json, write_json
from cnn2gnn.base.shapes import Shape, misfit
from cnn2gnn.config import BEFORE, Config, ConfigError
from cnn2gnn.data import DataError, Splits
from cnn2gnn.models.given import NAME as GIVEN
from cnn2gnn.runs.environment import environment
from cnn2gnn.runs.epochs import learned
from cnn2gnn.runs.hardware import resolved_hardware
from cnn2gnn.runs.own import Own, registered

FILE = "config.json"
# Parameters that may change between two starts of a run; what they amount to is told or compared.
FREE = (
    *("run", "runs_dir", "device", "devices", "num_nodes", "precision", "data_dir", "download"),
    *("logger", "deterministic"),
)
_HARDWARE: Shape = {"precision": str, "device": str, "world_size": int}
_MADE: dict[str, Shape] = {
    "versions": {"*": str},
    "git_commit?": str | None,
    "machine": {"*": str | int | None},
    "hardware": _HARDWARE,
}
# What readers need: see `base.shapes`.
SHAPE: Shape = {
    "parameters": {},
    "own": {"*": str},
    "registered?": {"*": str},
    "data": {
        "name?": str,
        "classes": [str],
        **{f"{part} images": str for part in ("train", "validation", "test")},
    },
    "augmentation?": str,
    "augmentation_version?": int,
    "stages": {"*": _MADE},
    **_MADE,
    "git_commit": str | None,
    "teacher": str | None,
}
log = logging.getLogger(__name__)


def make(config: Config, splits: Splits, own: Own) -> dict[str, Any]:
    """Return the manifest of a run that begins now."""
    return {
        "parameters": config.parameters(),
        "own": own.fingerprints(),
        "registered": registered(config),
        "data": data_facts(splits),
        "augmentation": splits.train.augmentation_for(
            config.data.augmentation
        ),  # what auto has become
        "augmentation_version": splits.train.view_version,
        "hardware": resolved_hardware(config.runtime),
        "teacher": None,  # its fingerprint, as soon as there is one
        "stages": {},  # what made each stage that is done
        **environment(),
    }


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest of the run in `folder`.

    Raises:
        FileNotFoundError: there is no run in this folder.
        BrokenFileError: it is damaged, or of an older version.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no run in {folder}: {path} is missing")
    content = read_json(path, "start the run under another name")
    if wrong := misfit(content, SHAPE):
        raise BrokenFileError(
            f"{path} is damaged or of an older version: {wrong}; start the run under another name"
        )
    return content


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest, atomically."""
    write_json(folder / FILE, content)


def compare(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Check that a run may go on.

    Raises:
        DataError: the images are others. ConfigError: a parameter, an object or the precision is.
    """
    check_data(before["data"], now["data"], folder.name)
    _refuse(changes(_binding(before), _binding(now)), folder)


def check_config(config: Config) -> None:
    """Check that the run in a configuration's folder, if it has learned anything, is of it.

    This needs no data: whoever starts many runs knows before the first one whether all may start.

    Raises:
        ConfigError: a parameter is another one, or the run was made with objects.
        BrokenFileError: its files are damaged.
    """
    folder, asked = Path(config.runtime.runs_dir, config.runtime.run), config.runtime.precision
    if not learned(folder):
        return
    before = read(folder)
    then = bound_parameters(before) | _objects(before)
    if config.teacher.teacher == GIVEN:  # which is noted as an object, but the data bring it along
        then.pop("own teacher", None)
    now = bound_parameters({"parameters": config.parameters()})
    now |= _objects({"own": {}, "registered": registered(config)})
    if asked != "auto":  # what auto becomes is known where the run is: on a cluster, not here
        then["precision"], now["precision"] = before["hardware"]["precision"], asked
    _refuse(changes(then, now), folder)


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say of all values that are not what they were: `k was 5, is 10`."""
    return [
        f"{name} was {then.get(name)!r}, is {now.get(name)!r}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def tell(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Tell in one line what has changed that may change: since the last start, or since a stage."""
    made = {"at its last start": _telling(before)}
    made |= {f"in stage {name}": _telling(by) for name, by in before["stages"].items()}
    wheres: dict[str, list[str]] = {}  # what changed, and all it has changed since
    for where, then in made.items():
        for name, (old, new) in differences([then, _telling(now)]).items():
            wheres.setdefault(f"{name} was {old}, is {new}", []).append(where)
    if wheres:
        changes = "; ".join(f"{change} ({', '.join(where)})" for change, where in wheres.items())
        log.warning("run %s goes on where something differs: %s", folder.name, changes)


def data_facts(splits: Splits) -> dict[str, Any]:
    """Name, classes and fingerprints of a run's images."""
    prints = {f"{name} images": part.fingerprint for name, part in splits._asdict().items()}
    return {"name": splits.train.name, "classes": list(splits.train.classes), **prints}


def check_data(before: Mapping[str, Any], now: Mapping[str, Any], run: str) -> None:
    """Compare the data that a run was made with with those at hand.

    Raises:
        DataError: they differ; what does is named with both values.
    """
    for name in before:
        if before[name] != now[name] and name != "name":  # a folder may have moved
            then, today = (str(facts[name])[:60] for facts in (before, now))
            raise DataError(
                f"the data of run {run!r} are no longer those it was made with: {name} were "
                f"{then}, are {today}; restore them, or start a run of another name"
            )


def differences(contents: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the facts that are not the same in all flat `contents`, with one value each."""
    names = {name: None for content in contents for name in content}
    rows = {name: [content.get(name) for content in contents] for name in names}
    return {name: row for name, row in rows.items() if any(v != row[0] for v in row)}


def facts(content: Mapping[str, Any]) -> dict[str, str]:
    """All of a manifest in which two runs may differ, flat, as text for people.

    Where stages were made under different versions or on different machines, all are named:
    `2.4.0 (student), 2.5.0 (evaluation)`.
    """
    stages = {name: _telling(by) for name, by in content["stages"].items()}
    made = stages or {"started": _telling(content)}
    flat = bound_parameters(content)
    flat |= _objects(content) | {"precision": content["hardware"]["precision"]}
    flat |= {"augmentation": content.get("augmentation", flat["augmentation"])}  # not merely auto
    flat |= {"augmentation version": content.get("augmentation_version")}
    flat |= content["data"] | {"teacher fingerprint": content["teacher"]}
    flat |= {
        name: _values({stage: telling.get(name) for stage, telling in made.items()})
        for name in next(iter(made.values()))
    }
    return {name: str(value) for name, value in flat.items()}


def mixed(content: Mapping[str, Any]) -> list[str]:
    """Names of `facts` that are not the same for all stages of a run."""
    return [*differences([_telling(by) for by in content["stages"].values()])]


def _values(by_stage: Mapping[str, Any]) -> str:
    """One value if all stages have it, else each with its stages."""
    stages: dict[str, list[str]] = {}
    for stage, value in by_stage.items():
        stages.setdefault(str(value), []).append(stage)
    if len(stages) == 1:
        return next(iter(stages))
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in stages.items())


def _binding(content: Mapping[str, Any]) -> dict[str, Any]:
    """What may not change while a run goes on."""
    return {
        **bound_parameters(content),
        **_objects(content),
        "precision": content["hardware"]["precision"],
        "augmentation version": content.get("augmentation_version"),
    }


def parameters(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a run.

    One that an older version did not have is what was done before there was a choice: its default,
    or what `BEFORE` says.
    """
    found: dict[str, Any] = Config().parameters() | BEFORE | content["parameters"]
    return found


def bound_parameters(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run but for the free ones."""
    return {name: value for name, value in parameters(content).items() if name not in FREE}


def _telling(content: Mapping[str, Any]) -> dict[str, Any]:
    """What may change while a run goes on, but is told."""
    machine = {n: v for n, v in content.get("machine", {}).items() if n != "when"}
    hardware = {n: v for n, v in content["hardware"].items() if n != "precision"}
    return {
        **content.get("versions", {}),
        "commit": content.get("git_commit"),
        **machine,
        **hardware,
    }


def measured_with(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results are bound to: parameters, objects, code of the user's own, data, teacher.

    As the manifest has them: a later version may know more parameters.
    """
    parameters = {n: value for n, value in content["parameters"].items() if n not in FREE}
    bound = {name: content[name] for name in ("own", "data", "teacher")}
    named = content.get("registered")
    return parameters | bound | ({"registered": named} if named else {})


def _refuse(changed: Sequence[str], folder: Path) -> None:
    if changed:
        raise ConfigError(
            f"run {folder.name!r} exists with other parameters ({'; '.join(changed)}); "
            f"choose another name or delete {folder}"
        )


def _objects(content: Mapping[str, Any]) -> dict[str, Any]:
    """Fingerprints of what is the user's own, handed over or registered."""
    own, named = content["own"], content.get("registered", {})
    return _prefixed("own", own) | _prefixed("registered", named)


def _prefixed(prefix: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix} {name}": value for name, value in content.items()}
