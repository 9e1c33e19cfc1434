"""Every parameter of a run, once: notebooks, command line and Python share these dataclasses.

Field names are unique across the groups, so that the flat parameters of papermill and of the
command line map onto them without prefixes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

from cnn2gnn.base.names import run_name
from cnn2gnn.base.values import ConfigError, checked, unknown
from cnn2gnn.registry import DATASETS, LAYERS, LEARNERS, LOGGERS, LOSSES, STEMS, TEACHERS

SEEDS = 2**32 - 1  # the largest that numpy takes, too


def _parameter(
    default: Any,
    help: str,  # noqa: A002 - the word argparse and typer use for the same thing
    *,
    choices: Collection[str] | None = None,
    several: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    search: tuple[float, float] | None = None,
) -> Any:
    """A field with what it means, what it allows, and between which values a sweep looks.

    `several` of the choices, with commas between them, or none.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata | {"several": several, "search": search})


@dataclass(frozen=True)
class DataConfig:
    """Which images, at what size, and how they are split."""

    dataset: str = _parameter("digits", ", ".join(DATASETS))
    data_dir: str | None = _parameter(
        None, "folder in which the data set lies or is put; none: data"
    )
    download: bool = _parameter(False, "download the data set where it is missing")
    image_size: int | None = _parameter(
        None, "side in pixels; none keeps the source's. Frames of sound, tokens of text", minimum=4
    )
    label_column: str = _parameter("label", "label column of a table")
    group_column: str | None = _parameter(
        None, "column (speaker, patient) of a table: no value on both sides of the test cut"
    )
    train_images: int | None = _parameter(
        None, "use so many training images, of those that validation leaves; none: all", minimum=1
    )
    validation: float = _parameter(
        0.1, "share of the training images cut off for validation", minimum=0.01, maximum=0.5
    )
    split_seed: int = _parameter(0, "seed of the validation split", minimum=0, maximum=SEEDS)
    augmentation: str = _parameter(
        "auto",
        "auto: crop-flip for colour and fashion-mnist, crop for other grey images, mask for sound, "
        "drop for text",
        choices=("auto", "none", "crop", "crop-flip", "crop-flip-cutout", "mask", "drop"),
    )


@dataclass(frozen=True)
class TeacherConfig:
    """The CNN and its training: SGD with a one-cycle learning rate."""

    teacher: str = _parameter("resnet20", "architecture of the teacher", choices=TEACHERS)
    teacher_weights: str | None = _parameter(
        None, "imagenet starts from torchvision's weights; ResNet-18 to 152", choices=("imagenet",)
    )
    teacher_epochs: int = _parameter(30, "passes over the training images", minimum=1)
    teacher_batch_size: int = _parameter(64, "images per step", minimum=2)
    teacher_learning_rate: float = _parameter(
        0.1, "peak of the one-cycle", minimum=0, search=(0.02, 0.5)
    )
    teacher_weight_decay: float = _parameter(5e-4, "L2 penalty", minimum=0)
    teacher_label_smoothing: float = _parameter(
        0.0,
        "mass spread over the other classes; it erases what a teacher knows about them "
        "(Mueller et al. 2019), hence 0",
        minimum=0,
        maximum=0.9,
    )
    teacher_seed: int = _parameter(0, "seed of the teacher's training", minimum=0, maximum=SEEDS)


# What was done before a parameter was there, where that is not its default.
BEFORE = {"local_scaling": 0.0, "key_width": 128}


@dataclass(frozen=True)
class StudentConfig:
    """The graph student: stem, graph learner and where its neighbours come from."""

    stem: str = _parameter("conv-small", "images to node features", choices=STEMS)
    graph: str = _parameter("adaptive", "how the graph is found", choices=LEARNERS)
    layer: str = _parameter("mean", "how the messages of neighbours are weighed", choices=LAYERS)
    k: int = _parameter(20, "neighbours of a node", minimum=1, search=(5, 80))
    # a norm over few numbers leaves nothing of them: one is always 0, two are always ±1
    hidden: int = _parameter(256, "width of the hidden layer", minimum=8, search=(128, 2048))
    heads: int = _parameter(
        1, "keys of a node, each with k neighbours of its own", minimum=1, maximum=16
    )
    key_width: int = _parameter(
        512,
        "most dimensions of a key, for each head: more make the graph better, bank and search "
        "larger",
        minimum=1,
        search=(32, 512),
    )
    local_scaling: float = _parameter(
        0.75,
        "beta: how much of a node's mean distance to its own neighbours is taken off distances to "
        "it, so that hubs lose their lead; without effect on graph=cosine, anchors, random",
        minimum=0,
        maximum=1,
        search=(0, 1),
    )
    scope: str = _parameter(
        "bank",
        "where neighbours come from: a bank of training images, or the batch (the paper)",
        choices=("bank", "batch"),
    )


