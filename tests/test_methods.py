"""A method is named and drawn from what its selector and recipe say of themselves, also where nobody listed it."""

import itertools

import pytest

from asel_lib import methods, selection


@pytest.mark.parametrize(
    "text",
    ["random", "random/anytime", "learned/masked", "agent", "line_guided:lines=xdog,choice=sample", "mine/strange"],
)
def test_a_text_names_the_method_that_writes_it(text):
    assert methods.parse(text).text == text


def test_what_goes_without_saying_is_understood():
    assert methods.parse("glance").recipe == "dropped" and methods.parse("agent").recipe == "agent"
    assert methods.parse("random/dropped").text == "random"
    assert methods.method("glance").recipe == "anytime", "the selector's usual recipe, where none is named"


@pytest.mark.parametrize("text", ["", "/masked", "learned/", "a/b/c"])
def test_what_names_no_method_is_an_error_that_says_so(text):
    with pytest.raises(ValueError, match="is no method: expected e.g. 'random'"):
        methods.parse(text)


def test_the_usual_recipe_goes_unsaid_in_the_label():
    own = selection.entry("learned")
    assert methods.parse(f"learned/{own.recipes[0]}").label == own.label
    other = methods.parse("random/anytime")
    assert other.label.startswith(selection.entry("random").label) and other.label != methods.parse("random").label


def test_what_nobody_listed_has_a_label_a_look_and_rivals():
    new = methods.parse("mine:a=1/strange")
    assert new.label == "mine (1), strange" or new.label.startswith("mine (1)")
    assert new.color.startswith("#") and len(new.color) == 7 and new.marker and new.linestyle == "-"
    assert "random" in [one.text for one in new.compared_with]
    assert methods.parse("mine/strange").label == "mine, strange"


def test_a_method_is_compared_with_random_patches_by_its_own_recipe_too():
    texts = [one.text for one in methods.parse("glance/anytime").compared_with]
    assert texts[0] == "random/anytime" and {"random", "central", "learned/masked"} <= set(texts)
    assert "glance/anytime" not in texts and len(set(texts)) == len(texts)


def test_no_two_methods_of_a_comparison_look_alike_in_grey():
    shown = [methods.parse("glance/anytime"), *methods.parse("glance/anytime").compared_with]
    shown += [
        methods.parse(text) for text in ("agent", "evit", "tome", "dynamicvit", "edge_energy", methods.LINE_GUIDED)
    ]
    shown = [one for one in shown if one.text != "learned/anytime"]
    looks = [(one.marker, one.linestyle, one.look.get("markerfacecolor")) for one in shown]
    assert len(set(looks)) == len(looks)


def test_variants_of_line_guidance_are_told_apart():
    texts = [f"line_guided:lines={how},choice={by}" for how in ("xdog", "sobel") for by in ("sample", "top")]
    looks = [(methods.parse(text).color, methods.parse(text).marker) for text in texts]
    assert all(one != other for one, other in itertools.combinations(looks, 2))
    labels = {methods.policy_label(text) for text in texts}
    assert len(labels) == 4 and all(label.endswith(")") for label in labels)
