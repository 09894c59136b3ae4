"""The Python face: what it accepts, and what it says where it does not."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

import ocean
from ocean.header import FOLDER

N = 6


class Buffers:
    def __init__(self) -> None:
        self.actions = np.zeros(N, np.int32)
        self.obs = np.empty((N, 4), np.float32)
        self.rewards = np.empty(N, np.float32)
        self.terminals = np.empty(N, np.uint8)
        self.truncations = np.empty(N, np.uint8)


@pytest.fixture
def env() -> ocean.Vector:
    return ocean.Vector("cartpole", N, seed=0)


@pytest.fixture
def buffers(env: ocean.Vector) -> Buffers:
    made = Buffers()
    env.reset(made.obs)
    return made


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("actions", np.zeros(N, np.int64), "actions must be int32, not int64"),
        ("obs", np.zeros((N, 4)), "obs must be float32, not float64"),
        ("obs", np.zeros((N, 5), np.float32), "obs must have the shape (6, 4), not (6, 5)"),
        ("rewards", np.zeros(N + 1, np.float32), "rewards must have the shape (6,), not (7,)"),
        ("terminals", np.zeros(N, bool), "terminals must be uint8, not bool"),
        ("truncations", np.zeros(2 * N, np.uint8)[::2], "truncations must be C-contiguous"),
        ("rewards", [0.0] * N, "rewards must be a numpy array, not list"),
    ],
)
def test_wrong_buffers_are_refused(
    env: ocean.Vector, buffers: Buffers, name: str, array: np.ndarray, message: str
) -> None:
    for _ in range(2):  # once before the good buffers are known and once after
        with pytest.raises(ValueError, match=re.escape(message)):
            env.step(**{**vars(buffers), name: array})
        env.step(**vars(buffers))


def test_a_read_only_buffer_is_refused(env: ocean.Vector, buffers: Buffers) -> None:
    buffers.obs.flags.writeable = False
    fresh = ocean.Vector("cartpole", N)
    with pytest.raises(ValueError, match="obs must be writable"):
        fresh.reset(buffers.obs)


def test_a_known_buffer_in_the_wrong_place_is_refused(env: ocean.Vector) -> None:
    # One agent with an observation of one number would hide a mix-up of obs and rewards.
    made = Buffers()
    env.step(**vars(made))
    with pytest.raises(ValueError, match="rewards must"):
        env.step(made.actions, made.obs, made.terminals, made.rewards, made.truncations)


def test_rows_of_a_rollout_buffer_are_written_in_place(env: ocean.Vector) -> None:
    horizon = 5
    obs = np.full((horizon + 1, N, 4), np.nan, np.float32)
    rewards = np.full((horizon, N), np.nan, np.float32)
    flags = np.full((2, horizon, N), 9, np.uint8)
    actions = np.ones((horizon, N), np.int32)
    env.reset(obs[0])
    for t in range(horizon):
        env.step(actions[t], obs[t + 1], rewards[t], flags[0, t], flags[1, t])
    assert np.isfinite(obs).all()
    assert (rewards == 1).all()
    assert (flags <= 1).all()


def test_arrays_that_come_and_go_are_never_mixed_up(env: ocean.Vector, buffers: Buffers) -> None:
    # A new array often gets the identity of one that was just freed, at another address.
    rows = np.empty((50, N, 4), np.float32)
    for t in range(2000):
        rows[...] = np.nan
        env.step(**{**vars(buffers), "obs": rows[t % 50]})
        assert np.isfinite(rows[t % 50]).all()
        assert np.isnan(np.delete(rows, t % 50, axis=0)).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", ["cartpole", "wilds"])
def test_some_environments_step_as_they_do_among_all(name: str, threads: int) -> None:
    whole, parts = (ocean.Vector(name, 7, seed=3, threads=threads) for _ in range(2))
    rows = whole.num_agents
    rng, each = np.random.default_rng(0), whole.spec.agents_per_env

    def buffers() -> list[np.ndarray]:
        obs = np.zeros((rows, *whole.spec.obs_shape), whole.spec.obs_dtype)
        return [obs, np.zeros(rows, np.float32), *np.full((2, rows), 9, np.uint8)]

    ours, theirs = buffers(), buffers()
    whole.reset(ours[0])
    parts.reset(theirs[0])
    for _ in range(30):
        actions = rng.integers(0, whole.spec.action_sizes, (rows, whole.spec.action_count), np.int32)
        whole.step(actions, *ours)
        for first, last in ((0, 1), (3, 7), (1, 3)):
            before = [array.copy() for array in theirs]
            parts.step(actions, *theirs, (first, last))
            others = np.r_[0 : first * each, last * each : rows]
            for array, kept in zip(theirs, before, strict=True):
                np.testing.assert_array_equal(array[others], kept[others])
        for mine, yours in zip((*ours, whole.final_obs), (*theirs, parts.final_obs), strict=True):
            np.testing.assert_array_equal(mine, yours)
    assert whole.get_state() == parts.get_state()


@pytest.mark.parametrize("envs", [(0, 0), (2, 1), (-1, 2), (3, N + 1)])
def test_environments_that_are_not_there_are_refused(
    env: ocean.Vector, buffers: Buffers, envs: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"within [0, 6), not [{envs[0]}, {envs[1]})")):
        env.step(**vars(buffers), envs=envs)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="no environment 'cartpol': did you mean 'cartpole'"):
        ocean.Vector("cartpol")
    with pytest.raises(ValueError, match="cartpole has no setting 'gravty': did you mean 'gravity'"):
        ocean.Vector("cartpole", settings={"gravty": 1.0})
    with pytest.raises(ValueError, match="no environment header at"):
        ocean.Vector("nowhere/mine.h")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gravity": -1}, "gravity must lie in"),
        ({"gravity": float("nan")}, "gravity must lie in"),
        ({"max_steps": 1.5}, "max_steps must be a whole number"),
        ({"gravity": "9.8"}, "gravity must be a number"),
        ({"gravity": True}, "gravity must be a number"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ocean.Vector("cartpole", settings=settings)


@pytest.mark.parametrize("arguments", [{"num_envs": 0}, {"threads": 0}, {"seed": -1}, {"seed": 2**64}])
def test_bad_sizes_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        ocean.Vector("cartpole", **arguments)


def test_settings_of_numpy_and_whole_floats_are_taken() -> None:
    env = ocean.Vector("cartpole", 1, settings={"gravity": np.float64(3.7), "max_steps": 100.0})
    assert env.settings["gravity"] == 3.7
    assert env.settings["max_steps"] == 100


def test_a_foreign_state_is_refused(env: ocean.Vector, buffers: Buffers) -> None:
    state = env.get_state()
    for wrong in (state[:-1], state + b"x", b"", bytes(len(state)), ocean.Vector("squared", N).get_state()):
        with pytest.raises(ValueError, match="not a state of 6 environments"):
            env.set_state(wrong)
    env.set_state(memoryview(bytearray(state)))
    assert env.get_state() == state


def test_a_closed_vector_refuses_to_work(env: ocean.Vector, buffers: Buffers) -> None:
    env.step(**vars(buffers))
    env.close()
    env.close()
    for call in (lambda: env.step(**vars(buffers)), lambda: env.reset(buffers.obs), env.log, env.get_state):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_header_of_ones_own_works_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "a folder, with 'quotes' and ü"
    folder.mkdir()
    header = folder / "mine.h"
    header.write_text((FOLDER / "squared" / "squared.h").read_text().replace("max_steps, 33", "max_steps, 7"))
    env = ocean.Vector(header, 4)
    assert (env.spec.name, env.settings["max_steps"]) == ("mine", 7)
    obs = np.empty((4, 11, 11), np.int8)
    env.reset(obs)
    assert (obs.sum((1, 2)) == 0).all()  # one agent, one target

    # Editing it and making a new Vector is the whole development loop.
    header.write_text(header.read_text().replace("= -1;", "= -2;").replace("OBS_RANGE -1", "OBS_RANGE -2"))
    edited = ocean.Vector(header, 4)
    edited.reset(obs)
    assert obs.min() == -2
    env.reset(obs)
    assert obs.min() == -1
    env.set_state(env.get_state())
    with pytest.raises(ValueError, match="not a state"):
        edited.set_state(env.get_state())


@pytest.mark.parametrize(
    ("there", "instead", "words"),
    [
        ("#define AGENTS 1 ", '#include "more.h"\n#define SOLE 1 ', "AGENTS: 40 for the compiler, 1 by"),
        (
            "#define OBS_SHAPE 11, 11",
            "#define OBS_SHAPE 11, 12\n#if 0\n#define OBS_SHAPE 11, 11\n#endif",
            "132 for",
        ),
    ],
)
def test_a_declaration_that_c_reads_otherwise_is_refused(
    tmp_path: Path, there: str, instead: str, words: str
) -> None:
    text = (FOLDER / "squared" / "squared.h").read_text().replace("Log log; ", "Log log[AGENTS]; ")
    assert there in text
    text = text.replace(there, instead).replace("env->log.", "env->log[0].")
    (tmp_path / "more.h").write_text("#define AGENTS 40\n")
    (tmp_path / "mine.h").write_text(text)
    with pytest.raises(ocean.BuildError, match=words):
        ocean.Vector(tmp_path / "mine.h", 4)


def test_a_header_that_lacks_a_function_is_told_so(tmp_path: Path) -> None:
    header = tmp_path / "half.h"
    header.write_text((FOLDER / "squared" / "squared.h").read_text().replace("env_step(", "step("))
    with pytest.raises(ocean.BuildError, match=r"error: .*env_step"):
        ocean.Vector(header)


def test_the_readmes_example_runs() -> None:
    text = (FOLDER / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})


MANY = """
#define OBS_TYPE float
#define OBS_SHAPE 2
#define OBS_RANGE -INFINITY, INFINITY
#define REWARD_RANGE -1, 1
#define {actions}
#define AGENTS 3
#define RANDOM_SCORE 0, 1
#define SOLVED_SCORE 2
#define SETTINGS(X)
#include "ocean.h"
typedef struct {{ double score; double n; }} Log;
typedef struct {{ Rng rng; Log log[AGENTS]; }} Env;
OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {{
    (void)settings;
    for (int i = 0; i < AGENTS * OBS_SIZE; i++) io->obs[i] = rng_uniform(&env->rng, 0.0f, 1.0f);
}}
OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {{
    (void)settings;
    for (int i = 0; i < AGENTS; i++) {{
        env->log[i].score += io->rewards[i] = (float)i;
        env->log[i].n += 1;
        for (int k = 0; k < 2; k++) io->obs[i * 2 + k] = (float)io->actions[i * 2 + k];
        io->terminals[i] = io->truncations[i] = 0;
    }}
}}
"""


@pytest.mark.parametrize(
    ("actions", "dtype", "sizes", "dim"),
    [
        ("ACTION_SIZES 3, 7", np.int32, (3, 7), None),
        ("ACTION_DIM 2\n#define ACTION_RANGE -1, 30", np.float32, (), 2),
    ],
)
def test_several_agents_and_several_actions(
    tmp_path: Path, actions: str, dtype: type, sizes: tuple[int, ...], dim: int | None
) -> None:
    header = tmp_path / "many.h"
    header.write_text(MANY.format(actions=actions))
    env = ocean.Vector(header, 4)
    assert (env.spec.action_sizes, env.spec.action_dim, env.spec.agents_per_env) == (sizes, dim, 3)
    assert env.num_agents == 12
    assert env.spec.settings == {}
    obs, rewards = np.empty((12, 2), np.float32), np.empty(12, np.float32)
    flags = np.empty((2, 12), np.uint8)
    env.reset(obs)
    assert len(np.unique(obs)) == 24
    chosen = np.arange(24).reshape(12, 2).astype(dtype)
    env.step(chosen, obs, rewards, flags[0], flags[1])
    np.testing.assert_array_equal(obs, chosen)
    np.testing.assert_array_equal(rewards, [0, 1, 2] * 4)
    with pytest.raises(ValueError, match="actions must have the shape"):
        env.step(chosen[:, 0].copy(), obs, rewards, flags[0], flags[1])

    some = np.arange(12) % 3 == 2
    some[-1] = False
    assert env.log(only=some) == {"score": 2, "n": 3}
    assert env.log(only=some)["n"] == 0
    assert env.log() == {"score": pytest.approx((0 * 4 + 1 * 4 + 2) / 9), "n": 9}
    with pytest.raises(ValueError, match="only must have the shape"):
        env.log(only=some[:4])


def test_a_fork_ends_in_peace() -> None:
    # The child has none of the threads: it must not wait for them when it drops the Vector.
    env = ocean.Vector("cartpole", N, threads=3)
    child = os.fork()
    if child == 0:
        env.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_vectors_run_beside_each_other_in_threads() -> None:
    def run(seed: int, kept: dict[int, np.ndarray]) -> None:
        env = ocean.Vector("cartpole", N, seed=seed, threads=2)
        made = Buffers()
        env.reset(made.obs)
        for _ in range(500):
            env.step(**vars(made))
        kept[seed] = made.obs

    together: dict[int, np.ndarray] = {}
    alone: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=run, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        run(seed, alone)
        np.testing.assert_array_equal(together[seed], alone[seed])


def test_render_draws_one_environment_as_text(tmp_path: Path) -> None:
    env = ocean.Vector("squared", num_envs=2, seed=0)
    obs = np.empty((2, 11, 11), np.int8)
    env.reset(obs)
    for index in range(2):
        first, *rows = env.render(index).splitlines()
        assert first == "step 0 of 33"
        drawn = [[{".": 0, "x": 1, "@": -1}[sign] for sign in row.split()] for row in rows]
        assert np.array_equal(drawn, obs[index])
    with pytest.raises(ValueError, match=r"env must lie in \[0, 2\), not 2"):
        env.render(2)
    source = (FOLDER / "squared" / "squared.h").read_text()
    (tmp_path / "unseen.h").write_text(source.replace("#define RENDER 1", ""))
    with pytest.raises(ValueError, match="unseen has no env_render"):
        ocean.Vector(tmp_path / "unseen.h", num_envs=1).render()


def played(num_envs: int, threads: int, settings: dict[str, float], name: str = "cartpole") -> np.ndarray:
    """The observations [steps, num_envs, ...] of environments that all get the same actions."""
    env = ocean.Vector(name, num_envs, seed=3, threads=threads, settings=settings)
    rows, rng, seen = env.num_agents, np.random.default_rng(1), []
    obs = np.empty((rows, *env.spec.obs_shape), env.spec.obs_dtype)
    ends = np.empty(rows, np.float32), np.empty(rows, np.uint8), np.empty(rows, np.uint8)
    env.reset(obs)
    for _ in range(20):
        actions = np.repeat(env.spec.random_actions(rng, 1), rows, 0)
        env.step(actions, obs, *ends)
        seen.append(obs.copy())
    env.close()
    return np.array(seen)


def test_a_spread_gives_each_environment_its_own_constants() -> None:
    alike, spread = played(8, 1, {}), played(8, 1, {"gravity_spread": 0.3})
    assert np.array_equal(played(8, 1, {"gravity_spread": 0.0}), alike)
    assert not any(np.array_equal(spread[:, i], alike[:, i]) for i in range(8))
    assert np.array_equal(played(3, 2, {"gravity_spread": 0.3}), spread[:, :3])
    # Another setting's spread leaves these as they are.
    longer = played(8, 1, {"gravity_spread": 0.3, "max_steps_spread": 0.1})
    assert np.array_equal(longer, spread)


def test_a_spread_keeps_to_its_share_and_to_the_allowed_range(tmp_path: Path) -> None:
    header = tmp_path / "shown.h"
    text = (FOLDER / "cartpole" / "cartpole.h").read_text()
    shown = "io->obs[0] = settings->gravity; io->obs[1] = settings->max_steps; io->obs[2] = settings->tau;"
    header.write_text(text.replace("observe(env, io->obs);", shown))
    env = ocean.Vector(
        header, 4000, settings={"gravity_spread": 0.5, "max_steps": 3, "max_steps_spread": 0.4}
    )
    obs = np.empty((4000, 4), np.float32)
    env.reset(obs)
    gravity, steps, tau = obs[:, 0], obs[:, 1], obs[:, 2]
    assert 4.9 <= gravity.min() < 5.0
    assert 14.6 < gravity.max() <= 14.7
    assert gravity.mean() == pytest.approx(9.8, abs=0.2)
    assert set(steps) == {2, 3, 4}
    assert (tau == np.float32(0.02)).all()
    low = env.spec.settings["gravity"].low
    ends = env.spec.ends({"gravity": 2 * low, "gravity_spread": 1})
    place = 2 * list(env.spec.settings).index("gravity")
    assert ends[place : place + 2] == [low, 4 * low]


@pytest.mark.parametrize("name", ocean.names())
def test_every_environment_bears_spread_constants(name: str) -> None:
    spread = {f"{key}_spread": 0.3 for key in ocean.settings(name)}
    one, other = played(6, 1, spread, name), played(3, 2, spread, name)
    rows = other.shape[1]
    assert np.array_equal(one[:, :rows], other)
    low, high = ocean.spec(name).obs_range
    assert one.min() >= low
    assert one.max() <= high
