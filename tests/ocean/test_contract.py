"""What every environment owes its users. One file for all of them, yours too:

OCEAN_HEADERS="path/to/yours.h" python -m pytest tests/ocean/test_contract.py
"""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

import ocean
from ocean import contract
from ocean.header import FOLDER

ENVIRONMENTS = ocean.names() + os.environ.get("OCEAN_HEADERS", "").split()


@pytest.mark.parametrize("check", contract.CHECKS)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_keeps_the_contract(name: str, check: str) -> None:
    try:
        contract.CHECKS[check](name)
    except contract.Unsupported as reason:
        pytest.skip(str(reason))


def broken(folder: Path, there: str, instead: str, name: str = "squared") -> Path:
    """A bundled environment, the template if no other is named, with a mistake in it."""
    source = (FOLDER / name / f"{name}.h").read_text()
    assert there in source
    header = folder / f"{name}.h"
    header.write_text(source.replace(there, instead))
    (folder / "README.md").write_text((FOLDER / name / "README.md").read_text())
    return header


@pytest.mark.parametrize("check", ["ranges", "index", "seeds", "reset"])
def test_a_check_holds_no_more_than_a_few_steps(check: str) -> None:
    """Of an environment that shows images all 400 would be gigabytes."""
    step = 8 * 64 * 4 * 11 * 11  # bytes of snake's observations, in eight environments
    tracemalloc.start()
    try:
        contract.CHECKS[check]("snake")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 60 * step


EXITS = "extern void exit(int); if (env->steps++ > 30) exit(0);"
BEGINS = "        env_reset(env, settings, io);"  # an episode, where another ended


@pytest.mark.parametrize(
    ("there", "instead", "check", "words"),
    [
        ("i < OBS_SIZE; i++", "i < OBS_SIZE + 1; i++", "memory", "obs is written past its ends .squared.h:"),
        (
            "env->log.score += reached;",
            "env->log.score += 2147483647 + env->steps;",
            "memory",
            "integer overflow",
        ),
        (
            "io->rewards[0] = reward;",
            "io->rewards[0] = io->rewards[1] = reward;",
            "memory",
            "rewards is written past its ends .squared.h:",
        ),
        (
            "io->rewards[0] = reward;",
            "if (late) io->rewards[0] = reward;",
            "written",
            r"rewards: not all .*\(environment 0, step 1\)",
        ),
        ("io->truncations[0] = late;", "", "written", "truncations: not all elements are written by a step"),
        ("observe(env, io->final_obs);", "", "written", "final observations: not all"),
        (
            "obs[target] = 1",
            "obs[0] = 7",
            "ranges",
            r"-1 to 7 is not in OBS.*element \[0, 0\]",
        ),
        ("reached ? 1.0f", "reached ? INFINITY", "ranges", "rewards: not all are finite"),
        # What keeps to the range by default alone.
        (
            "fall_penalty, 1.0, 0.0, 1.0",
            "fall_penalty, 1.0, 0.0, 2.0",
            "ranges",
            "REWARD.*with fall_penalty 2",
        ),
        (
            "io->terminals[0] = ended;",
            "io->terminals[0] = 0;",
            "log",
            "step 4: 1 in the log, 0 in",
        ),
        ("env->log.episode_return += reward;", "", "log", "episode_return is 0 where the steps say"),
        (BEGINS, f"{BEGINS} observe(env, io->final_obs);", "ends", "is always the first of the next"),
        (BEGINS, "env->steps = 0; observe(env, io->obs);", "ends", "is always the first of the next"),
        ("env->steps++;", EXITS, "memory", "ends the program"),
        ("env->steps++;", r'printf("step %d\n", env->steps++);', "memory", "it prints 'step 0'"),
        ("= reached ?", "= env->log.n > 20 ? 0 : reached ?", "reset", "behind: other rewards"),
        ("rng_below(&env->rng, SIZE * SIZE - 1)", "SIZE", "seeds", "another seed changes nothing"),
        ("env->steps >= settings->max_steps", "env->steps >= 33", "settings", "max_steps changes nothing"),
        ("RANDOM_SCORE 0.05, 0.2", "RANDOM_SCORE 0.3, 0.4", "random", "it scores 0.1.* not in RANDOM_SCORE"),
        ("max_steps, 33, 1", "max_steps, 34, 1", "readme", "lacks the row . `max_steps`"),
    ],
)
def test_a_broken_environment_is_told_what_is_wrong(
    tmp_path: Path, there: str, instead: str, check: str, words: str
) -> None:
    header = broken(tmp_path, there, instead)
    with pytest.raises(contract.ContractError, match=words):
        contract.CHECKS[check](header)


