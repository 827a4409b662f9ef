"""AgentViT's training: the loop of `training.supervised`, in which an agent chooses each batch's patches.

The classifier learns by its own optimiser from the kept patches; the agent, by Q-learning, from the rewards of some of
the batches. Any SelectiveViT whose own selector is "agent" can be trained so.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asel_lib.devices import autocast
from asel_lib.profiles import AgentSettings
from asel_lib.training import processes
from asel_lib.training.dqn import Agent
from asel_lib.training.environment import PatchSelectionEnv
from asel_lib.training.processes import Piece
from asel_lib.training.supervised import Run


class AgentRun(Run):
    """A run of `supervised.train(..., kind=partial(AgentRun, agent=settings))`.

    As published, the first epoch only trains the classifier: its rewards are not learned from. History: besides the
    usual columns `reward` (mean of the epoch's rewarded batches), `epsilon` (at its end) and `learned` (steps of
    Q-learning so far).
    """

    summed = (*Run.summed, "reward", "rewarded")
    left_out = ("patch_drop.",)

    def __init__(self, model, *arguments, agent: AgentSettings):
        super().__init__(model, *arguments)
        processes.check(1, self.accelerator, alone=True)
        self.key = f"{self.key} {agent}"
        self.agent = Agent(model.selector, agent, self.seed)
        self.env = PatchSelectionEnv(model.patch_embed.num_patches, agent, self._attention, self._fit)

    def steps(self, epoch: int) -> Iterator[int]:
        start = self.step_in_epoch
        if start == self.steps_an_epoch:
            return
        attention, info = self.env.reset(options={"batches": self.feed(epoch), "step": start})
        for step in range(epoch * self.steps_an_epoch + start, (epoch + 1) * self.steps_an_epoch):
            labels, before = info["labels"], torch.from_numpy(attention).to(self.batches.device)
            mask = self.agent.act(before, labels, step)
            attention, reward, _, _, info = self.env.step(mask.numpy())
            if info["rewarded"]:
                self.sums["reward"] += reward
                self.sums["rewarded"] += 1
                if epoch > 0:
                    after = torch.from_numpy(info["after"]).to(self.batches.device)
                    self.agent.learn(before, after, labels, mask, reward, step)
            yield len(labels)

    def status(self) -> str:
        row = self.averages()
        reward = "" if np.isnan(row["reward"]) else f"reward {row['reward']:.2f}, "
        return f"{super().status()}, {reward}epsilon {row['epsilon']:.3f}, kept {row['keep_ratio']:.0%}"

    def line(self) -> str:
        row = self.history[-1]
        agent = f"reward {row['reward']:.2f}, epsilon {row['epsilon']:.3f}, kept {row['keep_ratio']:.1%}"
        return f"{super().line()}; {agent}"

    def averages(self) -> dict[str, float]:
        rewarded = self.sums["rewarded"]
        steps = self.epoch * self.steps_an_epoch + self.step_in_epoch
        return super().averages() | {
            "reward": self.sums["reward"] / rewarded if rewarded else float("nan"),
            "epsilon": self.agent.epsilon(steps),
            "learned": self.agent.learned,
        }

    def more_state(self) -> dict:
        return {"agent": self.agent.state_dict(), "first_loss": self.env.first_loss}

    def take_up(self, state: dict) -> None:
        self.agent.load_state_dict(state["agent"])
        self.env.first_loss = state["first_loss"]

    @torch.no_grad()
    def _attention(self, images: Tensor) -> Tensor:
        with autocast(images.device, self.precision):
            tokens = self.model.patch_tokens(images)
        return self.model.selector.attention(tokens.float(), self.model.blocks[0])

    def _fit(self, batch: tuple, mask: np.ndarray) -> float:
        step, positions, images, labels, *_ = batch
        kept = torch.from_numpy(mask.nonzero()[0]).to(images.device).expand(len(images), -1)

        def compute(piece: Piece) -> tuple[Tensor, Tensor]:
            if not len(piece.rows):
                return processes.untouched(self.model), images.new_zeros(0, self.model.num_classes)
            logits = self.model(piece.images, kept=kept[: len(piece.images)])
            return F.cross_entropy(logits.float(), piece.labels) * piece.share, logits

        loss = self.gradients(compute, positions, images, labels, None, step, float(mask.mean()))
        self.update(step)
        return loss
