"""Gymnasium's environments by name: spaces, ends of episodes, what is refused, training."""

from __future__ import annotations

import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

import ocean
from trainer import train
from trainer.settings import Settings, SettingsError

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces
from sweeper.cli import main  # noqa: E402
from trainer import environments  # noqa: E402
from trainer.adapter import GymnasiumVector  # noqa: E402
from trainer.play import Game  # noqa: E402
from trainer.scales import ActionScale  # noqa: E402

CARTPOLE = "gymnasium:CartPole-v1"


class Counter(gymnasium.Env):
    """Counts its steps, and remembers what it was given: its end comes as its actions ask for it."""

    given: list[Any] = []  # noqa: RUF012
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    def __init__(
        self,
        render_mode: str | None = None,
        actions: Any = None,
        observations: Any = None,
        shown: Any = None,
        first: int = 0,
        reward_shape: tuple[int, ...] | None = None,
        rewards: Any = None,
        info: Any = MappingProxyType({}),
        sleep: float = 0.0,
    ) -> None:
        self.render_mode = render_mode
        self.action_space = actions or spaces.Discrete(4)
        self.observation_space = observations or spaces.Box(0, 1000, (1,), np.float64)
        self.shown, self.first, self.reward_shape = shown, first, reward_shape
        self.rewards, self.info, self.sleep = rewards, info, sleep

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = self.first + int(self.np_random.integers(0, 900))
        return self.look(), self.info

    def look(self) -> Any:
        return np.array([self.count], np.float64) if self.shown is None else self.shown

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.given.append(action)
        self.count += 1
        time.sleep(self.sleep)
        terminal, truncated = (
            (bool(action & 1), bool(action & 2)) if isinstance(action, int) else (True, False)
        )
        reward = 0.5 * self.count
        if self.reward_shape is not None:
            reward = np.full(self.reward_shape, reward)
        if self.rewards is not None:
            reward = self.rewards
        return self.look(), reward, terminal, truncated, {}

    def render(self) -> str:
        return f"at {self.count}"


gymnasium.register("Counter-v0", entry_point=Counter)
gymnasium.register("Needy-v0", entry_point="no_such_module:Needy")
gymnasium.register("Vectors-v0", vector_entry_point="no_such_module:Vectors")


def make(name: str = "Counter-v0", count: int = 4, seed: int = 0, **settings: Any) -> Any:
    """A vector with its buffers, begun."""
    env = environments.make(f"gymnasium:{name}", count, seed, 1, settings)
    assert isinstance(env, GymnasiumVector)
    rows = (np.zeros((count, *env.spec.obs_shape), env.spec.obs_dtype), np.zeros(count, np.float32))
    buffers = (*rows, *np.full((2, count), 7, np.uint8))
    env.reset(buffers[0])
    return env, buffers


def test_an_end_begins_the_next_episode_and_keeps_the_last_observation() -> None:
    env, buffers = make()
    obs, rewards, terminals, truncations = buffers
    before = obs.copy()
    env.step(np.array([[0], [1], [2], [3]], np.int32), *buffers)
    assert terminals.tolist() == [0, 1, 0, 1]  # what is both is terminal
    assert truncations.tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(rewards, 0.5 * (before[:, 0] + 1))
    np.testing.assert_array_equal(env.final_obs[1:], before[1:] + 1)
    assert obs[0] == before[0] + 1
    assert (obs[1:] != before[1:] + 1).any()
    only = np.array([False, True, False, False])
    assert env.log(only) == {
        "score": rewards[1],
        "episode_return": rewards[1],
        "episode_length": 1,
        "n": 1,
    }
    assert env.log() == {
        "score": rewards[2:].mean(),
        "episode_return": rewards[2:].mean(),
        "episode_length": 1,
        "n": 2,
    }
    assert env.log()["n"] == 0


