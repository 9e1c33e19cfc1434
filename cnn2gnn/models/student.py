"""The student: images in, a learned graph and logits out; and its file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnn2gnn.base.disk import collected
from cnn2gnn.base.files import check_claim, load_state, load_tensors, save_tensors
from cnn2gnn.base.shapes import Shape, misfit
from cnn2gnn.config import BEFORE, StudentConfig, check_group
from cnn2gnn.graph import GraphLearner, Heads
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.layers import Normalise, as_floats
from cnn2gnn.models.output import StudentOutput
from cnn2gnn.models.stems import feature_width
from cnn2gnn.registry import LAYERS, LEARNERS, MODALITIES, STEMS

# What `Student.architecture` is: see `base.shapes`. Older versions knew images only.
_ARCHITECTURE: Shape = {
    "config": {},
    **dict.fromkeys(("channels", "size", "classes"), int),
    "modality?": str,
    "codec?": str,
    "mean": [int | float],
    "std": [int | float],
    "own": {"*": str},
}


class Student(nn.Module):
    """A graph student that classifies raw images: a stem, and two graph layers on its features.

    Args:
        config: stem, graph learner, k, scope.
        channels, size, classes: of the images; `mean`, `std`: of their channels in [0, 1] units.
        stem: one of your own, from normalised images `(B, C, S, S)` to features `(B, d)`; None:
            the one that `config` names. learner: likewise a graph learner. The student has copies
            of them, which no other student trains.
        modality, codec: what the samples are, and what decoding them needs: see `ImageSet`.

    Raises:
        ValueError: your stem does not give one vector an image; a modality that is not known.
    """

    def __init__(
        self,
        config: StudentConfig,
        *,
        channels: int,
        size: int,
        classes: int,
        mean: list[float],
        std: list[float],
        stem: nn.Module | None = None,
        learner: GraphLearner | None = None,
        modality: str = "image",
        codec: str = "",
    ) -> None:
        super().__init__()
        if modality not in MODALITIES:
            raise ValueError(f"modality={modality!r} must be one of {', '.join(MODALITIES)}")
        self.config, self.own = config, _kinds(stem, learner)
        self.modality, self.codec = modality, codec
        self.shape = {"channels": channels, "size": size, "classes": classes}
        self.normalise = Normalise(mean, std)
        stem, learner = copy.deepcopy(stem), copy.deepcopy(learner)
        self.stem = STEMS[config.stem](channels, size) if stem is None else stem
        if learner is None and config.graph != "none":
            learner = LEARNERS[config.graph](config.k)
        if learner is not None and config.heads > 1:
            learner = Heads(learner, config.heads)
        d = feature_width(self.stem, channels, size)
        self.network = GraphNetwork(
            *(d, classes, learner, config.scope, config.hidden),
            layer=LAYERS[config.layer],
            key_width=config.key_width,
            local_scaling=config.local_scaling,
        )

    @property
    def scope(self) -> str:
        """`bank` or `batch`; `none` if the student has no graph."""
        return self.network.scope

    @property
    def stem_name(self) -> str:
        """What the configuration calls the stem, or the class of one of your own."""
        return str(self.own.get("stem", self.config.stem))

    @property
    def graph_name(self) -> str:
        """What the configuration calls the graph, or the class of a learner of your own."""
        return str(self.own.get("graph", self.config.graph))

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars, without the bank."""
        return sum(p.numel() for p in self.parameters())

    def forward(
        self, images: Tensor, bank: Bank | None = None, exclude: Tensor | None = None
    ) -> StudentOutput:
        """Classify uint8 images `(B, C, H, W)`; `bank` and `exclude` as in `GraphNetwork.forward`.

        Raises:
            ValueError: a bank while in training mode; its keys are those of evaluation mode, and
                against them the batch statistics of training lead the search astray.
        """
        if bank is not None:
            self._check_mode()
        return self.network(self.embed(images), bank, exclude, self.pixels(images))

    def pixels(self, images: Tensor) -> Tensor | None:
        """Return uint8 images as `(B, p)` in [0, 1] if the graph is taken from them, else None."""
        learner = self.network.learner
        if learner is None or learner.space == "features":
            return None
        return raw_pixels(images, self.normalise.mean.device)

    def embed(self, images: Tensor) -> Tensor:
        """uint8 images `(B, C, H, W)` to node features `(B, d)`."""
        return self.stem(self.normalise(images))

    @torch.no_grad()
    def features(self, images: Tensor, batch_size: int = 500) -> Tensor:
        """Features `(N, d)` of any number of images, on the student's device, float32."""
        device = next(self.parameters()).device
        chunks = images.split(batch_size)
        return collected((self.embed(chunk.to(device)).float() for chunk in chunks), len(images))

    @torch.no_grad()
    def bank(self, images: Tensor, labels: Tensor) -> Bank:
        """Return the bank of training images `(M, C, H, W)` with labels `(M,)`.

        Raises:
            ValueError: fewer than k + 2 images, a student without graph, or one in training mode.
        """
        learner = self.network.learner
        if learner is None:
            raise ValueError("this student has no graph (graph='none'): it takes no bank")
        if len(images) < learner.k + 2:
            raise ValueError(
                f"a bank needs at least k + 2 = {learner.k + 2} images, not {len(images)}"
            )
        return self.network.settled(self._nodes(images, labels))

    @torch.no_grad()
    def enlarged(self, bank: Bank, images: Tensor, labels: Tensor) -> Bank:
        """Return a bank with images `(m, C, H, W)` and labels `(m,)`, however few, behind it."""
        nodes = self._nodes(images, labels).to(bank.labels.device)
        if bank.bits is not None:  # as they will be saved
            nodes = replace(nodes, bits=bank.bits, grid=bank.grid).compact()
        return self.network.scaled(replace(bank, radii=None).joined(nodes))

    def _nodes(self, images: Tensor, labels: Tensor) -> Bank:
        self._check_mode()
        features = self.features(images)  # (M, d)
        pixels = self.pixels(images)
        return self.network.bank(features, labels.to(features.device), pixels).compact()

    def _check_mode(self) -> None:
        if self.training:
            raise ValueError("a bank is for a student in evaluation mode; call student.eval()")

    @property
    def architecture(self) -> dict[str, Any]:
        """All but the weights, as JSON takes it; `restore` builds the student from both."""
        mean, std = (getattr(self.normalise, name).flatten().tolist() for name in ("mean", "std"))
        config = asdict(self.config)
        samples = {"modality": self.modality, "codec": self.codec}
        return {
            "config": config, **self.shape, **samples, "mean": mean, "std": std, "own": self.own
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write weights and architecture to one safetensors file, atomically."""
        save_tensors(path, self.state_dict(), self.architecture)

    @classmethod
    def load(
        cls, path: str | Path, stem: nn.Module | None = None, learner: GraphLearner | None = None
    ) -> Student:
        """Read a student, in evaluation mode. Arguments and errors as in `restore`.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return cls.restore(*load_tensors(path), path, stem, learner)

    @classmethod
    def restore(
        cls,
        tensors: Mapping[str, Tensor],
        architecture: Any,
        source: str | Path,
        stem: nn.Module | None = None,
        learner: GraphLearner | None = None,
    ) -> Student:
        """Return the student of these weights, in evaluation mode.

        Args:
            source: what errors call it.
            stem, learner: those of your own that it was made with.

        Raises:
            ValueError: what is given is damaged, is no student's or does not fit together.
        """
        try:
            if wrong := misfit(architecture, _ARCHITECTURE):
                raise ValueError(wrong)
            shape = dict(architecture)
            made_with, given = shape.pop("own"), _kinds(stem, learner)
            config = StudentConfig(**BEFORE | shape.pop("config"))
            check_group(config)
            if learner is not None or config.graph != "none":  # older versions had no α
                tensors = {"network.label_scale": torch.tensor(0.0), **tensors}
            if not made_with | given:  # how large parts of your own are is yours to say
                check_claim(lambda: cls(config, **shape), tensors)
            student = cls(config, **shape, stem=stem, learner=learner)
        except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
            why = str(error).partition("\n")[0]  # torch says more
            raise ValueError(f"{source} holds no student: {why}") from error
        if given != made_with:
            raise ValueError(
                f"{source} was made with parts of your own {made_with or 'of no kind'}, "
                f"given are {given or 'none'}: hand over the same"
            )
        load_state(student, tensors, source)
        return student.eval()


def raw_pixels(images: Tensor, device: torch.device) -> Tensor:
    """Return images `(M, C, H, W)` as `(M, p)`, those of uint8 in [0, 1]."""
    if torch.compiler.is_exporting():  # of any number, in one go
        return as_floats(images.to(device).flatten(1))
    parts = (as_floats(part.to(device).flatten(1)) for part in images.split(500))
    return collected(parts, len(images))


def _kinds(stem: nn.Module | None, learner: GraphLearner | None) -> dict[str, str]:
    """The classes of the parts that are the user's own."""
    parts = {"stem": stem, "graph": learner}
    return {name: type(part).__qualname__ for name, part in parts.items() if part is not None}
