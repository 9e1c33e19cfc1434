"""The bank: training images as graph nodes, with what the student gets wrong on each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.files import BrokenFileError, load_tensors, save_tensors

_FLOOR = 0.02  # of the largest singular value: directions without variance are not blown up


@dataclass(frozen=True)
class Bank:
    """M training nodes that a query finds its neighbours among.

    Attributes:
        features: z_j, `(M, d)`.
        labels: y_j, `(M,)` int64; −1 for an unlabelled node.
        residuals: r_j = onehot(y_j) − softmax(base_j), `(M, C)`; zero for an unlabelled node.
        keys: whitened features, `(M, d)`; distances are taken between keys.
        mean: of the features, `(d,)`; whitening: `(d, d)`.
        pixels: raw pixels `(M, p)` in [0, 1], the keys of a graph that is fixed in pixel space;
            None for a graph on features.
    """

    features: Tensor
    labels: Tensor
    residuals: Tensor
    keys: Tensor
    mean: Tensor
    whitening: Tensor
    pixels: Tensor | None = None

    @classmethod
    def build(
        cls, features: Tensor, labels: Tensor, base_logits: Tensor, pixels: Tensor | None = None
    ) -> Bank:
        """Build the bank from features `(M, d)`, labels `(M,)` and own logits `(M, C)`."""
        probabilities = base_logits.float().softmax(1)  # (M, C)
        # r_j = onehot(y_j) − softmax(base_j): the "correct" step of Correct & Smooth
        # (Huang et al., ICLR 2021), on a learned graph
        residuals = F.one_hot(labels, probabilities.shape[1]) - probabilities  # (M, C)
        mean, whitening = fit_whitening(features)
        keys = (features - mean) @ whitening if pixels is None else pixels  # (M, d) or (M, p)
        return cls(features, labels, residuals, keys, mean, whitening, pixels)

    def __len__(self) -> int:
        return len(self.labels)

    def project(self, features: Tensor) -> Tensor:
        """Features `(B, d)` to keys `(B, d)`, with the bank's whitening."""
        return (features - self.mean) @ self.whitening

    def with_unlabelled(self, features: Tensor, pixels: Tensor | None = None) -> Bank:
        """Return the bank with `features` `(B, d)` as further nodes without label or residual."""
        keys = torch.cat([self.keys, self.project(features) if pixels is None else pixels])
        return replace(
            self,
            features=torch.cat([self.features, features]),
            labels=F.pad(self.labels, (0, len(features)), value=-1),
            residuals=F.pad(self.residuals, (0, 0, 0, len(features))),
            keys=keys,
            pixels=None if self.pixels is None else keys,
        )

    def subset(self, rows: Tensor) -> Bank:
        """Return some of the nodes, `rows` int64 `(m,)` or bool `(M,)`; the whitening stays."""
        names = ["features", "labels", "residuals", "keys"] + ["pixels"] * (self.pixels is not None)
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def label_votes(self, neighbours: Tensor, weights: Tensor) -> Tensor:
        """Return the neighbours' weight per class, `(B, C)`, for neighbours `(B, k)`."""
        labels = self.labels[neighbours]  # (B, k)
        votes = weights.new_zeros(len(weights), self.residuals.shape[1])
        return votes.scatter_add(1, labels.clamp(min=0), weights * (labels >= 0))

    @property
    def megabytes(self) -> float:
        """Size in MB (10⁶ bytes) as saved."""
        return sum(t.nbytes for t in self.tensors.values()) / 1e6

    def to(self, device: torch.device | str) -> Bank:
        """Return the bank on another device."""
        tensors = {name: t.to(device) for name, t in vars(self).items() if t is not None}
        return replace(self, **tensors)

    def save(self, path: str | Path) -> None:
        """Write the bank to a safetensors file, atomically."""
        save_tensors(path, self.tensors)

    @classmethod
    def load(cls, path: str | Path) -> Bank:
        """Read a bank.

        Raises:
            FileNotFoundError: there is no such file.
            BrokenFileError: the file is damaged or not a bank.
        """
        return cls.restore(load_tensors(path)[0], path)

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], source: str | Path) -> Bank:
        """Return the bank of these `tensors`; errors name `source`.

        Raises:
            BrokenFileError: they are not those of a bank.
        """
        try:
            keys = tensors.get("pixels")
            if keys is None:
                keys = (tensors["features"] - tensors["mean"]) @ tensors["whitening"]
            return cls(**tensors, keys=keys)
        except (KeyError, TypeError, RuntimeError) as error:
            raise BrokenFileError(f"{source} is not a bank: {error}") from error

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What `restore` takes. Keys are not among them: they follow."""
        return {name: t for name, t in vars(self).items() if name != "keys" and t is not None}


def fit_whitening(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean `(d,)` and W `(d, d)` so that (z − mean)·W has unit covariance.

    Singular values are floored at 0.02 of the largest (1e-3 … 0.05 measured equal). Whitened
    distances find better neighbours than cosine or Euclidean ones: no direction of the feature
    space drowns the others.
    """
    mean = features.mean(0)
    centred = (features - mean).double()  # (M, d)
    covariance = centred.T @ centred / len(features)  # (d, d)
    # Σ = U diag(σ²) Uᵀ,  W = U diag(1/σ)
    variances, directions = torch.linalg.eigh(covariance)
    sigma = variances.clamp(min=0).sqrt()
    sigma = sigma.clamp(min=_FLOOR * max(sigma.max().item(), 1e-12))
    return mean, (directions / sigma).to(features.dtype)
