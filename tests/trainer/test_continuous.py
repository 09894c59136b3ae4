"""Actions that are floats: their distribution, their way to the environment, training from end to end."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

import ocean
from trainer import network as networks
from trainer import train
from trainer.network import FusedNetwork, TorchNetwork
from trainer.play import Game
from trainer.policy import Policy
from trainer.scales import ActionScale
from trainer.settings import PolicySettings, Settings, SettingsError

SMALL = {
    "train.total_timesteps": 8 * 16 * 32,
    "train.num_envs": 16,
    "train.minibatch_size": 128,
    "train.updates": 4,
    "train.eval_episodes": 10,
    "train.curve_points": 4,
}


def small(**changes: object) -> Settings:
    named = {Settings.resolve(name, "pendulum"): value for name, value in changes.items()}
    return Settings.parse("pendulum", {**SMALL, **named})


def make_policy(dim: int = 3, **settings: object) -> Policy:
    """A policy of four observations whose means and deviations are none that it began with."""
    generator = torch.Generator().manual_seed(0)
    policy = Policy(4, (), PolicySettings(action_gain=1.0, **settings), generator, action_dim=dim)
    assert policy.log_sd is not None
    policy.log_sd.data.copy_(torch.linspace(-1.5, 0.7, dim))
    policy.head_bias.data.normal_(generator=generator)
    return policy


def distribution(policy: Policy, obs: torch.Tensor) -> Independent:
    hidden, _ = policy.unroll(obs[None], torch.zeros(len(obs), 0))
    assert policy.log_sd is not None
    return Independent(Normal(policy(hidden[0])[0], policy.log_sd.exp()), 1)


def test_probability_and_entropy_are_those_of_torchs_normal() -> None:
    policy, obs, actions = make_policy(), torch.randn(50, 4), torch.randn(50, 3)
    wanted = distribution(policy, obs)
    logprob, entropy = policy.logprob_entropy(wanted.mean, actions)
    torch.testing.assert_close(logprob, wanted.log_prob(actions))
    torch.testing.assert_close(entropy, wanted.entropy())


@pytest.mark.parametrize("form", [FusedNetwork, TorchNetwork])
def test_what_is_drawn_has_the_mean_the_deviation_and_the_probability_that_are_said(form: type) -> None:
    policy, rows = make_policy(), 20_000
    obs = torch.tensor([0.3, -1.0, 2.0, 0.5]).expand(rows, 4).contiguous()
    actions, logprobs = torch.zeros(rows, 3), torch.zeros(rows)
    draw = policy.noise(torch.empty(rows, 3), torch.Generator().manual_seed(1))
    network = form(policy)
    network.act(obs, draw, actions, logprobs, torch.zeros(rows), torch.zeros(rows, 0))
    with torch.no_grad():
        wanted = distribution(policy, obs)
        torch.testing.assert_close(logprobs, wanted.log_prob(actions), atol=1e-4, rtol=1e-4)
    off = (actions - wanted.mean) / wanted.stddev
    assert off.mean(0).abs().max() < 0.03
    assert (off.std(0) - 1).abs().max() < 0.03
    network.act(obs, None, actions, logprobs, torch.zeros(rows), torch.zeros(rows, 0))  # greedy: the means
    torch.testing.assert_close(actions, wanted.mean.detach())


def test_actions_reach_the_environment_in_its_range(tmp_path: Path) -> None:
    text = ocean.find("pendulum").read_text().replace("ACTION_DIM 1", "ACTION_DIM 4")
    ranges = "RANGE 0, 10, -1, 1, -INFINITY, 5, -3e38, 3e38 "
    (tmp_path / "mine.h").write_text(text.replace("RANGE -2, 2 ", ranges))
    spec = ocean.spec(tmp_path / "mine.h")
    assert spec.action_range == ((0, 10), (-1, 1), (-math.inf, 5), (-3e38, 3e38))
    scale = ActionScale(spec, 4)
    given = np.array([[0, 0, 0, 0], [-1, 0.5, -70, -7], [3, -3, 70, 8], [math.nan] * 4], np.float32)
    sent = [[5, 0, 0, 0], [0, 0.5, -70, -7], [10, -1, 5, 8], [0, 0, 0, 0]]
    np.testing.assert_array_equal(scale(given), sent)
    drawn = spec.random_actions(np.random.default_rng(0), 1000)
    assert drawn.dtype == np.float32
    assert (drawn.min(0) >= [0, -1, -5, -5]).all()
    assert (drawn.max(0) <= [10, 1, 5, 5]).all()
    assert drawn[:, 0].mean() == pytest.approx(5, abs=0.3)


@pytest.mark.filterwarnings("error")
def test_an_action_without_a_range_is_sent_as_it_is(tmp_path: Path) -> None:
    text = ocean.find("pendulum").read_text()
    (tmp_path / "mine.h").write_text(text.replace("ACTION_RANGE -2, 2", "ACTION_RANGE -INFINITY, INFINITY"))
    scale = ActionScale(ocean.spec(tmp_path / "mine.h"), 2)
    np.testing.assert_array_equal(scale(np.array([[-7e9], [0.5]], np.float32)), np.float32([[-7e9], [0.5]]))


@pytest.mark.parametrize("range_", ["", "ACTION_RANGE 1", "ACTION_RANGE 2, -2", "ACTION_RANGE 0, 1, 0, 1"])
def test_a_garbled_range_is_named(tmp_path: Path, range_: str) -> None:
    text = ocean.find("pendulum").read_text()
    (tmp_path / "mine.h").write_text(text.replace("ACTION_RANGE -2, 2", range_))
    with pytest.raises(ValueError, match="ACTION_RANGE"):
        ocean.spec(tmp_path / "mine.h")


def test_pendulum_is_solved_by_its_defaults() -> None:
    result = train(Settings.parse("pendulum"), seed=1)
    assert result.failure is None
    assert result.score >= ocean.spec("pendulum").solved_score


@pytest.mark.parametrize("changes", [{}, {"rnn": "mingru", "replay_factor": 0.6, "value_bins": 11}])
def test_continuing_equals_never_having_stopped(tmp_path: Path, changes: dict) -> None:
    settings, left = small(max_steps=40, **changes), iter(range(3))
    straight = train(settings, seed=2)
    train(settings, seed=2, should_stop=lambda: next(left, None) is None, checkpoint=tmp_path / "run.pt")
    result = train(settings, seed=2, checkpoint=tmp_path / "run.pt")
    assert torch.equal(result.policy.flat, straight.policy.flat)
    assert [point.score for point in result.points] == [point.score for point in straight.points]


def test_both_forms_of_the_network_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small(total_timesteps=3 * 512, updates=2, learning_rate=0.001, max_steps=40)
    fused = train(settings)
    monkeypatch.setattr(networks, "make", lambda policy, *_: TorchNetwork(policy))
    plain = train(settings)
    torch.testing.assert_close(plain.policy.flat, fused.policy.flat, atol=1e-3, rtol=1e-2)


def test_the_watched_policy_keeps_to_the_range(tmp_path: Path) -> None:
    train(small(action_sd=5.0, learning_rate=1e-6), checkpoint=tmp_path / "run.pt")
    game = Game("pendulum", checkpoint=tmp_path / "run.pt")
    actions = [game.step().action[0] for _ in range(100)]
    assert max(actions) == 2
    assert min(actions) == -2
    assert any(-2 < action < 2 for action in actions)


def test_deviations_of_nothing_end_by_name() -> None:
    assert train(small(action_sd=2e-5)).failure == "entropy_collapse"
    assert train(small(action_sd=1e-3, learning_rate=1e-6)).failure is None  # little, but not nothing


def test_importance_weights_are_no_collapse() -> None:
    # In minibatches of one segment the drawn one may count for many.
    kept = {"action_sd": 1e-3, "learning_rate": 1e-6, "num_envs": 64, "minibatch_size": 32}
    assert train(small(**kept, prio_alpha=2.0, updates=32)).failure is None


def test_too_many_floats_are_refused(tmp_path: Path) -> None:
    text = ocean.find("pendulum").read_text().replace("ACTION_DIM 1", "ACTION_DIM 257")
    (tmp_path / "mine.h").write_text(text)
    with pytest.raises(SettingsError, match="257 floats"):
        Settings.parse(str(tmp_path / "mine.h"), SMALL)
