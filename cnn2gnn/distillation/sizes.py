"""Whether the graph fits the data and its heads, told before anything is trained."""

from __future__ import annotations

from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import Splits
from cnn2gnn.graph import Heads
from cnn2gnn.registry import LEARNERS
from cnn2gnn.runs.own import Own


def check_sizes(config: Config, own: Own, splits: Splits) -> None:
    """Count nodes, and build the graph learner, before anything is trained.

    Raises:
        ConfigError: there are fewer nodes than a graph of k neighbours needs, or the learner can
            have no heads.
    """
    if config.student.graph == "none":
        return
    learner = own.graph or LEARNERS[config.student.graph](config.student.k)
    if config.student.heads > 1:
        try:
            Heads(learner, config.student.heads)
        except ValueError as error:
            raise ConfigError(f"{error}, not graph={config.student.graph!r}") from error
    k, runtime = learner.k, config.runtime
    places = {"the bank of training images": len(splits.train)}
    if config.student.scope == "batch":
        batch, whole = config.training.graph_batch_size, runtime.eval_batch_size
        places = {
            "a training batch": min(batch, len(splits.train)),
            "a batch of validation images": min(whole, len(splits.validation)),
            "a batch of test images": min(whole, len(splits.test)),
        }
    for where, nodes in places.items():
        if nodes < k + 2:
            raise ConfigError(
                f"k={k} needs at least k + 2 = {k + 2} nodes, but {where} has {nodes}; "
                f"lower k to at most {max(nodes - 2, 0)} or use more images"
            )
