"""Reward and episode end, read off two frames."""

import math

import pytest
import torch

from worldsim.heads import OutcomeHead, outcome_loss

VALUES = (-1.0, 0.0, 2.0)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return OutcomeHead(16, 24, rewards=VALUES, width_conv=8)


def frames(count, seed=0):
    return torch.rand(2, count, 3, 16, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_read_answers_one_of_the_games_rewards(head):
    reward, odds = head.read(*frames(32))
    assert reward.shape == odds.shape == (32,)
    assert reward.dtype == odds.dtype == torch.float32
    assert set(reward.tolist()) <= set(VALUES)


def test_read_takes_the_likeliest_reward_and_the_ends_log_odds(head):
    before, after = frames(32)
    logits, end = head(before, after)
    assert logits.shape == (32, 3) and end.shape == (32,)
    reward, odds = head.read(before, after)
    assert reward.tolist() == [VALUES[i] for i in logits.argmax(dim=1)]
    assert torch.equal(odds, end)


def test_a_head_learns_new_rewards_and_forgets_none(head):
    grown = head.with_rewards((0.0, 1.0, 3.0))
    assert grown.config.rewards == (-1.0, 0.0, 1.0, 2.0, 3.0) and head.config.rewards == VALUES
    (before, after), old = frames(8), [0, 1, 3]
    (logits, end), (wider, same_end) = head(before, after), grown(before, after)
    torch.testing.assert_close(wider[:, old], logits)
    torch.testing.assert_close(same_end, end)
    assert wider[:, [2, 4]].abs().max() > 0


def test_a_head_that_knows_all_rewards_stays_as_it_is(head):
    same = head.with_rewards((2.0, 0.0))
    assert same.config.rewards == VALUES
    assert all(torch.equal(here, there) for here, there in zip(same.parameters(), head.parameters(), strict=True))


def test_the_order_of_the_frames_matters(head):
    before, after = frames(4)
    assert not torch.allclose(head(before, after)[0], head(after, before)[0])


def test_half_precision_weights_answer_in_float32(head):
    logits, end = head.to(torch.bfloat16)(*frames(2))
    assert logits.dtype == end.dtype == torch.float32


def test_the_loss_of_an_undecided_head_is_the_entropy_of_a_guess():
    rewards, ended = torch.tensor([-1.0, 2.0]), torch.tensor([True, False])
    loss = outcome_loss(torch.zeros(2, 3), torch.zeros(2), rewards, ended, torch.tensor(VALUES))
    assert loss.item() == pytest.approx(math.log(3) + math.log(2))


def test_the_loss_vanishes_for_the_right_answer_alone():
    rewards, ended = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([True, False, False])
    right, end = 50 * torch.eye(3), torch.tensor([50.0, -50.0, -50.0])
    values = torch.tensor(VALUES)
    assert outcome_loss(right, end, rewards, ended, values) < 1e-6
    assert outcome_loss(right.roll(1, dims=1), end, rewards, ended, values) > 40
    assert outcome_loss(right, -end, rewards, ended, values) > 40


def test_a_head_learns_what_a_frame_pair_means(head):
    """Brighter earns 2, darker -1; only a brightening ends the episode."""
    before, _ = frames(64)
    brighter = torch.arange(64) % 2 == 0
    after = (before + torch.where(brighter, 0.5, -0.5)[:, None, None, None]).clamp(-1, 1)
    rewards = torch.where(brighter, 2.0, -1.0)
    optimiser = torch.optim.Adam(head.parameters(), 1e-3)
    for _ in range(40):
        optimiser.zero_grad()
        outcome_loss(*head(before, after), rewards, brighter, torch.tensor(VALUES)).backward()
        optimiser.step()
    reward, odds = head.read(before, after)
    assert torch.equal(reward, rewards) and torch.equal(odds > 0, brighter)
