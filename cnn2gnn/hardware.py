"""What `auto` stands for on this machine."""

from __future__ import annotations

from typing import Any

import torch

from cnn2gnn.config import RuntimeConfig


def resolved_hardware(runtime: RuntimeConfig) -> dict[str, Any]:
    """What `auto` stands for here: `precision`, `device` (its kind) and `world_size`."""
    device = runtime.device
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    asked = runtime.precision
    return {
        "precision": resolve_precision(runtime.device) if asked == "auto" else asked,
        "device": device,
        "world_size": runtime.devices * runtime.num_nodes,
    }


def resolve_precision(device: str) -> str:
    """bf16 where the hardware multiplies it faster than float32, else float32."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    amx = device in ("auto", "cpu") and torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if amx else "32-true"
