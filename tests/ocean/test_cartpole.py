"""Cart-pole against the published equations in double precision, written apart from the header."""

from __future__ import annotations

import numpy as np
import pytest

import ocean

STANDARD = {
    "gravity": 9.8,
    "cart_mass": 1.0,
    "pole_mass": 0.1,
    "half_length": 0.5,
    "force": 10.0,
    "tau": 0.02,
}
THETA_LIMIT = 12 * 2 * np.pi / 360


def equations(state: np.ndarray, action: np.ndarray, physics: dict[str, float]) -> np.ndarray:
    """One Euler step of CartPole-v1 from `state` [n, 4] in double precision."""
    x, x_dot, theta, theta_dot = np.asarray(state, np.float64).T
    mass = physics["cart_mass"] + physics["pole_mass"]
    moment = physics["pole_mass"] * physics["half_length"]
    force = np.where(action == 1, physics["force"], -physics["force"])
    temp = (force + moment * np.square(theta_dot) * np.sin(theta)) / mass
    theta_acc = (physics["gravity"] * np.sin(theta) - np.cos(theta) * temp) / (
        physics["half_length"] * (4 / 3 - physics["pole_mass"] * np.square(np.cos(theta)) / mass)
    )
    x_acc = temp - moment * theta_acc * np.cos(theta) / mass
    tau = physics["tau"]
    return np.stack(
        [x + tau * x_dot, x_dot + tau * x_acc, theta + tau * theta_dot, theta_dot + tau * theta_acc], 1
    )


class Game:
    def __init__(self, count: int, seed: int = 0, settings: dict[str, float] | None = None) -> None:
        self.env = ocean.Vector("cartpole", count, seed=seed, settings=settings)
        self.obs = np.empty((count, 4), np.float32)
        self.rewards = np.empty(count, np.float32)
        self.terminals, self.truncations = np.empty((2, count), np.uint8)
        self.env.reset(self.obs)

    def step(self, actions: np.ndarray) -> None:
        self.env.step(actions.astype(np.int32), self.obs, self.rewards, self.terminals, self.truncations)

    def balance(self) -> np.ndarray:
        """A hand-made controller that never falls."""
        return self.obs @ np.array([0.5, 1.0, 10.0, 2.0], np.float32) > 0


def test_the_constants_are_those_of_cartpole_v1() -> None:
    settings = ocean.settings("cartpole")
    assert {name: settings[name].default for name in STANDARD} == STANDARD
    assert settings["max_steps"].default == 500
    assert ocean.spec("cartpole").solved_score == 475


@pytest.mark.parametrize(
    "physics",
    [
        STANDARD,
        {**STANDARD, "gravity": 3.7, "force": 5.0},
        {"gravity": 20.0, "cart_mass": 2.0, "pole_mass": 0.5, "half_length": 1.5, "force": 15.0, "tau": 0.01},
    ],
)
def test_each_step_is_the_published_one(physics: dict[str, float]) -> None:
    game = Game(256, settings=physics)
    rng = np.random.default_rng(0)
    ends = 0
    for step in range(600):
        # Half of them balance, so that carts far from the middle and fast ones are seen as well.
        actions = np.where(np.arange(256) % 2 == 0, rng.integers(0, 2, 256), game.balance())
        expected = equations(game.obs, actions, physics)
        game.step(actions)
        terminal = game.terminals.astype(bool)
        ended = terminal | game.truncations.astype(bool)
        after = np.where(ended[:, None], game.env.final_obs, game.obs)
        np.testing.assert_allclose(after, expected, atol=1e-5, rtol=1e-6)
        limits = np.array([2.4, THETA_LIMIT])
        margin = (np.abs(expected[:, [0, 2]]) - limits).max(1)
        clear = np.abs(margin) > 1e-5  # nearer than rounding, either answer is right
        np.testing.assert_array_equal(terminal[clear], margin[clear] > 0, err_msg=f"step {step}")
        assert (np.abs(game.obs[ended]) <= 0.05).all()
        assert (game.rewards == 1).all()
        ends += int(ended.sum())
    assert ends > 256


def test_first_states_fill_their_range_evenly() -> None:
    first = Game(20000).obs
    assert np.abs(first).max() <= 0.05
    np.testing.assert_allclose(first.mean(0), 0, atol=0.001)
    np.testing.assert_allclose(first.std(0), 0.1 / np.sqrt(12), rtol=0.03)
    correlation = np.corrcoef(first.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.03


def test_a_balanced_pole_is_cut_short_after_500_steps() -> None:
    game = Game(32)
    for step in range(1, 501):
        game.step(game.balance())
        assert not game.terminals.any()
        assert (game.truncations == (step == 500)).all()
    log = game.env.log()
    assert log["n"] == 32
    assert log["score"] == log["episode_return"] == log["episode_length"] == 500
