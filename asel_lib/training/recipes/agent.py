"""The recipe `agent`, AgentViT's training: an agent chooses each batch's patches.

The classifier learns by its own optimiser from the kept patches; the agent, by Q-learning, from the rewards of some of
the batches. Any SelectiveViT whose own selector is "agent" can be trained so.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from asel_lib.devices import autocast
from asel_lib.extras import need
from asel_lib.registry import RECIPES, Recipe
from asel_lib.training import processes
from asel_lib.training.agent_settings import AgentSettings
from asel_lib.training.dqn import Agent
from asel_lib.training.losses import cross_entropy
from asel_lib.training.sharding import Shard, TrainBatch, zero_loss
from asel_lib.training.supervised import SupervisedRun


class AgentRun(SupervisedRun):
    """Training of a SelectiveViT with an agent: `train(..., run_class=partial(AgentRun, recipe_settings=settings))`.

    As published, the first epoch only trains the classifier: its rewards are not learned from. History: besides the
    usual columns `reward` (mean of the epoch's rewarded batches), `epsilon` (at its end) and `learned` (steps of
    Q-learning so far).

    Args:
        model: a SelectiveViT with selector "agent".
        arguments: those of `SupervisedRun`.
        recipe_settings: the agent's.
        options: those of `SupervisedRun`.

    Raises:
        ValueError: in several processes.
    """

    summed = (*SupervisedRun.summed, "reward", "rewarded")
    excluded = ("patch_drop.",)

    def __init__(self, model, *arguments, recipe_settings: AgentSettings, **options):
        need("agent", "gymnasium")
        from asel_lib.training.environment import PatchSelectionEnv  # here, or no recipe could do without gymnasium

        super().__init__(model, *arguments, **options)
        processes.check_alone(self.accelerator)
        self.agent = Agent(model.selector, recipe_settings, self.seed, self.settings.epochs * len(self.batches))
        self.env = PatchSelectionEnv(model.patch_embed.num_patches, recipe_settings, self._attention, self._fit)

    def described(self) -> tuple:
        return (*super().described(), self.agent.settings)

    def steps(self, epoch: int) -> Iterator[int]:
        start, count, sums = self.state.step_in_epoch, len(self.batches), self.state.sums
        if start == count:
            return
        attention, info = self.env.reset(options={"batches": self.read(epoch), "step": start})
        for step in range(epoch * count + start, (epoch + 1) * count):
            labels, before = info["labels"], torch.from_numpy(attention).to(self.batches.device)
            mask = self.agent.act(before, labels, step)
            attention, reward, _, _, info = self.env.step(mask.numpy())
            if info["rewarded"]:
                sums["reward"] += reward
                sums["rewarded"] += 1
                if epoch > 0:
                    after = torch.from_numpy(info["after"]).to(self.batches.device)
                    self.agent.learn(before, after, labels, mask, reward, step)
            yield len(labels)

    def status(self) -> str:
        row = self.averages()
        reward = "" if np.isnan(row["reward"]) else f"reward {row['reward']:.2f}, "
        return f"{super().status()}, {reward}epsilon {row['epsilon']:.3f}, kept {row['keep_ratio']:.0%}"

    def line(self) -> str:
        row = self.state.history[-1]
        agent = f"reward {row['reward']:.2f}, epsilon {row['epsilon']:.3f}, kept {row['keep_ratio']:.1%}"
        return f"{super().line()}; {agent}"

    def averages(self) -> dict[str, float]:
        state = self.state
        rewarded, steps = state.sums["rewarded"], state.epoch * len(self.batches) + state.step_in_epoch
        return super().averages() | {
            "reward": state.sums["reward"] / rewarded if rewarded else float("nan"),
            "epsilon": self.agent.epsilon(steps),
            "learned": self.agent.learned,
        }

    def extra_state(self) -> dict:
        return {"agent": self.agent.state_dict(), "first_loss": self.env.first_loss}

    def load_extra(self, state: dict) -> None:
        self.agent.load_state_dict(state["agent"])
        self.env.first_loss = state["first_loss"]

    @torch.no_grad()
    def _attention(self, images: Tensor) -> Tensor:
        with autocast(images.device, self.precision):
            tokens = self.model.patch_tokens(images)
        return self.model.selector.attention(tokens.float(), self.model.blocks[0])

    def _fit(self, batch: TrainBatch, mask: np.ndarray) -> float:
        """Train the classifier on a batch with the patches of the mask (N,) -> the loss before that step."""
        kept = torch.from_numpy(mask.nonzero()[0]).to(batch.images.device).expand(len(batch.images), -1)

        def shard_loss(shard: Shard) -> tuple[Tensor, Tensor]:
            if not len(shard.rows):
                return zero_loss(self.model), batch.images.new_zeros(0, self.model.num_classes)
            logits = self.model(shard.images, kept=kept[: len(shard.images)])
            return cross_entropy(logits, shard.labels, self.class_weights) * shard.share, logits

        loss = self.backward(shard_loss, batch, float(mask.mean()))
        self.update(batch.step)
        return loss


RECIPES.add(
    "agent",
    Recipe(
        "agent",
        "agent",
        AgentRun,
        AgentSettings,
        purpose="An agent chooses a batch's patches and learns from rewards, the classifier from what is kept.",
        linestyle="-.",
        selector="agent",
        one_ratio=False,
        alone=True,
    ),
)
