"""How the operations of an image grow with the patches kept, by formula, as counted and as published."""

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.methods import LINE_GUIDED, policy_label
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting import paper_numbers
from asel_lib.reporting.figures._common import once
from asel_lib.reporting.style import COLUMN, FAINT, drawn_from, styled

ARCHITECTURES = ("vit_tiny_patch16_224", "vit_large_patch16_224")
FORMULAS = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", ":"), ("#882255", "-."))
COUNTED = (("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X"))


@styled
def gmacs_scaling(table: pd.DataFrame, results: pd.DataFrame | None = None) -> Figure:
    """GMACs of an image against keep ratio, as shares of all patches' cost: by formula a line an architecture, as
    filled markers what was counted of our models, choosing included, as hollow ones what the line-guided README says.

    Args:
        table: of `evaluation.cost.scaling`.
        results: of line-guided choosing, else of random patches; None: nothing was counted.
    """
    parts = {f"{name}, formula": rows for name, rows in table.groupby("architecture", sort=False)}
    looks = [{"color": color, "linestyle": dash} for color, dash in FORMULAS[: len(parts)]]
    for profile, rows in (results if results is not None else pd.DataFrame({"profile": []})).groupby("profile"):
        chosen = next((name for name in (LINE_GUIDED, "random") if name in set(rows["policy"])), None)
        if chosen is not None:
            means = rows[rows["policy"] == chosen].groupby("keep_ratio", as_index=False)["gmacs"].mean()
            parts[f"counted: profile {profile}, {policy_label(chosen)}"] = means
            color, marker = COUNTED[len(parts) % len(COUNTED)]
            looks.append({"color": color, "marker": marker, "linestyle": "none", "markersize": 3})
    old = paper_numbers.line_guided().dropna(subset=["gflops"]).rename(columns={"gflops": "gmacs"})
    parts["published: line-guided README, attention not counted"] = old
    looks.append({"color": "#000000", "marker": "D"} | FAINT)

    figure = Figure(figsize=(COLUMN * 1.25, 3.2), layout="constrained")
    axes, drawn = figure.subplots(), []
    for (label, rows), look in zip(parts.items(), looks, strict=True):
        full = rows.loc[rows["keep_ratio"] == 1, "gmacs"]
        if full.empty:
            continue  # a share of what was not counted
        name = f"{label} (1: {full.iloc[0]:.3g} GMACs)"
        axes.plot(rows["keep_ratio"], rows["gmacs"] / full.iloc[0] * 100, label=name, **look)
        share = rows["gmacs"] / full.iloc[0]
        drawn.append(rows[["keep_ratio", "gmacs"]].assign(series=label, share=share))
    axes.plot([0, 1], [0, 100], color="#777777", linewidth=0.8, label="in proportion")
    axes.set(xlabel="keep ratio", ylabel="cost (% of that of all patches)", xlim=(0, 1.03), ylim=(0, 104))
    figure.legend(loc="outside upper center", ncols=1)
    figure.set_label("GMACs against keep ratio as a share of all patches' cost, only the kept patches embedded")
    return drawn_from(figure, pd.concat(drawn, ignore_index=True)[["series", "keep_ratio", "gmacs", "share"]])


def _by_formula_and_counted(frame: pd.DataFrame, subject: str) -> Figure:
    from asel_lib.evaluation import cost  # torch and timm: seconds to import

    return gmacs_scaling(cost.scaling(list(ARCHITECTURES), [k / 20 for k in range(1, 21)]), frame)


FIGURES.add("gflops_scaling", FigureEntry("gflops_scaling", _by_formula_and_counted, once, everything=True))
