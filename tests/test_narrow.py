"""Training in bf16 on a CPU: gradients are those of float32 also where maps are one pixel wide."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnn2gnn.distillation.narrow import in_float32

SHAPES = [
    (nn.Conv1d(16, 32, 3, stride=2, padding=1), (16, 16, 1)),
    (nn.Conv2d(16, 32, 3, stride=2, padding=1), (16, 16, 1, 1)),
    (nn.Conv2d(16, 32, 4, stride=2, padding=2), (16, 16, 3, 1)),
    (nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16), (16, 16, 4, 1)),
    (nn.Conv2d(16, 32, 3, stride=2, padding=1), (16, 16, 4, 4)),
]


def gradients(convolution: nn.Module, x: torch.Tensor, bf16: bool) -> list[torch.Tensor]:
    """Of the weights, five times, for what is not written is sometimes right by chance."""
    found = []
    for _ in range(5):
        torch.full((100_000,), torch.nan)  # what lies in memory that is free again
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = convolution(x)
        y.float().square().sum().backward()
        assert isinstance(convolution.weight, nn.Parameter)
        assert convolution.weight.grad is not None
        found.append(convolution.weight.grad.clone())
    return found


@pytest.mark.parametrize(("convolution", "shape"), SHAPES)
def test_gradients_are_those_of_float32(convolution: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    exact, *_ = gradients(convolution, x, bf16=False)
    with in_float32(nn.Sequential(convolution)):
        found = gradients(convolution, x, bf16=True)
    for each in found:
        assert (each - exact).norm() < 0.03 * exact.norm()


def test_wide_maps_stay_in_bf16_and_modules_are_left_as_they_were() -> None:
    convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="expected"), in_float32(convolution):
            assert convolution(torch.zeros(2, 3, 8, 8)).dtype == torch.bfloat16
            assert convolution(torch.zeros(2, 3, 8, 1)).dtype == torch.float32
            convolution(torch.zeros(2, 5, 8, 8))  # another number of channels
        assert convolution(torch.zeros(2, 3, 8, 1)).dtype == torch.bfloat16
    assert "forward" not in vars(convolution)


def test_a_forward_of_somebodys_own_is_kept() -> None:
    convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    own = convolution.forward = lambda x: x  # type: ignore[method-assign]
    with in_float32(convolution):
        assert convolution.forward is own
    assert convolution.forward is own
