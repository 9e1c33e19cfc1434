"""The explorer for half an hour: clicks without end, and its cell run again and again.

    python benchmarks/unbreakable/soak.py --minutes 30

Memory is sampled at every tenth of the time. What is there after the first fifth is what libraries
and the first explorers need; what comes on top of it until the end must stay within `--growth`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
from ipywidgets.widgets import widget as widgets

from cnn2gnn.evaluation import coordinates
from cnn2gnn.explore import Explorer, closing
from cnn2gnn.explore import widgets as explorer_widgets

sys.path.insert(0, str(Path(__file__).parents[1]))
from explorer import interactions, random_nodes  # noqa: E402 - the script one folder above

MEGABYTE = 2**20


def memory() -> float:
    """Megabytes that this process holds in memory."""
    return psutil.Process().memory_info().rss / MEGABYTE


def runs_of_a_cell() -> Iterator[Callable[[], SimpleNamespace]]:
    """One shell after the other, as IPython is while it runs the same cell again."""
    for number in itertools.count():
        parent = {
            "content": {"allow_stdin": True},
            "metadata": {"cellId": "explore"},
            "header": {"msg_id": str(number)},
        }
        shell = SimpleNamespace(get_parent=lambda parent=parent: parent)
        yield lambda shell=shell: shell


def main() -> int:
    """Print the memory over the time; 1 where it has grown by more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--test", type=int, default=2_000)
    parser.add_argument("--bank", type=int, default=8_000)
    parser.add_argument("--every", type=int, default=50, help="interactions until the cell runs")
    parser.add_argument("--growth", type=float, default=100, help="megabytes after the first fifth")
    options = parser.parse_args()
    out: list[Explorer] = []  # IPython's `Out` keeps every result
    explorer_widgets.display = lambda *_, **__: None  # nobody looks
    with tempfile.TemporaryDirectory() as folder:
        nodes = random_nodes(options.test, options.bank, 10, folder)
        coordinates.save_umap(nodes, coordinates.pca(nodes.together(nodes.keys)))
        began, done, next_sample, settled = time.monotonic(), 0, 0.0, 0.0
        for get_shell in runs_of_a_cell():
            closing.get_ipython = explorer_widgets.get_ipython = get_shell
            explorer = Explorer(nodes)
            explorer._ipython_display_()
            out.append(explorer)
            acts = [*interactions(explorer).values()]
            for step in range(options.every):
                acts[step % len(acts)](step)
                done += 1
            spent = (time.monotonic() - began) / 60
            if spent >= next_sample:
                gc.collect()
                held, alive = memory(), len(widgets._instances)
                print(
                    f"{spent:5.1f} min  {held:7.0f} MB  {alive:6d} widgets  {done:6d} interactions"
                    f"  {len(out):4d} runs of the cell",
                    flush=True,
                )
                next_sample += options.minutes / 10
                settled = held if not settled or spent < options.minutes / 5 else settled
            if spent >= options.minutes:
                break
        if explorer._background is not None:
            explorer._background.join()
    growth = memory() - settled
    print(f"grown by {growth:.0f} MB since the first fifth; {options.growth:.0f} are allowed")
    return int(growth > options.growth)


if __name__ == "__main__":
    sys.exit(main())
