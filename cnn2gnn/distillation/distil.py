"""`distil`: the whole way from data to results in one call."""

from __future__ import annotations

from typing import Any

from torch import nn

from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import Splits
from cnn2gnn.distillation.session import Session
from cnn2gnn.graph import GraphLearner
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs import Run, load_splits
from cnn2gnn.runs.own import Own
from cnn2gnn.runs.trials import Loss, check_kind


def distil(
    config: Config | None = None,
    teacher: nn.Module | str | None = None,
    *,
    data: Splits | None = None,
    stem: nn.Module | str | None = None,
    graph: GraphLearner | str | None = None,
    loss: Loss | str | None = None,
    **parameters: Any,
) -> Run:
    """Run everything: teacher, student, baselines, evaluation. Returns the finished run.

    An object takes the place of what the configuration names (a string is such a name); the run
    remembers its fingerprint, continues with no other, and `load_run(name, stem=…)` asks for it.

    Args:
        config: all parameters; None: the defaults, with `parameters` (`epochs=3`) in their place.
        teacher: any trained module from normalised images `(B, C, S, S)` to logits `(B, classes)`,
            or a `Teacher`, which knows what it was normalised by.
        data: train, validation and test images.
        stem: any module from normalised images to features `(B, d)`.
        graph: a graph learner.
        loss: `loss(student_logits, teacher_logits, labels, *, temperature, weight)`, a scalar.

    Raises:
        ConfigError: both `config` and `parameters` are given, or a parameter is wrong.
        Others as `Session.start`.
    """
    given = {"teacher": teacher, "stem": stem, "graph": graph, "loss": loss}
    parameters |= {name: value for name, value in given.items() if isinstance(value, str)}
    own: dict[str, Any] = {n: v for n, v in given.items() if not isinstance(v, str)}
    for name, thing, kind in (("config", config, Config), ("data", data, Splits)):
        if thing is not None:
            check_kind(name, thing, kind)
    if config is not None and parameters:
        raise ConfigError(f"give config or parameters ({', '.join(parameters)}), not both")
    config = Config.from_parameters(parameters) if config is None else config
    if isinstance(teacher, nn.Module) and not isinstance(teacher, Teacher):
        images = (load_splits(config.data) if data is None else data).train
        own["teacher"] = Teacher.around(teacher, images)
    session = Session.start(config, Own(data, **own))
    session.finish(session.student(), session.baselines())
    return session.run
