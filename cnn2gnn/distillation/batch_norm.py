"""Batch normalisation over the batch of all processes, as if one process had seen it whole.

torch's own `SyncBatchNorm` does this on GPUs and refuses CPUs, for which there is one here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnn2gnn.distillation.collectives import all_reduced


class CPUSyncBatchNorm(_BatchNorm):
    """`nn.SyncBatchNorm` for CPUs; processes may have shares of unequal size."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `(B, C, …)` by the mean and variance of all processes' inputs."""
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        over = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = all_reduced(x.new_tensor(x.numel() // x.shape[1]))
        mean = all_reduced(x.sum(over)) / count  # (C,)
        centred = x - mean.reshape(shape)
        variance = all_reduced(centred.square().sum(over)) / count  # (C,)
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        out = centred * scale.reshape(shape)
        if self.affine:
            out = out + self.bias.reshape(shape)
        return out.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions: it stands in for batch norms of every kind."""

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        seen = self.num_batches_tracked.item()
        rate = 1 / seen if self.momentum is None else self.momentum  # None: plain mean of all
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch norm within `module` count the batch of all processes; changes `module`."""
    if device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    made: dict[nn.Module, nn.Module] = {}  # a norm that stands in several places stays one
    for part in module.modules():
        for name, child in part._modules.items():  # children in their order, repeated ones too
            if isinstance(child, _BatchNorm) and not isinstance(child, CPUSyncBatchNorm):
                made[child] = made.get(child) or _synchronised(child)
                setattr(part, name, made[child])
    return module


def _synchronised(norm: _BatchNorm) -> CPUSyncBatchNorm:
    """The same norm over all processes, with the very parameters, frozen ones too."""
    new = CPUSyncBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    new._parameters, new._buffers = norm._parameters, norm._buffers
    return new.train(norm.training)
