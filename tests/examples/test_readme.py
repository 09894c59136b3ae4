"""What the README shows works as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import config, objectives

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_config_that_is_explained_is_valid(tmp_path: Path) -> None:
    (explained,) = [block for block in blocks("yaml") if block.startswith("name: breakout")]
    objectives.make(config.parse(explained, folder=tmp_path)).check()


def test_ask_and_tell(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = blocks("python")
    trained = []

    def train(lr: float, steps: int) -> tuple[float, float]:
        trained.append(lr)
        return steps**0.5 - 100 * abs(lr - 0.01), steps / 1000

    exec(compile(snippet, "README.md", "exec"), {"train": train})
    assert len(trained) == 50
    assert capsys.readouterr().out.count("'lr'") >= 2


def test_the_script_prints_what_is_shown() -> None:
    shown = re.findall(r'^\{"epoch": \d+, "accuracy": (.+?), "seconds"', README, re.MULTILINE)
    command = [sys.executable, "examples/spirals.py", "--learning-rate", "0.01", "--epochs", "2"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    printed = [json.loads(line)["accuracy"] for line in said.splitlines()]
    assert [float(text) for text in shown] == pytest.approx(printed, abs=0.02)  # processors round differently
