"""The games' rules, held against plain Python that reads nothing but observations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import ocean


class Player:
    """A Vector with its buffers."""

    def __init__(self, name: str, num_envs: int, seed: int = 0, **settings: float) -> None:
        self.env = ocean.Vector(name, num_envs, seed, settings=settings)
        rows, spec = self.env.num_agents, self.env.spec
        self.obs = np.zeros((rows, *spec.obs_shape), spec.obs_dtype)
        self.rewards = np.zeros(rows, np.float32)
        self.terminals, self.truncations = np.zeros(rows, np.uint8), np.zeros(rows, np.uint8)
        self.env.reset(self.obs)

    def step(self, actions: object) -> None:
        chosen = np.ascontiguousarray(np.broadcast_to(actions, self.rewards.shape), np.int32)
        self.env.step(chosen, self.obs, self.rewards, self.terminals, self.truncations)

    def legal(self, rng: np.random.Generator) -> np.ndarray:
        """Random actions that are allowed."""
        return (rng.random(self.env.action_mask.shape) * self.env.action_mask).argmax(1)

    @property
    def seen(self) -> np.ndarray:
        """What the last step led to, before anything began anew."""
        ended = (self.terminals | self.truncations).astype(bool)
        return np.where(ended.reshape(-1, *[1] * (self.obs.ndim - 1)), self.env.final_obs, self.obs)


def slid(line: list[int]) -> tuple[list[int], list[int]]:
    """A line of 2048 slid to its front, and the tiles that were made (exponents)."""
    tiles, out, made = [tile for tile in line if tile], [], []
    while tiles:
        if len(tiles) > 1 and tiles[0] == tiles[1]:
            made.append(tiles[0] + 1)
            tiles = tiles[1:]
            tiles[0] += 1
        out.append(tiles.pop(0))
    return out + [0] * (4 - len(out)), made


def lines(board: np.ndarray, action: int) -> Iterator[np.ndarray]:
    """Views of the board's lines, each from the edge that the action slides to."""
    for i in range(4):
        yield (board[:, i], board[::-1, i], board[i], board[i, ::-1])[action]


def test_2048_slides_as_it_should() -> None:
    player, rng = Player("game2048", 8, seed=1), np.random.default_rng(0)
    largest = 0
    for _ in range(400):
        boards = player.obs.argmax(2).reshape(-1, 4, 4)
        masks = player.env.action_mask.copy()
        actions = player.legal(rng)
        player.step(actions)
        after = player.seen.argmax(2).reshape(-1, 4, 4)
        for i, board in enumerate(boards):
            moves = [
                any(slid(list(line))[0] != list(line) for line in lines(board, action)) for action in range(4)
            ]
            assert masks[i].tolist() == moves
            expected, reward = board.copy(), 0
            for line in lines(expected, actions[i]):
                line[:], made = slid(list(line))
                reward += sum(made)
            (new,) = np.flatnonzero(after[i] != expected)  # one tile that came
            assert expected.flat[new] == 0
            assert after[i].flat[new] in (1, 2)
            assert player.rewards[i] == pytest.approx(reward / 16)
            largest = max(largest, after[i].max())
            stuck = all(slid(list(line))[0] == list(line) for a in range(4) for line in lines(after[i], a))
            assert player.terminals[i] == stuck
    assert largest >= 7


def has_four(pieces: np.ndarray) -> bool:
    """Four in a row on a board [6, 7]?"""
    directions = ((0, 1), (1, 0), (1, 1), (-1, 1))
    for y, x in np.argwhere(pieces):
        for dy, dx in directions:
            cells = [(y + i * dy, x + i * dx) for i in range(4)]
            if all(0 <= a < 6 and 0 <= b < 7 and pieces[a, b] for a, b in cells):
                return True
    return False


def dropped(board: np.ndarray, who: int, column: int) -> np.ndarray:
    """A board [2, 6, 7] with one piece more."""
    board = board.copy()
    board[who, int(board[:, :, column].sum()), column] = 1
    return board


