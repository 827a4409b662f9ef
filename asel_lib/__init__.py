"""Patch selection for Vision Transformers: keep only the patches that matter, pay only for those.

    import asel_lib
    model = asel_lib.load("synthetic_anytime")
    answer = model.predict(["scene.jpg"], keep_ratio=0.5)[0]

The names below are imported on first use, so that `import asel_lib` costs nothing.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "load": "asel_lib.checkpoints",
    "load_published": "asel_lib.author_checkpoints",
    "SelectiveViT": "asel_lib.models",
    "make_selective": "asel_lib.models",
    "train": "asel_lib.training.one_call",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'asel_lib' has no attribute {name!r}")
