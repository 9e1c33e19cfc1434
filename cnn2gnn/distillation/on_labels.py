"""A graph student that learns from labels alone, without a teacher."""

from __future__ import annotations

from dataclasses import replace

from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.distillation.processes import start
from cnn2gnn.distillation.sizes import check_sizes
from cnn2gnn.distillation.students import Students
from cnn2gnn.models.student import Student
from cnn2gnn.runs import Run
from cnn2gnn.runs.own import Own


def learn_from_labels(config: Config, splits: Splits) -> Student:
    """Return a student trained on these images and their labels, or the one that the run has.

    It is what `distil` trains, both stages, less the teacher: where only the graph is the question.

    Args:
        config: of which the teacher's parameters have no part.
        splits: images that need not be those that `config` names; test images are not looked at.

    Raises:
        ConfigError, DataError, RunLockedError: as `Session.start`.
    """
    # no teacher's answers are kept, hence a new view each epoch
    config = replace(config, training=replace(config.training, views=0))
    own = Own(splits)
    own.try_on(splits)
    check_sizes(config, own, splits)
    run = Run.create(config, splits, own)
    fabric = start(config, None)
    if fabric.is_global_zero:
        run.lock()
    student = Students(run, fabric, splits).obtain("student", config, None)
    run.unlock()
    return student