@dataclass(frozen=True)
class TrainingConfig:
    """Distillation, and learning the graph: loss, optimiser, length."""

    epochs: int = _parameter(15, "stage one: passes over the training images", minimum=1)
    batch_size: int = _parameter(64, "stage one: images per step", minimum=2, search=(32, 512))
    optimizer: str = _parameter(
        "adamw", "optimiser of stage one; stage two takes adamw", choices=("adamw", "sgd")
    )
    learning_rate: float = _parameter(
        3e-3, "stage one: peak of the one-cycle", minimum=0, search=(0.0003, 0.01)
    )
    weight_decay: float = _parameter(
        0.05, "decoupled (adamw) or L2 (sgd)", minimum=0, search=(0.001, 0.2)
    )
    gradient_clip: float = _parameter(1.0, "largest gradient norm; 0: no clipping", minimum=0)
    ema: float = _parameter(
        0.0, "stage one: decay of averaged weights; 0: off", minimum=0, maximum=0.99999
    )
    loss: str = _parameter("kd", "what is distilled by", choices=LOSSES)
    kd_weight: float = _parameter(
        0.5, "lambda: share of the teacher's term", minimum=0, maximum=1, search=(0.1, 0.95)
    )
    temperature: float = _parameter(
        4.0, "T of the softened probabilities", minimum=0.1, search=(1, 16)
    )
    views: int = _parameter(
        6,
        "augmented views whose teacher logits are cached; 0: the teacher runs in every step",
        minimum=0,
        search=(1, 12),
    )
    stage_two: str = _parameter(
        "frozen",
        "frozen: the stem stands still in stage two; joint: stage one goes on beside it",
        choices=("frozen", "joint"),
    )
    graph_epochs: int = _parameter(
        8,
        "stage two: passes in which the graph network learns, and the twin without a graph",
        minimum=1,
    )
    graph_batch_size: int = _parameter(500, "stage two: queries per step", minimum=2)
    graph_learning_rate: float = _parameter(
        1e-3, "stage two: peak of the one-cycle", minimum=0, search=(0.0001, 0.01)
    )
    graph_views: int = _parameter(
        4, "stage two: augmented views whose features are cached", minimum=1, search=(1, 8)
    )
    twin_kd_weight: float | None = _parameter(
        None, "lambda of the twin; none: kd_weight", minimum=0, maximum=1
    )
    baselines: str = _parameter(
        "twin,undistilled",
        "which baselines are trained beside the student, comma-separated; empty: none",
        choices=("twin,undistilled", "twin", "undistilled", ""),
    )


@dataclass(frozen=True)
class RuntimeConfig:
    """Where the run lies and what it runs on."""

    run: str = _parameter("demo", "name of the run")
    runs_dir: str = _parameter("runs", "folder of all runs")
    seed: int = _parameter(0, "seed of weights, order and dropout", minimum=0, maximum=SEEDS)
    device: str = _parameter("auto", "where it runs", choices=("auto", "cpu", "cuda", "mps"))
    devices: int = _parameter(1, "processes, one a device", minimum=1)
    num_nodes: int = _parameter(1, "machines", minimum=1)
    precision: str = _parameter(
        "auto",
        "auto: bf16 on GPUs and CPUs that compute in it, else float32",
        choices=("auto", "32-true", "bf16-mixed", "16-mixed"),
    )
    deterministic: bool = _parameter(
        False, "same seed, same bits on a GPU too, or an error; a CPU gives them anyway"
    )
    eval_batch_size: int = _parameter(500, "least batch size of the batch protocol", minimum=2)
    eval_repeats: int = _parameter(5, "reshuffles of the batch protocol", minimum=1)
    logger: str = _parameter(
        "",
        "who else is told of each epoch, comma-separated; empty: nobody",
        choices=LOGGERS,
        several=True,
    )

    @property
    def hardware(self) -> dict[str, Any]:
        """What `training.make_fabric` asks for."""
        return {
            name: getattr(self, name) for name in ("device", "devices", "num_nodes", "precision")
        }


def check_group(part: Any) -> None:
    """Bring each field of a group into its type.

    Raises:
        ConfigError: a value that its field does not allow.
    """
    types_ = get_type_hints(type(part))
    for item in fields(part):
        value = checked(item, types_[item.name], getattr(part, item.name))
        object.__setattr__(part, item.name, value)


@dataclass(frozen=True)
class Config:
    """All parameters of a run, in groups."""

    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    training: TrainingConfig = TrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self) -> None:
        for group in fields(self):
            check_group(getattr(self, group.name))
        object.__setattr__(self.runtime, "run", run_name(self.runtime.run))
        k, batch = self.student.k, self.training.graph_batch_size
        if self.student.scope == "batch" and k >= min(batch, self.runtime.eval_batch_size) - 1:
            raise ConfigError(
                f"k={k} needs at least k + 2 nodes in a batch, but graph_batch_size={batch} "
                f"and eval_batch_size={self.runtime.eval_batch_size}; lower k or enlarge the batch"
            )

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any] | None = None, **more: Any) -> Config:
        """Build the configuration from flat parameters, as papermill injects them.

        Raises:
            ConfigError: an unknown name (the nearest known ones are named) or a wrong value.
        """
        given = {**(parameters or {}), **more}
        groups = {item.name: get_type_hints(cls)[item.name] for item in fields(cls)}
        known = {item.name: group for group, type_ in groups.items() for item in fields(type_)}
        for name in given:
            if name not in known:
                raise unknown(name, known)
        return cls(
            **{
                group: type_(**{n: v for n, v in given.items() if known[n] == group})
                for group, type_ in groups.items()
            }
        )

    def parameters(self) -> dict[str, Any]:
        """The flat parameters: `Config.from_parameters(c.parameters()) == c`."""
        return {name: value for group in asdict(self).values() for name, value in group.items()}
