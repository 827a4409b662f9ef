"""Export: a checkpoint at one keep ratio as ONNX files that need neither torch nor this library.

    from asel_lib.export import export
    export("synthetic_anytime", 0.3, "deployed", int8=True)

or, as a command, `python -m asel_lib.export synthetic_anytime --keep-ratio 0.3 --int8 --output deployed`.
"""

from asel_lib.export.write import Exported, export, require

__all__ = ["Exported", "export", "require"]
