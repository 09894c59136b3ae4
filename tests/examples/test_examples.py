"""Every config and script under examples/ runs as a user would run it: through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ocean

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALLER = {  # what makes a trial of the dear examples short enough for a test
    "acrobot.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 3e3, max: 1e4}"],
    "breakout.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 5e4, max: 2e5}"],
    "memory.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 1e4, max: 3e4}"],
    "pendulum.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 1e4, max: 1e5}"],
    "pong.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 5e4, max: 3e5}"],
    "connect4.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 5e4, max: 2e5}"],
    "freeway.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 5e4, max: 2e5}"],
    "game2048.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 3e4, max: 1e5}"],
    "snake.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 3e4, max: 1e5}"],
    "squared.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 5e4, max: 2e5}"],
    "wilds.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 3e4, max: 1e5}"],
    "gold.yaml": ["parameters.total_timesteps={distribution: log, type: int, min: 1e4, max: 3e4}"],
    "lookahead.yaml": ["parameters.total_timesteps={distribution: log, type: int, min: 2e3, max: 5e3}"],
    "tetris.yaml": ["parameters.train.total_timesteps={distribution: log, type: int, min: 3e4, max: 1e5}"],
    "cartpole.yaml": ["parameters.train.total_timesteps.max=100000"],
}


def sweep(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sweeper.cli", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("config", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_sweeps_to_its_picture(config: Path, tmp_path: Path) -> None:
    overrides = [f"--set={setting}" for setting in ["budget.trials=4", *SMALLER.get(config.name, [])]]
    done = sweep("run", str(config), *overrides, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / config.stem
    assert (run / "pareto.png").stat().st_size > 10_000
    trials = json.loads(sweep("export", "--format", "json", folder=tmp_path).stdout)
    assert [trial["status"] for trial in trials] == ["done"] * 4
    assert all(trial["cost"] > 0 for trial in trials)


def test_every_environment_has_a_config() -> None:
    for name in ocean.names():
        assert f"objective: {{train: {name}" in (EXAMPLES / f"{name}.yaml").read_text()


def test_every_script_has_a_config() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts <= {path.stem for path in EXAMPLES.glob("*.yaml")}
