"""Distillation losses on logits `(B, classes)`: one small function each, one file a family.

All are L = (1−λ)·CE + λ·term, so that λ = 0 is plain cross-entropy for each of them; their
docstrings say which λ and T the papers' own weights amount to. They see logits and nothing else:
the teacher's are cached, its features are not.
"""

from cnn2gnn.distillation.losses.correlation import dist
from cnn2gnn.distillation.losses.decoupled import dkd
from cnn2gnn.distillation.losses.neighbourhood import denoised, relation
from cnn2gnn.distillation.losses.one_for_all import ofa
from cnn2gnn.distillation.losses.response import response_kd
from cnn2gnn.distillation.losses.similarity import rkd, sp
from cnn2gnn.distillation.losses.standardised import dkd_ls, kd_ls

__all__ = [
    "denoised",
    "dist",
    "dkd",
    "dkd_ls",
    "kd_ls",
    "ofa",
    "relation",
    "response_kd",
    "rkd",
    "sp",
]
