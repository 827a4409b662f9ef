"""AgentViT's environment: each step trains the ViT on one batch, with the patches that the action keeps."""

from collections.abc import Callable, Iterator

import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiBinary, Sequence
from torch import Tensor

from asel_lib.training.agent_settings import AgentSettings


class PatchSelectionEnv(gymnasium.Env):
    """An episode is an epoch, a step a batch.

    Observation (B, N): what each patch of each image of the coming batch receives of the first block's attention; B
    varies, the last batch is smaller. Action (N,): 1 keeps the patch, in each image of that batch. Reward: first loss /
    loss - budget_weight * |kept - n| / n, n = budget * N, on each `reward_every`-th batch of an epoch, counted from its
    first; 0.0 on the others, which `info["rewarded"]` tells apart.

    Args:
        patches: N.
        settings: budget, its weight, and how often a batch is rewarded.
        observe: images (B, 3, H, W) -> observation (B, N).
        fit: (batch, mask (N,)) -> the loss before the step that it makes.
    """

    def __init__(self, patches: int, settings: AgentSettings, observe: Callable, fit: Callable):
        self.observation_space = Sequence(Box(0, 1, (patches,), np.float32), stack=True)
        self.action_space = MultiBinary(patches)
        self.settings, self.observe, self.fit = settings, observe, fit
        self.first_loss: float | None = None  # of the first rewarded batch of the whole training
        self.wanted = settings.budget * patches

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin an epoch -> the first observation, and info with that batch's `labels`.

        Args:
            seed: gymnasium's; nothing here is random.
            options: `batches`, an iterator of `sharding.TrainBatch`, and `step`, how many of the epoch's batches lie
                behind (default 0).

        Raises:
            ValueError: without batches.
        """
        super().reset(seed=seed)
        if not options or "batches" not in options:
            raise ValueError("reset needs options={'batches': an iterator of TrainBatch}")
        self.batches: Iterator = iter(options["batches"])
        self.step_in_epoch = options.get("step", 0)
        self.batch = next(self.batches, None)
        if self.batch is None:
            raise ValueError("the batches are empty: there is nothing to train on")
        self.observation = self._observation()
        return self.observation, self._info()

    def step(self, action) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Train on the batch with these patches -> the next batch's observation (after the last, zeros), the reward,
        whether the epoch is over, False, and info: `labels` of the next batch, and of this one `loss`, `kept` (how many
        patches), `rewarded`, and where it was, `after`: its observation by the updated ViT.

        Args:
            action: (N,) of 0 and 1, at least one 1.

        Raises:
            ValueError: for any other action.
        """
        mask = np.asarray(action)
        if mask.shape != self.action_space.shape or not np.isin(mask, (0, 1)).all() or not mask.any():
            raise ValueError(
                f"the action is {mask.tolist()}: expected {self.action_space.n} numbers, 0 or 1, and at least one 1"
            )
        kept = int(mask.sum())
        loss = self.fit(self.batch, mask.astype(bool))
        done = {"loss": loss, "kept": kept, "rewarded": self.step_in_epoch % self.settings.reward_every == 0}
        reward = 0.0
        if done["rewarded"]:
            self.first_loss = loss if self.first_loss is None else self.first_loss
            off = abs(kept - self.wanted) / self.wanted
            reward = self.first_loss / max(loss, 1e-8) - self.settings.budget_weight * off
            done["after"] = self._observation()
        self.step_in_epoch += 1
        coming = next(self.batches, None)
        if coming is None:  # nothing is looked at any more
            return np.zeros_like(self.observation), reward, True, False, self._info() | done
        self.batch = coming
        self.observation = self._observation()
        return self.observation, reward, False, False, self._info() | done

    def _observation(self) -> np.ndarray:
        return self.observe(self.batch.images).cpu().numpy()

    def _info(self) -> dict[str, Tensor]:
        return {"labels": self.batch.labels}
