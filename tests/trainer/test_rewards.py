"""Rewards as they are learned from: divided by the deviation of their discounted sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer import train
from trainer.scales import RewardScale
from trainer.settings import Settings, TrainSettings

AGENTS, CPU = 5, torch.device("cpu")


def scale(**changes: object) -> RewardScale:
    return RewardScale(TrainSettings(gamma=0.9, reward_clip=0.0, **changes), AGENTS, CPU)


def learned(to: RewardScale, rewards: np.ndarray, ends: np.ndarray | None = None) -> np.ndarray:
    """What `to` makes of one rollout's rewards; `ends` [horizon, AGENTS]: 1 terminal, 2 truncated."""
    ends = np.zeros(rewards.shape) if ends is None else ends
    changed = torch.tensor(rewards, dtype=torch.float32)
    to(changed, *(torch.tensor(ends == kind).byte() for kind in (1, 2)))
    return changed.numpy()


def test_they_are_divided_by_the_deviation_of_all_discounted_sums_so_far() -> None:
    generator, to = np.random.default_rng(0), scale()
    running, sums, largest = np.zeros(AGENTS), [], 0.0
    for size, horizon in enumerate((13, 1, 2, 8, 31), start=1):  # one no power of two; they grow
        rewards = generator.uniform(size, 2 * size, (horizon, AGENTS))
        ends = generator.choice(3, (horizon, AGENTS), p=(0.8, 0.1, 0.1))
        for reward, end in zip(rewards, ends, strict=True):
            running = 0.9 * running + reward
            sums.append(running)
            running = np.where(end, 0.0, running)
        largest = max(largest, np.abs(rewards).max())
        expected = rewards / max(np.std(sums), largest)
        np.testing.assert_allclose(learned(to, rewards, ends), expected, rtol=1e-5)
    assert np.std(sums) > largest


def test_none_becomes_larger_than_one() -> None:
    rare, to = np.zeros((200, AGENTS)), scale()
    rare[150, 3], rare[160, 2] = 50.0, -5.0
    np.testing.assert_allclose(learned(to, rare), rare / 50, rtol=1e-6)
    rare[150, 3] = 0.0
    np.testing.assert_allclose(learned(to, rare), rare / 50, rtol=1e-6)  # nor forgets it


@pytest.mark.parametrize("reward", [0.0, 1e-30, 1e30])
def test_whatever_their_size_they_stay_finite(reward: float) -> None:
    changed = learned(scale(), np.full((8, AGENTS), reward))
    assert np.isfinite(changed).all()
    assert bool(changed.any()) == bool(reward)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_one_that_is_no_number_spoils_no_other(fault: float) -> None:
    rewards = np.random.default_rng(1).normal(size=(16, AGENTS))
    whole, spoilt = scale(), scale()
    rewards[4, 2] = 0.0
    expected = learned(whole, rewards)
    rewards[4, 2] = fault
    changed = learned(spoilt, rewards)
    assert not np.isfinite(changed[4, 2])
    changed[4, 2] = 0.0
    np.testing.assert_array_equal(changed, expected)
    assert torch.equal(whole.seen, spoilt.seen)


def test_switched_off_they_are_scaled_and_clipped_alone() -> None:
    train = TrainSettings(normalize_rewards=False, reward_scale=0.5, reward_clip=1.0)
    changed = learned(RewardScale(train, AGENTS, CPU), np.full((4, AGENTS), -6.0))
    assert (changed == -1.0).all()


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_how_an_environment_counts_does_not_change_what_is_learned(factor: float) -> None:
    changes = {"train.reward_clip": 0.0, "train.total_timesteps": 20_000, "train.eval_episodes": 5}
    one, other = (
        train(Settings.parse("cartpole", {**changes, "train.reward_scale": by}), seed=3)
        for by in (1.0, factor)
    )
    assert torch.equal(one.policy.flat, other.policy.flat)
