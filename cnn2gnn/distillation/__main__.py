"""`python -m cnn2gnn.distillation PARAMETERS`: a run without a notebook, for several processes.

    torchrun --nproc-per-node 2 -m cnn2gnn.distillation parameters.json

PARAMETERS is a JSON file of the parameters that differ from their defaults, or such JSON itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from torch import distributed

from cnn2gnn.base.modules import add_import_option, import_modules
from cnn2gnn.config import Config
from cnn2gnn.distillation.distil import distil
from cnn2gnn.distillation.processes import end_with_parent, start
from cnn2gnn.distillation.session import Session
from cnn2gnn.distillation.teacher import obtain_teacher
from cnn2gnn.runs import load_splits


def train_teacher(config: Config) -> None:
    """Train the teacher, if it is missing."""
    splits = load_splits(config.data)
    obtain_teacher(config, splits, start(config, "teacher"))


def train_students(config: Config) -> None:
    """Train all that the run asks for, and leave the evaluation to the caller."""
    session = Session.start(config)
    session.student()
    session.baselines()


STAGES: dict[str, Callable[[Config], object]] = {
    "teacher": train_teacher,
    "students": train_students,
    "all": distil,
}


def main() -> int:
    """Train as the arguments say; an error is also told in one line, for who has started this."""
    parser = argparse.ArgumentParser(prog="python -m cnn2gnn.distillation", description=__doc__)
    parser.add_argument("--stages", choices=STAGES, default="all", help="how far (default: all)")
    add_import_option(parser)
    parser.add_argument(
        "--end-with-parent", action="store_true", help="end when the process ends that started it"
    )
    parser.add_argument("parameters", metavar="PARAMETERS", help="a JSON file, or JSON")
    options = parser.parse_args()
    text = options.parameters
    if options.end_with_parent:
        end_with_parent()
    try:
        import_modules(options.modules)
        content = text if text.lstrip().startswith("{") else Path(text).read_text()
        STAGES[options.stages](Config.from_parameters(json.loads(content)))
        if distributed.is_initialized():
            distributed.destroy_process_group()  # as torch asks for, before a process ends
    except Exception as error:
        traceback.print_exc()
        line = " ".join(str(error).split())
        print(f"cnn2gnn: {type(error).__name__}: {line}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
