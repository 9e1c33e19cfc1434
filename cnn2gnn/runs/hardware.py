"""What `auto` stands for on this machine, and how many processes there are."""

from __future__ import annotations

import math
import os
from typing import Any

import torch

from cnn2gnn.base.processor import computes_in_bf16
from cnn2gnn.config import ConfigError, RuntimeConfig


def resolved_hardware(runtime: RuntimeConfig) -> dict[str, Any]:
    """What `auto` stands for here: `precision`, `device` (its kind) and `world_size`."""
    asked = runtime.precision
    return {
        "precision": resolve_precision(runtime.device) if asked == "auto" else asked,
        "device": device_kind(runtime.device),
        "world_size": math.prod(world(runtime)),
    }


def device_kind(device: str) -> str:
    """The kind of device, cuda, mps or cpu, that `device` is here."""
    if device != "auto":
        return device
    mps = torch.backends.mps.is_available()
    return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"


def world(runtime: RuntimeConfig) -> tuple[int, int]:
    """Processes a machine, and machines: those asked for, or torchrun's if it started this one.

    Raises:
        ConfigError: others were asked for than torchrun has started.
    """
    if not torch.distributed.is_torchelastic_launched():
        return runtime.devices, runtime.num_nodes
    local, nodes = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
    if (runtime.devices, runtime.num_nodes) not in ((1, 1), (local, nodes)):
        raise ConfigError(
            f"devices={runtime.devices} on num_nodes={runtime.num_nodes}, but torchrun has started "
            f"{local} processes on {nodes}; leave both parameters to torchrun"
        )
    return local, nodes


def resolve_precision(device: str) -> str:
    """bf16 where the hardware multiplies it faster than float32, else float32."""
    kind = device_kind(device)
    if kind == "cuda":
        here = torch.cuda.is_available()
        fast = here and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = kind == "cpu" and computes_in_bf16()
    return "bf16-mixed" if fast else "32-true"
