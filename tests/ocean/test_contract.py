"""What every environment owes its users. One file for all of them, yours too:

OCEAN_HEADERS="path/to/yours.h" python -m pytest tests/ocean/test_contract.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ocean
from ocean import contract
from ocean.header import FOLDER

ENVIRONMENTS = ocean.names() + os.environ.get("OCEAN_HEADERS", "").split()
SQUARED = (FOLDER / "squared" / "squared.h").read_text()


@pytest.mark.parametrize("check", contract.CHECKS)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_keeps_the_contract(name: str, check: str) -> None:
    try:
        contract.CHECKS[check](name)
    except contract.Unsupported as reason:
        pytest.skip(str(reason))


def broken(folder: Path, there: str, instead: str) -> Path:
    """The template with a mistake in it."""
    assert there in SQUARED
    header = folder / "squared.h"
    header.write_text(SQUARED.replace(there, instead))
    (folder / "README.md").write_text((FOLDER / "squared" / "README.md").read_text())
    return header


@pytest.mark.parametrize(
    ("there", "instead", "check", "words"),
    [
        ("i < OBS_SIZE; i++", "i < OBS_SIZE + 1; i++", "memory", "heap-buffer-overflow.*squared.h:"),
        (
            "env->log.score += reached;",
            "env->log.score += 2147483647 + env->steps;",
            "memory",
            "integer overflow",
        ),
        ("io->rewards[0] = reward;", "if (late) io->rewards[0] = reward;", "written", "rewards: not all"),
        ("io->truncations[0] = late;", "", "written", "truncations: not all elements are written by a step"),
        ("observe(env, io->final_obs);", "", "written", "final observations: not all"),
        ("obs[env->target_y * SIZE + env->target_x] = 1", "obs[0] = 7", "ranges", "-1 to 7 is not in OBS"),
        ("reward = 1.0f;", "reward = INFINITY;", "ranges", "rewards: not all are finite"),
        ("io->terminals[0] = fell || reached;", "io->terminals[0] = 0;", "log", "counts .* episodes where"),
        ("env->log.episode_return += reward;", "", "log", "episode_return is 0 where the steps say"),
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
