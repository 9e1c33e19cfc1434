"""How much the labels of neighbours count: the one number that validation images tell.

Training images cannot. The network knows most of them by heart, so that its own answer seems always
right, and as queries they come in augmented views, whose neighbours are worse than those of a
clean image. What is trained on them hardly listens to what neighbours are. So

    logits_i = z_i + α v_i,    v_i = Σ_j s_ij y_j

with z_i as training left it, and α ≥ 0 is what suits images that the network has not seen. The
logarithm of a product of two experts is such a sum (Hinton 2002), and how sharp one's own answer is
meant to be is told by unseen images too (Guo et al. 2017): with a, the inverse of a temperature,

    a, b = argmin Σ_i CE(a z_i + b v_i, y_i) + (a − 1)²/2 + b²/(2·3²),    α = b / a.

This is convex. a itself changes no prediction and is not kept. The two last terms weigh as much as
an image or two: where all images are predicted correctly, they keep the numbers finite.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DEVIATION = 3.0  # of b beforehand: that of all neighbours for one class, in units of logits
LEAST = 0.01  # of a: an answer of one's own that is worse than none counts next to nothing
_STEPS = 200  # of L-BFGS, at most


def fitted(logits: Tensor, votes: Tensor, labels: Tensor) -> float:
    """Return α ≥ 0 for nodes that nothing was trained on.

    Args:
        logits: z `(N, C)`, with a graph whose labels count nothing.
        votes: v `(N, C)`, the neighbours' weight per class.
        labels: int64 `(N,)`.
    """
    z, v = (values.detach().double().cpu() for values in (logits, votes))
    y = labels.cpu()
    numbers = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)  # a, b
    optimizer = torch.optim.LBFGS([numbers], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        a, b = numbers
        value = F.cross_entropy(a * z + b * v, y, reduction="sum")
        value = value + (a - 1).square() / 2 + (b / DEVIATION).square() / 2
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    a_found, b_found = numbers.tolist()
    return float(max(0.0, b_found / max(a_found, LEAST)))
