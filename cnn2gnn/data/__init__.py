"""Images in, uint8 tensors out: loading, splitting, augmentation. Knows no model.

Names are imported when asked for: a worker process that decodes images needs `data.pixels` alone,
and neither torch nor pyarrow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["AUGMENTATIONS", "augment"],
        "imageset": ["ImageSet", "Splits", "channel_statistics"],
        "loading": ["load"],
        "modality": ["Modality"],
        "pixels": ["DataError", "Item"],
        "source": ["Request", "Samples", "Source"],
    },
)
