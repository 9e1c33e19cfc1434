"""The teacher: a CNN that takes raw images and gives logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from cnn2gnn.base.disk import collected
from cnn2gnn.base.files import (
    BrokenFileError,
    check_claim,
    load_state,
    load_tensors,
    module_hash,
    save_tensors,
)
from cnn2gnn.base.shapes import Shape, misfit
from cnn2gnn.base.values import ConfigError
from cnn2gnn.data import ImageSet, channel_statistics
from cnn2gnn.models.layers import Floats, Normalise
from cnn2gnn.models.networks import build_network

# What a file tells beside the weights: see `base.shapes`.
_FACTS: Shape = {"name": str, "shape": dict.fromkeys(("channels", "size", "classes"), int)}
_OWN: Shape = {"name": str, "shape": None}  # of a network that has no name to be built from


class Teacher(nn.Module):
    """A CNN that takes raw images.

    Args:
        network: any module from normalised images `(B, C, H, W)` to logits `(B, classes)`.
        mean, std: of the channels, in [0, 1] units, each of length C. Where C is 3, grey images
            become RGB by three equal channels; colour images never become grey.
        name: what tables call it.
    """

    def __init__(self, network: nn.Module, mean: Floats, std: Floats, name: str) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.network = network
        self.name = name
        self.shape: dict[str, int] | None = None  # of a network that can be built from its name

    @classmethod
    def around(cls, network: nn.Module, images: ImageSet) -> Teacher:
        """Return a teacher of a network of your own, normalised by the statistics of `images`.

        A network whose first convolution takes three channels sees grey images as RGB.
        """
        mean, std = channel_statistics(images.images)  # (C,)
        first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
        if images.channels == 1 and first is not None and first.in_channels == 3:
            mean, std = mean.repeat(3), std.repeat(3)  # (3,)
        return cls(network, mean, std, type(network).__name__)

    @classmethod
    def build(
        cls,
        name: str,
        *,
        channels: int,
        size: int,
        classes: int,
        mean: list[float],
        std: list[float],
        weights: str | None = None,
    ) -> Teacher:
        """Return a teacher by the name of its network; arguments as of `build_network`."""
        teacher = cls(build_network(name, channels, size, classes, weights), mean, std, name)
        teacher.shape = {"channels": channels, "size": size, "classes": classes}
        return teacher

    def save(self, path: str | Path) -> None:
        """Write weights and architecture to one safetensors file, atomically."""
        save_tensors(path, self.state_dict(), {"name": self.name, "shape": self.shape})

    @classmethod
    def load(cls, path: str | Path, network: nn.Module | None = None) -> Teacher:
        """Read a teacher, in evaluation mode.

        Args:
            network: takes the weights, and is the teacher's from then on; needed where the teacher
                was made around a network of your own. None: one that is built from its name.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigError: a network is needed.
            ValueError: the file is damaged, or its weights do not fit its architecture, or the
                network, which then stays as it was.
        """
        tensors, facts = load_tensors(path)
        if network is None and not misfit(facts, _OWN):
            raise ConfigError(
                f"network=None: {path} holds teacher {facts['name']!r} around a network of your "
                "own: hand such a network over, Teacher.load(path, network)"
            )
        try:
            if wrong := misfit(facts, _FACTS if network is None else {"name": str}):
                raise ValueError(wrong)
            # statistics come with the weights
            nothing = [0.0] * len(tensors["normalise.mean"].flatten())
            if network is not None:
                teacher = cls(network, nothing, nothing, facts["name"])
            else:
                shape = facts["shape"]
                make = partial(cls.build, facts["name"], **shape, mean=nothing, std=nothing)
                check_claim(make, tensors)
                teacher = make()
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            why = str(error).partition("\n")[0]  # torch says more
            raise BrokenFileError(f"{path} holds no teacher: {why}") from error
        load_state(teacher, tensors, path)
        return teacher.eval()

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images `(B, C, H, W)` to logits `(B, classes)`."""
        return self.network(self.normalise(images))

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars."""
        return sum(p.numel() for p in self.parameters())

    def fingerprint(self) -> str:
        """Hash of layers, weights and statistics: another training is another teacher."""
        return module_hash(self)


def device_of(module: nn.Module) -> torch.device:
    """Where a module lies; one without parameters has statistics at least."""
    return next(chain(module.parameters(), module.buffers())).device


@torch.inference_mode()
def in_chunks(function: Callable[[Tensor], Tensor], images: Tensor, size: int = 500) -> Tensor:
    """Apply `function` to `images` in pieces on its module's device; the result is on the CPU."""
    module = function if isinstance(function, nn.Module) else function.__self__  # type: ignore[attr-defined]
    device = device_of(module)
    answers = (function(chunk.to(device)).float().cpu() for chunk in images.split(size))
    return collected(answers, len(images))


@torch.no_grad()
def check_classes(teacher: Teacher, images: ImageSet) -> None:
    """Ask a teacher that was trained elsewhere for one image.

    Raises:
        ValueError: it does not answer with one logit per class.
    """
    device = device_of(teacher)
    teacher.eval()  # a single image has no batch statistics
    try:
        answer = teacher(images.images[:1].to(device))
    except Exception as error:  # whatever a network of the user's own stumbles over
        shape = tuple(images.images[:1].shape)
        raise ValueError(
            f"teacher {teacher.name} fails on one image {shape} of {images.name}: {error}"
        ) from error
    found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    expected = (1, len(images.classes))
    if found != expected:
        raise ValueError(
            f"teacher {teacher.name} gives logits of shape {found} for one image of "
            f"{images.name}; {expected} is needed"
        )