@pytest.mark.parametrize(
    "kind", [lambda flag: 300 * flag, lambda flag: np.array([flag]), lambda flag: flag or None]
)
def test_an_end_may_be_of_any_kind_that_is_true(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Counter.step

    def given(self: Counter, action: Any) -> Any:
        obs, reward, terminal, truncated, info = step(self, action)
        return obs, reward, kind(terminal), kind(truncated), info

    monkeypatch.setattr(Counter, "step", given)
    env, buffers = make()
    env.step(np.array([[0], [1], [2], [3]], np.int32), *buffers)
    assert buffers[2].tolist() == [0, 1, 0, 1]
    assert buffers[3].tolist() == [0, 0, 1, 0]


def test_a_reward_may_be_an_array_of_one_number() -> None:
    env, buffers = make(reward_shape=(1,))
    env.step(np.array([[0], [1], [2], [3]], np.int32), *buffers)
    assert (buffers[1] > 0).all()
    assert env.log()["score"] == pytest.approx(buffers[1][1:].mean())
    env, buffers = make(reward_shape=(2,))
    with pytest.raises(SettingsError, match=r"reward of shape \(2,\)"):
        env.step(np.zeros((4, 1), np.int32), *buffers)


@pytest.mark.parametrize("rewards", ["much", [1.0], [1.0, 2.0], Decimal(1), {}])
def test_a_reward_that_is_no_number_is_refused(rewards: Any) -> None:
    env, buffers = make(rewards=rewards)
    with pytest.raises(SettingsError, match=r"its step\(\) rewards .*\n*.*return one number"):
        env.step(np.zeros((4, 1), np.int32), *buffers)


@pytest.mark.parametrize(
    ("space", "shown"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), np.array([3, 300])),  # a byte of it is 44
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 0.9])),  # scaled by itself: whole, it is 0
        (spaces.Box(0, 10, (1,), np.int64), np.array([-3])),
        (spaces.Box(-1, 1, (3,), np.float32), np.array([0.5])),
        (spaces.Discrete(4), -1),  # Gymnasium's flatten takes it for 3
        (spaces.Discrete(4), 7),
        (spaces.MultiDiscrete([3, 4]), np.array([3, 1])),  # and 3 for the second number's 0
        (
            spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0, 255, (1,), np.uint8)}),
            {"a": 1, "b": [300]},
        ),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (1,))]), (-1, np.zeros(1, np.float32))),
        (spaces.Dict({"a": spaces.Discrete(2)}), {}),
    ],
)
def test_an_observation_that_does_not_fit_its_space_is_refused(space: Any, shown: Any) -> None:
    with pytest.raises(SettingsError, match=r"it observes .*does not fit .*observation_space"):
        make(observations=space, shown=shown)


def test_a_reset_without_a_dict_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"its reset\(\) gives no pair of an observation and a dict"):
        make(info=None)


def test_a_reset_as_gym_had_it_is_refused_for_all_actions_and_later_resets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    floats = spaces.Box(-1, 1, (1,), np.float32)
    pair = spaces.Box(0, 1000, (2,), np.float64)  # two numbers alone are no observation and its `info`
    env, buffers = make(actions=floats, observations=pair, shown=np.ones(2))
    monkeypatch.setattr(Counter, "reset", lambda self, seed=None, options=None: np.ones(2))
    with pytest.raises(SettingsError, match=r"its reset\(\) gives no pair of an observation and a dict"):
        env.step(np.zeros((4, 1), np.float32), *buffers)
    with pytest.raises(SettingsError, match=r"its reset\(\) gives no pair of an observation and a dict"):
        make(actions=floats, observations=pair, shown=np.ones(2))
    monkeypatch.setattr(Counter, "step", lambda self, action: None)
    with pytest.raises(SettingsError, match=r"its step\(\) gives NoneType, not 5 things"):
        env.step(np.zeros((4, 1), np.float32), *buffers)


def test_a_step_of_four_things_as_gym_had_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counter, "step", lambda self, action: (self.look(), 0.0, False, {}))
    env, buffers = make()
    with pytest.raises(SettingsError, match=r"its step\(\) gives 4 things.*terminated, truncated, info"):
        env.step(np.zeros((4, 1), np.int32), *buffers)


def test_an_environment_that_waits_is_charged_for_it() -> None:
    settings = {
        "train.total_timesteps": 64,
        "train.num_envs": 1,
        "train.horizon": 8,
        "train.minibatch_size": 8,
        "train.eval_episodes": 1,
    }
    waits = Settings.parse("gymnasium:Counter-v0", {**settings, "env.sleep": 0.01})
    assert train(waits, seed=0).seconds > 0.64


