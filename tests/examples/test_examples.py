"""Every config and script under examples/ runs as a user would run it: through the command line."""

import json
from pathlib import Path

import pytest

import ocean
from sweeper.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS = "total_timesteps={{distribution: log, type: int, min: {}, max: {}}}"
TRAIN = f"parameters.train.{STEPS}"
SMALLER = {  # what makes a trial of the dear examples short enough for a test
    "acrobot": [TRAIN.format(3e3, 5e3), "fixed.train.eval_episodes=4"],
    "breakout": [TRAIN.format(3e4, 1e5)],
    "cartpole": [TRAIN.format(5e3, 2e4)],
    "connect4": [TRAIN.format(3e4, 1e5)],
    "freeway": [TRAIN.format(3e4, 1e5)],
    "game2048": [TRAIN.format(3e4, 1e5)],
    "gold": ["parameters." + STEPS.format(1e4, 3e4)],
    "lookahead": ["parameters." + STEPS.format(2e3, 5e3)],
    "memory": [TRAIN.format(1e4, 3e4)],
    "pendulum": [TRAIN.format(1e4, 1e5)],
    "pong": [TRAIN.format(3e4, 1e5)],
    "snake": [TRAIN.format(3e4, 1e5)],
    "spirals": ["parameters.epochs.max=20"],
    "squared": [TRAIN.format(3e4, 1e5)],
    "tetris": [TRAIN.format(3e4, 1e5)],
    "wilds": [TRAIN.format(3e4, 1e5)],
}


def sweep(*words: str) -> None:
    """One command in this process: each of its own would import for two seconds."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 0


@pytest.mark.parametrize("config", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_sweeps_to_its_picture(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # One worker, for each imports torch: it runs the start and a draw from all that the example sweeps.
    settings = ["budget.trials=2", "workers.count=1", *SMALLER.get(config.stem, [])]
    overrides = [f"--set={setting}" for setting in settings]
    sweep("run", str(config), *overrides)
    run = tmp_path / "runs" / config.stem
    assert (run / "pareto.png").stat().st_size > 10_000
    capsys.readouterr()
    sweep("export", "--format", "json")
    trials = json.loads(capsys.readouterr().out)
    assert [trial["status"] for trial in trials] == ["done"] * 2
    assert all(trial["cost"] > 0 for trial in trials)


def test_every_environment_has_a_config() -> None:
    for name in ocean.names():
        assert f"objective: {{train: {name}" in (EXAMPLES / f"{name}.yaml").read_text()


def test_every_script_has_a_config() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts <= {path.stem for path in EXAMPLES.glob("*.yaml")}
