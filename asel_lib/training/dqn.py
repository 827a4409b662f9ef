"""AgentViT's agent: epsilon-greedy masks, a replay buffer of batches, Q-learning with a slow target network.

Published libraries' agents do not fit this variant: Stable-Baselines3's DQN and TorchRL's DQN loss choose one action of
many and learn its value alone, while this one keeps any set of patches and moves the values of all of them to the same
reward; its replay buffer holds whole batches of differing size. What is left of them is a list and ten lines.
"""

import numpy as np
import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from asel_lib.reproducibility import generator
from asel_lib.selection.agent import AgentSelector, at_least_mean
from asel_lib.training.agent_settings import AgentSettings

FALLS = 5  # by a factor e, which leave 0.7 % of epsilon's way


class Replay:
    """The transitions of the last batches: (state (B, 2N), state after it (B, 2N), reward). A full buffer loses one at
    random, as published.

    Args:
        capacity: how many batches it holds.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.transitions: list[tuple[Tensor, Tensor, float]] = []

    def __len__(self) -> int:
        return len(self.transitions)

    def push(self, state: Tensor, after: Tensor, reward: float, chance: torch.Generator) -> None:
        """Add the transition of one batch.

        Args:
            state: before the batch.
            after: behind it.
            reward: of the batch.
            chance: says which one a full buffer loses.
        """
        if len(self) == self.capacity:
            self.transitions.pop(int(torch.randint(self.capacity, (), generator=chance)))
        self.transitions.append((state, after, reward))

    def draw(self, count: int, chance: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Batches without replacement, joined -> states (n, 2N), states after (n, 2N), rewards (n, 1).

        Args:
            count: how many batches.
            chance: says which.

        Raises:
            ValueError: where there are fewer.
        """
        if count > len(self):
            raise ValueError(
                f"the replay buffer holds {len(self)} batches, {count} were asked for: wait, or ask for fewer"
            )
        chosen = [self.transitions[i] for i in torch.randperm(len(self), generator=chance)[:count]]
        states, after, rewards = zip(*chosen, strict=True)
        each = [torch.full((len(state), 1), reward) for state, reward in zip(states, rewards, strict=True)]
        return torch.cat(states), torch.cat(after), torch.cat(each).to(states[0].device)


class Agent:
    """Chooses masks and learns from their rewards.

    Args:
        selector: the model's, which holds the Q-network and the memory.
        settings: epsilon, the replay buffer, rates.
        seed: with the step it gives every draw.
        batches: how many the whole training has, for `settings.exploration`.
    """

    def __init__(self, selector: AgentSelector, settings: AgentSettings, seed: int, batches: int):
        self.selector, self.settings, self.seed = selector, settings, seed
        share = settings.exploration
        self.decay = settings.epsilon_decay if share is None else share * batches / FALLS
        self.target = ModelEmaV3(selector.q_network, decay=1 - settings.tau)
        self.optimizer = torch.optim.AdamW(selector.q_network.parameters(), lr=settings.lr, amsgrad=True)
        self.replay = Replay(settings.replay)
        self.learned = 0

    def epsilon(self, step: int) -> float:
        """The chance of a random mask after `step` batches."""
        low, high = self.settings.epsilon_end, self.settings.epsilon_start
        return low + (high - low) * np.exp(-step / self.decay).item()

    @torch.no_grad()
    def act(self, attention: Tensor, labels: Tensor, step: int) -> Tensor:
        """-> one mask (N,) for all images of a batch: the patches whose Q, averaged over images, is at least the mean
        of all; with chance epsilon, of uniform random values.

        Args:
            attention: (B, N), see `selection.agent`.
            labels: (B,).
            step: number of the batch in the whole training.
        """
        chance = generator(self.seed, "explore", step)
        if torch.rand((), generator=chance) < self.epsilon(step):
            return at_least_mean(torch.rand(attention.shape[1], generator=chance))
        return at_least_mean(self.selector.values(attention, labels).mean(dim=0)).cpu()

    def learn(self, before: Tensor, after: Tensor, labels: Tensor, mask: Tensor, reward: float, step: int) -> None:
        """Remember a rewarded batch and, once enough are there, make a step of Q-learning: all N values of a state move
        towards reward + gamma * the target network's of the state after it.

        Args:
            before: (B, N) attention before the ViT's step.
            after: (B, N) attention after it.
            labels: (B,).
            mask: (N,) that the batch was trained with.
            reward: of the mask.
            step: number of the batch in the whole training.
        """
        settings, chance = self.settings, generator(self.seed, "replay", step)
        self.selector.remember(labels, mask.to(labels.device), settings.memory_alpha)
        with torch.no_grad():
            states = (self.selector.state(attention, labels) for attention in (before, after))
            self.replay.push(*states, reward, chance)
        if len(self.replay) < settings.draw:
            return
        states, next_states, rewards = self.replay.draw(settings.draw, chance)
        network = self.selector.q_network
        with torch.no_grad():
            wanted = rewards + settings.gamma * self.target.module(next_states)
        F.smooth_l1_loss(network(states), wanted).backward()
        nn.utils.clip_grad_value_(network.parameters(), settings.clip_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.learned += 1
        if self.learned % settings.target_every == 0:
            self.target.update(network)

    def state_dict(self) -> dict:
        """Beyond the Q-network and the memory, which the model holds."""
        return {
            "target": self.target.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": self.replay.transitions,
            "learned": self.learned,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave.

        Args:
            state: that.
        """
        self.target.module.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.transitions, self.learned = list(state["replay"]), state["learned"]
