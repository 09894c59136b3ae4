"""Every benchmark runs at a small size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SMALL = {
    "early_stop": ["--seeds", "1", "--trials", "14", "--points", "3", "--tasks", "hard-log"],
    "gpu": ["--emulated"],
    "ocean": ["--envs", "64", "--seconds", "0.05"],
    "overhead": ["--trials", "3"],
    "pufferlib": [os.environ.get("PUFFERLIB_PYTHON", ""), "cartpole", "--rounds", "1", "--seconds", "0.01"],
    "scale": ["--workers", "20", "--trials", "60", "--soak", "20", "--sizes", "30"],
    "solved": ["--seeds", "1"],
    "storm": ["--kills", "6", "--seconds", "0.2"],
    "trainer": ["--steps", "20000", "--seeds", "1"],
}


def test_none_is_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    if name == "solved":
        pytest.importorskip("gymnasium")
    if name == "pufferlib" and not SMALL[name][0]:
        pytest.skip("PUFFERLIB_PYTHON names no interpreter that has pufferlib 3.0")
    done = subprocess.run(
        [sys.executable, "-P", str(FOLDER / f"{name}.py"), *SMALL[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_table_of_floors_is_the_one_that_is_printed() -> None:
    command = [sys.executable, "-P", str(FOLDER / "gpu.py"), "--floors"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    table = (FOLDER.parent / "cuda" / "README.md").read_text()
    for line in printed.splitlines():
        assert f"\n{line}" in table


def test_a_peer_that_is_not_there_is_named(tmp_path: Path) -> None:
    for python, words in {
        sys.executable: "cannot import pufferlib",
        str(tmp_path): "is no interpreter",
    }.items():
        done = subprocess.run(
            [sys.executable, "-P", str(FOLDER / "pufferlib.py"), python], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