def test_connect_four_is_played_by_the_rules() -> None:
    player, rng = Player("connect4", 16, skill=1.0), np.random.default_rng(0)
    results = {-1: 0, 0: 0, 1: 0}
    blocks = 0
    for _ in range(60):
        before, masks, actions = player.obs.copy(), player.env.action_mask.copy(), player.legal(rng)
        player.step(actions)
        for i, after in enumerate(player.seen):
            open_columns = before[i].sum(axis=(0, 1)) < 6
            assert masks[i].tolist() == open_columns.tolist()
            between = dropped(before[i], 0, actions[i])
            own, other, full = has_four(between[0]), has_four(after[1]), after.sum() == 42
            assert player.rewards[i] == int(own) - int(other)
            assert player.terminals[i] == (own or other or full)
            if player.terminals[i]:
                results[int(player.rewards[i])] += 1
            if own or between.sum() == 42:
                np.testing.assert_array_equal(after, between)
                continue
            replies = [column for column in range(7) if between[:, :, column].sum() < 6]
            (reply,) = [c for c in replies if np.array_equal(dropped(between, 1, c), after)]
            wins = [c for c in replies if has_four(dropped(between, 1, c)[1])]
            threats = [c for c in replies if has_four(dropped(between, 0, c)[0])]
            assert reply in (wins or threats or replies)
            blocks += bool(threats) and not wins
    assert results[-1] > 10
    assert blocks > 10


def test_the_first_snake_meets_what_it_sees() -> None:
    """The first of each map moves before all others: its window is still true when it does."""
    player, rng = Player("snake", 6, food=512), np.random.default_rng(0)
    kinds = {"food": 0, "wall": 0, "own": 0, "other": 0, "empty": 0}
    first = np.arange(6) * 64
    heading = np.full(6, -1)
    for _ in range(600):
        food, wall, own, other = (player.obs[first, plane] for plane in range(4))
        assert (own[:, 5, 5] == 1).all()
        assert (player.obs.sum(1) <= 1).all()
        actions = rng.integers(0, 4, player.rewards.shape)
        alone = own.sum((1, 2)) == 1
        player.step(actions)
        for i, row in enumerate(first):
            action = actions[row]
            known = heading[i] >= 0 or alone[i]
            if not alone[i] and action == heading[i] ^ 1:
                action = heading[i]  # nobody turns into the own neck
            heading[i] = action
            y, x = 5 + (action == 1) - (action == 0), 5 + (action == 3) - (action == 2)
            planes = zip(("food", "wall", "own", "other"), (food, wall, own, other), strict=True)
            kind = next((name for name, plane in planes if plane[i, y, x]), "empty")
            if known:
                assert player.rewards[row] == {"food": 1, "empty": 0}.get(kind, -1)
                assert player.terminals[row] == (kind in ("wall", "own", "other"))
                kinds[kind] += 1
            if player.terminals[row] or player.truncations[row]:
                heading[i] = -1
    assert min(kinds.values()) > 0, kinds


def test_who_follows_the_ball_loses_no_point_in_pong() -> None:
    player = Player("pong", 16, paddle_speed=1000.0, frame_skip=1)
    for _ in range(6000):
        off = player.obs[:, 3] - player.obs[:, 0]
        player.step(np.where(off > 0.07, 2, np.where(off < -0.07, 1, 0)))
        assert (player.rewards >= 0).all()
    lazy = Player("pong", 16, opponent_speed=1000.0)
    for _ in range(8000):
        lazy.step(0)
    log = lazy.env.log()
    assert log["n"] > 0
    assert log["score"] == log["episode_return"] < -15


def test_a_hen_without_traffic_crosses_27_times() -> None:
    player = Player("freeway", 4, traffic=0.0, thrown_back=0)
    for _ in range(1000):
        player.step(1)
    assert player.truncations.all()
    assert player.env.log()["score"] == 27
    # Cars throw her back, and cost her the whole way.
    busy = Player("freeway", 64)
    for _ in range(1000):
        busy.step(1)
    assert 5 < busy.env.log()["score"] < 12
