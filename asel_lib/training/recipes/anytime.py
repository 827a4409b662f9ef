"""The recipe `anytime`: one model for every keep ratio, and a selector that is judged by whole sets of patches.

A step: some images of the batch pass whole. Then the batch falls into groups, each with a keep ratio of its own, from
low to high; of every image two sets of patches are drawn by the selector's weights, and both pass. Cross entropy of all
these passes trains the classifier, helped by what it said of the whole image. Which of its two sets was the better one
trains the selector (policy gradient; each set is the other's baseline).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from asel_lib.configs.settings import Count, NotNegative, Ratio, Share, settings
from asel_lib.registry import RECIPES, Recipe
from asel_lib.reproducibility import generator
from asel_lib.selection import keep_count, stable_topk
from asel_lib.selection.sampling import draw_order
from asel_lib.training import processes
from asel_lib.training.losses import cross_entropy
from asel_lib.training.sharding import Shard, TrainBatch, batch_generator, zero_loss
from asel_lib.training.supervised import SupervisedRun

VALUES = 3.0  # signal "values": the loss is (VALUES * (error_2 - error_1) - (sum_1 - sum_2) / N)^2, sums of log-weights


@settings
class AnytimeSettings:
    """What a step consists of; optimiser, schedule of rates and augmentation are the stage's."""

    whole: Share = 0.125
    """Share of a batch that also passes with all patches."""
    groups: Count = 4
    """Keep ratios a step, one from each part of [ratio_low, ratio_high]."""
    ratio_low: Ratio = 0.05
    """Lowest keep ratio."""
    ratio_high: Ratio = 0.5
    """Highest keep ratio of the groups."""
    spread: Literal["log", "linear"] = "log"
    """Scale on which the range is divided among the groups."""
    distill: Share = 0.5
    """Of the images that passed whole: the share of the loss at fewer patches that is cross entropy with what the
    whole image was taken for."""
    signal: Literal["policy_gradient", "against_random", "values"] = "policy_gradient"
    """What the selector learns from, see `AnytimeRun._judged`."""
    entropy: NotNegative = 0.01
    """Weight of the policy gradient's bonus for an open choice."""

    def __post_init__(self):
        if self.ratio_low > self.ratio_high:
            raise ValueError(f"ratio_low is {self.ratio_low}, above ratio_high, {self.ratio_high}")


@dataclass
class Sets:
    """The sets of patches of the images that a process has of a batch.

    Args:
        seen: of each group, shard after shard: which images, and the classifier's errors on their first and on their
            second sets.
        weights: (B, N) log-weights, None where nothing is learned.
        orders: one or two of (B, N), see `AnytimeRun._drawn`.
    """

    seen: list[list[tuple[Tensor, Tensor, Tensor]]]
    weights: Tensor | None = None
    orders: list[Tensor] = field(default_factory=list)


