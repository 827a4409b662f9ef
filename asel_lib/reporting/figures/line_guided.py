"""The line-guided README's trade-off."""

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.methods import LINE_GUIDED, method, policy_label
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting import paper_numbers
from asel_lib.reporting.figures._beside_published import faint, finished, line, missing
from asel_lib.reporting.figures._common import once
from asel_lib.reporting.rows import MEASURED, alike, latest, over_seeds, own_choice
from asel_lib.reporting.style import PAGE, styled


@styled
def line_guided(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio and against cost, line-guided and random, with `anytime` beside them.

    Args:
        frame: results.
        dataset: the data set's name.
    """
    figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, squeeze=False)
    wanted = [method(*pair) for pair in ((LINE_GUIDED, "dropped"), ("random", "dropped"), ("glance", "anytime"))]
    rows = own_choice(frame[(frame["dataset"] == dataset) & (frame["schedule"] == "direct")])
    guided = rows[rows["selector"] == LINE_GUIDED]
    rows = alike(rows, guided, (*MEASURED, "start")) if len(guided) else rows[:0]
    used, old = [], paper_numbers.line_guided()
    old = old[old["dataset"] == dataset]
    for one in wanted:
        part = rows[(rows["selector"] == one.selector) & (rows["recipe"] == one.recipe)]
        used.append(part)
        for axes, x in zip(panels[0], ("keep_ratio", "gmacs"), strict=True):
            line(axes, x, over_seeds(latest(part)) if len(part) else part, one.selector, one.label)
    for axes, x in zip(panels[0], ("keep_ratio", "gflops"), strict=True):
        faint(axes, x, old.dropna(subset=[x]), LINE_GUIDED, f"{policy_label('line_guided')}, published")
        missing(axes, used[0], f"line-guided selection on {dataset}")
        axes.set_xlabel("keep ratio" if x == "keep_ratio" else "cost of an image (GMACs)")
        axes.set_title(f"{dataset}, each by the model trained with it")
    return finished(figure, panels, used, dataset, "published: ImageNet weights, 256 px, a model for each keep ratio")


for _dataset in ("imagenet10", "rsscn7"):
    _name = f"line_guided_1_tradeoff_{_dataset}"
    _entry = FigureEntry(_name, lambda frame, subject, of=_dataset: line_guided(frame, of), once, everything=True)
    FIGURES.add(_name, _entry)
