"""Observations as they are learned from: of Gymnasium's environments, less their mean, by their deviation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer import train
from trainer.policy import Policy
from trainer.scales import FINEST, LARGEST, ObservationScale, observation_scale
from trainer.settings import PolicySettings, Settings, SettingsError

gymnasium = pytest.importorskip("gymnasium")
from trainer.adapter import GymnasiumVector  # noqa: E402
from trainer.play import Game  # noqa: E402

HUGE = 1e5  # what one reads where the other reads 1


class Dial(gymnasium.Env):
    """To be turned towards 0: the sign of what it shows is the action that is right."""

    def __init__(self, unit: float = 1.0, end: float = np.inf) -> None:
        self.unit = unit
        # Beside what matters, a number that never changes, and one that says nothing and is bounded.
        self.observation_space = gymnasium.spaces.Box(
            np.array([-end, -np.inf, -1], np.float32), np.array([end, np.inf, 1], np.float32)
        )
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.look(), {}

    def look(self) -> Any:
        self.shown = self.np_random.uniform(-1, 1)
        return np.array([self.unit * (self.shown + 3), 7, self.np_random.uniform(-1, 1)], np.float32)

    def step(self, action: Any) -> Any:
        right = (self.shown > 0) == (action == 1)
        self.steps += 1
        return self.look(), float(right), self.steps == 8, False, {}


gymnasium.register("Dial-v0", entry_point=Dial)
DIAL = "gymnasium:Dial-v0"


def small(**changes: Any) -> Settings:
    sizes = {"num_envs": 8, "horizon": 32, "minibatch_size": 256, "updates": 8, "total_timesteps": 20_000}
    values = {**{f"train.{name}": value for name, value in sizes.items()}, "train.eval_episodes": 50}
    return Settings.parse(DIAL, {**values, **changes})


def test_each_number_is_shifted_and_scaled_by_all_that_came_so_far() -> None:
    generator, scale = np.random.default_rng(0), ObservationScale(np.array([True, True, False]))
    came: list[np.ndarray] = []
    for size in (1, 5, 3, 200):
        raw = generator.normal((1e4, -2, 50), (300, 0.5, 20), (size, 3)).astype(np.float32)
        came.append(raw)
        obs = raw.copy()
        scale(obs)
    every = np.concatenate(came).astype(np.float64)
    expected = (raw - every.mean(0)) / every.std(0)
    expected[:, 2] = raw[:, 2]
    np.testing.assert_allclose(obs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scale.of(raw), expected, rtol=1e-4, atol=1e-5)  # and learns nothing of these
    assert scale.count == 209


def test_what_hardly_ever_changes_stays_small() -> None:
    scale = ObservationScale(np.array([True, True, True]))
    obs = np.zeros((1000, 3), np.float32)  # the last deviates by rounding alone
    obs[:, 1], obs[:, 2] = (
        5.0,
        np.random.default_rng(0).normal(1e4, 1e-2, 1000),
    )
    obs[999, 0] = 1e6
    scale(obs)
    assert np.abs(obs[:, 0]).max() == pytest.approx(LARGEST, rel=0.01)
    assert not obs[:, 1].any()
    assert 0 < np.abs(obs[:, 2]).max() < 0.1 / (1e4 * FINEST)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_one_that_is_no_number_spoils_no_other(fault: float) -> None:
    scale = ObservationScale(np.array([True, True]))
    obs = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    obs[3, 1] = fault
    scale(obs)
    spoilt = ~np.isfinite(obs)
    assert spoilt[3, 1]
    assert spoilt.sum() == 1


@pytest.mark.parametrize("unit", [1e-6, 1.0, HUGE])
def test_folded_weights_do_the_same_with_observations_as_they_are(unit: float) -> None:
    generator = np.random.default_rng(1)
    policy = Policy(3, (4,), PolicySettings(hidden=16, layers=2), torch.Generator().manual_seed(0))
    scale = ObservationScale(np.array([True, True, False]))
    raw = generator.normal((3 * unit, 0, 1), (unit, 1, 1), (64, 3)).astype(np.float32)
    changed = raw.copy()
    scale(changed)
    weights = policy.flat.clone()
    before = policy.act(torch.from_numpy(changed), None)
    policy.flat.copy_(scale.folded(policy, weights))
    after = policy.act(torch.from_numpy(raw), None)
    assert torch.equal(before[0], after[0])
    torch.testing.assert_close(before[2], after[2], rtol=1e-3, atol=1e-4)
    first = policy.weights[0].numel()
    assert torch.equal(policy.flat[first + policy.weights[1].numel() :][16:], weights[first + 16 * 16 + 16 :])


def test_of_numbers_of_any_size_as_much_is_learned() -> None:
    scores = {unit: train(small(**{"env.unit": unit}), seed=1).score for unit in (1.0, HUGE)}
    assert min(scores.values()) > 7  # of 8; by chance 4
    raw = small(**{"env.unit": HUGE, "train.normalize_observations": "none"})
    assert train(raw, seed=1).failure == "entropy_collapse"


def test_by_default_those_are_changed_whose_range_is_not_declared() -> None:
    vector = GymnasiumVector(DIAL, 1, 0, {"end": 5.0})
    assert vector.unbounded.tolist() == [False, True, False]
    assert GymnasiumVector(DIAL, 1, 0, {"end": 1000.0}).unbounded.tolist() == [True, True, False]
    assert Settings.parse(DIAL).train.normalize_observations == "unbounded"
    assert Settings.parse("cartpole").train.normalize_observations == "none"


def test_what_it_cannot_serve_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"normalize_observations: cartpole is written in C.*leave it"):
        Settings.parse("cartpole", {"train.normalize_observations": "all"})
    lake = Settings.parse("gymnasium:FrozenLake-v1", {"train.normalize_observations": "all"})
    with pytest.raises(SettingsError, match=r"FrozenLake-v1: its observations are whole numbers"):
        train(lake)
    with pytest.raises(SettingsError, match=r"'some' .* one of none, unbounded, all"):
        Settings.parse(DIAL, {"train.normalize_observations": "some"})


class Bytes(Dial):
    """Shows whole numbers, of a range that ends beyond 100."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(0, 255, (3,), np.uint8)

    def look(self) -> Any:
        self.shown = self.np_random.uniform(-1, 1)
        return np.array([255 * (self.shown > 0), 7, self.np_random.integers(200, 256)], np.uint8)