def test_seed_and_index_alone_decide() -> None:
    first = [make(count=count, seed=seed)[1][0][:, 0] for count, seed in ((5, 1), (3, 1), (5, 2))]
    np.testing.assert_array_equal(first[0][:3], first[1])
    assert (first[0] != first[2]).any()
    assert len(set(first[0])) > 1


def test_max_episode_steps_truncates() -> None:
    env, buffers = make(max_episode_steps=3)
    for step in range(1, 7):
        env.step(np.zeros((4, 1), np.int32), *buffers)
        assert (buffers[3] == (step % 3 == 0)).all()
        assert not buffers[2].any()


@pytest.mark.parametrize(
    ("space", "sizes", "range_", "ours", "theirs"),
    [
        (spaces.Discrete(3, start=5), (3,), (), [2], 7),
        (spaces.MultiDiscrete([2, 5]), (2, 5), (), [1, 4], [1, 4]),
        (spaces.MultiDiscrete([2, 5], start=[3, -1]), (2, 5), (), [1, 4], [4, 3]),
        (spaces.MultiBinary(3), (2, 2, 2), (), [1, 0, 1], [1, 0, 1]),
        (
            spaces.Box(np.array([-2, 0]), np.array([2, 9]), dtype=np.float64),
            (),
            ((-2, 2), (0, 9)),
            [1.5, 3],
            [1.5, 3],
        ),
        (spaces.Box(-1, 1, (2, 1)), (), ((-1, 1), (-1, 1)), [-1, 0.5], [[-1], [0.5]]),
    ],
    ids=str,
)
def test_every_action_space_is_served(space: Any, sizes: Any, range_: Any, ours: Any, theirs: Any) -> None:
    env, buffers = make(count=1, actions=space)
    assert (env.spec.action_sizes, env.spec.action_range) == (sizes, range_)
    Counter.given.clear()
    env.step(np.array([ours], env.spec.action_dtype), *buffers)
    (given,) = Counter.given
    np.testing.assert_array_equal(given, theirs)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_ends_of_a_range_lie_in_the_space(dtype: type) -> None:
    space = spaces.Box(np.array([-0.1, -np.inf]), np.array([0.1, 0.3]), dtype=dtype)
    env, buffers = make(count=2, actions=space)
    Counter.given.clear()
    env.step(ActionScale(env.spec, 2)(np.array([[-9, 9], [9, -9]], np.float32)), *buffers)
    assert all(space.contains(given) for given in Counter.given)
    assert len(Counter.given) == 2


