"""What every environment owes its users, checked on any header: `check("path/to/yours.h")`.

Each check runs the environment as the vector layer does and compares what it sees with what the header
declares. The first is done in a process of its own with sanitizers, since a header that writes where it
should not may take its process with it; the others are only done where that one finds nothing.
"""

from __future__ import annotations

import functools
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ocean import build
from ocean.header import COMMENTS, FOLDER, Spec
from ocean.header import spec as read_spec
from ocean.vector import TEXT_BYTES, Vector

Array = np.ndarray[Any, Any]
GUARD = 64  # rows before and after each buffer that nobody may touch
STEPS = 400
LONGEST = 50_000  # steps of an episode: after as many an evaluation no longer waits (train.eval_max_steps)
SANITIZERS = ("address,undefined", "thread")
SANITIZED_SECONDS = 100
ENV = re.compile(r"typedef\s+struct\s*\w*\s*\{([^{}]*)\}\s*Env\s*;")
BUFFERS = ("observations", "rewards", "terminals", "truncations")


class ContractError(Exception):
    """An environment that does not keep the contract; the message says how."""


class Unsupported(Exception):
    """A check that this machine cannot do; the message says why."""


def check(name_or_path: str | Path, only: Iterable[str] | None = None) -> list[str]:
    """What is wrong with an environment, one line a check that fails; empty where all is well.

    `only` names some of CHECKS. Takes seconds. Raises ValueError for a declaration that cannot be read
    and BuildError, with the compiler's line, for a header that does not compile.
    """
    found = outcomes(name_or_path, only)
    return [f"{name}: {error}" for name, error in found if isinstance(error, ContractError)]


def outcomes(
    name_or_path: str | Path, only: Iterable[str] | None = None
) -> Iterator[tuple[str, ContractError | Unsupported | None]]:
    """Each check's name as it is done, and what it raised; nothing follows a failure of the first.

    Arguments and what is raised as for `check`; MENDS says what to do about a failure.
    """
    spec = read_spec(name_or_path)
    Vector(spec.path, 1).close()  # compiles: the compiler's own words come first
    for name in CHECKS if only is None else only:
        error: ContractError | Unsupported | None = None
        try:
            CHECKS[name](spec.path)
        except (ContractError, Unsupported) as raised:
            error = raised
        yield name, error
        if isinstance(error, ContractError) and CHECKS[name] is memory_safety:
            return  # what follows would run it in this process


def speed(name_or_path: str | Path, seconds: float = 0.3) -> tuple[int, int, float]:
    """Steps of all agents, episodes that ended, and steps a second, of a run of about so many seconds.

    Random actions, 1,024 agents, one thread; the Python calls are in it.
    """
    env = make(name_or_path, 1024)
    rows, actions = env.num_agents, random_actions(env.spec, 16, env.num_agents)
    obs = np.empty((rows, *env.spec.obs_shape), env.spec.obs_dtype)
    rewards, ends = np.empty(rows, np.float32), (np.empty(rows, np.uint8), np.empty(rows, np.uint8))
    env.reset(obs)
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        env.step(actions[calls % len(actions)], obs, rewards, *ends)
        calls += 1
    spent = time.perf_counter() - begin
    return calls * rows, int(env.log()["n"]), calls * rows / spent


def require(condition: object, message: str) -> None:
    """Raise ContractError with `message` unless `condition` is true."""
    if not condition:
        raise ContractError(message)


