"""Where a training runs: on which devices, in how many processes, and who starts them.

Three ways lead to several processes, one a device:
- a script with `devices=2` is started once more for each further process, by Lightning Fabric;
- `torchrun` has started them all: its number of processes counts, not `devices`;
- a notebook's kernel can be none of several processes, so it has `python -m cnn2gnn.distillation`
  train in as many as asked for, and reads what they leave in the run folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cnn2gnn.base.memory import keep_freed_memory
from cnn2gnn.base.modules import import_options
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.runs.hardware import device_kind, resolve_precision, world
from cnn2gnn.runs.loggers import check_loggers

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Ranks wait while rank 0 evaluates, or itself waits for a teacher that another run trains.
WAIT = timedelta(days=30)


class ProcessesError(RuntimeError):
    """The processes that a notebook has started did not finish."""


def start(config: Config, stages: str | None) -> Fabric:
    """Return a launched Fabric for `config`, once there are as many processes as it asks for.

    Args:
        stages: what a notebook has others train first, `teacher` or `students`, when several
            processes are asked for; the Fabric is then that of the kernel's one process. None:
            not possible, for objects of the user's own do not reach another process.

    Raises:
        ConfigError: the machine, the batch or the notebook does not allow so many processes, or a
            logger's library is missing.
        ProcessesError: those that a notebook has started failed.
    """
    check_loggers(config.runtime.logger, Path(config.runtime.runs_dir))
    if config.runtime.deterministic:
        # a size of workspace for which cuBLAS promises the same bits; read when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    hardware = config.runtime.hardware
    devices, num_nodes = world(config.runtime)
    _check_shares(config, devices * num_nodes)
    # set by IPython and its kernels, and by Python's own prompt
    if devices * num_nodes > 1 and hasattr(sys, "ps1"):
        _train_elsewhere(config, stages)
        devices = num_nodes = 1
    return make_fabric(**hardware | {"devices": devices, "num_nodes": num_nodes})


def make_fabric(device: str, devices: int, num_nodes: int, precision: str) -> Fabric:
    """Return a launched Fabric; "auto" asks the machine.

    Raises:
        ConfigError: `device`, or so many of them, are not to be had here.
    """
    from lightning_fabric import Fabric  # seconds to import: who only looks shall not wait
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy

    from cnn2gnn.distillation.precision import Autocast

    kind = device_kind(device)
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda' asked for, but no CUDA GPU is here; use auto or cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device='mps' asked for, but no Apple GPU is here; use auto or cpu")
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise ConfigError(f"devices={devices}, but this machine has {torch.cuda.device_count()}")
    if kind == "cpu":
        keep_freed_memory()
    several = DDPStrategy(timeout=WAIT, find_unused_parameters=True)
    if precision == "auto":
        precision = resolve_precision(device)
    mixed = precision.endswith("-mixed")
    plugins: list[Any] = []
    if mixed:
        plugins.append(Autocast(precision, kind))  # type: ignore[arg-type]
    if num_nodes == 1 and not torch.distributed.is_torchelastic_launched():
        plugins.append(LightningEnvironment())  # within a job of SLURM, too, which starts but one
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=num_nodes,
        strategy=several if devices * num_nodes > 1 else "auto",
        precision=None if mixed else precision,  # type: ignore[arg-type]
        plugins=plugins,
    )
    fabric.launch()
    if fabric.local_rank > 0:
        end_with_parent()
    return fabric


def _check_shares(config: Config, processes: int) -> None:
    """Each process takes its share of a batch, of one image at least."""
    sizes = {
        "batch_size": config.training.batch_size,
        "graph_batch_size": config.training.graph_batch_size,
        "teacher_batch_size": config.teacher.teacher_batch_size,
    }
    for name, size in sizes.items():
        if size < processes:
            raise ConfigError(f"{name}={size} must be at least 1 for each of {processes} processes")


def _train_elsewhere(config: Config, stages: str | None) -> None:
    """Have `python -m cnn2gnn.distillation` train in the processes asked for, and wait."""
    devices, num_nodes = config.runtime.devices, config.runtime.num_nodes
    if torch.distributed.is_torchelastic_launched():
        raise ConfigError(
            "a notebook cannot be one of torchrun's processes; start it without torchrun and "
            "give it devices=N, or torchrun with -m cnn2gnn.distillation PARAMETERS.json"
        )
    if num_nodes > 1 or stages is None:
        what = f"num_nodes={num_nodes}" if num_nodes > 1 else "an object of your own"
        raise ConfigError(
            f"a notebook cannot start {devices} processes with {what}; put the training into a "
            f"script and start torchrun --nproc-per-node {devices} SCRIPT.py"
        )
    print(f"{devices} processes train; their epochs are logged below {config.runtime.runs_dir}")
    module, parameters = "cnn2gnn.distillation", json.dumps(config.parameters())
    with subprocess.Popen(
        [sys.executable, "-m", module, "--stages", stages, *import_options(), parameters],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _, said = process.communicate()
        except BaseException:  # an interrupted cell leaves nothing running
            process.terminate()
            raise
    if process.returncode:
        print(said, file=sys.stderr)
        reasons = [line for line in said.splitlines() if line.startswith("cnn2gnn: ")]
        reason = reasons[0].removeprefix("cnn2gnn: ") if reasons else "see above"
        raise ProcessesError(f"training in {devices} processes failed: {reason}")


def end_with_parent() -> None:
    """End this process once the one that has started it is gone; it would wait for it in vain."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
