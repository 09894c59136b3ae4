"""The pendulum against Gymnasium's own steps, and against its equations in double precision."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import ocean

MOST_COST = np.pi**2 + 0.1 * 8**2 + 0.001 * 2**2

# Written down from Pendulum-v1 of gymnasium 1.4.0: angle, speed, action; cosine, sine, speed, reward.
GYMNASIUM = [
    (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    (3.0, -1.0, 2.0, -0.9853639, 0.1704641, -0.59416, -9.104),
    (-1.2, 0.5, -0.7, 0.3481481, -0.9374396, -0.3040293, -1.46549),
    (3.1, 7.9, 2.0, -0.9364567, -0.3507832, 8.0, -15.855),
    (1.5, -3.0, 5.0, 0.1675956, 0.9858558, -1.9518788, -3.154),
    (-3.1, -7.95, -9.0, -0.9364567, 0.3507832, -8.0, -15.93425),
]


class Game:
    def __init__(self, count: int, seed: int = 0, settings: dict[str, float] | None = None) -> None:
        self.env = ocean.Vector("pendulum", count, seed=seed, settings=settings)
        self.obs = np.empty((count, 3), np.float32)
        self.rewards = np.empty(count, np.float32)
        self.terminals, self.truncations = np.empty((2, count), np.uint8)
        self.env.reset(self.obs)

    def step(self, actions: np.ndarray) -> None:
        given = np.asarray(actions, np.float32).reshape(-1, 1)
        self.env.step(given, self.obs, self.rewards, self.terminals, self.truncations)


@pytest.mark.parametrize("row", GYMNASIUM)
def test_a_step_is_gymnasiums(row: tuple[float, ...]) -> None:
    angle, speed, action, *expected = row
    game = Game(1)
    state = bytearray(game.env.get_state())
    # Before Env's angle and speed lie the fingerprint (32 bytes), the generator (8) and the log (32).
    struct.pack_into("ff", state, 72, angle, speed)
    game.env.set_state(state)
    game.step(np.array([action]))
    np.testing.assert_allclose([*game.obs[0], game.rewards[0] * MOST_COST], expected, atol=2e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"gravity": 3.0, "mass": 0.5, "length": 2.0, "torque": 4.0, "tau": 0.02}]
)
def test_each_step_is_the_published_one(settings: dict[str, float]) -> None:
    physics = {"gravity": 10.0, "mass": 1.0, "length": 1.0, "torque": 2.0, "tau": 0.05, **settings}
    game = Game(128, settings=settings)
    rng = np.random.default_rng(0)
    for step in range(1, 201):
        cosine, sine, speed = game.obs.astype(np.float64).T
        angle, action = np.arctan2(sine, cosine), rng.uniform(-3, 3, 128)
        taken = action.clip(-2, 2)
        cost = angle**2 + 0.1 * speed**2 + 0.001 * taken**2
        length, torque = physics["length"], taken / 2 * physics["torque"]
        push = 1.5 * physics["gravity"] / length * sine + 3 / (physics["mass"] * length**2) * torque
        speed = (speed + push * physics["tau"]).clip(-8, 8)
        angle = angle + speed * physics["tau"]
        game.step(action)
        assert (game.truncations == (step == 200)).all()
        assert not game.terminals.any()
        after = game.env.final_obs if step == 200 else game.obs
        np.testing.assert_allclose(after, np.stack([np.cos(angle), np.sin(angle), speed], 1), atol=3e-5)
        hanging = np.abs(np.abs(angle) - np.pi) < 1e-3  # either side of the turn is right
        np.testing.assert_allclose(game.rewards[~hanging] * MOST_COST, -cost[~hanging], atol=1e-4)


def test_the_score_is_gymnasiums_return() -> None:
    game, total = Game(16), np.zeros(16)
    rng = np.random.default_rng(1)
    for _ in range(200):
        game.step(rng.uniform(-2, 2, 16))
        total += game.rewards * MOST_COST
    log = game.env.log()
    assert log["n"] == 16
    assert log["score"] == pytest.approx(total.mean(), rel=1e-5)


def test_what_is_no_torque_is_taken_for_the_nearest() -> None:
    strange, plain = Game(4, seed=3), Game(4, seed=3)
    strange.step(np.array([np.inf, -np.inf, np.nan, 1e30]))
    plain.step(np.array([2, -2, -2, 2]))
    np.testing.assert_array_equal(strange.obs, plain.obs)
    np.testing.assert_array_equal(strange.rewards, plain.rewards)