def make(path: str | Path, num_envs: int, **arguments: Any) -> Vector:
    """A Vector of `num_envs` agents, in no less than eight environments (or as many as asked for)."""
    agents = read_spec(path).agents_per_env
    return Vector(path, num_envs=min(num_envs, max(8, num_envs // agents)), **arguments)


def guarded(rows: int, shape: tuple[int, ...], dtype: Any, poison: int) -> tuple[Array, Array]:
    """A poisoned buffer of `rows`, and the larger array that it lies in the middle of."""
    whole = np.empty((rows + 2 * GUARD, *shape), dtype)
    whole.view(np.uint8)[...] = poison
    return whole[GUARD : GUARD + rows], whole


class Rollout:
    """Steps a Vector through guarded buffers that are poisoned before each step."""

    def __init__(self, env: Vector, poison: int = 0xA5) -> None:
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

    def step(self, actions: Array) -> None:
        for whole in self.wholes:
            whole.view(np.uint8)[...] = self.poison
        self.env.final_obs.view(np.uint8)[...] = self.poison
        self.env.action_mask[...] = self.poison
        self.env.step(actions, self.obs, self.rewards, self.terminals, self.truncations)
        self.check_guards()

    def check_guards(self) -> None:
        for name, whole in zip(BUFFERS, self.wholes, strict=True):
            before, after = whole[:GUARD].view(np.uint8), whole[-GUARD:].view(np.uint8)
            require((before == self.poison).all(), f"{name}: written before the beginning of the buffer")
            require((after == self.poison).all(), f"{name}: written past the end of the buffer")

    @property
    def ended(self) -> Array:
        return (self.terminals | self.truncations).astype(bool)

    def seen(self) -> dict[str, Array]:
        """Copies of all that can be seen after a step; final observations where they are valid."""
        final = self.env.final_obs.copy()
        final[~self.ended] = 0
        buffers = (self.obs, self.rewards, self.terminals, self.truncations)
        copies = {name: buffer.copy() for name, buffer in zip(BUFFERS, buffers, strict=True)}
        return {**copies, "final observations": final, "action masks": self.env.action_mask.copy()}


def random_actions(spec: Spec, steps: int, rows: int, seed: int = 0) -> Array:
    """[steps, rows, components], forbidden ones among them."""
    return spec.random_actions(np.random.default_rng(seed), steps, rows)


def _all_actions(env: Vector, steps: int) -> Iterator[Array]:
    """[rows, components] for each of so many steps, drawn when they are needed."""
    for seed in range(0, steps, 1000):
        yield from random_actions(env.spec, min(1000, steps - seed), env.num_agents, seed)


def place(spec: Spec, row: int, step: int | None, element: Iterable[int] = ()) -> str:
    """Where something was seen, in words: `step` counts from 0, None is the reset before all steps."""
    env, agent = divmod(int(row), spec.agents_per_env)
    words = [f"environment {env}"] + ([f"agent {agent}"] if spec.agents_per_env > 1 else [])
    words.append("at the reset" if step is None else f"step {int(step) + 1}")
    index = ", ".join(str(int(i)) for i in element)
    return ", ".join(words) + (f", element [{index}]" if index else "")


def trajectory(env: Vector, actions: Array) -> Iterator[dict[str, Array]]:
    """Everything that can be seen of a run, [rows, ...] each, after the reset and then step by step: so
    many steps of images at once are gigabytes."""
    rollout = Rollout(env)
    yield {"first observations": rollout.obs.copy()}
    for row in actions:
        rollout.step(np.ascontiguousarray(row))
        yield rollout.seen()


def difference(
    spec: Spec, one: Iterable[dict[str, Array]], other: Iterable[dict[str, Array]], rows: int | None = None
) -> str | None:
    """The first thing in which two runs (their first `rows`) differ, in words; None where none is."""
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        for name in a:
            unequal = a[name][:rows] != b[name][:rows]
            if unequal.any():
                row, *element = np.argwhere(unequal)[0]
                return f"{name} ({place(spec, row, step - 1 if step else None, element)})"
    return None


def every_element_is_written(path: str | Path) -> None:
    """Two equal vectors over buffers that were poisoned differently: what is not written differs.

    What differs where the poison is the same, too, has another cause: `seed_and_index_alone_decide` names it.
    """
    one, other = (Rollout(make(path, 16, seed=3), poison) for poison in (0xA5, 0x5A))
    spec = one.env.spec
    actions = random_actions(spec, STEPS, one.env.num_agents)

    @functools.cache
    def repeats() -> bool:
        first, second = (trajectory(make(path, 16, seed=3), actions) for _ in range(2))
        return difference(spec, first, second) is None

    def same(name: str, a: Array, b: Array, step: int | None) -> None:
        if not np.array_equal(a, b, equal_nan=True) and repeats():
            row, *element = np.argwhere((a != b) & ((a == a) | (b == b)))[0]
            by = "a reset" if step is None else "a step"
            raise ContractError(
                f"{name}: not all elements are written by {by} ({place(spec, row, step, element)})"
            )

    same("observations", one.obs, other.obs, None)
    same("action masks", one.env.action_mask, other.env.action_mask, None)
    for step, row in enumerate(actions):
        one.step(row)
        other.step(row)
        for (name, a), b in zip(one.seen().items(), other.seen().values(), strict=True):
            same(name, a, b, step)


def values_lie_in_the_declared_ranges(path: str | Path) -> None:
    _values_lie_in_ranges(make(path, 64, seed=1))
    # A sweep may set a setting to its ends. Of many agents one environment is enough for each.
    spec = read_spec(path)
    for key, setting in spec.settings.items():
        for end in (setting.low, setting.high):
            try:
                _values_lie_in_ranges(
                    make(path, max(1, 64 // spec.agents_per_env), seed=1, settings={key: end})
                )
            except ContractError as error:
                raise ContractError(f"{error} with {key} {end:g}") from None


def _values_lie_in_ranges(env: Vector) -> None:
    spec = env.spec
    shown: dict[str, tuple[float, float]] = {}  # the least and the largest of the run
    outside: dict[str, str] = {}  # where one first lay beyond its range
    for step, seen in enumerate(trajectory(env, random_actions(spec, STEPS, env.num_agents)), -1):
        if step >= 0:
            both = np.flatnonzero(seen["terminals"] & seen["truncations"])
            if both.size:
                said = f"an episode ended by the rules and was cut ({place(spec, both[0], step)})"
                raise ContractError(f"terminals and truncations: {said}")
            ended = (seen["terminals"] | seen["truncations"]).astype(bool)
            ended = ended.reshape(ended.shape + (1,) * len(spec.obs_shape))
            # Where there is no last observation, the one that there is stands for it.
            seen["final observations"] = np.where(ended, seen["final observations"], seen["observations"])
            if spec.masked:
                for part in np.split(seen["action masks"], np.cumsum(spec.action_sizes)[:-1], axis=-1):
                    require(part.any(axis=-1).all(), "action masks: an agent to whom everything is forbidden")
        for name, values in seen.items():
            if name in ("terminals", "truncations", "action masks"):
                require((values <= 1).all(), f"{name}: something else than 0 and 1")
                continue
            low, high = spec.reward_range if name == "rewards" else spec.obs_range
            least, most = float(values.min()), float(values.max())  # nan where one is
            if not (low <= least and most <= high and math.isfinite(least) and math.isfinite(most)):
                wrong = np.argwhere(~(np.isfinite(values) & (low <= values) & (values <= high)))
                row, *element = wrong[0]
                where = place(spec, row, step if step >= 0 else None, element)
                require(np.isfinite(values).all(), f"{name}: not all are finite ({where})")
                outside.setdefault(name, where)
            before = shown.get(name, (least, most))
            shown[name] = min(before[0], least), max(before[1], most)
    for name, where in outside.items():
        least, most = shown[name]
        declared = "REWARD_RANGE" if name == "rewards" else "OBS_RANGE"
        low, high = spec.reward_range if name == "rewards" else spec.obs_range
        raise ContractError(f"{name}: {least:g} to {most:g} is not in {declared} {low:g}, {high:g} ({where})")


def an_end_is_followed_by_a_beginning(path: str | Path) -> None:
    env = make(path, 64, seed=1)
    rollout, firsts = Rollout(env), set[bytes]()
    for actions in random_actions(env.spec, STEPS, env.num_agents):
        rollout.step(actions)
        for row in np.flatnonzero(rollout.ended):
            firsts.add(rollout.obs[row].tobytes())
            if env.final_obs[row].tobytes() != rollout.obs[row].tobytes():
                return
    # Where all episodes begin alike, they may end as they begin.
    require(len(firsts) < 2, "the last observation of an episode is always the first of the next")


def seed_and_index_alone_decide(path: str | Path) -> None:
    env = make(path, 64, seed=7)
    actions = random_actions(env.spec, STEPS, env.num_agents)
    for size, threads in ((1, 1), (5, 1), (64, 3), (5, 5)):
        small = make(path, size, seed=7, threads=threads)
        rows = small.num_agents
        whole, part = trajectory(make(path, 64, seed=7), actions), trajectory(small, actions[:, :rows])
        other = difference(env.spec, part, whole, rows)
        require(other is None, f"{size} environments on {threads} threads: other {other}")


def seeds_and_environments_differ(path: str | Path) -> None:
    env = make(path, 8, seed=0)
    actions = random_actions(env.spec, STEPS, env.num_agents)
    actions[:] = actions[:, :1]  # all do the same
    spec, another = env.spec, trajectory(make(path, 8, seed=1), actions)
    require(difference(spec, trajectory(env, actions), another), "another seed changes nothing")
    agents = spec.agents_per_env
    differ = any(  # two may have drawn alike
        (values[:agents] != values[first : first + agents]).any()
        for seen in trajectory(make(path, 8, seed=0), actions)
        for values in seen.values()
        for first in range(agents, env.num_agents, agents)
    )
    require(differ, "all environments of one seed are the same")


def a_seeded_reset_starts_anew(path: str | Path) -> None:
    env = make(path, 8, seed=0)
    actions = random_actions(env.spec, 50, env.num_agents)
    rollout = Rollout(env)
    for before in random_actions(env.spec, 1000, env.num_agents, seed=1):  # what was counted is now large
        rollout.step(before)
    obs = np.empty((env.num_agents, *env.spec.obs_shape), env.spec.obs_dtype)
    env.reset(obs, seed=5)
    fresh = make(path, 8, seed=5)
    fresh.reset(obs)
    # Both have drawn one first state from seed 5, and draw their second in this rollout.
    other = difference(env.spec, trajectory(env, actions), trajectory(fresh, actions))
    require(other is None, f"a reset leaves something behind: other {other}")


def the_log_agrees_with_rewards_and_ends(path: str | Path) -> None:
    ends = _log_agrees(path, 32, {}, LONGEST)
    late = f"ends within {LONGEST:,} steps: truncate it earlier"
    require(ends.any(), f"no episode of a random agent {late}")
    require(ends.all(), f"no episode of agent {np.argmin(ends)} of an environment {late}")
    # What hardly ever ends an episode by default, a time limit of a short game, does at a setting's end.
    spec = read_spec(path)
    for key, setting in spec.settings.items():
        for end in (setting.low, setting.high):
            try:
                _log_agrees(path, max(1, 32 // spec.agents_per_env), {key: end}, STEPS)
            except ContractError as error:
                raise ContractError(f"{error} with {key} {end:g}") from None


def _log_agrees(path: str | Path, num_envs: int, settings: dict[str, float], most: int) -> Array:
    """How many episodes of each agent of an environment ended in about 2,000 steps, or as many as it takes,
    or `most`. Raises ContractError where the log says something else of them than the steps."""
    env = make(path, num_envs, seed=2, settings=settings)
    agents = env.spec.agents_per_env
    returns, lengths, ends = np.zeros(env.num_agents), np.zeros(env.num_agents), np.zeros(agents, int)
    total_return, total_length = 0.0, 0.0
    rollout = Rollout(env)
    for step, actions in enumerate(_all_actions(env, most)):
        if step >= 2000 and ends.all():
            break
        rollout.step(actions)
        returns += rollout.rewards
        lengths += 1
        ended = rollout.ended
        ends += ended.reshape(-1, agents).sum(0)
        total_return += float(returns[ended].sum())
        total_length += float(lengths[ended].sum())
        returns[ended] = 0
        lengths[ended] = 0
    episodes = int(ends.sum())
    logs = [env.log(only=np.arange(env.num_agents) % agents == agent) for agent in range(agents)]
    for log, count in zip(logs, ends, strict=True):
        if log["n"] != count:
            said = f"the log counts {log['n']:g} episodes where terminals and truncations say {count}"
            again = make(path, num_envs, seed=2, settings=settings)
            raise ContractError(f"{said} ({_first_disagreement(again)})")
    for name, total in (("episode_return", total_return), ("episode_length", total_length)):
        if name in logs[0] and episodes:
            logged = sum(log[name] * log["n"] for log in logs)
            said = f"the log's {name} is {logged / episodes:g} where the steps say {total / episodes:g}"
            require(abs(logged - total) <= 1e-3 + 1e-5 * abs(total), said)
    require(env.log()["n"] == 0, "the log is not empty after it was read")
    return ends


def _first_disagreement(env: Vector) -> str:
    """Where the run of the check above, with an equal `env`, first has an episode in the log and none in the
    buffers, or one there and none in the log."""
    rollout, agents = Rollout(env), np.eye(env.num_agents, dtype=bool)
    for step, actions in enumerate(_all_actions(env, LONGEST)):
        rollout.step(actions)
        for row, ended in enumerate(rollout.ended):
            count = env.log(only=agents[row])["n"]
            if count != ended:
                return f"{place(env.spec, row, step)}: {count:g} in the log, {int(ended)} in the buffers"
    raise AssertionError("two equal runs differ")


def a_random_agent_scores_as_documented(path: str | Path) -> None:
    env = make(path, 512, seed=4)
    rollout, ended = Rollout(env), 0
    for step, actions in enumerate(_all_actions(env, LONGEST)):
        # About one of each environment, not those alone that are soon over; fewer where they are long.
        if step % 1000 == 0 and (ended >= 512 or (step >= 4000 and ended >= 100)):
            break
        rollout.step(actions)
        ended += int(rollout.ended.sum())
    log, (low, high) = env.log(), env.spec.random_score
    few = f"{log['n']:g} episodes of a random agent end in {LONGEST:,} steps: too few to judge"
    require(log["n"] >= 100, few)
    require(low <= log["score"] <= high, f"it scores {log['score']:g}, not in RANDOM_SCORE {low:g}, {high:g}")
    require(env.spec.solved_score > high, "SOLVED_SCORE is not above RANDOM_SCORE")


def every_setting_changes_something(path: str | Path) -> None:
    spec = read_spec(path)
    actions = random_actions(spec, STEPS, make(path, 16).num_agents)
    for key, setting in spec.settings.items():
        ends = [end for end in (setting.low, setting.high) if end != setting.default]
        changes = any(_changes(path, {key: end}, actions) for end in ends)
        require(changes, f"setting {key} changes nothing between its lowest and its highest value")


def _changes(path: str | Path, settings: dict[str, float], actions: Array) -> bool:
    """Whether anything that can be seen is other than without `settings`; mostly it soon is."""
    one, other = Rollout(make(path, 16, seed=0)), Rollout(make(path, 16, seed=0, settings=settings))
    if not np.array_equal(one.obs, other.obs):
        return True
    for row in actions:
        one.step(row)
        other.step(row)
        seen = zip(one.seen().values(), other.seen().values(), strict=True)
        if not all(np.array_equal(a, b) for a, b in seen):
            return True
    return False


def the_readme_documents_it(path: str | Path) -> None:
    spec = read_spec(path)
    readme = spec.path.parent / "README.md"
    require(readme.is_file(), "there is no README.md beside the header")
    text = readme.read_text(encoding="utf-8", errors="replace")
    rows = re.findall(r"^\| `(\w+)` \| (int|float) \| ([^|]+) \| ([^|]+) to ([^|]+) \|", text, re.MULTILINE)
    documented = {key: (kind, *map(_number, numbers)) for key, kind, *numbers in rows}
    for key, setting in spec.settings.items():
        wanted = (setting.kind, setting.default, setting.low, setting.high)
        line = (
            f"| `{key}` | {setting.kind} | {setting.default:g} | {setting.low:g} to {setting.high:g} | ... |"
        )
        require(documented.get(key) == wanted, f"README.md lacks the row {line}")
    others = sorted(set(documented) - set(spec.settings))
    require(not others, f"README.md has settings that there are not: {', '.join(others)}")
    for line in (
        f"Solved: {spec.solved_score:g}",
        f"Random: {spec.random_score[0]:g} to {spec.random_score[1]:g}",
    ):
        found = re.search(re.escape(line) + r"(?!\.?\d)", text)
        require(found, f"README.md lacks the line '{line}'")


def _number(word: str) -> float:
    """A number in a README; of another word, one that equals none."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def a_restored_state_continues(path: str | Path) -> None:
    env = make(path, 16, seed=0)
    # A pointer still leads somewhere in this process, and nowhere in one that goes on from a file.
    text = COMMENTS.sub(" ", env.spec.path.read_text(encoding="utf-8", errors="replace"))
    struct = ENV.search(text)
    for line in re.sub(r"\[[^]]*\]", "", struct[1] if struct else "").split(";"):
        require("*" not in line, f"Env holds a pointer: {' '.join(line.split())}")
    actions = random_actions(env.spec, 2 * STEPS, env.num_agents)
    rollout = Rollout(env)
    for row in actions[:STEPS]:
        rollout.step(row)
    other = Rollout(make(path, 16, seed=99, threads=2))
    other.env.set_state(env.get_state())
    for row in actions[STEPS:]:
        rollout.step(row)
        other.step(row)
        for (name, a), b in zip(rollout.seen().items(), other.seen().values(), strict=True):
            require(np.array_equal(a, b), f"{name} differ after the state was put back")
    require(env.log() == other.env.log(), "the log differs after the state was put back")


def the_picture_is_plain_text(path: str | Path) -> None:
    env = make(path, 8, seed=6)
    if not env.spec.rendered:
        return
    rollout = Rollout(env)
    for step, actions in enumerate(random_actions(env.spec, 100, env.num_agents)):
        state, text = env.get_state(), env.render()
        where = place(env.spec, 0, step)
        require(env.get_state() == state, f"env_render changes the environment ({where})")
        require(text.strip(), f"env_render puts nothing ({where})")
        require(len(text.encode()) < TEXT_BYTES - 1, f"env_render puts {TEXT_BYTES} bytes or more ({where})")
        odd = next((c for c in text if not (c.isprintable() or c == "\n") or c == "\ufffd"), None)
        require(odd is None, f"env_render puts {odd!r}, which is no plain text ({where})")
        rollout.step(actions)


def sanitized(path: str | Path, sanitizers: str) -> None:
    """Run the environment under `sanitizers` any action, the ends of all settings and all between."""
    spec = read_spec(path)
    command = [*build.compiler(), f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probe = folder / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        built = subprocess.run([*command, str(probe), "-o", str(folder / "probe")], capture_output=True)
        if built.returncode:
            raise Unsupported(f"this compiler lacks -fsanitize={sanitizers}")
        unit, program = folder / "unit.c", folder / "driver"
        unit.write_text('#include "vector.c"\n#include "driver.c"\n')
        flags = ["-g", "-O1", "-ffp-contract=off", "-pthread", "-Wall", "-Wextra", "-Werror"]
        flags += ["-Wno-unused-function", "-Wno-unused-parameter"]
        flags += ["-I", str(FOLDER), "-include", str(spec.path)]
        result = subprocess.run(
            [*command, *flags, str(unit), "-o", str(program), "-lm"], capture_output=True, text=True
        )
        require(result.returncode == 0, f"the compiler warns: {_told(result.stderr)}")
        # Leaks need ptrace, which is often forbidden.
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        runs = [("1", "default", "default"), ("1", "low", "low"), ("1", "high", "high"), ("1", "low", "high")]
        if sanitizers == "thread":  # slow, and a thread that is alone gets in nobody's way
            runs = [("3", "default", "default"), ("2", "low", "high")]
        for threads, *ends in runs:
            values = [repr(float(getattr(one, end))) for one in spec.settings.values() for end in ends]
            which = " to ".join(dict.fromkeys(ends))
            try:
                result = subprocess.run(
                    [program, threads, *values],
                    capture_output=True,
                    text=True,
                    errors="replace",
                    env=environment,
                    timeout=SANITIZED_SECONDS,
                )
            except subprocess.TimeoutExpired:
                raise ContractError(
                    f"a step does not end, or takes very long, with {which} settings"
                ) from None
            if "unexpected memory mapping" in result.stderr:
                raise Unsupported("the thread sanitizer does not run on this kernel")
            require(result.returncode == 0, f"with {which} settings: {_told(result.stderr)}")
            *printed, last = result.stdout.splitlines() or [""]
            require(last.endswith(" episodes"), f"with {which} settings: it ends the program (exit)")
            require(not printed, f"it prints {printed[0] if printed else ''!r}")


def _told(messages: str) -> str:
    """The line of a compiler or a sanitizer that says what is wrong, and where in the header."""
    lines = [line.strip() for line in messages.splitlines()]
    said = next((line for line in lines if re.search(r"error:|ERROR:|WARNING:", line)), "it crashes")
    where = next((found[0] for line in lines if (found := re.findall(r"[\w.-]+\.h:\d+", line))), "")
    overflow = re.search(r"AddressSanitizer: (\S+) on address", said)
    if overflow:
        # Which buffer: the line of the driver that allocated it names it.
        made = re.findall(r"driver\.c:(\d+)", messages.partition("allocated by")[2])
        line = (FOLDER / "driver.c").read_text().splitlines()[int(made[0]) - 1] if made else ""
        name = re.search(r"\*(\w+) = ", line)
        access = "written" if re.search(r"^WRITE of size", messages, re.MULTILINE) else "read"
        said = f"{overflow[1]}: {name[1] if name else 'memory'} is {access} past its ends"
    return said if not where or where in said else f"{said} ({where})"


def memory_safety(path: str | Path) -> None:
    sanitized(path, "address,undefined")


def threads_are_apart(path: str | Path) -> None:
    sanitized(path, "thread")


def compiles_as_cuda_would_have_it(path: str | Path) -> None:
    """CUDA is C++: no C-only syntax may slip into a header."""
    plus = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if plus is None:
        raise Unsupported("no C++ compiler")
    with tempfile.TemporaryDirectory() as name:
        unit = Path(name) / "unit.cpp"
        unit.write_text('#include "vector.c"\n')
        command = [plus, "-fsyntax-only", "-Wall", "-I", FOLDER, "-include", read_spec(path).path, unit]
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    require(result.returncode == 0, _told(result.stderr))


MENDS = {  # what to do about a check that fails
    "memory": "stay inside the buffers of Io (ocean.h says how long they are) and the arrays of Env, "
    "let every loop end, whatever the action and the settings, and neither print nor exit",
    "threads": "keep everything in Env: no globals, nothing static",
    "c++": "write what C and C++ share",
    "written": "set it, zeros too, in every env_step (what env_reset has of it also there)",
    "ranges": "keep to the range, or declare the range that it has",
    "ends": "write final_obs, then begin the next episode, then write obs",
    "index": "keep everything in Env, set it in env_reset, draw from env->rng alone",
    "seeds": "draw something from env->rng in env_reset or env_step",
    "reset": "set all of Env but rng and log in env_reset",
    "log": "add to the log (n by 1) in those steps, and only those, that set terminals or truncations to 1",
    "random": "correct the line in the header and in README.md, if it is not the rules that are wrong",
    "settings": "use it as settings->NAME, or take its line out of SETTINGS",
    "readme": "write that beside the header, where squared/README.md is the model",
    "render": "put lines of letters and signs, fewer than 65,536 bytes, and leave env as it is",
    "state": "keep everything in Env, and no pointers there",
}

CHECKS: dict[str, Callable[[str | Path], None]] = {
    "memory": memory_safety,  # first: see above
    "threads": threads_are_apart,
    "c++": compiles_as_cuda_would_have_it,
    "written": every_element_is_written,
    "ranges": values_lie_in_the_declared_ranges,
    "ends": an_end_is_followed_by_a_beginning,
    "index": seed_and_index_alone_decide,
    "seeds": seeds_and_environments_differ,
    "reset": a_seeded_reset_starts_anew,
    "log": the_log_agrees_with_rewards_and_ends,
    "random": a_random_agent_scores_as_documented,
    "settings": every_setting_changes_something,
    "readme": the_readme_documents_it,
    "render": the_picture_is_plain_text,
    "state": a_restored_state_continues,
}
