"""The model card: what the model is, how it is loaded, and its accuracy as it was measured."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from asel_lib import __version__, paths, tables
from asel_lib.evaluation import answers
from asel_lib.evaluation.answers import training_of

LICENCE = "apache-2.0"
PLACEHOLDER = "OWNER/NAME"  # of the repository, until it is pushed to one
CARD = """\
---
{about}
---
# {name}

A Vision Transformer (`{architecture}`, {size} x {size} pixels) that looks at a share of the patches of an image, the
keep ratio, chosen by `{selector}`. It tells {count} classes apart: {classes}.

```python
import asel_lib, timm

model = asel_lib.load("hf-hub:OWNER/NAME")  # or "local-dir:FOLDER"; with its selector
print(model.predict(["image.jpg"], keep_ratio=0.5)[0].label)
plain = timm.create_model("hf-hub:OWNER/NAME", pretrained=True)  # the same weights, all patches
```

## Accuracy

{accuracy}

## Training

| | |
|---|---|
{training}

Images are made {size} x {size} pixels by bicubic interpolation, {reading}{half}
Made with asel {version}. The images that it was trained on keep their own terms.
"""


def card(model, rows: pd.DataFrame, left_out: str, half: bool = False) -> str:
    """README.md of a model's folder.

    Args:
        model: as `checkpoints.load` gives it.
        rows: its results, as `measured` gives them.
        left_out: why some are not among them.
        half: whether the weights are 16-bit floats.
    """
    record = model.record
    prepared = record["transform"]
    reading = f"normalised by mean {_numbers(prepared['mean'])} and standard deviation {_numbers(prepared['std'])}."
    if prepared.get("white") is not None:
        reading += (
            f" In files of more than 8 bits {prepared.get('black', 0):g} is black and {prepared['white']:g} white: "
            "`asel_lib` reads them so, timm's own transform does not."
        )
    reading += f" Behind transparent pixels lies the colour {tuple(prepared.get('background', (255, 255, 255)))}."
    return CARD.format(
        about=_metadata(record, rows),
        name=record["name"],
        architecture=record["model"]["architecture"],
        size=prepared["size"],
        selector=record["model"]["selector"],
        count=len(model.classes),
        classes=", ".join(model.classes),
        accuracy="\n\n".join(filter(None, (_of_training(record), _table(rows), left_out))),
        training=_training(record),
        reading=reading,
        half=" Weights are 16-bit floats." if half else "",
        version=__version__,
    )


def measured(record: dict, results: str | Path | pd.DataFrame | None = None) -> tuple[pd.DataFrame, str]:
    """The rows of results that are of this very model.

    Args:
        record: the checkpoint's.
        results: a table, or its file; None: the committed one, and that of the profile's run, but where the answers
            that are kept beside it are of another training of that name.

    Returns:
        Rows, of a measurement made twice the last, and a sentence on what was left out, "" where nothing was.
    """
    asked = {"checkpoint": record["name"], "profile": record.get("profile"), "start": record.get("start")}
    frame, others = _read(record, results)
    ours = frame[frame["checkpoint"] == record["name"]]
    rows = ours[(ours[list(asked)] == pd.Series(asked)).all(axis=1)]
    rows = rows[(rows["split"] != "test") | (rows["n_images"] == record["split"].get("test", -1))]
    left_out = []
    if len(rows) < len(ours):
        left_out.append(f"{len(ours) - len(rows)} rows of the results are of another profile, start or test part")
    if others:
        left_out.append(f"{others} are of another training of that name")
    same = ["policy", "keep_ratio", "split"]
    rows = rows.sort_values("timestamp", kind="stable").drop_duplicates(same, keep="last")
    return rows, f"Left out: {'; '.join(left_out)}." if left_out else ""


def _read(record: dict, results: str | Path | pd.DataFrame | None) -> tuple[pd.DataFrame, int]:
    """The results, and how many rows were left out because the answers beside them are of another training."""
    if results is not None:
        return (results if isinstance(results, pd.DataFrame) else tables.read(results)), 0
    name, profile = record["name"], record.get("profile") or "none"
    frames, others = [tables.RESULTS.empty()], 0
    for place in (paths.results(), paths.run(profile)):
        if not (place / "results.csv").is_file():
            continue
        frame = tables.read(place / "results.csv")
        beside = [place / "answers" / answers.file_of(name, profile, policies).name for policies in (False, True)]
        kept = [answers.training(file) for file in beside if file.is_file()]
        if kept and training_of(record) not in kept:
            others += int((frame["checkpoint"] == name).sum())
            frame = frame[frame["checkpoint"] != name]
        frames.append(frame)
    return tables.joined(frames), others


def _metadata(record: dict, rows: pd.DataFrame) -> str:
    """What hubs read of a card, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    own = rows[(rows["policy"] == rows["selector"]) & (rows["split"] == "test")]
    found = [
        EvalResult(
            task_type="image-classification",
            dataset_type=row.dataset,
            dataset_name=row.dataset,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=f"top-1, keep ratio {row.keep_ratio:g}",
            metric_value=round(float(row.accuracy), 4),
        )
        for row in own.itertuples()
    ]
    about = dict(license=LICENCE, library_name="timm", pipeline_tag="image-classification")
    tags = ["image-classification", "timm", "patch-selection", "asel"]
    return ModelCardData(**about, tags=tags, model_name=record["name"], eval_results=found or None).to_yaml().strip()


