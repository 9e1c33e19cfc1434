"""What the configuration can name: one small registry a kind of thing.

To add one: write it in a file of its own, and enter it here by a line `"name": "module:attribute"`.
From outside the package, `LOSSES.register("mine", my_loss)` does the same. Names are known without
importing what they stand for, so that the command line and a notebook's first cell answer at once.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any


class Registry(Mapping[str, Any]):
    """A mapping from names to things that are imported when first asked for.

    Args:
        parameter: the parameter that holds such a name, for errors.
        entries: name → `module:attribute`.
    """

    def __init__(self, parameter: str, entries: Mapping[str, str]) -> None:
        self.parameter = parameter
        self._entries: dict[str, Any] = dict(entries)
        self._kit = frozenset(entries)

    def __getitem__(self, name: str) -> Any:
        """Return what is registered under `name`.

        Raises:
            KeyError: nothing is; the nearest names are given.
        """
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise KeyError(f"{self.parameter}={name!r}: {hint}known are {', '.join(self)}")
        entry = self._entries[name]
        return pkgutil.resolve_name(entry) if isinstance(entry, str) else entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:  # Mapping's own would import it
        return name in self._entries

    def from_outside(self, name: str) -> bool:
        """Whether `name` was registered by a user, not by the kit."""
        return name not in self._kit

    def register(self, name: str, thing: Any) -> None:
        """Enter a thing of your own, for this process.

        Args:
            thing: the object, or `"module:attribute"` of it.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self.parameter}={name!r} is registered already")
        self._entries[name] = thing


# learner(k) -> GraphLearner
LEARNERS = Registry(
    "graph",
    {
        "adaptive": "cnn2gnn.graph.learners:AdaptiveNeighbours",
        "none": "cnn2gnn.graph.learners:NoGraph",
        "random": "cnn2gnn.graph.learners:RandomNeighbours",
        "fixed": "cnn2gnn.graph.learners:FixedNeighbours",
        "fixed-features": "cnn2gnn.graph.learners:FixedFeatures",
        "whitened": "cnn2gnn.graph.learners:WhitenedNeighbours",
        "adaptive-k": "cnn2gnn.graph.adaptive_k:LearnedK",
        "cosine": "cnn2gnn.graph.cosine:CosineNeighbours",
        "anchors": "cnn2gnn.graph.anchors:AnchorNeighbours",
        "softmax": "cnn2gnn.graph.scored:SoftmaxNeighbours",
        "sparsemax": "cnn2gnn.graph.scored:SparsemaxNeighbours",
        "entmax": "cnn2gnn.graph.scored:EntmaxNeighbours",
        "gumbel": "cnn2gnn.graph.scored:GumbelNeighbours",
    },
)

# layer(width of a key, all heads together, heads) -> GraphLayer
LAYERS = Registry(
    "layer",
    {
        "mean": "cnn2gnn.graph.layers:Mean",
        "attention": "cnn2gnn.graph.attention:Attention",
        "gcn": "cnn2gnn.graph.gcn:GCN",
    },
)

# stem(channels, size) -> module: images (B, C, S, S) to features (B, d)
STEMS = Registry(
    "stem",
    {
        "linear": "cnn2gnn.models.stems:LinearStem",
        "conv-tiny": "cnn2gnn.models.stems:conv_tiny",
        "conv-small": "cnn2gnn.models.stems:conv_small",
        "conv-base": "cnn2gnn.models.stems:conv_base",
        "shufflenet-v2": "cnn2gnn.models.torchvision_stems:shufflenet_v2",
        "mobilenet-v2": "cnn2gnn.models.torchvision_stems:mobilenet_v2",
        "features": "cnn2gnn.models.stems:FeatureStem",
        "ngrams": "cnn2gnn.models.text:NgramStem",
    },
)

# network(channels, size, classes, weights) -> module: images (B, C, S, S) to logits (B, classes)
TEACHERS = Registry(
    "teacher",
    {
        "resnet20": "cnn2gnn.models.networks:resnet20",
        "resnet56": "cnn2gnn.models.networks:resnet56",
        "resnet110": "cnn2gnn.models.networks:resnet110",
        "resnet18": "cnn2gnn.models.networks:resnet18",
        "resnet34": "cnn2gnn.models.networks:resnet34",
        "resnet50": "cnn2gnn.models.networks:resnet50",
        "resnet101": "cnn2gnn.models.networks:resnet101",
        "resnet152": "cnn2gnn.models.networks:resnet152",
        "text-cnn": "cnn2gnn.models.text:TextCNN",
        "mlp": "cnn2gnn.models.text:Perceptron",
        "given": "cnn2gnn.models.given:untrainable",
    },
)

# loss(student_logits, teacher_logits, labels, *, temperature, weight) -> scalar
LOSSES = Registry(
    "loss",
    {
        "kd": "cnn2gnn.distillation.losses:response_kd",
        "dkd": "cnn2gnn.distillation.losses:dkd",
        "dist": "cnn2gnn.distillation.losses:dist",
        "kd-ls": "cnn2gnn.distillation.losses:kd_ls",
        "dkd-ls": "cnn2gnn.distillation.losses:dkd_ls",
        "ofa": "cnn2gnn.distillation.losses:ofa",
        "sp": "cnn2gnn.distillation.losses:sp",
        "rkd": "cnn2gnn.distillation.losses:rkd",
        "denoised": "cnn2gnn.distillation.losses:denoised",
        "relation": "cnn2gnn.distillation.losses:relation",
    },
)

# logger(run folder, stage) -> what is called with the row of each epoch, a dict
LOGGERS = Registry(
    "logger",
    {
        "tensorboard": "cnn2gnn.runs.loggers:TensorBoardLog",
        "mlflow": "cnn2gnn.runs.loggers:MLflowLog",
    },
)

# source(request) -> Source: `data.source`. A name with a colon takes what stands behind it.
DATASETS = Registry(
    "dataset",
    {
        "digits": "cnn2gnn.data.bundled:digits_source",
        "fashion-mnist": "cnn2gnn.data.bundled:torchvision_source",
        "cifar10": "cnn2gnn.data.bundled:torchvision_source",
        "cifar100": "cnn2gnn.data.bundled:torchvision_source",
        "stl10": "cnn2gnn.data.bundled:torchvision_source",
        "mini-imagenet": "cnn2gnn.data.mini_imagenet:mini_imagenet_source",
        "vowels": "cnn2gnn.data.examples:vowels_source",
        "docstrings": "cnn2gnn.data.examples:docstrings_source",
        "folder:PATH": "cnn2gnn.data.folder:folder_source",
        "parquet:GLOB": "cnn2gnn.data.tables:parquet_source",
        "audio:PATH": "cnn2gnn.data.folder:audio_source",
        "text:GLOB": "cnn2gnn.data.tables:text_source",
        "features:FILE": "cnn2gnn.data.features:features_source",
    },
)

# what samples are, how they are decoded, varied and shown: `data.modality`
MODALITIES = Registry(
    "modality",
    {
        "image": "cnn2gnn.data.modality:IMAGE",
        "audio": "cnn2gnn.data.audio:AUDIO",
        "text": "cnn2gnn.data.text:TEXT",
        "features": "cnn2gnn.data.features:FEATURES",
    },
)
