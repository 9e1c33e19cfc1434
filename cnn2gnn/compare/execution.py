"""The cells of a comparison, each in a process of its own: several at a time, each fails alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from cnn2gnn.compare.grid import Cell

ERROR_PREFIX = "cnn2gnn: "  # of the line in which a process tells its error


class Workers:
    """Runs cells, `jobs` at a time; the machine's threads are shared out among them.

    A cell that was stopped continues at its last checkpoint. Should this process end, however, the
    cells end with it.

    Args:
        logs: folder for what each cell prints.
        jobs: cells at a time, at least 1.
        modules: what each process imports first, so that things of your own are registered.
    """

    def __init__(self, logs: Path, jobs: int = 1, modules: Sequence[str] = ()) -> None:
        self.logs, self.jobs, self.modules = logs, jobs, modules
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self._stopped = threading.Lock(), False

    def run(self, cells: Sequence[Cell], done: Callable[[Cell, str | None], None]) -> None:
        """Run the cells, and call `done(cell, error)` after each; the error is None if it is well.

        Raises:
            KeyboardInterrupt: it was interrupted; what ran has been stopped.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._cell, cell): cell for cell in cells}
            try:
                for future in as_completed(futures):
                    done(futures[future], future.result())
            except BaseException:
                self._stop()
                pool.shutdown(cancel_futures=True)
                raise

    def _cell(self, cell: Cell) -> str | None:
        """Run one cell to its end; return its error in one line, None if it is well."""
        log = self.logs / f"{cell.name}.log"
        with log.open("wb") as output:
            with self._lock:
                if self._stopped:
                    return "interrupted"
                process = subprocess.Popen(
                    command(cell, self.modules),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=surroundings(self.jobs),
                )
                self._running.add(process)
            code = process.wait()
            self._running.discard(process)
        return None if code == 0 else failure(log, code)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def surroundings(jobs: int) -> dict[str, str]:
    """Return the environment of one of `jobs` processes, which share the machine's threads."""
    if jobs == 1:
        return dict(os.environ)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # waiting threads shall not spin: they would take the cores of the others
    return os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}


def command(cell: Cell, modules: Sequence[str], stages: str = "all") -> list[str]:
    """Return the command line that runs a cell, and ends with the process that has started it.

    Args:
        modules: imported first; stages: how far, as of `distillation.__main__`.
    """
    imports = [f"--import={module}" for module in modules]
    parameters = json.dumps(cell.config.parameters())
    module = "cnn2gnn.distillation"
    options = ["--end-with-parent", f"--stages={stages}", *imports]
    return [sys.executable, "-m", module, *options, parameters]


def failure(log: Path, code: int) -> str:
    """Return why a cell failed, in one line: what its process said last, and where all of it is."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line for line in lines if line.startswith(ERROR_PREFIX)]
    reason = told[-1].removeprefix(ERROR_PREFIX) if told else f"ended with code {code}"
    return f"{reason} (all of it: {log})"