@pytest.mark.parametrize("odd", ["33 steps", "thirty-three", "33\xe9"])
def test_a_readme_with_words_for_numbers_is_told_the_row(tmp_path: Path, odd: str) -> None:
    header = broken(tmp_path, "X(int", "X(int")
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text().replace("| 33 |", f"| {odd} |"), encoding="latin-1")
    with pytest.raises(contract.ContractError, match=r"lacks the row . `max_steps` . int . 33 . 1 to 10000"):
        contract.CHECKS["readme"](header)


def test_a_broken_environment_is_told_which_agent_it_is(tmp_path: Path) -> None:
    there, instead = "io->rewards[agent] = (float)met;", "if (agent != 5) io->rewards[agent] = (float)met;"
    (wrong,) = ocean.check(broken(tmp_path, there, instead, "snake"), only=["written"])
    assert wrong.startswith("written: rewards: ")
    assert wrong.endswith("(environment 0, agent 5, step 1)")
    there, instead = "env->log[agent].n += 1;", "env->log[agent].n += agent != 3;"
    (wrong,) = ocean.check(broken(tmp_path, there, instead, "snake"), only=["log"])
    assert wrong.endswith("agent 3, step 9: 0 in the log, 1 in the buffers)")


def test_a_log_that_is_wrong_where_episodes_are_cut_short_alone_is_told(tmp_path: Path) -> None:
    header = ocean.write_skeleton("maze", tmp_path) / "maze.h"  # whose limit nobody reaches by default
    header.write_text(header.read_text().replace("env->log.n += 1;", "env->log.n += over;"))
    (wrong,) = ocean.check(header, only=["log"])
    assert wrong.endswith("step 200: 0 in the log, 1 in the buffers) with reach 50")


def test_agents_have_ends_and_logs_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = "env->log[agent].n += 1;"
    (wrong,) = ocean.check(broken(tmp_path, there, "env->log[0].n += 1;", "multiagent"), only=["log"])
    assert wrong.endswith("agent 0, step 8: 4 in the log, 1 in the buffers)")
    monkeypatch.setattr(contract, "LONGEST", 2500)
    header = broken(
        tmp_path, "terminals[agent] = over", "terminals[agent] = over && agent != 2", "multiagent"
    )
    header.write_text(header.read_text().replace("        if (over) {", "        if (over && agent != 2) {"))
    (wrong,) = ocean.check(header, only=["log"])
    assert "log: no episode of agent 2 of an environment ends within 2,500 steps" in wrong


def test_an_unusual_environment_is_not_broken(tmp_path: Path) -> None:
    # Long episodes in which little differs: the first two environments even draw the same.
    header = broken(tmp_path, "rng_uniform(&env->rng, -PI, PI)", "(float)rng_below(&env->rng, 2)", "pendulum")
    text = header.read_text().replace("rng_uniform(&env->rng, -1.0f, 1.0f)", "0.0f")
    header.write_text(text.replace("max_steps, 200,", "max_steps, 5000,"))
    assert ocean.check(header, only=["seeds", "log"]) == []
    header = broken(tmp_path, 'text_put(text, "step %d of %d\\n", env->steps, settings->max_steps);', "")
    assert ocean.check(header, only=["memory"]) == []  # a parameter that is not used


@pytest.mark.parametrize(("calls", "header"), [("rand()", "stdlib.h"), ("(int)clock()", "time.h")])
def test_chance_that_is_not_its_own_is_told_as_such(tmp_path: Path, calls: str, header: str) -> None:
    mine = broken(tmp_path, "rng_below(&env->rng, SIZE * SIZE - 1)", f"{calls} % (SIZE * SIZE - 1)")
    mine.write_text(f"#include <{header}>\n{mine.read_text()}")
    contract.CHECKS["written"](mine)  # all is
    with pytest.raises(contract.ContractError, match=r"environments on .* threads: other"):
        contract.CHECKS["index"](mine)


