"""A trained student for where there is no cnn2gnn: `torch.export` and ONNX, the bank included."""

from cnn2gnn.export.artefact import Artefact
from cnn2gnn.export.program import check_exportable

__all__ = ["Artefact", "check_exportable"]