gymnasium.register("Bytes-v0", entry_point=Bytes)


def test_whole_numbers_stay_as_they_are() -> None:
    settings = Settings.parse("gymnasium:Bytes-v0")
    assert settings.train.normalize_observations == "unbounded"
    vector = GymnasiumVector(settings.env, 1, 0, {})
    assert vector.spec.obs_dtype == np.uint8
    assert observation_scale(vector, settings.train) is None


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_a_checkpoint_is_played_as_it_was_judged_and_goes_on(tmp_path: Path, average: float) -> None:
    file, changes = tmp_path / "run.pt", {"env.unit": HUGE, "train.average": average}
    result = train(small(**changes), seed=1, checkpoint=file)
    game = Game(DIAL, seed=3, checkpoint=file)
    right = sum(game.step().reward for _ in range(400))
    assert right / 400 == pytest.approx(result.score / 8, abs=0.06)
    further = train(small(**changes, **{"train.total_timesteps": 30_000}), seed=1, checkpoint=file)
    assert further.steps > result.steps
    assert further.score >= result.score - 0.5


def test_processes_and_other_devices_change_nothing() -> None:
    changes = {"train.total_timesteps": 4096, "train.average": 0.5, "train.updates": 4}
    changes["train.eval_episodes"] = 4
    one, two, emulated = (
        train(
            Settings.parse("gymnasium:CartPole-v1", {**changes, "train.env_processes": n}), 1, device=device
        )
        for n, device in ((0, "cpu"), (2, "cpu"), (0, "emulated"))
    )
    assert torch.equal(one.policy.flat, two.policy.flat)
    torch.testing.assert_close(one.policy.flat, emulated.policy.flat, rtol=0.1, atol=0.02)