def test_a_buffer_that_is_read_is_told(tmp_path: Path) -> None:
    header = broken(tmp_path, "obs[target] = 1;", "obs[target] = 1; obs[0] += kept;")
    text = header.read_text()
    header.write_text(text.replace("    int x = env->agent_x", "    int kept = obs[0], x = env->agent_x"))
    with pytest.raises(contract.ContractError, match="observations: not all elements are written by a reset"):
        contract.CHECKS["written"](header)


def test_a_pointer_in_a_state_is_told(tmp_path: Path) -> None:
    header = broken(
        tmp_path, "    Rng rng;  //", "    int32_t map[SIZE * SIZE]; /* * */ Obs *last;\n    Rng rng;  //"
    )
    with pytest.raises(contract.ContractError, match=r"Env holds a pointer: Obs \*last$"):
        contract.CHECKS["state"](header)


def test_any_number_of_settings_is_fine(tmp_path: Path) -> None:
    more = " ".join(f'X(int, more_{i}, 1, 0, 2, "")' for i in range(70))
    contract.memory_safety(broken(tmp_path, "#define SETTINGS(X) ", f"#define SETTINGS(X) {more} "))


def test_a_write_past_the_action_mask_is_caught(tmp_path: Path) -> None:
    there, instead = "action_mask[i] = env", "action_mask[i + 1] = env"
    with pytest.raises(contract.ContractError, match=r"action_mask is written past its ends .connect4.h:"):
        contract.CHECKS["memory"](broken(tmp_path, there, instead, "connect4"))


def test_environments_that_share_a_variable_are_told(tmp_path: Path) -> None:
    header = broken(tmp_path, "env->steps++;", "static int all; all += ++env->steps;")
    try:
        with pytest.raises(contract.ContractError, match=r"data race .*\(squared.h:"):
            contract.CHECKS["threads"](header)
    except contract.Unsupported as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("there", "instead", "words"),
    [
        ('"step %d of', '"\\x1b[2Jstep %d of', r"'\\x1b', which is no plain text"),
        ('text_put(text, "step', 'while (text->used < 65535) text_put(text, "step', "65536 bytes or more"),
        ('text_put(text, "step', '((Env *)env)->steps++; text_put(text, "step', "changes the environment"),
    ],
)
def test_a_broken_picture_is_told(tmp_path: Path, there: str, instead: str, words: str) -> None:
    with pytest.raises(contract.ContractError, match=words):
        contract.CHECKS["render"](broken(tmp_path, there, instead))


def test_every_check_has_its_mend() -> None:
    assert list(contract.MENDS) == list(contract.CHECKS)


def test_check_gathers_what_is_wrong(tmp_path: Path) -> None:
    fast = ["written", "ranges", "log", "readme"]
    assert ocean.check("squared", only=fast) == []
    header = broken(tmp_path, "SOLVED_SCORE 0.95", "SOLVED_SCORE 0.9")
    assert ocean.check(header, only=fast) == ["readme: README.md lacks the line 'Solved: 0.9'"]
    # A header that writes where it should not is not run in this process.
    header = broken(tmp_path, "i < OBS_SIZE; i++", "i < OBS_SIZE + 1; i++")
    (wrong,) = ocean.check(header, only=["memory", "written"])
    assert wrong.startswith("memory: ")


def test_the_guards_catch_a_header_that_writes_past_its_row(tmp_path: Path) -> None:
    header = broken(tmp_path, "i < OBS_SIZE; i++", "i < OBS_SIZE + 1; i++")
    with pytest.raises(contract.ContractError, match="observations: written past the end"):
        contract.Rollout(ocean.Vector(header, num_envs=4))


def test_check_shows_the_compilers_line(tmp_path: Path) -> None:
    with pytest.raises(ocean.BuildError, match=r"squared.h:\d+.*error"):
        ocean.check(broken(tmp_path, "env->steps++;", "env->step++;"))
