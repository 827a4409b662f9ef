"""Made-up rows of the results and the record of a tiny checkpoint, for tests of what is made from them."""

import pandas as pd

from asel_lib.identity import ModelKey

RECORD = {  # of `conftest.tiny_model`
    "name": "tiny",
    "fingerprint": "f1",
    "classes": ["a", "b", "c", "d"],
    "model": {
        "architecture": "vit_tiny_patch16_224",
        "selector": "learned",
        "timm": {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3},
    },
    "transform": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3},
    "split": {},
    "history": [],
}


def result(key: ModelKey | str, keep_ratio: float = 0.5, policy: str = "", **changes) -> dict[str, object]:
    """One row of `tables.RESULTS`: of a model (or its name), by its own policy unless told otherwise."""
    key = ModelKey.parse(key) if isinstance(key, str) else key
    return (
        key.columns()
        | {
            "profile": "compact",
            "start": "random",
            "policy": policy or key.selector,
            "keep_ratio": keep_ratio,
            "kept_patches": max(1, int(64 * keep_ratio)),
            "split": "test",
            "n_images": 500,
            "accuracy": 0.5 + keep_ratio / 4,
            "accuracy_low": 0.45 + keep_ratio / 4,
            "accuracy_high": 0.55 + keep_ratio / 4,
            "top5": 0.9,
            "object_area_kept": float("nan"),
            "gmacs": keep_ratio,
            "selector_gmacs": 0.01,
            "latency_ms": 100 * keep_ratio,
            "latency_iqr_ms": 1.0,
            "throughput": 640 / keep_ratio,
            "peak_memory_mb": 10.0,
            "batch_size": 64,
            "device": "cpu",
            "dtype": "float32",
            "compiled": False,
            "torch": "2",
            "commit": "12e4567",
            "timestamp": "2026-01-01T00:00:00+00:00",
        }
        | changes
    )


def results(key: ModelKey | str = "aid_finetuned", policies=("learned", "random"), ratios=(0.2, 0.5, 1.0), **changes):
    """A table of one model: a row a policy and keep ratio."""
    return pd.DataFrame([result(key, ratio, policy, **changes) for policy in policies for ratio in ratios])
