"""timm's classes whose models can become selective: an adapter a file, found when it is first asked for.

An adapter is a class of SelectiveViT and timm's class, registered here under the latter's name. It says how this class
places its patches and runs its blocks.
"""

from torch import nn

from asel_lib.registry import FAMILIES

# Near relatives, and why they are no family.
REFUSED = {
    "NaFlexVit": "its slot for patches is open in training alone (what was made with use_naflex=True, make without; in "
    "place of a naflexvit_* take a vit_*)",
    "VisionTransformerDistilled": "it has two heads, of which one answers for a teacher",
}
# What is put around a model, and how it comes off.
WRAPPERS = {
    "OptimizedModule": "make it selective first, and compile it then (the model is its `_orig_mod`)",
    "DataParallel": "the model is its `module`",
    "DistributedDataParallel": "the model is its `module`",
    "PeftModel": "make it selective first, and add adapters then (or merge them: `merge_and_unload()`)",
}


def family_of(model: nn.Module, name: str = ""):
    """The adapter of a model's class.

    Args:
        model: timm's.
        name: what an error calls it; "": the model.

    Raises:
        ValueError: there is none; the error names the families.
    """
    kind = type(model).__name__
    if kind in FAMILIES and type(model) in FAMILIES[kind].__mro__:
        return FAMILIES[kind]
    called = f"{name!r} is" if name else "the model is"
    parents = {parent.__name__ for parent in type(model).__mro__}
    why = next((reason for one, reason in (REFUSED | WRAPPERS).items() if one in parents), "")
    known = "; ".join(f"{one} ({FAMILIES[one].examples})" for one in sorted(FAMILIES.names()))
    raise ValueError(
        f"{called} a {kind}{f', and {why}' if why else ''}: expected a timm model of exactly one of these classes: "
        f"{known}"
    )
