"""Breakout's rules, seen through its observations."""

from __future__ import annotations

import numpy as np
import pytest

import ocean

PADDLE_X, BALL_X, BALL_Y, VX, VY, SPEED, BALLS, SCORE, WALL = range(9)
LEFT, RIGHT = 1, 2
POINTS = np.repeat([7, 7, 4, 4, 1, 1], 18)


class Game:
    def __init__(self, count: int, **settings: float) -> None:
        self.env = ocean.Vector("breakout", count, seed=0, settings=settings)
        self.obs = np.empty((count, 118), np.float32)
        self.rewards = np.empty(count, np.float32)
        self.terminals, self.truncations = np.zeros((2, count), np.uint8)
        self.env.reset(self.obs)
        self.rng = np.random.default_rng(0)
        self.aim = np.zeros(count)

    def step(self, actions: np.ndarray) -> None:
        self.env.step(actions.astype(np.int32), self.obs, self.rewards, self.terminals, self.truncations)

    @property
    def ended(self) -> np.ndarray:
        return (self.terminals | self.truncations).astype(bool)

    def play(self) -> np.ndarray:
        """Goes to where the ball will land and aims a little beside the middle, to break loops."""
        x, y = (self.obs[:, BALL_X] + 1) * 288, (self.obs[:, BALL_Y] + 1) * 165
        speed = 256 * 1.75
        vx, vy = self.obs[:, VX] * speed, self.obs[:, VY] * speed
        falling = vy > 0
        landing = np.abs(x + vx * (306 - y) / np.where(falling, vy, 1))
        landing = np.where(landing > 576, 2 * 576 - landing, landing)
        self.aim = np.where(falling, self.aim, self.rng.uniform(-12, 12, len(self.aim)))
        way = np.where(falling, landing + self.aim - (self.obs[:, PADDLE_X] + 1) * 288, 0)
        return np.where(way > 21, RIGHT, np.where(way < -21, LEFT, 0))


def test_a_good_player_clears_both_walls_and_ends_with_864() -> None:
    game = Game(16)
    ends: list[np.ndarray] = []
    walls = set()
    for _ in range(9000):
        game.step(game.play())
        walls |= set(game.obs[:, WALL])
        if game.ended.any():
            assert not game.truncations.any()
            ends.append(game.env.final_obs[game.ended].copy())
    final = np.concatenate(ends)
    assert len(final) >= 16
    np.testing.assert_array_equal(final[:, SCORE], 1)
    np.testing.assert_array_equal(final[:, 10:], 0)
    assert walls == {0, 1}
    log = game.env.log()
    assert log["score"] == 864
    assert log["score"] >= game.env.spec.solved_score
    assert log["episode_return"] == pytest.approx(864 / 7)


def test_rewards_are_a_seventh_of_the_points_of_the_bricks_that_broke() -> None:
    game = Game(64)
    for _ in range(1500):
        before = game.obs.copy()
        game.step(game.play())
        same = ~game.ended & (game.obs[:, WALL] == before[:, WALL])
        broken = before[:, 10:] - game.obs[:, 10:]
        assert (broken[same] >= 0).all()
        np.testing.assert_allclose(game.rewards[same], (broken @ POINTS)[same] / 7, rtol=1e-6)
        gained = (game.obs[:, SCORE] - before[:, SCORE]) * 864
        np.testing.assert_allclose(gained[same], game.rewards[same] * 7, atol=1e-3)
    assert game.obs[:, SCORE].max() > 0.2


def test_five_lost_balls_end_the_game() -> None:
    game = Game(32)
    balls = [game.obs[:, BALLS].copy()]
    seen = 0
    for _ in range(2000):
        game.step(np.full(32, LEFT))  # in the corner, out of the way of nearly every ball
        if game.ended.any():
            assert (game.terminals == game.ended).all()
            np.testing.assert_array_equal(game.env.final_obs[game.ended, BALLS], 0)
            seen += int(game.ended.sum())
        balls.append(game.obs[:, BALLS].copy())
    assert seen > 32
    steps = np.diff(np.stack(balls), axis=0)
    np.testing.assert_allclose(np.unique(np.round(steps, 4)), [-0.2, 0, 0.8])


def test_upper_rows_make_the_ball_faster() -> None:
    game = Game(32)
    fastest = 0.0
    for _ in range(2000):
        game.step(game.play())
        speed = np.hypot(game.obs[:, VX], game.obs[:, VY])
        np.testing.assert_allclose(speed, game.obs[:, SPEED], rtol=1e-3)
        fastest = max(fastest, float(speed.max()))
    assert fastest == pytest.approx(1, rel=1e-4)


def test_four_ticks_in_one_step_are_four_steps_of_one_tick() -> None:
    one, four = Game(32, frame_skip=1), Game(32, frame_skip=4)
    going = np.ones(32, bool)  # until an episode ends: a step stops there
    for _ in range(300):
        actions = one.rng.integers(0, 3, 32)
        rewards = np.zeros(32)
        for _ in range(4):
            one.step(actions)
            going &= ~one.ended
            rewards += one.rewards
        four.step(actions)
        going &= ~four.ended
        np.testing.assert_array_equal(one.obs[going], four.obs[going])
        np.testing.assert_allclose(rewards[going], four.rewards[going], rtol=1e-6)


def test_rewards_keep_to_their_range_however_long_an_action_is_held() -> None:
    game = Game(64, frame_skip=16, ball_speed=400, speed_up=1.8, paddle_width=288, balls=100)
    largest = 0.0
    for _ in range(400):
        game.step(game.rng.integers(0, 3, 64))
        largest = max(largest, game.rewards.max())
    assert 4 < largest <= game.env.spec.reward_range[1]


def test_an_endless_game_is_cut_short() -> None:
    game = Game(8, max_ticks=600)
    for _ in range(150):
        assert not game.truncations.any()
        game.step(game.play())
    assert (game.truncations == 1).all()
    assert not game.terminals.any()
    assert game.env.log()["episode_length"] == 150
