"""Few labels: teacher, student and twin learn from a share of them, in the only way that is tried.

Few images make short epochs, hence more of them and smaller batches than the defaults.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distillation.session import Session
from cnn2gnn.distillation.sizes import fitting
from cnn2gnn.evaluation.few_labels import compare, with_few_labels
from cnn2gnn.runs.own import Own

EPOCHS, BATCH_SIZE = 60, 30  # of the teacher, and of stage one
GRAPH_EPOCHS, GRAPH_BATCH_SIZE = 30, 60  # of stage two


def few_labels_config(config: Config, labels: int) -> Config:
    """Return the configuration by which a run learns from few labels.

    Args:
        config: what the recipe says nothing of. Its seed is the teacher's as well.
        labels: how many training images have one; k is at most half of them.
    """
    student, training = config.student, config.training
    return replace(
        config,
        teacher=replace(
            config.teacher,
            teacher_epochs=EPOCHS,
            teacher_batch_size=BATCH_SIZE,
            teacher_seed=config.runtime.seed,
        ),
        student=replace(student, k=min(student.k, labels // 2)),
        training=replace(
            training,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            graph_epochs=GRAPH_EPOCHS,
            graph_batch_size=GRAPH_BATCH_SIZE,
            baselines="twin",
        ),
    )


def check_few_labels(config: Config, splits: Splits, share: float) -> None:
    """Tell what `learn_from_few_labels` would refuse, before anything long starts.

    Raises:
        ConfigError, DataError, ValueError: as `learn_from_few_labels`.
    """
    few, labelled, _ = _prepared(config, splits, share)
    fitting(few, Own(labelled), labelled)


def learn_from_few_labels(config: Config, splits: Splits, share: float) -> pd.DataFrame:
    """Train on a share of the labels, and put the other images into the bank.

    Args:
        config: its run is made, or goes on; see `few_labels_config`.
        splits: all images and labels.
        share: of the training labels that are kept, drawn by the seed of `config`.

    Returns:
        One row a method: method, accuracy on test in [0, 1], labels (how many were kept).

    Raises:
        ConfigError: graph, stem, augmentation or teacher does not fit the data.
        DataError: the share leaves too few labels, or no image without one.
        Others as `Session.start`.
    """
    few, labelled, rest = _prepared(config, splits, share)
    session = Session.start(few, Own(labelled))
    student, twin = session.student(), session.baseline("twin")
    found = compare(student, twin, session.teacher, labelled, rest)
    return found.assign(labels=len(labelled.train))


def _prepared(config: Config, splits: Splits, share: float) -> tuple[Config, Splits, ImageSet]:
    labelled, rest = with_few_labels(splits, share, config.runtime.seed)
    return few_labels_config(config, len(labelled.train)), labelled, rest