def _of_training(record: dict) -> str:
    found = record.get("metrics") or {}
    if found.get("val_accuracy") is None:
        return ""
    ratios = ", ".join(f"{ratio:g}" for ratio in found.get("val_ratios", ()))
    return (
        f"On the val part, by which the epoch was chosen ({found.get('best_epoch')} of {found.get('epochs')}): top-1 "
        f"{100 * found['val_accuracy']:.1f} %, the mean over keep ratios {ratios}."
    )


def _table(rows: pd.DataFrame) -> str:
    """A row a policy and keep ratio; the model's own policy first, then what it has to be compared with."""
    if rows.empty:
        return "On the test part it has not been measured, or the table is not at hand."
    own = rows["policy"] == rows["selector"]
    rows = rows.assign(other=~own).sort_values(["other", "policy", "split", "keep_ratio"], kind="stable")
    head = ["policy", "keep ratio", "top-1 (95 % interval)", "balanced", "GMACs", "images", "part"]
    lines = [head, ["---"] * len(head)]
    for row in rows.itertuples():
        interval = f"{_percent(row.accuracy)} ({_percent(row.accuracy_low)} to {_percent(row.accuracy_high)})"
        balanced = _percent(getattr(row, "balanced_accuracy", None))
        cells = [f"`{row.policy}`", f"{row.keep_ratio:g}", interval, balanced, f"{row.gmacs:.3g}", f"{row.n_images}"]
        lines.append([*cells, row.split])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    when = ", ".join(sorted({str(time)[:10] for time in rows["timestamp"]}))
    how = ", ".join(sorted({f"{device}, {dtype}" for device, dtype in zip(rows["device"], rows["dtype"], strict=True)}))
    return f"{table}\n\nMeasured on {when} ({how})."


def _training(record: dict) -> str:
    split = record["split"]
    sizes = ", ".join(f"{split[part]} {part}" for part in ("train", "val", "test") if part in split)
    facts = {
        "data set": f"{record.get('dataset', 'unknown')} ({record.get('images', '?')} images: {sizes})",
        "recipe, schedule": f"{record.get('recipe', 'unknown')}, {record.get('schedule', 'unknown')}",
        "start": record.get("start") or "unknown",
        "seed": record.get("seed", "unknown"),
        "epochs": (record.get("metrics") or {}).get("epochs", "unknown"),
        "commit": (record.get("environment") or {}).get("commit", "unknown"),
    }
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())


def _percent(share: float | None) -> str:
    return "" if share is None or share != share else f"{100 * share:.1f} %"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