@pytest.mark.parametrize(
    ("space", "shown", "dtype", "seen"),
    [
        (spaces.Box(-1, 1, (2, 2), np.float64), np.array([[0.5, 1], [-1, 0]]), np.float32, [0.5, 1, -1, 0]),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([255, 3], np.uint8), np.uint8, [255, 3]),
        (spaces.Box(-5, 5, (2,), np.int64), np.array([-5, 3]), np.int8, [-5, 3]),
        (spaces.Box(0, 1 << 20, (1,), np.int64), np.array([1 << 20]), np.int32, [1 << 20]),
        (spaces.Box(0, 1 << 40, (1,), np.int64), np.array([1 << 40]), np.float32, [1 << 40]),
        (spaces.Discrete(3, start=4), 5, np.uint8, [0, 1, 0]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 0]), np.uint8, [0, 1, 1, 0, 0]),
        (
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-9, 9, (1,))),
            {"a": 1, "b": [2.5]},
            np.float32,
            [0, 1, 2.5],
        ),
    ],
    ids=str,
)
def test_every_observation_space_is_flattened(space: Any, shown: Any, dtype: type, seen: list) -> None:
    env, buffers = make(count=1, observations=space, shown=shown)
    assert buffers[0].dtype == dtype
    np.testing.assert_array_equal(buffers[0][0], np.array(seen, dtype))
    env.step(np.ones((1, 1), np.int32), *buffers)
    np.testing.assert_array_equal(env.final_obs[0], np.array(seen, dtype))


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("gymnasium:CartPole-v9", "version `v9`"),
        ("gymnasium:NoSuch-v0", "doesn't exist"),
        ("gymnasium:no_such_module:NoSuch-v0", "No module named 'no_such_module'; .* set PYTHONPATH"),
        ("gymnasium:", "write gymnasium:NAME-v1"),
        ("gymnasium:Needy-v0", "No module named 'no_such_module'; install what it needs"),
        ("gymnasium:Vectors-v0", "as a vector alone"),
    ],
)
def test_an_unknown_name_is_refused(env: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as error:
        Settings.parse(env)
    assert error.value.key == "env"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"actions": spaces.Box(0, 5, (1,), np.int32)},
            r"action space Box\(0, 5, \(1,\), int32\) is not served",
        ),
        ({"observations": spaces.Box(0, 1, (0,))}, r"observation space .*\(0,\).* has no numbers"),
        (
            {"actions": spaces.Tuple([spaces.Discrete(2)])},
            r"action space Tuple\(Discrete\(2\)\) is not served",
        ),
        ({"observations": spaces.Sequence(spaces.Discrete(2))}, "observation space Sequence"),
        ({"max_episode_steps": 0}, r"ValueError.*mend env\.max_episode_steps=0"),
    ],
    ids=str,
)
def test_spaces_that_are_not_served_are_named(settings: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make(**settings)


def test_keywords_are_settings() -> None:
    settings = Settings.parse("gymnasium:Pendulum-v1", {"env.g": 1.0})
    assert settings.env_settings == {"g": 1.0}
    assert Settings.resolve("g", "gymnasium:Pendulum-v1") == "env.g"
    with pytest.raises(SettingsError, match=r"env\.gg: no such setting; did you mean 'env\.g'"):
        Settings.parse("gymnasium:Pendulum-v1", {"env.gg": 1.0})
    env, _ = make("Pendulum-v1", g=1.0)
    assert env._envs[0].unwrapped.g == 1.0


def test_ours_are_gymnasiums() -> None:
    """Cart-pole and pendulum, both sides begun in the same states and given the same actions."""
    for name, other in (("cartpole", "CartPole-v1"), ("pendulum", "Pendulum-v1")):
        ours = ocean.Vector(name, 32, seed=1)
        theirs, buffers = make(other, count=32)
        rows = [np.zeros_like(buffer) for buffer in buffers]
        ours.reset(rows[0])
        for env, first in zip(theirs._envs, rows[0].astype(np.float64), strict=True):
            state = first if name == "cartpole" else np.array([np.arctan2(first[1], first[0]), first[2]])
            env.unwrapped.state = state
        going = np.ones(32, bool)
        factor = 1.0 if name == "cartpole" else np.pi**2 + 6.4 + 0.004
        for actions in ours.spec.random_actions(np.random.default_rng(0), 30, 32):
            ours.step(actions, *rows)
            theirs.step(actions, *buffers)
            np.testing.assert_allclose(rows[1][going] * factor, buffers[1][going], atol=2e-3)
            np.testing.assert_array_equal(rows[2][going], buffers[2][going])
            going &= rows[2] == 0
            np.testing.assert_allclose(rows[0][going], buffers[0][going], atol=2e-3)
        assert going.any()


def small(**changes: Any) -> Settings:
    values = {"train.total_timesteps": 4096, "train.curve_points": 2, "train.eval_episodes": 5}
    return Settings.parse(CARTPOLE, {**values, **changes})


def test_one_seed_is_one_result() -> None:
    first, second, other = (train(small(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.policy.flat, second.policy.flat)
    assert not torch.equal(first.policy.flat, other.policy.flat)
    assert [point.score for point in first.points] == [point.score for point in second.points]


def test_evaluation_sees_and_does_what_training_does() -> None:
    settings = small(**{"eval_env.max_episode_steps": 5})
    assert train(settings).score == 5
    values = {"train.total_timesteps": 2048, "eval_env.actions": spaces.Discrete(3)}
    with pytest.raises(SettingsError, match=r"eval_env: .* action_sizes is \(3,\), in training \(4,\)"):
        train(Settings.parse("gymnasium:Counter-v0", values))


def test_a_policy_that_breaks_gives_an_environment_numbers_still() -> None:
    """Some simulators end the process at what is none. Counter's own assertion looks at every action."""
    gymnasium.register("Arms-v0", entry_point=lambda **_: Counter(actions=spaces.Box(-1, 1, (2,))))
    Counter.given.clear()
    changes = {"train.learning_rate": 1e38, "train.updates": 1, "train.total_timesteps": 256}
    changes |= {"train.num_envs": 4, "train.horizon": 16, "train.minibatch_size": 64}
    assert train(Settings.parse("gymnasium:Arms-v0", changes)).failure == "diverged"
    assert (np.array(Counter.given) == 0).all(1).any()  # what was none


def test_a_lake_is_crossed() -> None:
    changes = {"env.is_slippery": False, "train.total_timesteps": 40_000, "train.eval_episodes": 10}
    assert train(Settings.parse("gymnasium:FrozenLake-v1", changes), seed=0).score == 1.0


def test_pendulum_is_learned() -> None:
    changes = {"train.reward_scale": 0.1, "train.gamma": 0.95, "train.total_timesteps": 100_000}
    result = train(Settings.parse("gymnasium:Pendulum-v1", {**changes, "train.eval_episodes": 20}), seed=0)
    assert result.score > -700  # by chance it is -1200


def test_with_the_policy_on_a_gpu_they_are_stepped_here_in_processes_or_not() -> None:
    one, other = (train(small(**{"train.env_processes": n}), 1, device="emulated") for n in (0, 2))
    assert torch.equal(one.policy.flat, other.policy.flat)
    assert one.profile["env"] > 0


def test_a_checkpoint_continues_with_new_episodes(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    stopped = train(small(), should_stop=lambda: True, checkpoint=file)
    assert stopped.steps == 2048
    result = train(small(), checkpoint=file)
    assert result.steps == 4096
    game = Game(CARTPOLE, checkpoint=file)
    while not game.step().terminal:
        pass
    assert game.env.log()["n"] == 1


def test_what_can_be_drawn_as_text_is() -> None:
    game = Game("gymnasium:Counter-v0", seed=1)
    assert game.env.render() == f"at {int(game.obs[0, 0])}"


def sweep(*words: str, code: int = 0) -> None:
    """One command in this process; its exit code is asserted."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == code


def test_a_name_is_an_environment_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--set=total_timesteps=2048", "--set=eval_episodes=5"]
    sweep("train", CARTPOLE, *sizes, "--set=env.sutton_barto_reward=true")
    assert "score    -1" in capsys.readouterr().out  # its one reward is at the end
    sweep("play", CARTPOLE, "--steps", "3")
    assert "step 3: action" in capsys.readouterr().out
    sweep("train", "gymnasium:Cartpole-v1", code=2)
    assert "Did you mean: `CartPole`" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_told_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    sweep("play", CARTPOLE, "--steps", "2")
    assert "it has no render mode 'ansi': there is no picture" in capsys.readouterr().out
    sweep("play", CARTPOLE, "--gif", "film.gif", code=2)
    assert "CartPole-v1 has no render mode 'ansi'" in capsys.readouterr().err


def test_a_name_is_an_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (
        "objective: {train: gymnasium:Pendulum-v1}\nbudget: {trials: 1}\nfixed: {train.eval_episodes: 5}\n"
        "parameters:\n  train.total_timesteps: {distribution: log, type: int, min: 2048, max: 4096}\n"
        "  env.g: {distribution: linear, min: 1, max: 9, start: 3}\n"
    )
    (tmp_path / "wrong.yaml").write_text(config.replace("env.g", "env.gg"))
    sweep("check", str(tmp_path / "wrong.yaml"), code=2)
    assert "did you mean 'env.g'" in capsys.readouterr().err
    (tmp_path / "sweep.yaml").write_text(config)
    command = [sys.executable, "-P", "-m", "sweeper.cli", "run", "sweep.yaml", "--set", "workers.count=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "env.g: 3" in done.stdout


DOORS = """
import os
import gymnasium
import numpy as np


class Doors(gymnasium.Env):
    action_space, observation_space = gymnasium.spaces.Discrete(4, start=10), gymnasium.spaces.Discrete(4)

    def __init__(self, mask="right", step="right"):
        self.mask, self.step_does = mask, step

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.turn()

    def turn(self):
        self.locked = int(self.np_random.integers(4))
        mask = np.arange(4) != self.locked
        shown = {"short": mask[:3], "none open": mask & False, "gone": None if self.steps else mask}
        return self.locked, {"action_mask": shown.get(self.mask, mask)}

    def step(self, action):
        assert action - 10 != self.locked, "a locked door was taken"
        if self.step_does == "die":
            os._exit(3)
        if self.step_does == "raise":
            raise ZeroDivisionError("no such door")
        right = action - 10 == (self.locked + 1) % 4
        self.steps += 1
        obs, info = self.turn()
        return obs, float(right), self.steps == 5, False, info


gymnasium.register("Doors-v0", entry_point=Doors)
"""


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Behind the door that follows the locked one lies 1; five times."""
    (tmp_path / "doors_of_a_test.py").write_text(DOORS)
    monkeypatch.syspath_prepend(tmp_path)
    return "gymnasium:doors_of_a_test:Doors-v0"


def vector(env: str, count: int, processes: int = 0, **settings: Any) -> Any:
    made = environments.make(env, count, 3, 1, settings, processes)
    return made, (
        np.zeros((count, *made.spec.obs_shape), made.spec.obs_dtype),
        np.zeros(count, np.float32),
        *np.full((2, count), 7, np.uint8),
    )


def allowed(env: Any, rng: np.random.Generator) -> Any:
    """Random actions that the masks allow."""
    return (rng.random(env.action_mask.shape) * env.action_mask).argmax(1).astype(np.int32)[:, None]


def test_an_action_mask_is_honoured(doors: str) -> None:
    env, buffers = vector(doors, 6)
    rng = np.random.default_rng(0)
    assert env.spec.masked
    env.reset(buffers[0])
    for _ in range(12):  # over the ends of episodes, too
        np.testing.assert_array_equal(env.action_mask, 1 - buffers[0])
        env.step(allowed(env, rng), *buffers)
    changes = {"train.total_timesteps": 20_000, "train.eval_episodes": 40}
    assert train(Settings.parse(doors, changes), seed=0).score > 4  # by chance 1.7; a locked door raises


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("short", "not a number for each of 4 choices"),
        ("none open", "forbids every choice"),
        ("gone", r"info\['action_mask'\] is None, not a number"),
    ],
)
@pytest.mark.parametrize("processes", [0, 1])
def test_an_action_mask_that_is_none_is_refused(doors: str, mask: str, words: str, processes: int) -> None:
    env, buffers = vector(doors, 2, processes, mask=mask)
    with pytest.raises(SettingsError, match=words):  # noqa: PT012
        env.reset(buffers[0])
        env.step(allowed(env, np.random.default_rng(0)), *buffers)
    env.close()


def test_processes_change_nothing(doors: str) -> None:
    rng, kept = np.random.default_rng(0), ("final_obs", "action_mask")
    (one, ours), (other, theirs) = vector(doors, 5), vector(doors, 5, processes=2)
    for begin in range(2):
        if begin:
            assert one.get_state() == other.get_state()
            one.set_state(one.get_state())
            other.set_state(other.get_state())
        one.reset(ours[0])
        other.reset(theirs[0])
        for step in range(12):
            actions = allowed(one, rng)
            one.step(actions, *ours)
            other.step(actions, *theirs)
            for name in kept:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            for mine, yours in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(mine, yours)
            if step in (6, 11):
                assert one.log() == other.log()
    other.close()
    in_turn, shared = (train(small(**{"train.env_processes": count}), seed=1) for count in (0, 3))
    assert torch.equal(in_turn.policy.flat, shared.policy.flat)
    assert [point.score for point in in_turn.points] == [point.score for point in shared.points]


@pytest.mark.parametrize(
    ("does", "words"),
    [("raise", "(?s)instances 0 to 1:.*no such door"), ("die", "instances 0 to 1 died, exit code 3")],
)
def test_what_goes_wrong_in_a_process_is_said_and_ends_all(doors: str, does: str, words: str) -> None:
    env, buffers = vector(doors, 4, processes=2, step=does)
    env.reset(buffers[0])
    with pytest.raises(RuntimeError, match=words):
        env.step(allowed(env, np.random.default_rng(0)), *buffers)
    assert [process.is_alive() for process in env._processes] == [False, False]


def test_processes_are_for_gymnasium_alone() -> None:
    with pytest.raises(SettingsError, match=r"train.env_processes: cartpole is .* leave it at 0"):
        Settings.parse("cartpole", {"train.env_processes": 2})
