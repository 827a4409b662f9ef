import io
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from asel_lib.identity import SCHEDULES, ModelKey

WORDS = some.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
SELECTORS = some.builds(
    lambda name, options: name + (":" if options else "") + ",".join(f"{k}={v}" for k, v in options.items()),
    WORDS,
    some.dictionaries(WORDS, some.from_regex(r"[a-zA-Z0-9_.]{1,6}", fullmatch=True), max_size=2),
)
KEYS = some.builds(
    ModelKey,
    dataset=some.from_regex(r"[a-zA-Z0-9_. -]{1,12}", fullmatch=True),
    schedule=some.sampled_from(sorted(SCHEDULES)),
    selector=SELECTORS,
    recipe=some.sampled_from(["masked", "dropped", "anytime", "agent", "mine"]),
    variant=some.one_of(some.just(""), WORDS),
    keep_ratio=some.one_of(some.none(), some.integers(1, 100).map(lambda share: share / 100)),
    seed=some.integers(0, 999),
)


@settings(deadline=None)  # a busy machine is no fault of the names
@given(KEYS)
def test_a_name_reads_back_as_the_key_that_made_it(key):
    assert ModelKey.parse(key.name) == key


@settings(deadline=None)  # a busy machine is no fault of the names
@given(KEYS)
def test_a_row_of_a_table_holds_the_whole_key(key):
    file = io.StringIO()
    pd.DataFrame([key.columns()]).to_csv(file, index=False)
    file.seek(0)
    text = dict.fromkeys(("checkpoint", "dataset", "schedule", "selector", "recipe", "variant"), str)
    row = pd.read_csv(file, dtype=text, keep_default_na=False, na_values={"trained_ratio": [""]}).iloc[0]
    assert ModelKey.of(row) == key and row["checkpoint"] == key.name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (ModelKey("cifar10", "warmup", "learned", "masked"), "cifar10_warmup"),
        (ModelKey("aid", "published", "learned", "masked"), "aid_finetuned"),
        (ModelKey("aid", "published", "learned", "masked", seed=1), "aid-published-learned-masked-s1"),
        (ModelKey("aid", "agentvit", "agent", "agent"), "agentvit_aid"),
        (ModelKey("rsscn7", "published", "glance", "anytime"), "rsscn7_anytime"),
        (ModelKey("cifar10", "warmup", "glance", "anytime"), "cifar10_anytime"),
        (ModelKey("imagenette", "untrained", "none", "none"), "imagenette_imagenet_head"),
        (ModelKey("imagenette", "untrained", "none", "none", "own_classes"), "imagenette_imagenet_head_own_classes"),
        (ModelKey("rsscn7", "direct", "evit", seed=1), "rsscn7-direct-evit-s1"),
        (ModelKey("rsscn7", "direct", "agent", "agent"), "rsscn7-direct-agent-s0"),
        (
            ModelKey("imagenette", "direct", "line_guided:lines=xdog,choice=sample", keep_ratio=0.3),
            "imagenette_line_guided",
        ),
        (
            ModelKey("imagenette", "direct", "line_guided:lines=xdog,choice=sample", keep_ratio=0.3, seed=1),
            "imagenette-direct-line_guided,lines=xdog,choice=sample-k0.3-s1",
        ),
        (
            ModelKey("rsscn7", "direct", "glance", "anytime", "no_distill", seed=2),
            "rsscn7-direct-glance-anytime+no_distill-s2",
        ),
    ],
)
def test_published_names_are_published_and_all_else_reads_alike(key, name):
    assert key.name == name and ModelKey.parse(name) == key


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("aid_agentvit", "agentvit_aid"),
        ("aid_finetuned_dropped", "aid-published-learned-s0"),
        ("cifar10_warmup_dropped_seed1", "cifar10-warmup-learned-s1"),
        ("rsscn7_anytime_seed1", "rsscn7-published-glance-anytime-s1"),
        ("rsscn7_line_guided_xdog_top", "rsscn7-direct-line_guided,lines=xdog,choice=top-s0"),
        ("rsscn7_line_guided_learned_paper", "rsscn7-direct-learned-masked-s0"),
        ("rsscn7_line_guided_glance_anytime_untaught_seed2", "rsscn7-direct-glance-anytime+no_distill-s2"),
        ("rsscn7_line_guided_xdog_sample_keep0.3", "rsscn7_line_guided"),
        ("synthetic_line_guided_agent", "synthetic-direct-agent-s0"),
    ],
)
def test_a_former_name_is_known_by_its_present_one(former, present):
    assert ModelKey.parse(former).name == present


@pytest.mark.parametrize(
    "name", ["", "aid", "aid_", "model.safetensors", "rsscn7-direct-s1", "rsscn7-indirect-evit-s1"]
)
def test_what_is_no_name_is_refused_with_examples(name):
    with pytest.raises(ValueError, match="no model's name: expected e.g. rsscn7_finetuned"):
        ModelKey.parse(name)


def test_a_field_that_cannot_stand_in_a_name_is_named():
    key = ModelKey("aid", "direct", "random")
    for change, message in (
        ({"schedule": "line_guided"}, "unknown schedule 'line_guided'"),
        ({"variant": "a-b"}, "variant is 'a-b'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(key, **change)
