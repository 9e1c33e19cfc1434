"""Few labels: teacher, student and twin learn from a share of them; then the graph spreads these.

Few images make short epochs, hence more of them and smaller batches than the defaults. What is
trained on all images under the labels that were spread is trained as the defaults, or you, have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distillation.fitting import fitting
from cnn2gnn.distillation.on_labels import learn_from_labels
from cnn2gnn.distillation.session import Session
from cnn2gnn.evaluation.few_labels import compare, few_labels, with_few_labels
from cnn2gnn.evaluation.label_spreading import spread_labels, votes_over_graph, votes_over_points
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.models.student import Student, raw_pixels
from cnn2gnn.runs.own import Own

EPOCHS, BATCH_SIZE = 60, 30  # of the teacher, and of stage one
GRAPH_EPOCHS, GRAPH_BATCH_SIZE = 30, 60  # of stage two
# labels are spread, and a student is trained on what they say; a third time would tell no more
ROUNDS = ("labels spread over its graph", "labels spread again")


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

    Then spread the labels over the graph of all images, and train another student on what they say.
    Its graph is better: the labels are spread again, over that one, and a last student is trained.

    Args:
        config: its run is made, or goes on, and those of the two other students, `…-spread-1`
            and `…-spread-2`, which have no teacher; see `few_labels_config`.
        splits: all images and labels.
        share: of the training labels that are kept, drawn by the seed of `config`.

    Returns:
        One row a method: method, accuracy on test in [0, 1], labels (how many were kept), and where
        labels were spread `told`, which share of the others is right, else NaN.

    Raises:
        ConfigError: graph, stem, augmentation or teacher does not fit the data, or the name of the
            run leaves no room for what the others' names add.
        DataError: the share leaves too few labels, or no image without one.
        Others as `Session.start`.
    """
    few, labelled, rest = _prepared(config, splits, share)
    session = Session.start(few, Own(labelled))
    student, twin = session.student(), session.baseline("twin")
    said = compare(student, twin, session.teacher, labelled, rest)
    train, test, classes = splits.train, splits.test, len(splits.train.classes)
    labels = few_labels(train, share, config.runtime.seed)  # (N,), −1 for none
    nodes, told = no_graph(student, test.images), {}
    said |= _unlearned(student, train, labels, test)
    for again, name in enumerate(ROUNDS, 1):
        bank = student.bank(train.images, labels)
        answers = spread_labels(student, bank, classes)  # (N, C)
        said[name] = votes_over_graph(student, nodes, bank, answers)
        train = replace(train, labels=answers.argmax(1).cpu())
        told[name] = _told(train.labels, splits.train.labels, labels)
        student = learn_from_labels(
            _again(config, again, len(train)), labelled._replace(train=train)
        )
        nodes = no_graph(student, test.images)
    said["trained on spread labels, no graph"] = nodes.logits
    bank = student.bank(train.images, train.labels)
    said["trained on spread labels"] = inductive(student, nodes, bank).logits
    rows = [
        {"method": name, "accuracy": accuracy(found.cpu(), test.labels), "told": told.get(name)}
        for name, found in said.items()
    ]
    return pd.DataFrame(rows).assign(labels=len(labelled.train))


def _again(config: Config, again: int, images: int) -> Config:
    """The configuration of who learns from spread labels; k is at most half of the images."""
    named = replace(config.runtime, run=f"{config.runtime.run}-spread-{again}")
    student = replace(config.student, k=min(config.student.k, images // 2))
    return replace(config, student=student, runtime=named)


def _unlearned(
    student: Student, train: ImageSet, labels: Tensor, test: ImageSet
) -> dict[str, Tensor]:
    """Votes `(N, C)` where labels `(M,)` are spread by distances that nobody has learned."""
    k, classes = student.config.k, len(train.classes)
    spaces: dict[str, Callable[[Tensor], Tensor]] = {"plain features": student.features}
    if train.modality == "image":
        spaces["raw pixels"] = partial(raw_pixels, device=torch.device("cpu"))
    return {
        f"labels spread over {name}": votes_over_points(
            seen(train.images), labels, classes, seen(test.images), k
        )
        for name, seen in spaces.items()
    }


def _told(found: Tensor, true: Tensor, given: Tensor) -> float:
    """Accuracy of labels `(N,)` where none was given (−1)."""
    none = given < 0
    return (found[none] == true[none]).float().mean().item()


def _prepared(config: Config, splits: Splits, share: float) -> tuple[Config, Splits, ImageSet]:
    labelled, rest = with_few_labels(splits, share, config.runtime.seed)
    for again, _ in enumerate(ROUNDS, 1):
        _again(config, again, len(splits.train))  # whose name may be too long
    return few_labels_config(config, len(labelled.train)), labelled, rest
