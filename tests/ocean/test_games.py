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


def test_connect_four_against_oneself_turns_the_board_after_each_move() -> None:
    player, rng = Player("connect4", 16, self_play=1), np.random.default_rng(0)
    own, other = player.obs.sum((2, 3)).T
    assert len(set(own + other)) > 4  # as many moves at random came before
    assert set(other - own) == {0, 1}
    wins = 0
    for _ in range(60):
        before, actions = player.obs.copy(), player.legal(rng)
        player.step(actions)
        for i, after in enumerate(player.seen):
            moved = dropped(before[i], 0, actions[i])
            won, full = has_four(moved[0]), moved.sum() == 42
            assert player.rewards[i] == won  # the loser's -1 is the same thing from the other side
            assert player.terminals[i] == (won or full)
            np.testing.assert_array_equal(after, moved if won or full else moved[::-1])
            assert not has_four(player.obs[i, 0])
            assert not has_four(player.obs[i, 1])
            assert player.env.action_mask[i].tolist() == (player.obs[i].sum(axis=(0, 1)) < 6).tolist()
            wins += won
    assert wins > 10


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


TETROMINOES = ["####", "## ##", "### .#.", ".## ##.", "##. .##", "#.. ###", "..# ###"]
TURNED = [
    [np.rot90([[sign == "#" for sign in row] for row in piece.split()], -turn) for turn in range(4)]
    for piece in TETROMINOES
]


def landed(well: np.ndarray, piece: np.ndarray, column: int) -> np.ndarray | None:
    """A well [20, 10] with a piece dropped into it from above, or None where it has no room."""
    height, width = piece.shape
    if column + width > 10:
        return None
    well = np.concatenate([np.zeros((4, 10), bool), well])
    row = 0
    while row + height < 24 and not (well[row + 1 : row + 1 + height, column : column + width] & piece).any():
        row += 1
    well[row : row + height, column : column + width] |= piece
    return None if well[:4].any() else well[4:]


