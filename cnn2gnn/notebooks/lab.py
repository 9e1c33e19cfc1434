"""JupyterLab on the notebooks, as the command line would run them: same Python, same folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyterlab.labapp import LabApp

from cnn2gnn.notebooks.kernel import OwnKernelSpecs


class KernelsFromHere(AsyncMappingKernelManager):
    """Starts every kernel in the server's folder, so that `runs/` is where `cnn2gnn run` has it."""

    def cwd_for_path(self, path: str, **_: Any) -> str:
        """Return the folder in which the kernel of any notebook starts."""
        return os.getcwd()


def open_lab(folder: Path, options: Sequence[str] = ()) -> None:
    """Open JupyterLab on a folder, until it is shut down.

    Args:
        options: more of JupyterLab's own, as `--no-browser`.
    """
    parts = {
        "kernel_spec_manager_class": OwnKernelSpecs,
        "kernel_manager_class": KernelsFromHere,
    }
    named = [f"--ServerApp.{k}={v.__module__}.{v.__qualname__}" for k, v in parts.items()]
    LabApp.launch_instance([str(folder.absolute()), *named, *options])
