import gymnasium
import numpy as np
import pytest
import torch

from asel_lib.training.agent_settings import AgentSettings
from asel_lib.training.environment import PatchSelectionEnv
from asel_lib.training.sharding import TrainBatch


def made(losses, batches=5, reward_every=2, size=3):
    """An environment of 8 patches whose ViT has these losses; `seen` is what it was trained with."""
    seen, losses = [], iter(losses)

    def fit(batch, mask):
        seen.append((batch.step, mask.tolist()))
        return next(losses)

    def observe(images):
        return images.mean(dim=(1, 2, 3))[:, None].expand(-1, 8).sigmoid()

    env = PatchSelectionEnv(8, AgentSettings(reward_every=reward_every), observe, fit)
    feed = [
        TrainBatch(step, np.arange(size), torch.full((size, 3, 4, 4), float(step)), torch.full((size,), step))
        for step in range(batches)
    ]
    return env, feed, seen


def test_the_spaces_hold_what_goes_through_them():
    env, feed, _ = made([1.0] * 5)
    assert isinstance(env, gymnasium.Env)
    observation, _ = env.reset(seed=1, options={"batches": feed})
    for _ in range(5):
        assert observation.shape == (3, 8) and observation in env.observation_space
        action = env.action_space.sample() | (np.arange(8) == 0)
        observation, reward, *_ = env.step(action)
        assert isinstance(reward, float)


def test_an_episode_is_an_epoch_and_labels_are_the_coming_batchs():
    env, feed, seen = made([1.0] * 5)
    _, info = env.reset(options={"batches": feed})
    ends = []
    for step in range(5):
        assert info["labels"].tolist() == [step] * 3
        mask = np.eye(8, dtype=int)[step]
        _, _, ended, truncated, info = env.step(mask)
        ends.append(ended)
        assert not truncated
        assert seen[-1] == (step, mask.astype(bool).tolist())
        if step == 4:
            assert info["labels"].tolist() == [4] * 3
    assert ends == [False] * 4 + [True]


def test_the_reward_is_the_published_one_on_every_so_many_th_batch():
    env, feed, _ = made([2.0, 9.0, 4.0, 9.0, 0.5])
    env.reset(options={"batches": feed})
    kept = [4, 4, 6, 8, 3]
    answers = [env.step(np.arange(8) < count) for count in kept]
    assert [info["rewarded"] for *_, info in answers] == [True, False, True, False, True]
    expected = [1.0, 0.0, 2 / 4 - 20 * 2 / 4, 0.0, 2 / 0.5 - 20 * 1 / 4]  # half of 8 is what costs nothing
    assert [reward for _, reward, *_ in answers] == pytest.approx(expected)
    assert [info["kept"] for *_, info in answers] == kept
    assert all(("after" in info) == info["rewarded"] for *_, info in answers)


def test_the_state_after_is_that_of_the_same_batch():
    env, feed, _ = made([1.0] * 5, reward_every=1)
    before, _ = env.reset(options={"batches": feed})
    coming, _, _, _, info = env.step(np.ones(8))
    np.testing.assert_allclose(info["after"], before)
    assert not np.allclose(coming, before)


def test_an_epoch_taken_up_in_the_middle_is_rewarded_at_the_same_batches():
    env, feed, _ = made([1.0] * 5)
    env.reset(options={"batches": feed[3:], "step": 3})
    assert [env.step(np.ones(8))[4]["rewarded"] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("action", [np.zeros(8), np.ones(7), np.full(8, 0.5), np.full(8, 2)])
def test_an_action_that_is_no_mask_is_named(action):
    env, feed, seen = made([1.0])
    env.reset(options={"batches": feed})
    with pytest.raises(ValueError, match="expected 8 numbers, 0 or 1, and at least one 1"):
        env.step(action)
    assert not seen


def test_without_batches_there_is_no_episode():
    env, *_ = made([])
    with pytest.raises(ValueError, match="reset needs options"):
        env.reset()
    with pytest.raises(ValueError, match="the batches are empty"):
        env.reset(options={"batches": []})