def outline(well: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights of the columns, and the holes in each."""
    heights = np.where(well.any(0), 20 - well.argmax(0), 0)
    return heights, heights - well.sum(0)


def test_tetris_is_played_by_the_rules() -> None:
    player, rng = Player("tetris", 4, seed=2), np.random.default_rng(0)
    wells = np.zeros((4, 20, 10), bool)
    rows, deaths = 0, 0
    for _ in range(150):
        before, masks, actions = player.obs.copy(), player.env.action_mask.copy(), player.legal(rng)
        # Half of them play well, by what the observation promises of every place.
        depths, holes, full = before[:2, 34:].reshape(2, 3, 40).swapaxes(0, 1)
        actions[:2] = np.where(masks[:2], depths - 5 * holes + full, -99).argmax(1)
        player.step(actions)
        for i, seen in enumerate(player.seen):
            piece, following = before[i, 20:27].argmax(), before[i, 27:34].argmax()
            places = [landed(wells[i], TURNED[piece][a // 10], a % 10) for a in range(40)]
            looks = [TURNED[piece][turn].tolist() for turn in range(4)]
            new = [looks.index(look) == turn for turn, look in enumerate(looks)]
            assert masks[i].tolist() == [places[a] is not None and new[a // 10] for a in range(40)]
            well = places[actions[i]]
            assert well is not None
            holes = outline(well)[1].sum() - outline(wells[i])[1].sum()
            full = well.all(1)
            wells[i] = np.concatenate([np.zeros((full.sum(), 10), bool), well[~full]])
            rows += full.sum()
            assert seen[20:27].argmax() == following
            np.testing.assert_allclose(seen[:20] * 20, np.concatenate(outline(wells[i])))
            over = all(landed(wells[i], shape, c) is None for shape in TURNED[following] for c in range(10))
            assert player.terminals[i] == over
            reward = -1 if over else full.sum() / 4 - 0.1 * min(holes, 5)
            assert player.rewards[i] == pytest.approx(reward)
            if over:
                deaths += 1
                wells[i] = False
    assert rows > 50
    assert deaths > 5


UP, DOWN, LEFT, RIGHT, STRIKE = range(1, 6)
WAYS = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}


def test_in_the_wilds_the_first_agent_walks_and_eats_as_it_sees() -> None:
    """It moves before all others: its window is still true when it does."""
    player, rng = Player("wilds", 6, plants=512), np.random.default_rng(0)
    met = {"plant": 0, "stone": 0, "water": 0, "other": 0, "grass": 0}
    for _ in range(400):
        before = player.obs[::64].copy()
        actions = rng.integers(UP, STRIKE, player.rewards.shape)
        player.step(actions)
        for i, row in enumerate(range(0, 6 * 64, 64)):
            dy, dx = WAYS[actions[row]]
            planes = before[i, : 5 * 81].reshape(5, 9, 9)
            kind = next(
                (name for name, plane in zip(met, planes, strict=False) if plane[4 + dy, 4 + dx]), "grass"
            )
            met[kind] += 1
            moved = kind in ("plant", "grass")
            # Stones and water stay where they are: the window moves over them, or not.
            y, x = (dy, dx) if moved else (0, 0)
            after = player.seen[row, : 5 * 81].reshape(5, 9, 9)
            fixed, then = (np.pad(seen[1:3], ((0, 0), (1, 1), (1, 1))) for seen in (planes, after))
            np.testing.assert_array_equal(fixed[:, 2 + y : 9 + y, 2 + x : 9 + x], then[:, 2:9, 2:9])
            thirst = before[i, -10:].sum()
            if kind == "plant":
                assert player.seen[row, -20:-10].all()  # as good as full
            elif not after[2, [3, 5, 4, 4], [4, 4, 3, 5]].any():
                assert player.rewards[row] in (0, -1)
            elif thirst < 10 and not player.terminals[row]:
                assert player.rewards[row] > 0
    assert min(met.values()) > 0, met


def test_in_the_wilds_a_blow_hits_all_neighbours_and_what_they_had_is_taken() -> None:
    player = Player("wilds", 64, damage=10, effort=30, store=60, ponds=1, plants=1)
    neighbours = player.obs[::64, 3 * 81 : 4 * 81].reshape(64, 9, 9)[:, [3, 5, 4, 4], [4, 4, 3, 5]].sum(1)
    actions = np.zeros(player.rewards.shape, int)
    actions[::64] = STRIKE
    player.step(actions)
    killed = player.terminals.reshape(64, 64).sum(1)
    np.testing.assert_array_equal(killed, neighbours)
    assert killed.sum() > 3
    # What the effort has cost, 30 of 60 of each, one neighbour's full stores make up for.
    rewards = player.rewards[::64]
    assert (rewards[neighbours > 0] >= 1).all()
    assert (rewards[neighbours == 0] <= 0.5).all()  # nothing, or a drink
    assert (player.rewards[player.terminals == 1] == -1).all()


def test_in_the_wilds_nobody_rises_from_the_dead() -> None:
    """A blow takes all ten points of health: who is seen is either well or new, never healed from 0 to 1."""
    player, rng = Player("wilds", 16, damage=10, effort=0, store=1000), np.random.default_rng(0)
    deaths = 0
    for _ in range(60):
        player.step(rng.integers(UP, STRIKE + 1, player.rewards.shape))
        deaths += int(player.terminals.sum())
        assert player.obs[:, 5 * 81 : 5 * 81 + 10].all()
    assert deaths > 100


def test_in_the_wilds_who_does_nothing_starves_in_time() -> None:
    player = Player("wilds", 4, store=20)
    for step in range(29):
        assert not player.terminals.any(), step
        player.step(0)
    assert player.terminals.all()
    log = player.env.log()
    assert (log["score"], log["kills"], log["n"]) == (29, 0, 256)
