"""The ASEL paper's figures 2 to 6, under their numbers: recipes `masked` and `anytime` side by side."""

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.methods import method, policy_label
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting import paper_numbers
from asel_lib.reporting.figures._beside_published import faint, finished, grid, in_proportion, line, logarithmic, titled
from asel_lib.reporting.figures._common import once
from asel_lib.reporting.rows import OWN, POLICIES, RECIPES, chain, telling
from asel_lib.reporting.style import styled


@styled
def dataset_figure(frame: pd.DataFrame, dataset: str) -> Figure:
    """Figures 2, 3, 4: (a) accuracy against throughput, (b) the strategies' accuracy against keep ratio.

    Args:
        frame: results.
        dataset: the data set's name.
    """
    figure, panels = grid(2)
    used = []
    for column, recipe in enumerate(RECIPES):
        rows = chain(frame, dataset, recipe)
        used.append(rows)
        old = paper_numbers.asel(dataset)
        for row, x in enumerate(("throughput", "keep_ratio")):
            axes = panels[row][column]
            for policy in POLICIES if x == "keep_ratio" else (OWN[recipe],):
                line(axes, x, rows[rows["policy"] == policy], policy, policy_label(policy))
            for policy in ("learned", "random", "central") if x == "keep_ratio" else ("learned",):
                faint(axes, x, old[old["policy"] == policy], policy, f"{policy_label(policy)}, published")
            titled(axes, "ab"[row], dataset, recipe, rows)
            axes.set_xlabel("throughput (img/s)" if row == 0 else "keep ratio")
            if row == 0:
                axes.set_xscale("log")
    return finished(
        figure, panels, used, dataset, "published: ImageNet weights, 224 px; its throughput is of an RTX 5090"
    )


@styled
def costs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Figure 5: (a) latency of a batch, (b) GMACs against keep ratio, both on a logarithmic axis: what was published,
    of larger images on a faster machine, stands beside ours without pressing it flat; arguments as above."""
    figure, panels = grid(2)
    used = []
    for column, recipe in enumerate(RECIPES):
        rows = chain(frame, dataset, recipe)
        used.append(rows)
        for row, y in enumerate(("latency_ms", "gmacs")):
            axes = panels[row][column]
            for policy in POLICIES:
                line(axes, "keep_ratio", rows[rows["policy"] == policy], policy, policy_label(policy), y)
            in_proportion(axes, rows, y)
            faint(
                axes,
                "keep_ratio",
                _published_costs(dataset, "learned"),
                "learned",
                f"{policy_label('learned')}, published",
                y,
            )
            titled(axes, "ab"[row], dataset, recipe, rows)
            batch = f" of {rows['batch_size'].iloc[0]:g} images" if len(rows) else ""
            logarithmic(axes, f"latency{batch} (ms)" if row == 0 else "cost of an image (GMACs)")
    note = "published: 224 px; latency: 64 images over the logged throughput of an RTX 5090; GMACs at 1: attention not "
    return finished(figure, panels, used, dataset, f"{note}counted; axes are logarithmic")


@styled
def against_agentvit(frame: pd.DataFrame, dataset: str) -> Figure:
    """Figure 6: ASEL against AgentViT: (a) accuracy against keep ratio, (b) against throughput (Pareto), (c) latency,
    (d) GMACs; recipes `masked` and `anytime` left and right. (b) to (d) on logarithmic axes; arguments as above."""
    figure, panels = grid(4)
    used = []
    for column, recipe in enumerate(RECIPES):
        rows = chain(frame, dataset, recipe)
        agent = frame[(frame["dataset"] == dataset) & (frame["schedule"] == "agentvit") & (frame["policy"] == "agent")]
        if len(rows) and len(agent):  # measured as ours was, or not beside it
            agent = agent[
                (agent[["profile", "device", "dtype"]] == rows[["profile", "device", "dtype"]].iloc[0]).all(axis=1)
            ]
        agent = telling(agent)
        ours = rows[rows["policy"] == OWN[recipe]]
        used += [ours, agent]
        shown = [
            ("keep_ratio", "accuracy"),
            ("throughput", "accuracy"),
            ("keep_ratio", "latency_ms"),
            ("keep_ratio", "gmacs"),
        ]
        names = {"latency_ms": "latency of a batch (ms)", "gmacs": "cost of an image (GMACs)"}
        for row, (x, y) in enumerate(shown):
            axes = panels[row][column]
            line(axes, x, ours, OWN[recipe], method(OWN[recipe], recipe).label, y)
            line(axes, x, agent, "agent", policy_label("agent"), y)
            for policy, name in (("learned", policy_label("learned")), ("agent", "AgentViT")):
                faint(axes, x, _published_costs(dataset, policy), policy, f"{name}, published", y)
            titled(axes, "abcd"[row], dataset, recipe, ours)
            if y in names:
                logarithmic(axes, names[y])
            elif x == "throughput":
                axes.set(xscale="log", xlabel="throughput (img/s)")
            else:
                axes.set_xlabel("keep ratio")
    note = (
        "published: 224 px; its test images were mostly trained on, and AgentViT was told the labels (08_claims); "
        "throughput and latency: ASEL's own log, RTX 5090 (no numbers of AgentViT's); GMACs: ASEL's without attention, "
        "AgentViT's by the formula 1.1 x keep ratio; (b) to (d) have logarithmic axes"
    )
    return finished(figure, panels, used, dataset, note)


def _published_costs(dataset: str, policy: str) -> pd.DataFrame:
    """keep_ratio, accuracy (of the published comparison), throughput, latency_ms (of 64 images), gmacs of ASEL
    ("learned") or AgentViT ("agent"), NaN where it was not published."""
    rows = paper_numbers.comparison(dataset).query("policy == @policy")[["keep_ratio", "accuracy"]]
    if policy == "learned":
        log = paper_numbers.asel(dataset).query("policy == 'learned'")[["keep_ratio", "throughput"]]
        rows = rows.merge(log.assign(latency_ms=64e3 / log["throughput"]), on="keep_ratio", how="outer")
    counted = paper_numbers.costs().query("policy == @policy")[["keep_ratio", "gmacs"]]
    wanted = ["keep_ratio", "accuracy", "throughput", "latency_ms", "gmacs"]
    return rows.merge(counted, on="keep_ratio", how="outer").reindex(columns=wanted)


def _of(dataset: str, draw):
    """The figure of that data set, whatever the run has."""
    return lambda frame, subject: draw(frame, dataset)


for _name, _dataset, _draw in (
    ("paper_2_eurosat", "eurosat", dataset_figure),
    ("paper_3_aid", "aid", dataset_figure),
    ("paper_4_rsscn7", "rsscn7", dataset_figure),
    ("paper_5_cost_aid", "aid", costs),
    ("paper_6_agentvit_aid", "aid", against_agentvit),
):
    FIGURES.add(_name, FigureEntry(_name, _of(_dataset, _draw), once, everything=True))
