"""What leaves the house: `cnn2gnn export` and `cnn2gnn card`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from cnn2gnn.export import Artefact
    from cnn2gnn.predictor import Predictor

EXPORTS, REPORTS = Path("exports"), Path("reports")
COMPARED = 200  # test samples on which programs and predictor are compared
BATCHES = (1, 64)  # samples at once, whose time is told


def export(options: argparse.Namespace) -> int:
    """Write student and bank of a run as a torch.export and an ONNX program."""
    from cnn2gnn.predictor import Predictor
    from cnn2gnn.runs import load_run

    folder = Path(options.out) if options.out else EXPORTS / Path(options.run).name
    run = load_run(options.run, options.runs_dir)
    predictor = Predictor.load(run)
    samples = run.load_splits().test.images[:COMPARED]
    made = predictor.export(folder, samples)
    print(f"{_table(predictor, made, samples).to_string()}\n\nexport: {folder}")
    return 0


def card(options: argparse.Namespace) -> int:
    """Write the model card of a finished run."""
    from cnn2gnn.base.files import replacing
    from cnn2gnn.report.model_card import model_card
    from cnn2gnn.runs import Run

    folder = Path(options.out) if options.out else REPORTS / options.run
    content = model_card(Run.open(Path(options.runs_dir) / options.run))
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
