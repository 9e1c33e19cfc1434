"""Few labels: teacher, student and twin learn from a share of them; then the graph spreads these.

Few images make short epochs, hence more of them and smaller batches than the defaults. What is
trained on all images under the labels that were spread is trained as the defaults, or you, have it.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distillation.on_labels import learn_from_labels
from cnn2gnn.distillation.session import Session
from cnn2gnn.distillation.sizes import fitting
from cnn2gnn.evaluation.few_labels import (
    accuracies,
    compare,
    spread_labels,
    with_few_labels,
    with_spread_labels,
)
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import inductive, no_graph
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

    Then train another student on all images, under the labels that spread over the graph of the
    first, without a teacher.

    Args:
        config: its run is made, or goes on, and that of the other student, `…-spread`; see
            `few_labels_config`.
        splits: all images and labels.
        share: of the training labels that are kept, drawn by the seed of `config`.

    Returns:
        One row a method: method, accuracy on test in [0, 1], labels (how many were kept), and
        `told`, the accuracy of the labels that were spread, on the training images without one.

    Raises:
        ConfigError: graph, stem, augmentation or teacher does not fit the data.
        DataError: the share leaves too few labels, or no image without one.
        Others as `Session.start`.
    """
    few, labelled, rest = _prepared(config, splits, share)
    session = Session.start(few, Own(labelled))
    student, twin = session.student(), session.baseline("twin")
    bank = student.bank(labelled.train.images, labelled.train.labels)
    answers = spread_labels(student, bank, rest.images, len(rest.classes))  # (m, C)
    found = compare(student, twin, session.teacher, labelled, rest, answers)
    train = with_spread_labels(splits.train, share, config.runtime.seed, answers)
    runtime = replace(config.runtime, run=f"{config.runtime.run}-spread")
    again = learn_from_labels(replace(config, runtime=runtime), labelled._replace(train=train))
    alone = no_graph(again, splits.test.images)
    with_graph = inductive(again, alone, again.bank(train.images, train.labels))
    said = {
        "trained on spread labels, no graph": alone.logits,
        "trained on spread labels": with_graph.logits,
    }
    found = pd.concat([found, accuracies(said, splits.test)])
    told = accuracy(answers.cpu(), rest.labels)
    return found.assign(labels=len(labelled.train), told=told)


def _prepared(config: Config, splits: Splits, share: float) -> tuple[Config, Splits, ImageSet]:
    labelled, rest = with_few_labels(splits, share, config.runtime.seed)
    return few_labels_config(config, len(labelled.train)), labelled, rest
