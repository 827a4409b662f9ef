"""What a checkpoint's record says, checked before any of it is used: the file may come from anywhere.

Only plain values of the expected kinds pass, and only such of timm's arguments as describe a network: timm's others
can fetch from a network or read further files.
"""

import math
from dataclasses import asdict
from pathlib import Path

from asel_lib.errors import CheckpointError
from asel_lib.identity import ModelKey

FORMAT = 1
LARGEST_IMAGE = 16_384  # pixels a side
# Arguments of timm's VisionTransformer and of AgentViT that a record may set.
NETWORK = frozenset(
    {
        "patch_size",
        "global_pool",
        "embed_dim",
        "depth",
        "num_heads",
        "mlp_ratio",
        "qkv_bias",
        "qk_norm",
        "scale_attn_norm",
        "scale_mlp_norm",
        "proj_bias",
        "init_values",
        "class_token",
        "pos_embed",
        "no_embed_class",
        "reg_tokens",
        "pre_norm",
        "final_norm",
        "fc_norm",
        "pool_include_prefix",
        "dynamic_img_size",
        "dynamic_img_pad",
        "drop_rate",
        "pos_drop_rate",
        "patch_drop_rate",
        "proj_drop_rate",
        "attn_drop_rate",
        "drop_path_rate",
        "dim",
        "heads",
        "dim_head",
        "mlp_dim",
    }
)


def check(record: object, source: Path) -> dict:
    """The record as it is, where every entry that the library reads is of its kind.

    Args:
        record: what the JSON file holds.
        source: the file, for errors.

    Raises:
        CheckpointError: names the first entry that is not, and what was expected.
    """

    def need(fine: bool, entry: str, expected: str) -> None:
        if not fine:
            raise CheckpointError(f"{source}: {entry}: expected {expected}; copy or train the checkpoint again")

    need(isinstance(record, dict), "the record", "a JSON object")
    version = record.get("format")
    need(type(version) is int and version == FORMAT, f"format {str(version)[:40]!r}", f"format {FORMAT}")
    for entry, kind in _KINDS.items():
        if entry in _NEEDED or record.get(entry) is not None:
            need(isinstance(record.get(entry), kind), entry, kind.__name__)
    classes, model, prepared = record["classes"], record["model"], record["transform"]
    need(bool(classes) and all(isinstance(name, str) for name in classes), "classes", "a list of names")
    need(all(isinstance(row, dict) for row in record["history"]), "history", "a list of objects")
    need(isinstance(model.get("architecture"), str), "model.architecture", "text")
    need(not set(":/\\") & set(model["architecture"]), "model.architecture", "the name of a network, not of a place")
    need(isinstance(model.get("selector"), str), "model.selector", "text")
    settings = model.get("timm")
    need(isinstance(settings, dict), "model.timm", "an object")
    for name, value in settings.items():
        need(name in NETWORK, f"model.timm.{name[:40]}", f"one of {', '.join(sorted(NETWORK))}")
        need(
            value is None or isinstance(value, str) or _is_number(value) or isinstance(value, bool),
            f"model.timm.{name}",
            "a plain value",
        )
    size = prepared.get("size")
    need(type(size) is int and 1 <= size <= LARGEST_IMAGE, "transform.size", f"1 to {LARGEST_IMAGE} pixels")
    for name in ("mean", "std"):
        values = prepared.get(name)
        need(
            isinstance(values, list) and len(values) == 3 and all(map(_is_number, values)),
            f"transform.{name}",
            "three numbers",
        )
    need(all(value > 0 for value in prepared["std"]), "transform.std", "three numbers above 0")
    levels = {name: prepared.get(name, default) for name, default in (("black", 0), ("white", 1))}
    need(all(map(_is_number, levels.values())), "transform.white", "numbers that are white and black")
    need(levels["white"] > levels["black"], "transform.white", "a number above transform.black")
    colour = prepared.get("background", [255] * 3)
    need(
        isinstance(colour, list) and len(colour) == 3 and all(type(c) is int and 0 <= c <= 255 for c in colour),
        "transform.background",
        "three numbers from 0 to 255",
    )
    for average, factor in record.get("budgets", {}).items():
        need(_is_number(factor) and _reads_as_number(average), "budgets", "an object of numbers")
    for entry in ("images", "seed"):
        value = record.get(entry, 0)
        need(type(value) is int and 0 <= value < 2**40, entry, "a whole number")
    return record


def upgraded(record: object, name: str) -> object:
    """A record from before there were fields that say which model it is, with these fields read from its name.

    Args:
        record: what the JSON file holds; it stays as it is where it has the fields, or where the name says nothing.
        name: of the checkpoint.
    """
    if not isinstance(record, dict) or "schedule" in record:
        return record
    try:
        key = ModelKey.parse(str(record.get("name", name)))
    except ValueError:
        return record
    settings = record.get("anytime") or record.get("agent")
    return record | asdict(key) | {"name": key.name, "recipe_settings": settings}


_KINDS = {
    "fingerprint": str,
    "sha256": str,
    "classes": list,
    "history": list,
    "model": dict,
    "transform": dict,
    "split": dict,
    "budgets": dict,
    "settings": dict,
    "recipe_settings": dict,
    "metrics": dict,
    "environment": dict,
    "name": str,
    "dataset": str,
    "source": str,
    "dataset_fingerprint": str,
    "recipe": str,
    "schedule": str,
    "selector": str,
    "variant": str,
    "profile": str,
    "start": str,
    "drawings": str,
    "drawings_fingerprint": str,
}
_NEEDED = ("fingerprint", "sha256", "classes", "history", "model", "transform", "split")


def _is_number(value: object) -> bool:
    """A number that a float can hold and is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e18 if isinstance(value, int) else math.isfinite(value)


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
