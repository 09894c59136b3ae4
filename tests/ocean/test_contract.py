"""What every environment owes its users. One file for all of them, yours too:

OCEAN_HEADERS="path/to/yours.h" python -m pytest tests/ocean/test_contract.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import ocean
from ocean.header import FOLDER

ENVIRONMENTS = ocean.names() + os.environ.get("OCEAN_HEADERS", "").split()
GUARD = 64  # rows before and after each buffer that nobody may touch
STEPS = 400


def make(name: str, num_envs: int, **arguments: object) -> ocean.Vector:
    """A Vector of `num_envs` agents, in no less than eight environments (or as many as asked for)."""
    agents = ocean.spec(name).agents_per_env
    return ocean.Vector(name, num_envs=min(num_envs, max(8, num_envs // agents)), **arguments)


def guarded(rows: int, shape: tuple[int, ...], dtype: object, poison: int) -> tuple[np.ndarray, np.ndarray]:
    """A poisoned buffer of `rows`, and the larger array that it lies in the middle of."""
    whole = np.empty((rows + 2 * GUARD, *shape), dtype)
    whole.view(np.uint8)[...] = poison
    return whole[GUARD : GUARD + rows], whole


class Rollout:
    """Steps a Vector through guarded buffers that are poisoned before each step."""

    def __init__(self, env: ocean.Vector, poison: int = 0xA5) -> None:
        self.env = env
        self.poison = poison
        rows, spec = env.num_agents, env.spec
        self.obs, whole_obs = guarded(rows, spec.obs_shape, spec.obs_dtype, poison)
        self.rewards, whole_rewards = guarded(rows, (), np.float32, poison)
        self.terminals, whole_terminals = guarded(rows, (), np.uint8, poison)
        self.truncations, whole_truncations = guarded(rows, (), np.uint8, poison)
        self.wholes = [whole_obs, whole_rewards, whole_terminals, whole_truncations]
        env.action_mask[...] = poison
        env.reset(self.obs)
        self.check_guards()

    def step(self, actions: np.ndarray) -> None:
        for whole in self.wholes:
            whole.view(np.uint8)[...] = self.poison
        self.env.final_obs.view(np.uint8)[...] = self.poison
        self.env.action_mask[...] = self.poison
        self.env.step(actions, self.obs, self.rewards, self.terminals, self.truncations)
        self.check_guards()

    def check_guards(self) -> None:
        for whole in self.wholes:
            before, after = whole[:GUARD].view(np.uint8), whole[-GUARD:].view(np.uint8)
            assert (before == self.poison).all(), "written before the beginning of a buffer"
            assert (after == self.poison).all(), "written past the end of a buffer"

    @property
    def ended(self) -> np.ndarray:
        return (self.terminals | self.truncations).astype(bool)


def random_actions(spec: ocean.Spec, steps: int, rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (steps, rows, spec.action_count)
    if spec.action_dim is not None:
        return rng.uniform(-1, 1, shape).astype(np.float32)
    return rng.integers(0, spec.action_sizes, shape).astype(np.int32)


def trajectory(env: ocean.Vector, actions: np.ndarray) -> list[np.ndarray]:
    """Everything that can be seen of a run: [steps, rows, ...] each, final observations where valid."""
    rollout = Rollout(env)
    seen: list[list[np.ndarray]] = [[], [], [], [], [], []]
    first = rollout.obs.copy()
    for row in actions:
        rollout.step(np.ascontiguousarray(row))
        final = env.final_obs.copy()
        final[~rollout.ended] = 0
        for kept, now in zip(
            seen,
            (rollout.obs, rollout.rewards, rollout.terminals, rollout.truncations, final, env.action_mask),
            strict=True,
        ):
            kept.append(now.copy())
    return [first[None], *(np.stack(kept) for kept in seen)]


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(params=ENVIRONMENTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_element_of_every_buffer_is_written_by_every_step(name: str) -> None:
    # Two equal vectors over buffers that were poisoned differently: what is not written differs.
    one, other = (Rollout(make(name, 16, seed=3), poison) for poison in (0xA5, 0x5A))
    np.testing.assert_array_equal(one.obs, other.obs)
    np.testing.assert_array_equal(one.env.action_mask, other.env.action_mask)
    for actions in random_actions(one.env.spec, STEPS, one.env.num_agents):
        one.step(actions)
        other.step(actions)
        np.testing.assert_array_equal(one.obs, other.obs)
        np.testing.assert_array_equal(one.rewards, other.rewards)
        np.testing.assert_array_equal(one.terminals, other.terminals)
        np.testing.assert_array_equal(one.truncations, other.truncations)
        np.testing.assert_array_equal(one.env.action_mask, other.env.action_mask)
        final = one.env.final_obs[one.ended]
        np.testing.assert_array_equal(final, other.env.final_obs[one.ended])


def test_values_lie_in_the_declared_ranges(name: str) -> None:
    env = make(name, 64, seed=1)
    spec = env.spec
    actions = random_actions(spec, STEPS, env.num_agents)
    first, obs, rewards, terminals, truncations, final, masks = trajectory(env, actions)
    ended = (terminals | truncations).astype(bool)
    for seen in (first, obs, final[ended] if ended.any() else first):
        assert seen.dtype == spec.obs_dtype
        assert seen.shape[-len(spec.obs_shape) :] == spec.obs_shape
        assert np.isfinite(seen).all()
        assert spec.obs_range[0] <= seen.min()
        assert seen.max() <= spec.obs_range[1]
    assert np.isfinite(rewards).all()
    assert spec.reward_range[0] <= rewards.min()
    assert rewards.max() <= spec.reward_range[1]
    assert set(np.unique(terminals)) <= {0, 1}
    assert set(np.unique(truncations)) <= {0, 1}
    assert not (terminals & truncations).any()
    assert set(np.unique(masks)) <= {0, 1}
    if spec.masked:
        for part in np.split(masks, np.cumsum(spec.action_sizes)[:-1], axis=-1):
            assert part.any(axis=-1).all(), "an agent to whom everything is forbidden"


@pytest.mark.parametrize(("size", "threads"), [(1, 1), (5, 1), (64, 3), (5, 5)])
def test_an_environment_depends_on_seed_and_index_only(name: str, size: int, threads: int) -> None:
    env = make(name, 64, seed=7)
    actions = random_actions(env.spec, STEPS, env.num_agents)
    reference = trajectory(env, actions)
    small = make(name, size, seed=7, threads=threads)
    rows = small.num_agents
    assert_same(trajectory(small, actions[:, :rows]), [seen[:, :rows] for seen in reference])


def test_other_seeds_and_other_environments_differ(name: str) -> None:
    env = ocean.Vector(name, num_envs=8, seed=0)
    actions = random_actions(env.spec, STEPS, env.num_agents)
    actions[:] = actions[:, :1]  # all environments do the same
    one = trajectory(env, actions)
    assert differ(one, trajectory(ocean.Vector(name, num_envs=8, seed=1), actions))
    agents = env.spec.agents_per_env
    assert differ([seen[:, :agents] for seen in one], [seen[:, agents : 2 * agents] for seen in one])


def test_reset_with_a_seed_starts_the_generators_anew(name: str) -> None:
    env = ocean.Vector(name, num_envs=8, seed=0)
    actions = random_actions(env.spec, 50, env.num_agents)
    fresh = trajectory(ocean.Vector(name, num_envs=8, seed=5), actions)
    trajectory(env, actions)
    env.reset(np.empty((env.num_agents, *env.spec.obs_shape), env.spec.obs_dtype), seed=5)
    again = ocean.Vector(name, num_envs=8, seed=5)
    again.reset(np.empty((env.num_agents, *env.spec.obs_shape), env.spec.obs_dtype))
    # Both have drawn one first state from seed 5, and draw their second in this rollout.
    assert_same(trajectory(env, actions), trajectory(again, actions))
    assert differ(fresh, trajectory(env, actions))


def test_the_log_agrees_with_rewards_and_ends(name: str) -> None:
    env = make(name, 32, seed=2)
    returns = np.zeros(env.num_agents)
    lengths = np.zeros(env.num_agents)
    episodes, total_return, total_length = 0, 0.0, 0.0
    rollout = Rollout(env)
    for actions in random_actions(env.spec, 2000, env.num_agents):
        rollout.step(actions)
        returns += rollout.rewards
        lengths += 1
        ended = rollout.ended
        episodes += int(ended.sum())
        total_return += float(returns[ended].sum())
        total_length += float(lengths[ended].sum())
        returns[ended] = 0
        lengths[ended] = 0
    log = env.log()
    assert set(log) == {*env.spec.log_fields, "n"}
    assert episodes > 0
    assert log["n"] == episodes
    if "episode_return" in log:
        assert log["episode_return"] * episodes == pytest.approx(total_return, rel=1e-5, abs=1e-3)
    if "episode_length" in log:
        assert log["episode_length"] * episodes == pytest.approx(total_length)
    assert env.log()["n"] == 0  # cleared


def test_a_random_agent_lands_in_the_documented_range(name: str) -> None:
    env = make(name, 512, seed=4)
    rollout, ended = Rollout(env), 0
    for seed in range(4):  # 1,000 steps, or more where episodes are long
        for actions in random_actions(env.spec, 1000, env.num_agents, seed):
            rollout.step(actions)
            ended += int(rollout.ended.sum())
        if ended >= 512:  # about one of each environment: not those alone that are soon over
            break
    log = env.log()
    assert log["n"] >= 100
    low, high = env.spec.random_score
    assert low <= log["score"] <= high
    assert env.spec.solved_score > high


def test_every_setting_changes_what_happens(name: str) -> None:
    spec = ocean.spec(name)
    actions = random_actions(spec, STEPS, make(name, 16).num_agents)

    def run(**settings: float) -> list[np.ndarray]:
        return trajectory(make(name, 16, seed=0, settings=settings), actions)

    standard = run()
    assert_same(standard, run(**{key: setting.default for key, setting in spec.settings.items()}))
    for key, setting in spec.settings.items():
        ends = [end for end in (setting.low, setting.high) if end != setting.default]
        assert any(differ(standard, run(**{key: end})) for end in ends), f"{key} changes nothing"


def test_the_readme_documents_settings_and_scores(name: str) -> None:
    spec = ocean.spec(name)
    text = (spec.path.parent / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (int|float) \| ([^|]+) \| ([^|]+) to ([^|]+) \|", text, re.MULTILINE)
    documented = {key: (kind, float(a), float(b), float(c)) for key, kind, a, b, c in rows}
    assert documented == {
        key: (setting.kind, setting.default, setting.low, setting.high)
        for key, setting in spec.settings.items()
    }
    assert f"Solved: {spec.solved_score:g}" in text
    assert f"Random: {spec.random_score[0]:g} to {spec.random_score[1]:g}" in text


def test_a_restored_state_continues_identically(name: str) -> None:
    env = make(name, 16, seed=0)
    actions = random_actions(env.spec, 2 * STEPS, env.num_agents)
    rollout = Rollout(env)
    for row in actions[:STEPS]:
        rollout.step(row)
    other = Rollout(make(name, 16, seed=99, threads=2))
    other.env.set_state(env.get_state())
    for row in actions[STEPS:]:
        rollout.step(row)
        other.step(row)
        np.testing.assert_array_equal(rollout.obs, other.obs)
        np.testing.assert_array_equal(rollout.rewards, other.rewards)
        np.testing.assert_array_equal(rollout.terminals, other.terminals)
    assert env.log() == other.env.log()


def sanitized(tmp_path: Path, spec: ocean.Spec, sanitizers: str) -> Path:
    """The driver around an environment, built with sanitizers; skips where there are none."""
    command = [*ocean.build.compiler(), f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    if subprocess.run([*command, probe, "-o", tmp_path / "probe"], capture_output=True).returncode:
        pytest.skip(f"this compiler lacks -fsanitize={sanitizers}")
    unit = tmp_path / "unit.c"
    unit.write_text('#include "vector.c"\n#include "driver.c"\n')
    program = tmp_path / "driver"
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    flags = [
        "-g",
        "-O1",
        "-ffp-contract=off",
        "-pthread",
        *warnings,
        "-I",
        FOLDER,
        "-I",
        Path(__file__).parent,
    ]
    result = subprocess.run(
        [*command, *flags, "-include", spec.path, unit, "-o", program, "-lm"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return program


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_clean_under_sanitizers_with_any_action_and_setting(
    name: str, sanitizers: str, tmp_path: Path
) -> None:
    spec = ocean.spec(name)
    program = sanitized(tmp_path, spec, sanitizers)
    for threads, end in (("1", "default"), ("3", "low"), ("1", "high")):
        values = [repr(float(getattr(setting, end))) for setting in spec.settings.values()]
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # leaks need ptrace, often forbidden
        result = subprocess.run([program, threads, *values], capture_output=True, text=True, env=environment)
        if "unexpected memory mapping" in result.stderr:
            pytest.skip("the thread sanitizer does not run on this kernel")
        assert result.returncode == 0, result.stderr[:4000]
        assert "episodes" in result.stdout


def test_compiles_as_cuda_would_have_it(name: str, tmp_path: Path) -> None:
    # CUDA is C++: no C-only syntax may slip into a header.
    plus = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if plus is None:
        pytest.skip("no C++ compiler")
    unit = tmp_path / "unit.cpp"
    unit.write_text('#include "vector.c"\n')
    command = [plus, "-fsyntax-only", "-Wall", "-I", FOLDER, "-include", ocean.spec(name).path, unit]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_guards_catch_a_header_that_writes_past_its_row(tmp_path: Path) -> None:
    text = (FOLDER / "squared" / "squared.h").read_text()
    bad = text.replace("i < OBS_SIZE; i++", "i < OBS_SIZE + 1; i++")
    assert bad != text
    (tmp_path / "bad.h").write_text(bad)
    with pytest.raises(AssertionError, match="past the end"):
        Rollout(ocean.Vector(tmp_path / "bad.h", num_envs=4))


def test_the_poison_catches_a_header_that_forgets_to_write(tmp_path: Path) -> None:
    text = (FOLDER / "squared" / "squared.h").read_text()
    bad = text.replace("io->truncations[0] = late;", "")
    assert bad != text
    (tmp_path / "bad.h").write_text(bad)
    with pytest.raises(AssertionError):
        test_every_element_of_every_buffer_is_written_by_every_step(str(tmp_path / "bad.h"))
