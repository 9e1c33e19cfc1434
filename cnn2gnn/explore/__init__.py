"""See the learned graph: `state` answers, `figures` draws, `widgets` shows."""

import lazy_loader

# widgets are imported by whoever asks for them
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"state": ["ExplorerState"], "widgets": ["Explorer"]}
)