class AnytimeRun(SupervisedRun):
    """Training of a SelectiveViT by this recipe. A selector without weights is not trained, and chooses by itself.

    Args:
        model: a SelectiveViT.
        arguments: those of `SupervisedRun`.
        recipe_settings: the recipe's own.
        options: those of `SupervisedRun`.
    """

    def __init__(self, model, *arguments, recipe_settings: AnytimeSettings, **options):
        super().__init__(model, *arguments, **options)
        self.anytime = recipe_settings
        self.learns = next(model.selector.parameters(), None) is not None

    def described(self) -> tuple:
        return (*super().described(), self.anytime)

    def shard_order(self, count: int) -> np.ndarray:
        """Images that pass whole first, both parts group after group, so that each process has some of every work."""
        images = np.arange(count)
        return np.lexsort((images, self._group(images), images >= self._whole(count)))

    def _group(self, images: np.ndarray) -> np.ndarray:
        """Places in a batch -> which group each goes to: in turn, so that each group has its share of those that pass
        whole."""
        return images % self.anytime.groups

    def _whole(self, count: int) -> int:
        """How many images of a batch pass whole: its first ones."""
        return round(self.anytime.whole * count)

    def compute_gradients(self, epoch: int, batch: TrainBatch) -> None:
        ratios = group_ratios(self.anytime, generator(self.seed, "keep ratio", batch.step))
        count = len(batch.positions)
        noise = batch_generator(self.rows(count), count, self.seed, "noise", batch.step)
        sets = Sets([[] for _ in ratios])

        def shard_loss(shard: Shard) -> tuple[Tensor, Tensor]:
            if not sets.orders:  # for all shards of this process at once: the selector is small
                sets.weights, sets.orders = self._drawn(batch.images, batch.lines, noise, batch.step)
            return self.loss(shard, ratios, sets)

        self.backward(shard_loss, batch, sum(ratios) / len(ratios))

    def loss(self, shard: Shard, ratios: list[float], sets: Sets) -> tuple[Tensor, Tensor]:
        """-> a shard's share of the loss of a step, and logits (b, classes) of a pass of each image with few patches.

        Args:
            shard: with its last one the selector is judged.
            ratios: the keep ratio of each group.
            sets: of all this process's images; what the classifier made of the shard's is added.
        """
        model, images, labels = self.model, shard.images, shard.labels
        whole = int((shard.rows < self._whole(shard.count)).sum())
        answers = labels.new_zeros(len(images), model.num_classes, dtype=torch.float32)
        loss, taught = images.new_zeros(()) if len(images) else zero_loss(model), None
        if whole:
            logits = model(images[:whole])
            loss = loss + cross_entropy(logits, labels[:whole], self.class_weights, "sum") / shard.count
            taught = logits.detach().float().softmax(dim=1)
        for number, ratio in enumerate(ratios):
            if number >= shard.count:
                break  # a last batch of a few images
            group = torch.from_numpy(np.flatnonzero(self._group(shard.rows) == number)).to(images.device)
            here, keep = group + shard.start, keep_count(sets.orders[0].shape[1], ratio)
            errors = images.new_zeros(0)
            if len(group):
                # All sets of a group in one pass: fewer and larger matrix products.
                twice = group.repeat(len(sets.orders))
                kept = torch.cat([order[here, :keep] for order in sets.orders])
                logits = model(images[twice], kept=kept).float()
                errors = cross_entropy(logits, labels[twice], self.class_weights, "none")
                taken = self._taught(errors, logits, twice, taught)
                loss = loss + taken.sum() / shard.count / len(sets.orders)
                answers[group] = logits[: len(group)].detach()
            if self.learns:
                sets.seen[number].append((here, *errors.detach().chunk(2)) if len(group) else (here, errors, errors))
                if shard.last:
                    here, *errors = map(torch.cat, zip(*sets.seen[number], strict=True))
                    judged = self._judged(sets.weights[here], [order[here] for order in sets.orders], errors, keep)
                    loss = loss + judged.sum() / shard.count
        return loss, answers

    def _drawn(
        self, images: Tensor, lines: Tensor | None, noise: torch.Generator, step: int
    ) -> tuple[Tensor | None, list[Tensor]]:
        """-> log-weights (B, N), None where nothing is learned, and for each set all patches (B, N) in the order in
        which they are kept: two sets drawn by weight, or by a selector that draws by itself; one set of a selector that
        always chooses the same."""
        model, selector = self.model, self.model.selector
        if not self.learns:
            draws = range(2 * step, 2 * step + 2) if selector.stochastic else [0]
            with torch.no_grad():
                scores = [model.scores(images, lines=lines, draw_index=draw) for draw in draws]
            return None, [stable_topk(one, one.shape[1]) for one in scores]
        weights = model.log_weights(images, train_embedding=False)  # what judges patches must not change them
        if self.anytime.signal in ("values", "against_random"):  # the second set is any other
            return weights, [draw_order(weights, noise), draw_order(torch.zeros_like(weights), noise)]
        return weights, [draw_order(weights, noise) for _ in range(2)]

    def _taught(self, error: Tensor, logits: Tensor, group: Tensor, taught: Tensor | None) -> Tensor:
        """-> (b,) errors, where those of images that passed whole are in part (`distill`) the cross entropy with what
        the whole image was taken for."""
        share = self.anytime.distill
        if taught is None or not share:
            return error
        there = group < len(taught)
        soft = -(taught[group.clamp(max=len(taught) - 1)] * logits.log_softmax(dim=1)).sum(dim=1)
        return torch.where(there, (1 - share) * error + share * soft, error)

    def _judged(self, weights: Tensor, orders: Sequence[Tensor], errors: Sequence[Tensor], keep: int) -> Tensor:
        """-> (b,) the selector's loss, from two sets of `keep` patches of each image and the classifier's errors on
        them.

        policy_gradient: REINFORCE, each set's baseline the other, and a bonus for weights that leave the choice open.
        against_random: the same, but the second set, the baseline, is drawn uniformly.
        values: (VALUES * (error_2 - error_1) - (sum_1 - sum_2) / N)^2, with the sums of the two sets' log-weights, so
        that a weight becomes what a patch adds on average (as FastSHAP's Shapley values, Jethani et al. 2022).
        """
        better = errors[1] - errors[0]  # how much the first set's reward is above the second's
        if self.anytime.signal == "values":
            sums = [weights.gather(1, order[:, :keep]).sum(dim=1) for order in orders]
            return (VALUES * better - (sums[0] - sums[1]) / weights.shape[1]).square()
        # Of another size at each keep ratio; not centred: the other set is the baseline already.
        better = better / (processes.mean(better.square(), self.accelerator).sqrt() + 1e-3)
        odds = log_probability(weights, orders[0], keep)
        if self.anytime.signal == "policy_gradient":
            odds = (odds - log_probability(weights, orders[1], keep)) / 2
        # Unchecked, as its check cannot take a group of which this process has no image.
        entropy = torch.distributions.Categorical(logits=weights, validate_args=False).entropy()
        return -better * odds / keep - self.anytime.entropy * entropy

    def finish(self) -> None:
        """Prepare the keep ratios that are met on average (`auto`), by the val part."""
        if self.val is not None and self.model.selector.trained:
            self.model.calibrate(self.val)

    def clip(self, most: float) -> None:
        """The selector apart: its gradient is of another size, and must not change the classifier's step."""
        parts = [[], []]
        for name, parameter in self.model.named_parameters():
            parts[name.startswith("patch_drop.")].append(parameter)
        for part in parts:
            nn.utils.clip_grad_norm_(part, most)


