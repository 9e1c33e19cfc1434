"""What notebook 02 shows: sources as they run, and figures of k, T and λ."""

from __future__ import annotations

from functools import cached_property

import pytest
import torch
from matplotlib.figure import Figure

from cnn2gnn.distillation.losses import response_kd
from cnn2gnn.drawing import method
from cnn2gnn.drawing.source import show_source, source_of

DISTANCES = torch.tensor([9.0, 1, 32, 4, 10, 5, 25])


class Shown:
    """Members of every kind."""

    @torch.no_grad()
    def decorated(self, a: int) -> int:
        """Not shown.

        Nor is this.
        """
        # why
        return a + 1

    @property
    def plain(self) -> int:
        return 2

    @cached_property
    def cached(self) -> int:
        """Not shown."""
        return 3


def lines(axes) -> dict[str, torch.Tensor]:
    """What is drawn in axes, by its label."""
    return {line.get_label(): torch.as_tensor(line.get_xydata()) for line in axes.get_lines()}


@pytest.mark.parametrize(
    ("member", "source"),
    [
        (Shown.decorated, "def decorated(self, a: int) -> int:\n    # why\n    return a + 1"),
        (Shown.plain, "def plain(self) -> int:\n    return 2"),
        (Shown.__dict__["cached"], "def cached(self) -> int:\n    return 3"),
    ],
)
def test_a_source_is_what_runs_without_its_docstring(member, source):
    assert source_of(member) == source
    place = "# test_drawing_method.py, Shown."
    assert show_source(member, member).data.count(place) == 2


def test_weights_fall_to_zero_at_the_next_distance_and_softmax_does_not():
    drawn = lines(method.weights_over_distance(DISTANCES, 3, (4, 16)).axes[0])
    expected = torch.tensor([8 / 17, 5 / 17, 4 / 17, 0, 0, 0, 0]).double()
    torch.testing.assert_close(drawn["adaptive"][:, 1], expected, check_dtype=False)
    for temperature in (4, 16):
        weights = drawn[f"softmax, {temperature}"][:, 1]
        assert len(weights) == 3 and weights.min() > 0.1
        torch.testing.assert_close(weights.sum().item(), 1.0)


def test_effective_neighbours_grow_with_k_and_stay_below_it():
    nodes = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    drawn = lines(method.effective_over_k(nodes[:10], nodes[10:], (1, 5, 20)).axes[0])["adaptive"]
    assert drawn[0].tolist() == [1, 1]
    assert drawn[0, 1] < drawn[1, 1] < 5 and drawn[1, 1] < drawn[2, 1] < 20


def test_a_higher_temperature_shows_more_of_the_other_classes():
    logits = torch.arange(12.0)
    figure = method.softened_answer(logits, [f"class {c}" for c in range(12)], (1, 4, 16))
    assert isinstance(figure, Figure)
    heights = [[bar.get_height() for bar in bars] for bars in figure.axes[0].containers]
    assert [len(bars) for bars in heights] == [8, 8, 8]
    assert heights[0][0] > heights[1][0] > heights[2][0] and heights[0][7] < heights[2][7]


def test_the_teacher_is_matched_where_the_student_says_what_it_says():
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    drawn = lines(method.loss_over_sureness(logits, logits.argmax(1), 4, (0, 0.5, 1)).axes[0])
    lowest = drawn["λ = 1"][drawn["λ = 1"][:, 1].argmin()]
    torch.testing.assert_close(lowest, torch.tensor([1.0, 0.0]).double(), atol=1e-5, rtol=0)
    mixed = response_kd(logits, logits, logits.argmax(1), weight=0.5).item()
    assert drawn["λ = 0.5"][20, 1] == pytest.approx(mixed, abs=1e-5)
    assert (drawn["λ = 0"][1:, 1] <= drawn["λ = 0"][:-1, 1]).all()
