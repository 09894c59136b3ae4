"""Replay: which segments are kept, and that they are learned from as what they have become."""

from __future__ import annotations

import pytest
import torch

import ocean
from trainer import train
from trainer.buffer import Buffer
from trainer.network import Minibatch, TorchNetwork
from trainer.policy import Policy
from trainer.rollout import Rollout, Seconds
from trainer.settings import PolicySettings, Settings, TrainSettings
from trainer.update import Updater, refresh

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("replay", "expected"),
    [
        (3, [[0, 1, 2], [103, 100, 101], [202, 203, 200]]),  # rooms for some, of other agents each time
        (4, [[0, 1, 2, 3], [100, 101, 102, 103], [200, 201, 202, 203]]),
        (6, [[0, 1, 2, 3], [102, 103, 2, 3, 100, 101], [102, 103, 200, 201, 202, 203]]),
    ],
)
def test_kept_segments_are_the_last_ones_in_turn(replay: int, expected: list[list[int]]) -> None:
    buffer = Buffer.make(2, 4, (1,), torch.float32, 1, CPU, replay=replay)
    assert buffer.used == 4
    for rollout, kept in enumerate(expected):
        for column in (buffer.obs[..., 0], buffer.rewards, buffer.values):
            column[:, :4] = 100.0 * rollout + torch.arange(4.0)
        buffer.keep()
        assert buffer.used == 4 + len(kept)
        for column in (buffer.obs[..., 0], buffer.rewards, buffer.values):
            rows = column[:, 4 : buffer.used].sort(1).values.tolist()
            assert rows == [sorted(kept)] * len(column)


def make_rollout(rnn: str, replay: float) -> Rollout:
    settings = PolicySettings(hidden=32, rnn=rnn, action_gain=1.0)
    policy = Policy(4, (2,), settings, torch.Generator().manual_seed(0))
    env = ocean.Vector("cartpole", 12, seed=3, settings={"max_steps": 20})
    train = TrainSettings(num_envs=12, horizon=16, minibatch_size=12 * 16, replay_factor=replay)
    return Rollout(env, TorchNetwork(policy), train, torch.Generator().manual_seed(4), CPU)


@pytest.mark.parametrize("rnn", ["none", "mingru", "lstm"])
def test_old_segments_are_judged_by_the_policy_of_today(rnn: str) -> None:
    """Their ratios and values are those that an update itself would find."""
    rollout = make_rollout(rnn, replay=2.0)
    policy, network = rollout.network.policy, rollout.network
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        buffer = rollout.collect(Seconds())
        buffer.keep()
        with torch.no_grad():
            policy.flat.add_(0.05 * torch.randn(policy.flat.shape, generator=generator))
    buffer = rollout.collect(Seconds())
    refresh(policy, buffer)
    ratios, values = buffer.ratios.clone(), buffer.values.clone()
    assert float(ratios[:, :12].sub(1).abs().max()) == 0.0
    assert float(ratios[:, 12:].sub(1).abs().max()) > 0.01
    everyone = Minibatch(torch.arange(36), torch.ones(36), True)
    network.gradients(everyone, buffer, rollout.train, 0.0)
    torch.testing.assert_close(buffer.ratios, ratios, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(buffer.values, values, atol=1e-5, rtol=1e-4)


def test_updates_reach_old_segments() -> None:
    rollout = make_rollout("none", replay=1.0)
    updater = Updater(
        rollout.network.policy, rollout.network, rollout.train, torch.Generator().manual_seed(5)
    )
    updater.update(rollout.collect(Seconds()), 0.0, Seconds())
    buffer = rollout.collect(Seconds())
    updater.update(buffer, 0.0, Seconds())
    changed = (buffer.ratios != 1.0).any(0)
    assert bool(changed[12:].all())
    assert bool(buffer.advantages[:, 12:].abs().sum() > 0)


def test_a_factor_of_nothing_is_nothing() -> None:
    base = {"train.total_timesteps": 4096, "train.num_envs": 16, "train.horizon": 32}
    base |= {"train.minibatch_size": 256, "train.eval_episodes": 5}
    policies = [
        train(Settings.parse("cartpole", {**base, "train.replay_factor": factor})).policy.flat
        for factor in (0.0, 0.01, 0.5)  # the second is less than a segment
    ]
    assert torch.equal(policies[0], policies[1])
    assert not torch.equal(policies[0], policies[2])
