"""Every path of the project, absolute. Three environment variables move them:

ASEL_ROOT   the checkout: saved_models/, benchmarks_results/ (default: the folder above this package)
ASEL_DATA   the image sets (default: <root>/data)
ASEL_CACHE  decoded images (default: <data>/.cache)
"""

import os
from pathlib import Path


def _from_environment(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().resolve()


def root() -> Path:
    return _from_environment("ASEL_ROOT", Path(__file__).parent.parent)


def data() -> Path:
    return _from_environment("ASEL_DATA", root() / "data")


def cache() -> Path:
    return _from_environment("ASEL_CACHE", data() / ".cache")


def saved_models() -> Path:
    """Shipped checkpoints."""
    return root() / "saved_models"


def results() -> Path:
    """Committed reference results; `run(profile)` lies below it and is ignored by git."""
    return root() / "benchmarks_results"


def checkpoint_name(dataset: str, stage: str, recipe: str, seed: int = 0) -> str:
    """<dataset>_<stage>[_<recipe>][_seed<k>]; recipe "paper" and seed 0 go without saying, so that the published
    names (cifar10_warmup, aid_finetuned) mean the published recipe. Of recipe "anytime", which is not the paper's, just
    <dataset>_anytime[_seed<k>]."""
    if recipe == "anytime":
        return f"{dataset}_anytime" + (f"_seed{seed}" if seed else "")
    return f"{dataset}_{stage}" + ("" if recipe == "paper" else f"_{recipe}") + (f"_seed{seed}" if seed else "")


def line_guided_name(
    dataset: str,
    selector: str,
    keep_ratio: float | None = None,
    seed: int = 0,
    recipe: str = "dropped",
    variant: str = "",
) -> str:
    """<dataset>_line_guided_<selector>[_<recipe>][_<variant>][_keep<ratio>][_seed<k>]; the selector by its options'
    values ("xdog_sample") or, without options, its name; the recipes "dropped" and, of an agent, "agent" go without
    saying; keep_ratio None: the model is for all ratios."""
    name, _, options = selector.partition(":")
    written = "_".join(option.partition("=")[2] for option in options.split(",")) or name
    written += "" if recipe in ("dropped", "agent") else f"_{recipe}"
    written += f"_{variant}" if variant else ""
    keep = "" if keep_ratio is None else f"_keep{keep_ratio:g}"
    return f"{dataset}_line_guided_{written}{keep}" + (f"_seed{seed}" if seed else "")


def agentvit_name(dataset: str, seed: int = 0) -> str:
    """<dataset>_agentvit[_seed<k>], of AgentViT as published."""
    return f"{dataset}_agentvit" + (f"_seed{seed}" if seed else "")


def run(profile: str) -> Path:
    """All that one profile's run writes: checkpoints/ results/ figures/ notebooks/ state/."""
    return results() / "runs" / profile
