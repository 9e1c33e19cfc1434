"""What this machine's processor computes with."""

from __future__ import annotations

import torch


def computes_in_bf16() -> bool:
    """Whether the CPU multiplies bf16 by instructions of its own: AMX, or AVX-512's bf16.

    Without them bf16 is emulated: slower than float32 on some processors.
    """
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def instructions() -> str:
    """The widest vector instructions that torch uses: "AMX", "AVX512 with bf16", "AVX2", …"""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    bf16 = " with bf16" if torch.cpu._is_avx512_bf16_supported() else ""
    return torch.backends.cpu.get_cpu_capability() + bf16
