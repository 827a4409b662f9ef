"""Which selector takes which of timm's models, as a table. Run it after a change to a selector or a family, and with a
new timm. Every model of timm's list whose class is a family is laid out at tiny size without memory and sorted by its
class, its blocks and its class token; of each kind one is asked.

    python -m tools.timm_families          # print the table
    python -m tools.timm_families --write  # put it into docs/your_model.md
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import timm
import torch
from torch import nn

from asel_lib import make_selective, selection
from asel_lib.registry import FAMILIES
from asel_lib.reporting.summaries import to_markdown

PAGE = Path(__file__).parents[1] / "docs" / "your_model.md"
MARKS = "<!-- families: begin -->", "<!-- families: end -->"
TINY = dict(num_classes=3, img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=3)


def table() -> str:
    """The table in Markdown: a row the kinds of a class that take the same selectors, a column for selectors that take
    the same kinds."""
    kinds, columns, rows = defaultdict(list), defaultdict(list), defaultdict(list)
    for name, model in family_models():
        kinds[kind_of(model)].append(name)
    kinds = dict(sorted(kinds.items(), key=lambda item: (item[0][0], -len(item[1]))))
    for selector in selection.names():
        columns[tuple(takes(found[0], selector) for found in kinds.values())].append(selector)
    for number, (family, blocks) in enumerate(kinds):
        rows[family, tuple(answers[number] for answers in columns)].append(blocks)
    lines = []
    for (family, answers), blocks in rows.items():
        found = [name for one in blocks for name in kinds[family, one]]
        first = min(kinds[family, blocks[0]], key=len)
        line = {"timm's models": f"{family}: {'; '.join(blocks)} ({len(found)}, e.g. `{first}`)"}
        named = zip(columns.values(), answers, strict=True)
        lines.append(line | {", ".join(names): "yes" if answer else "no" for names, answer in named})
    return to_markdown(pd.DataFrame(lines))


def family_models() -> Iterator[tuple[str, nn.Module]]:
    """timm's models that are of a family and can be made tiny, by name, without memory."""
    classes = {name: next(c for c in FAMILIES[name].__mro__ if c.__name__ == name) for name in FAMILIES.names()}
    for module in timm.list_modules():
        held = vars(sys.modules[f"timm.models.{module}"])
        if not any(held.get(name) is kind for name, kind in classes.items()):
            continue
        for name in timm.list_models(module=module):
            try:
                with torch.device("meta"):
                    model = timm.create_model(name, **TINY)
            except (TypeError, AssertionError, AttributeError, ValueError, RuntimeError):
                continue  # its stem, or what it is built of, has no tiny size
            if type(model) in classes.values():
                yield name, model


def kind_of(model: nn.Module) -> tuple[str, str]:
    """What selectors may tell apart: the class, and what is in it."""
    block = model.blocks[0]
    inside = f" with {type(block.attn).__name__}" if hasattr(block, "attn") else ""
    rotary = "" if getattr(model, "rope", None) is None else ", rotary"
    token = "" if model.cls_token is not None else ", no class token"
    return type(model).__name__, f"{type(block).__name__}{inside}{rotary}{token}"


def takes(name: str, selector: str) -> bool:
    """Whether a tiny model of that name answers with a selector; what it refuses is a named error.

    Args:
        name: timm's.
        selector: the policy.
    """
    torch.manual_seed(0)
    model = timm.create_model(name, **TINY).eval()
    try:
        make_selective(model, selector)
    except ValueError as error:
        if not str(error).startswith((f"{selector} works on", f"{selector} asks", f"{selector} resamples")):
            raise
        return False
    with torch.no_grad():
        return bool(model(torch.randn(2, 3, 32, 32), 0.5).isfinite().all())


def written(text: str) -> str:
    """The page with today's table between its marks."""
    begin, end = map(re.escape, MARKS)
    return re.sub(f"{begin}.*{end}", "\n".join((MARKS[0], table(), MARKS[1])), text, flags=re.S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put it into docs/your_model.md")
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text()))
    else:
        print(table())
