"""Squared, held against a twin in plain Python that anybody can read."""

from __future__ import annotations

import numpy as np

import ocean

MASK = 2**64 - 1
SIZE = 11


class Generator:
    """SplitMix64, as in ocean.h."""

    def __init__(self, seed: int, index: int) -> None:
        start = self.mix((seed + 0x9E3779B97F4A7C15) & MASK)
        self.state = self.mix((start + (index + 1) * 0xD1342543DE82EF95) & MASK)

    @staticmethod
    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, count: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        return ((self.mix(self.state) >> 32) * count) >> 32


class Squared:
    """One environment. `step` gives (obs, reward, terminal, truncation, final_obs or None)."""

    moves = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))

    def __init__(self, seed: int, index: int, max_steps: int = 33, fall_penalty: float = 1.0) -> None:
        self.generator = Generator(seed, index)
        self.max_steps = max_steps
        self.fall_penalty = fall_penalty

    def reset(self) -> np.ndarray:
        self.steps = 0
        self.agent = (SIZE // 2, SIZE // 2)
        cells = [(x, y) for y in range(SIZE) for x in range(SIZE) if (x, y) != self.agent]
        self.target = cells[self.generator.below(len(cells))]
        return self.observe()

    def observe(self) -> np.ndarray:
        obs = np.zeros((SIZE, SIZE), np.int8)
        obs[self.target[1], self.target[0]] = 1
        if self.on_grid():
            obs[self.agent[1], self.agent[0]] = -1
        return obs

    def on_grid(self) -> bool:
        return all(0 <= place < SIZE for place in self.agent)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, np.ndarray | None]:
        dx, dy = self.moves[action]
        self.agent = (self.agent[0] + dx, self.agent[1] + dy)
        self.steps += 1
        reached = self.agent == self.target
        terminal = reached or not self.on_grid()
        reward = 1.0 if reached else -self.fall_penalty if terminal else 0.0
        truncation = not terminal and self.steps >= self.max_steps
        if terminal or truncation:
            final = self.observe()
            return self.reset(), reward, terminal, truncation, final
        return self.observe(), reward, terminal, truncation, None


def test_the_header_does_what_the_twin_does() -> None:
    count, seed = 9, 12345
    env = ocean.Vector("squared", count, seed=seed, settings={"max_steps": 20, "fall_penalty": 0.5})
    twins = [Squared(seed, index, max_steps=20, fall_penalty=0.5) for index in range(count)]
    obs = np.empty((count, SIZE, SIZE), np.int8)
    rewards, flags = np.empty(count, np.float32), np.empty((2, count), np.uint8)
    env.reset(obs)
    np.testing.assert_array_equal(obs, [twin.reset() for twin in twins])
    ends = {"reached": 0, "fell": 0, "late": 0}
    for actions in np.random.default_rng(0).integers(0, 5, (600, count)).astype(np.int32):
        env.step(actions, obs, rewards, flags[0], flags[1])
        for i, twin in enumerate(twins):
            expected, reward, terminal, truncation, final = twin.step(int(actions[i]))
            np.testing.assert_array_equal(obs[i], expected)
            assert (rewards[i], flags[0, i], flags[1, i]) == (reward, terminal, truncation)
            if final is not None:
                np.testing.assert_array_equal(env.final_obs[i], final)
                ends["late" if truncation else "reached" if reward > 0 else "fell"] += 1
    assert min(ends.values()) > 5  # every way to end was seen


def test_walking_straight_to_the_target_solves_it() -> None:
    count = 64
    env = ocean.Vector("squared", count, seed=0)
    obs = np.empty((count, SIZE, SIZE), np.int8)
    rewards, flags = np.empty(count, np.float32), np.empty((2, count), np.uint8)
    env.reset(obs)
    for _ in range(200):
        target = obs.reshape(count, -1).argmax(1)
        agent = obs.reshape(count, -1).argmin(1)
        dx, dy = target % SIZE - agent % SIZE, target // SIZE - agent // SIZE
        sideways = np.where(dx > 0, 4, 3)
        actions = np.where(dx != 0, sideways, np.where(dy > 0, 2, 1)).astype(np.int32)
        env.step(actions, obs, rewards, flags[0], flags[1])
    log = env.log()
    assert log["score"] == 1.0
    assert log["score"] >= env.spec.solved_score
