"""The project's notebooks: where they lie, how they are run, and what their parameters are."""

import lazy_loader

# a kernel that only checks parameters need not load papermill
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "runner": [
            "NotebookError",
            "copy",
            "execute",
            "find",
            "folder",
            "hidden_errors",
            "parameters_of",
            "results",
        ],
    },
)
