import copy
import math

import pytest
import torch
import torch.nn.functional as F

from asel_lib.training.agent_settings import AgentSettings
from asel_lib.training.dqn import Agent, Replay


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def transition(number, size=2):
    return torch.full((size, 6), float(number)), torch.full((size, 6), number + 0.5), float(number)


@pytest.fixture
def agent(tiny):
    def make(**settings):
        selector = tiny(selector="agent").selector
        return Agent(selector, AgentSettings(**{"replay": 3, "draw": 2} | settings), seed=5, batches=1000)

    return make


def test_a_full_buffer_loses_one_at_random():
    lost = set()
    for seed in range(20):
        replay = Replay(3)
        for number in range(4):
            replay.push(*transition(number), chance(seed))
        assert len(replay) == 3 and replay.transitions[-1][2] == 3
        lost |= {0, 1, 2} - {reward for *_, reward in replay.transitions}
    assert lost == {0, 1, 2}


def test_batches_are_drawn_once_each_and_joined_whatever_their_size():
    replay = Replay(4)
    for number in range(4):
        replay.push(*transition(number, size=number + 1), chance())
    states, after, rewards = replay.draw(4, chance())
    assert states.shape == after.shape == (10, 6) and rewards.shape == (10, 1)
    assert sorted(rewards[:, 0].tolist()) == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert torch.equal(states[:, :1], rewards) and torch.equal(after, states + 0.5)


def test_a_buffer_smaller_than_the_draw_is_named():
    replay = Replay(4)
    replay.push(*transition(1), chance())
    with pytest.raises(ValueError, match="the replay buffer holds 1 batches, 2 were asked for"):
        replay.draw(2, chance())


def test_epsilon_falls_exponentially_with_the_batches(agent):
    epsilon = agent().epsilon
    assert epsilon(0) == 1.0
    assert epsilon(20_000) == pytest.approx(0.01 + 0.99 / math.e)
    assert epsilon(10**7) == pytest.approx(0.01)


def test_exploration_ends_within_a_training_of_any_length_where_its_share_is_given(agent):
    assert agent(exploration=0.5).epsilon(500) < 0.01 + 0.01 * 0.99
    assert agent(exploration=1.0).epsilon(500) == pytest.approx(0.01 + 0.99 * math.exp(-2.5))
    assert agent().epsilon(1000) > 0.95  # as published: a short training ends with an agent that acts at random


def test_a_greedy_mask_keeps_patches_of_at_least_mean_value_in_the_whole_batch(agent):
    greedy = agent(epsilon_start=0.0, epsilon_end=0.0)
    greedy.selector.memory.uniform_(generator=chance())
    attention, labels = torch.rand(4, 16, generator=chance()).softmax(1), torch.tensor([0, 3, 3, 1])
    with torch.no_grad():
        values = greedy.selector.values(attention, labels).mean(0)
    assert greedy.act(attention, labels, 3).tolist() == (values >= values.mean()).tolist()


def test_a_random_mask_keeps_about_half_and_depends_on_seed_and_step_alone(agent):
    explorer = agent(epsilon_start=1.0)
    attention, labels = torch.full((4, 16), 1 / 16), torch.zeros(4, dtype=torch.long)
    masks = [explorer.act(attention, labels, step) for step in range(50)]
    assert 0.4 < torch.stack(masks).float().mean() < 0.6
    assert len({tuple(mask.tolist()) for mask in masks}) == 50
    assert torch.equal(explorer.act(attention[:1], labels[:1], 7), masks[7])


def test_a_batch_of_one_is_a_batch(agent):
    learner = agent(replay=2, draw=1)
    attention, labels = torch.full((1, 16), 1 / 16), torch.tensor([2])
    mask = learner.act(attention, labels, 0)
    learner.learn(attention, attention, labels, mask, 1.0, 0)
    assert learner.learned == 1


def test_all_values_of_a_state_move_towards_reward_plus_discounted_target(agent):
    learner = agent(draw=1, replay=1)
    selector, network = learner.selector, learner.selector.q_network
    with torch.no_grad():
        for parameter in learner.target.module.parameters():
            parameter.add_(0.01)
    before, target = copy.deepcopy(network), copy.deepcopy(learner.target.module)
    optimizer = torch.optim.AdamW(before.parameters(), lr=0.01, amsgrad=True)
    attention, after = (torch.rand(3, 16, generator=chance(i)).softmax(1) for i in (1, 2))
    labels, mask = torch.tensor([0, 1, 1]), torch.arange(16) < 6
    learner.learn(attention, after, labels, mask, -2.5, 0)

    with torch.no_grad():
        wanted = -2.5 + 0.95 * target(selector.state(after, labels))
    loss = F.smooth_l1_loss(before(selector.state(attention, labels)), wanted)
    loss.backward()
    torch.nn.utils.clip_grad_value_(before.parameters(), 100)
    optimizer.step()
    for ours, theirs in zip(network.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_target_network_follows_slowly_every_second_step(agent):
    learner = agent(draw=1, replay=1)
    start = learner.target.module[0].weight.clone()
    attention, labels = torch.full((2, 16), 1 / 16), torch.tensor([0, 1])
    learner.learn(attention, attention, labels, torch.ones(16), 1.0, 0)
    assert torch.equal(learner.target.module[0].weight, start)
    learner.learn(attention, attention, labels, torch.ones(16), 1.0, 1)
    expected = 0.9 * start + 0.1 * learner.selector.q_network[0].weight
    torch.testing.assert_close(learner.target.module[0].weight, expected)


def test_nothing_is_learned_before_enough_is_there(agent):
    learner = agent()
    before = copy.deepcopy(learner.selector.q_network.state_dict())
    attention, labels = torch.full((2, 16), 1 / 16), torch.tensor([0, 1])
    learner.learn(attention, attention, labels, torch.ones(16), 1.0, 0)
    assert learner.learned == 0 and len(learner.replay) == 1
    assert all(torch.equal(before[key], value) for key, value in learner.selector.q_network.state_dict().items())
    learner.learn(attention, attention, labels, torch.ones(16), 1.0, 1)
    assert learner.learned == 1
