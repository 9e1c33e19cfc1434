"""Networks on tokens: the teacher reads phrases, the student counts them.

Tokens come as floats `(B, 1, L)` from `Normalise`, which leaves codes as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.data.text import PADDING, VOCABULARY

START = 0.1  # deviation of a token's vector as training begins


def tokens_of(samples: Tensor) -> Tensor:
    """`(B, 1, L)` as int64 `(B, L)`."""
    return samples[:, 0].round().long()


class TextCNN(nn.Module):
    """Convolutions over word vectors, the strongest answer of each (Kim, EMNLP 2014, §2)."""

    def __init__(
        self, channels: int, size: int, classes: int, weights: str | None = None, width: int = 64
    ) -> None:
        super().__init__()
        if weights is not None:
            raise ValueError(f"teacher_weights={weights!r} is not to be had for text-cnn")
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=PADDING)
        # small: a token that training hardly met shall not say much
        nn.init.normal_(self.embedding.weight, std=START)
        nn.init.zeros_(self.embedding.weight[PADDING])
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, 100, words, padding=words - 1) for words in (3, 4, 5)
        )
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(300, classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Tokens `(B, 1, L)` to logits `(B, classes)`."""
        words = self.embedding(tokens_of(samples)).transpose(1, 2)  # (B, w, L)
        strongest = [F.relu(conv(words)).amax(2) for conv in self.convolutions]  # 3 of (B, 100)
        return self.fc(self.dropout(torch.cat(strongest, 1)))


class NgramStem(nn.Module):
    """The mean vector of a text's tokens, and that of its hashed pairs of tokens.

    Joulin et al., Bag of Tricks for Efficient Text Classification, EACL 2017, §2.
    """

    buckets, width = 2**15, 64
    feature_width = 2 * width

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, self.width)
        self.pairs = nn.Embedding(self.buckets, self.width)
        self.norm = nn.BatchNorm1d(self.feature_width)
        for table in (self.words, self.pairs):
            nn.init.normal_(table.weight, std=START)

    def forward(self, samples: Tensor) -> Tensor:
        """Tokens `(B, 1, L)` to features `(B, d)`."""
        tokens = tokens_of(samples)  # (B, L)
        there = tokens != PADDING
        left, right = tokens[:, :-1], tokens[:, 1:]
        pairs = (left * 1_000_003 + right) % self.buckets  # (B, L − 1)
        both = there[:, :-1] & there[:, 1:]
        found = [_mean(self.words(tokens), there), _mean(self.pairs(pairs), both)]
        return self.norm(torch.cat(found, 1))


def _mean(vectors: Tensor, there: Tensor) -> Tensor:
    """Mean of vectors `(B, L, w)` over the places that count, `(B, w)`; zero if none does."""
    weights = there.to(vectors.dtype)[:, :, None]  # (B, L, 1)
    return (vectors * weights).sum(1) / weights.sum(1).clamp(min=1)


class Perceptron(nn.Sequential):
    """The teacher of feature vectors: one wide hidden layer."""

    def __init__(self, channels: int, size: int, classes: int, weights: str | None = None) -> None:
        if weights is not None:
            raise ValueError(f"teacher_weights={weights!r} is not to be had for mlp")
        d = channels * size * size
        hidden = [nn.Linear(d, 1024), nn.BatchNorm1d(1024), nn.ReLU(), nn.Dropout(0.3)]
        super().__init__(nn.Flatten(), *hidden, nn.Linear(1024, classes))
