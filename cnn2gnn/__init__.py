"""Distil a large CNN into a small graph neural network (CNN2GNN, arXiv 2404.14822)."""

import lazy_loader

__version__ = "0.1.0"

# imported when asked for: `import cnn2gnn` costs nothing
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classifier": ["Cnn2GnnClassifier"],
        "config": ["Config"],
        "data": ["ImageSet", "Splits"],
        "data.loading": ["load_data"],
        "distillation.distil": ["distil"],
        "explore": ["Explorer"],
        "graph": [
            "AdaptiveNeighbours",
            "AnchorNeighbours",
            "CosineNeighbours",
            "EntmaxNeighbours",
            "FixedFeatures",
            "FixedNeighbours",
            "GraphLayer",
            "GraphLearner",
            "GumbelNeighbours",
            "Heads",
            "LearnedK",
            "NoGraph",
            "RandomNeighbours",
            "SoftmaxNeighbours",
            "SparseGraph",
            "SparsemaxNeighbours",
            "WhitenedNeighbours",
        ],
        "models.teacher": ["Teacher"],
        "predictor": ["Predictor"],
        "registry": [
            "DATASETS",
            "LAYERS",
            "LEARNERS",
            "LOGGERS",
            "LOSSES",
            "STEMS",
            "TEACHERS",
        ],
        "report": ["Report"],
        "runs": ["load_run"],
    },
)
