"""What a selector is, how many patches a keep ratio means, and the registry of selectors.

A policy is written as a name, or a name with options: "line_guided:lines=sobel,choice=top".
"""

import functools
import inspect
import math

import torch
from torch import Tensor, nn

from asel_lib import checks


class PatchSelector(nn.Module):
    """Scores patches; the higher, the more worth keeping.

    `forward(patches (B, N, D), grid (H, W), lines=None) -> scores (B, N)`. Patches are the tokens the blocks would
    see: patch embedding + position embedding, no prefix tokens. An image's scores must not depend on the rest of
    its batch, nor on its label.

    A selector that draws at random sets `stochastic = True` and takes one more argument, `seeds (B,)` int64: a
    number an image, made from its own pixels and the number of the draw, so that the same image gets the same
    answer in every batch.

    A selector that does not look at the patches themselves sets `reads_patches = False`: it is then given
    (B, N, 0), and the model embeds only the patches that it keeps. One that reads line drawings sets `reads_lines`
    and has `draw(images (B, 3, H, W) in [0, 1]) -> (B, 1, h, w)` for calls that bring none. One with weights sets
    `trained`: it can only be a model's own; `attach` is called once, when it has become that.
    """

    name = ""  # it is registered under
    stochastic = False
    reads_patches = True
    reads_lines = False
    reads_images = False
    trained = False

    def attach(self, model: nn.Module) -> None:
        """The model that this selector chooses for, with its patch embedding and blocks."""

    def prepared(self, grid: tuple[int, int], image_size: tuple[int, int]) -> "PatchSelector":
        """For inference on images of one size: a selector with the same scores that has laid ready what it can, and
        does not follow later changes of this one's weights; this one, where there is nothing to lay ready."""
        return self

    def forward(self, patches: Tensor, grid: tuple[int, int], lines: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def log_weights(self, patches: Tensor | None, grid: tuple[int, int], images: Tensor) -> Tensor:
        """Of one that is trained: the log of the weights by which patches are drawn in training, (B, N). patches: None
        for one that does not read them."""
        raise NotImplementedError(f"{self.name} has no weights to draw patches by")

    def ranked(self, weights: Tensor, grid: tuple[int, int], seeds: Tensor | None = None) -> Tensor:
        """Log-weights (B, N) -> the scores by which patches are kept."""
        return weights


_SELECTORS: dict[str, type[PatchSelector]] = {}


def register(name: str):
    """Class decorator: `create(name, dim)` makes the selector. The class takes `dim`, the token width, and after it
    its options, each with a default of the option's type."""

    def add(selector: type[PatchSelector]) -> type[PatchSelector]:
        if name in _SELECTORS:
            raise ValueError(
                f"a selector {name!r} is already registered ({_SELECTORS[name].__name__}): choose another name"
            )
        _SELECTORS[name] = selector
        selector.name = name
        return selector

    return add


def names() -> tuple[str, ...]:
    return tuple(sorted(_SELECTORS))


def create(policy: str, dim: int) -> PatchSelector:
    """The selector of that policy, with its options, for tokens of width `dim`."""
    selector, options = parse(policy)
    made = selector(dim, **options)
    made.options = options  # what tells two of a kind apart
    return made


def written(selector: PatchSelector) -> str:
    """The policy that makes a selector like this one."""
    options = getattr(selector, "options", {})
    return selector.name + (":" if options else "") + ",".join(f"{key}={value}" for key, value in options.items())


def draws_at_random(policy: str) -> bool:
    """Whether another draw of that policy keeps other patches of the same image."""
    return create(policy, 1).stochastic


def parse(policy: str) -> tuple[type[PatchSelector], dict[str, object]]:
    """ "name" or "name:option=value,option=value" -> (class, all its options: those given and the others' defaults).

    Options are the arguments of the class behind `dim`; a value is of its default's type. ValueError names the policy
    or the option that there is not, or the value that cannot be read.
    """
    name, _, written = str(policy).partition(":")
    selector = kind(name)
    options = dict(_defaults(selector))
    for part in filter(None, written.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in options or not equals:
            known = ", ".join(f"{k}={v}" for k, v in options.items()) or "no options"
            raise ValueError(f"policy {policy!r}: cannot read {part!r}; {name!r} has {known}")
        wanted = type(options[key]).__name__
        try:
            options[key] = {"True": True, "False": False}[value] if wanted == "bool" else type(options[key])(value)
        except (ValueError, KeyError):
            raise ValueError(f"policy {policy!r}: {key} is {value!r}, expected {wanted}") from None
    return selector, options


@functools.cache
def _defaults(selector: type[PatchSelector]) -> dict[str, object]:
    """Kept: reading a signature takes a tenth of what classifying one small image takes, and a call reads four."""
    return {argument.name: argument.default for argument in list(inspect.signature(selector).parameters.values())[1:]}


def kind(name: str) -> type[PatchSelector]:
    """The class registered under that name, without options; ValueError with the known names if there is none."""
    if name not in _SELECTORS:
        checks.one_of("policy", name, names())
    return _SELECTORS[name]


def keep_count(num_patches: int, keep_ratio: float) -> int:
    """K = max(1, floor(N * keep_ratio)); ValueError where the ratio is not in (0, 1]."""
    number = isinstance(keep_ratio, int | float) and not isinstance(keep_ratio, bool)
    if not (number and 0 < keep_ratio <= 1):  # nan fails the comparison too
        raise ValueError(f"keep_ratio is {keep_ratio!r}: expected a number in (0, 1], e.g. 0.5 for half of the patches")
    return max(1, math.floor(num_patches * keep_ratio))


def best(scores: Tensor, keep: int) -> Tensor:
    """(B, N) scores -> (B, keep) indices, best first; of equal scores the first in raster order is the better, on
    every device (torch.topk promises no order among equals)."""
    return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :keep]


_LOOKS = {  # TEMPORARY, until each selector registers its own: label, color, marker, recipes
    "agent": ("AgentViT's agent", "#882255", "X", ("agent",)),
    "central": ("central", "#999933", "v", ()),
    "dynamicvit": ("DynamicViT", "#AA4499", "p", ("dropped",)),
    "edge_energy": ("edge energy", "#117733", "<", ()),
    "evit": ("EViT", "#009E73", "h", ()),
    "glance": ("anytime", "#0072B2", "o", ("anytime",)),
    "learned": ("ASEL", "#D55E00", "D", ("masked", "dropped", "anytime")),
    "line_guided": ("line-guided", "#CC79A7", "P", ()),
    "random": ("random", "#555555", "s", ()),
    "tome": ("ToMe", "#000000", "*", ()),
}


def entry(name: str):
    """TEMPORARY: how a registered selector is shown, and what trains it."""
    from types import SimpleNamespace

    kind(name)
    label, color, marker, recipes = _LOOKS.get(name, (name.replace("_", " "), "#332288", "d", ()))
    return SimpleNamespace(name=name, label=label, color=color, marker=marker, recipes=recipes)