def group_ratios(settings: AnytimeSettings, noise: torch.Generator) -> list[float]:
    """A keep ratio for each group: one from each of as many equal parts of [ratio_low, ratio_high], so that every step
    has few patches and many.

    Args:
        settings: `groups`, the range, and its scale (`spread`: "log" or "linear").
        noise: for the place within each part.
    """
    places = (torch.arange(settings.groups) + torch.rand(settings.groups, generator=noise)) / settings.groups
    low, high = settings.ratio_low, settings.ratio_high
    if settings.spread == "log":
        return [low * (high / low) ** place for place in places.tolist()]
    return [low + (high - low) * place for place in places.tolist()]


def log_probability(weights: Tensor, order: Tensor, keep: int) -> Tensor:
    """-> (B,) log-probability of drawing the first `keep` of `order` one after the other without replacement, each in
    proportion to its weight among those that are left (Plackett-Luce).

    Args:
        weights: (B, N) log-weights.
        order: (B, N) all patches of each image.
        keep: how many are drawn.
    """
    ranked = weights.gather(1, order)
    left = ranked.flip(1).logcumsumexp(dim=1).flip(1)  # of what is left at each draw
    return (ranked - left)[:, :keep].sum(dim=1)


def _forwards(ratio: float, settings: AnytimeSettings) -> dict[float | str, float]:
    """A share whole, and two sets of patches of every image, at keep ratios spread evenly on a logarithmic scale."""
    edges = [settings.ratio_low * (settings.ratio_high / settings.ratio_low) ** (i / 8) for i in range(9)]
    return {1.0: settings.whole} | {at: 2 / len(edges) for at in edges}


RECIPES.add(
    "anytime",
    Recipe(
        "anytime",
        "anytime",
        AnytimeRun,
        AnytimeSettings,
        purpose="One model for every keep ratio; the selector is judged by whole sets of patches.",
        selector="glance",
        any_selector=True,
        forwards=_forwards,
        one_ratio=False,
    ),
)
