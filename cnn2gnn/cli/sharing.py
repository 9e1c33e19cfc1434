"""What leaves the house: `cnn2gnn export` and `cnn2gnn card`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cnn2gnn.config import ConfigError, RuntimeConfig

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from cnn2gnn.export import Artefact
    from cnn2gnn.predictor import Predictor

EXPORTS, REPORTS = Path("exports"), Path("reports")
COMPARED = 200  # test samples on which programs and predictor are compared
BATCHES = (1, 64)  # samples at once, whose time is told

EXPORT_EXAMPLES = """\
Both programs take raw samples and do all there is to do: normalisation, stem, the exact search in
the bank, the graph layers. `student.json` says what goes in and comes out. Each program is
compared with the run's predictor on test samples before anything is written.

examples:
  cnn2gnn export demo
      into exports/demo/
  python exports/demo/classify.py digit.png
      needs numpy, onnxruntime and Pillow alone
"""
CARD_EXAMPLES = """\
What the run is, its data, accuracy, cost, the command that repeats it, its limits: Markdown, with
the head that Hugging Face reads. `cnn2gnn report` and `run` write it along with the report.

examples:
  cnn2gnn card demo
      into reports/demo/model-card.md
"""


def add_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add what both commands take: a run, and where to (in words, `default`)."""
    parser.add_argument("run", metavar="RUN", help="name of a run")
    parser.add_argument("--out", metavar="FOLDER", help=f"where to (default: {default})")
    parser.add_argument("--runs-dir", default=RuntimeConfig().runs_dir, help="folder of all runs")


def export(options: argparse.Namespace) -> int:
    """Write student and bank of a run as a torch.export and an ONNX program."""
    from cnn2gnn.base.files import BrokenFileError
    from cnn2gnn.data import DataError
    from cnn2gnn.predictor import Predictor
    from cnn2gnn.runs import load_run

    folder = Path(options.out) if options.out else EXPORTS / Path(options.run).name
    try:
        run = load_run(options.run, options.runs_dir)
        predictor = Predictor.load(run)
        samples = run.load_splits().test.images[:COMPARED]
    except (BrokenFileError, DataError) as error:
        raise ConfigError(str(error)) from error
    made = predictor.export(folder, samples)
    print(f"{_table(predictor, made, samples).to_string()}\n\nexport: {folder}")
    return 0


def card(options: argparse.Namespace) -> int:
    """Write the model card of a finished run."""
    from cnn2gnn.base.files import BrokenFileError, replacing
    from cnn2gnn.report.model_card import model_card
    from cnn2gnn.runs import Run

    folder = Path(options.out) if options.out else REPORTS / options.run
    try:
        content = model_card(Run.open(Path(options.runs_dir) / options.run))
    except BrokenFileError as error:
        raise ConfigError(str(error)) from error
    with replacing(folder / "model-card.md") as path:
        path.write_text(content, encoding="utf-8")
    print(f"card: {folder / 'model-card.md'}")
    return 0


def _table(predictor: Predictor, made: Artefact, samples: Tensor) -> pd.DataFrame:
    """How long predictor and programs take, and how far these are from that."""
    import pandas as pd

    from cnn2gnn.evaluation.cost import latencies

    models = {"Predictor": predictor.predict_proba, **made.runners}
    columns: dict[str, list[str]] = {}
    for size in BATCHES:
        batch = samples.repeat(-(-size // len(samples)), *[1] * (samples.ndim - 1))[:size]
        times = latencies(list(models.values()), batch)
        columns[f"{size} samples [ms]"] = [f"{time:.2f}" for time in times]
    apart = list(made.differences.values())
    columns["largest difference of a logit"] = ["", *(f"{a['logits']:.1e}" for a in apart)]
    columns["other neighbours [%]"] = ["", *(f"{100 * a['neighbours']:.2f}" for a in apart)]
    return pd.DataFrame(columns, index=list(models))
