"""What is computed from a run's saved tensors for the report; one tidy frame a question."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.evaluation.metrics import expected_calibration_error
from cnn2gnn.evaluation.nodes import BANK, TEST, RunNodes
from cnn2gnn.evaluation.protocols import InBatches, true_batch_size
from cnn2gnn.evaluation.verdicts import verdicts
from cnn2gnn.graph import degree, effective_neighbours, homophily, purity
from cnn2gnn.report.results import Results

SIZES = (10, 30, 100, 300, 1000, 3000)
BINS = 10  # of confidence


def batch_sizes(nodes: RunNodes, repeats: int = 5) -> pd.DataFrame:
    """Accuracy in batches of growing size, shuffled and, as an audit, sorted by class.

    One batch of all test images has no audit: it is the same in any order. Shuffles are drawn from
    the run's seed, as in `evaluation.evaluate`: at the run's own batch size and number of repeats
    this gives the metrics of `metrics.json`.

    Returns:
        Columns batch_size (the true one), order (`shuffled` or `sorted`), repeat, accuracy in
        [0, 1].
    """
    labels = nodes.labels[TEST]
    in_batches = InBatches(nodes.student, nodes.no_graph(), nodes.bank)
    smallest = 2 if nodes.student.scope == "bank" else nodes.graph.neighbours.shape[1] + 2
    usual = true_batch_size(len(nodes), nodes.run.config.runtime.eval_batch_size)
    true_sizes = {true_batch_size(len(nodes), s) for s in SIZES if smallest <= s <= len(nodes)}
    others = {size for size in true_sizes if not 0.8 < size / usual < 1.25}
    rows = []
    for size in sorted({usual, *others}):
        generator = torch.Generator().manual_seed(nodes.run.config.runtime.seed)
        orders = [torch.randperm(len(nodes), generator=generator) for _ in range(repeats)]
        in_order = [labels.argsort(stable=True)] if size < len(nodes) else []
        for repeat, order in enumerate([*orders, *in_order]):
            logits = in_batches(order, size)
            name = "shuffled" if repeat < repeats else "sorted"
            rows.append((size, name, repeat % repeats, _accuracy(logits, labels).item()))
    return pd.DataFrame(rows, columns=["batch_size", "order", "repeat", "accuracy"])


def per_class(results: Results) -> pd.DataFrame:
    """Accuracies and the graph of each class: one row a class.

    Columns class, images, accuracy, base_accuracy (no graph), teacher_accuracy and, with a
    graph, homophily (share of the class's edges that stay in it) and purity (share of weight);
    all but the first two in [0, 1].
    """
    tensors, classes = results.tensors, results.classes
    labels = tensors["labels"]
    counts = labels.bincount(minlength=len(classes))  # (C,)

    def mean(values: Tensor) -> list[float]:
        sums = torch.zeros(len(classes)).index_add_(0, labels, values.float())
        return (sums / counts).tolist()

    columns = {
        "class": list(classes),
        "images": counts.tolist(),
        "accuracy": mean(tensors["logits"].argmax(1) == labels),
        "base_accuracy": mean(tensors["base_logits"].argmax(1) == labels),
        "teacher_accuracy": mean(tensors["teacher_logits"].argmax(1) == labels),
    }
    if results.has_graph:
        graph, bank_labels = results.nodes.graph, results.nodes.labels[BANK]
        same = bank_labels[graph.neighbours] == labels[:, None]  # (N, k)
        edges = graph.weights > 0
        columns["homophily"] = mean((same & edges).sum(1) / edges.sum(1))
        columns["purity"] = mean(purity(graph, labels, bank_labels))
    return pd.DataFrame(columns)


def graph_summary(nodes: RunNodes) -> pd.DataFrame:
    """The learned graph in numbers, from test nodes into the bank: columns measure, value."""
    graph, labels, bank_labels = nodes.graph, nodes.labels[TEST], nodes.labels[BANK]
    learner = nodes.student.network.learner
    assert learner is not None  # `RunNodes.load` refused a run without graph
    looked_at = degree(graph)  # (M,)
    found = verdicts(nodes.logits, nodes.base_logits[TEST], labels)
    values = {
        "test nodes": len(nodes),
        "bank nodes": len(nodes.bank),
        "neighbours k": learner.k,
        "effective neighbours exp(H), mean": effective_neighbours(graph.weights).mean().item(),
        "edge homophily": homophily(graph, labels, bank_labels, "edge"),
        "adjusted homophily": homophily(graph, labels, bank_labels, "adjusted"),
        "purity (weight within the class)": purity(graph, labels, bank_labels).mean().item(),
        "purity expected by chance": _chance(labels, bank_labels),
        "gate, mean": nodes.gate.mean().item(),
        "weight of the neighbours' labels α": nodes.student.network.label_scale.item(),
        "bank nodes never looked at [%]": 100 * _share(looked_at == 0),
        "in-degree of the largest hub [edges]": int(looked_at.max()),
        "nodes right only with the graph": int((found == "rescued").sum()),
        "nodes wrong only with the graph": int((found == "harmed").sum()),
    }
    return pd.DataFrame({"measure": list(values), "value": list(values.values())}, dtype=object)


def calibration(logits: Tensor, labels: Tensor) -> pd.DataFrame:
    """Confidence against accuracy, in bins of equal width (reliability diagram, Guo et al. 2017).

    Returns:
        One row a bin that is not empty: confidence and accuracy, their means in the bin; share of
        the images.
    """
    confidence, predicted = logits.float().softmax(1).max(1)
    rows = pd.DataFrame({"confidence": confidence.numpy(), "accuracy": predicted == labels})
    bins = (confidence * BINS).long().clamp(max=BINS - 1).numpy()
    grouped = rows.astype(float).groupby(bins)
    return grouped.mean().assign(share=grouped.size() / len(rows)).reset_index(drop=True)


def agreement(results: Results) -> pd.DataFrame:
    """How the student, with and without its graph, compares with its teacher; one row each.

    Columns agreement (share of images of the same prediction), kl, KL(teacher ‖ student) in nat,
    the shares of images that both, only the teacher, only the student and neither get right, and
    ece, the expected calibration error, of 15 bins; that of the teacher stands in its row.
    """
    tensors = results.tensors
    labels, teacher = tensors["labels"], tensors["teacher_logits"]
    teacher_right = teacher.argmax(1) == labels
    rows = {}
    for name, logits in (
        ("student", tensors["logits"]),
        ("no_graph", tensors["base_logits"]),
        ("teacher", teacher),
    ):
        right = logits.argmax(1) == labels
        log_ratio = teacher.log_softmax(1) - logits.log_softmax(1)  # (N, C)
        rows[name] = {
            "agreement": _share(logits.argmax(1) == teacher.argmax(1)),
            "kl": (teacher.softmax(1) * log_ratio).sum(1).mean().item(),
            "both": _share(right & teacher_right),
            "teacher only": _share(~right & teacher_right),
            "student only": _share(right & ~teacher_right),
            "neither": _share(~right & ~teacher_right),
            "ece": expected_calibration_error(logits, labels),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").reset_index()


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of each true class (row) that is predicted as each class (column), `(C, C)`.

    Rows of classes that do not occur are NaN.
    """
    classes = logits.shape[1]
    counts = torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
    counts = counts.unflatten(0, (classes, classes)).float()
    return counts / counts.sum(1, keepdim=True)


def true_probability_gain(nodes: RunNodes) -> Tensor:
    """What the neighbours add to the true class's probability, `(N,)` in [−1, 1]."""
    labels = nodes.labels[TEST][:, None]
    base = nodes.base_logits[TEST].softmax(1).gather(1, labels)
    return (nodes.logits.softmax(1).gather(1, labels) - base)[:, 0]


def _chance(labels: Tensor, bank_labels: Tensor) -> float:
    """Purity of neighbours drawn at random: Σ_c p_c·q_c."""
    classes = int(max(labels.max(), bank_labels.max())) + 1
    shares = [x.bincount(minlength=classes) / len(x) for x in (labels, bank_labels)]
    return (shares[0] * shares[1]).sum().item()


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float().mean()


def _share(mask: Tensor) -> float:
    return mask.float().mean().item()
