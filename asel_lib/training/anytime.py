"""The recipe `anytime`: one model for every keep ratio, and a selector that is judged by whole sets of patches.

A step: some images of the batch pass whole. Then the batch falls into groups, each with a keep ratio of its own, from
low to high; of every image two sets of patches are drawn by the selector's weights, and both pass. Cross entropy of all
these passes trains the classifier, helped by what it said of the whole image. Which of its two sets was the better one
trains the selector (policy gradient; each set is the other's baseline).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asel_lib.devices import autocast
from asel_lib.profiles import AnytimeSettings
from asel_lib.reproducibility import generator
from asel_lib.selection import keep_count
from asel_lib.selection.base import best
from asel_lib.selection.slot import draw_order
from asel_lib.training.supervised import Run

VALUES = 3.0  # how far apart the log-weights of patches are for a difference of 1 in log-likelihood, N patches alike


class AnytimeRun(Run):
    """Training of a SelectiveViT by this recipe. A selector without weights is not trained, and chooses by itself."""

    def __init__(self, model, *args, anytime: AnytimeSettings):
        super().__init__(model, *args)
        self.anytime = anytime
        self.learns = next(model.selector.parameters(), None) is not None and anytime.signal != "none"

    def _step(
        self, epoch: int, step: int, positions: np.ndarray, images: Tensor, labels: Tensor, lines: Tensor | None = None
    ) -> None:
        noise = generator(self.seed, "noise", step)
        ratios = group_ratios(self.anytime, generator(self.seed, "keep ratio", step))
        with autocast(images.device, self.precision):
            loss, logits = self.loss(images, labels, lines, ratios, noise, step)
        self.descend(loss, logits, positions, labels, step, sum(ratios) / len(ratios))

    def loss(
        self, images: Tensor, labels: Tensor, lines: Tensor | None, ratios: list[float], noise, step: int
    ) -> tuple[Tensor, Tensor]:
        """-> the loss of a step, and logits (B, classes) of a pass of each image with few patches."""
        settings, model, count = self.anytime, self.model, len(images)
        whole = round(settings.whole * count)
        loss, answers = images.new_zeros(()), labels.new_zeros(count, model.num_classes, dtype=torch.float32)
        taught = None
        if whole:
            logits = model(images[:whole])
            loss = loss + F.cross_entropy(logits.float(), labels[:whole], reduction="sum") / count
            taught = logits.detach().float().softmax(dim=1)
        weights, orders = self._drawn(images, lines, noise, step)
        for first, ratio in enumerate(ratios):
            # Every so manieth image, so that each group has its share of those that passed whole.
            if first >= count:
                break  # a last batch of a few images
            group = torch.arange(first, count, len(ratios), device=images.device)
            keep = keep_count(orders[0].shape[1], ratio)
            # All sets of a group in one pass: fewer and larger matrix products.
            twice = group.repeat(len(orders))
            logits = model(images[twice], kept=torch.cat([order[group, :keep] for order in orders])).float()
            errors = F.cross_entropy(logits, labels[twice], reduction="none")
            loss = loss + self._taught(errors, logits, twice, taught).sum() / count / len(orders)
            answers[group] = logits[: len(group)].detach()
            if self.learns:
                sets = [order[group] for order in orders]
                judged = self._judged(weights[group], sets, errors.detach().chunk(2), keep)
                loss = loss + judged.sum() / count
        return loss, answers

    def _drawn(
        self, images: Tensor, lines: Tensor | None, noise: torch.Generator, step: int
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Log-weights (B, N), None where nothing is learned, and all patches in the order in which they are kept, once
        for each set: drawn by weight, or by a selector that draws by itself; one set of one that always chooses the
        same."""
        model, selector = self.model, self.model.selector
        if not self.learns:
            draws = range(2 * step, 2 * step + 2) if selector.stochastic else [0]
            with torch.no_grad():
                scores = [model.scores(images, lines=lines, draw=draw) for draw in draws]
            return None, [best(one, one.shape[1]) for one in scores]
        if selector.reads_patches:  # what judges patches must not change them
            with torch.no_grad():
                tokens = model.patch_tokens(images)
            weights = model.weigh(images, tokens)
        else:
            weights = model.weigh(images)
        if self.anytime.signal in ("values", "against_random"):  # the second set is any other
            return weights, [draw_order(weights, noise), draw_order(torch.zeros_like(weights), noise)]
        return weights, [draw_order(weights, noise) for _ in range(2)]

    def _taught(self, error: Tensor, logits: Tensor, group: Tensor, taught: Tensor | None) -> Tensor:
        """The cross entropy of the images that passed whole is in part that with what the whole image was taken for."""
        share = self.anytime.distill
        if taught is None or not share:
            return error
        there = group < len(taught)
        soft = -(taught[group.clamp(max=len(taught) - 1)] * logits.float().log_softmax(dim=1)).sum(dim=1)
        return torch.where(there, (1 - share) * error + share * soft, error)

    def _judged(self, weights: Tensor, orders: Sequence[Tensor], errors: Sequence[Tensor], keep: int) -> Tensor:
        """The selector's loss on two sets of `keep` patches of each image and the classifier's errors on them, (b,).

        policy_gradient: REINFORCE, each set's baseline the other, and a bonus for weights that leave the choice open.
        against_random: the same, but the second set, the baseline, is drawn uniformly.
        values: the difference of the sums of the weights is to be that of the log-likelihoods times VALUES / N, so that
        a weight becomes what a patch adds on average (as FastSHAP's Shapley values, Jethani et al. 2022).
        """
        better = errors[1] - errors[0]  # how much the first set's reward is above the second's
        if self.anytime.signal == "values":
            sums = [weights.gather(1, order[:, :keep]).sum(dim=1) for order in orders]
            return (VALUES * better - (sums[0] - sums[1]) / weights.shape[1]).square()
        odds = log_probability(weights, orders[0], keep)
        if self.anytime.signal == "policy_gradient":
            odds = (odds - log_probability(weights, orders[1], keep)) / 2
        # Of another size at each keep ratio; not centred: the other set is the baseline already.
        better = better / (better.square().mean().sqrt() + 1e-3)
        entropy = torch.distributions.Categorical(logits=weights).entropy()
        return -better * odds / keep - self.anytime.entropy * entropy

    def clip(self, most: float) -> None:
        """The selector apart: its gradient is of another size, and must not change the classifier's step."""
        parts = [[], []]
        for name, parameter in self.model.named_parameters():
            parts[name.startswith("patch_drop.")].append(parameter)
        for part in parts:
            nn.utils.clip_grad_norm_(part, most)


def group_ratios(settings: AnytimeSettings, noise: torch.Generator) -> list[float]:
    """A keep ratio for each group: one from each of as many equal parts of [ratio_low, ratio_high], on a logarithmic
    scale or a linear one, so that every step has few patches and many."""
    places = (torch.arange(settings.groups) + torch.rand(settings.groups, generator=noise)) / settings.groups
    low, high = settings.ratio_low, settings.ratio_high
    if settings.spread == "log":
        return [low * (high / low) ** place for place in places.tolist()]
    return [low + (high - low) * place for place in places.tolist()]


def log_probability(weights: Tensor, order: Tensor, keep: int) -> Tensor:
    """Of drawing the first `keep` of `order` one after the other without replacement, each in proportion to its weight
    among those that are left (Plackett-Luce). log-weights (B, N), order (B, N), all patches -> (B,)."""
    ranked = weights.gather(1, order)
    left = ranked.flip(1).logcumsumexp(dim=1).flip(1)  # of what is left at each draw
    return (ranked - left)[:, :keep].sum(dim=1)
