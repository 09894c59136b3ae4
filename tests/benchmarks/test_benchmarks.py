"""Every benchmark runs at a small size."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SMALL = {
    "bounds": ["--seeds", "3"],
    "breakout": [
        "runs/breakout",
        "--seeds=2",
        "--workers=1",
        "--steps=1e5",
        "--table=new.md",
        "--picture=new/new.png",
    ],
    "early_stop": ["--seeds", "1", "--trials", "14", "--points", "3", "--tasks", "hard-log"],
    "gpu": ["--emulated", "--only", "sharing"],  # its parts: see below
    "ocean": ["--envs", "64", "--seconds", "0.05"],
    "overhead": ["--trials", "3"],
    "pufferlib": [os.environ.get("PUFFERLIB_PYTHON", ""), "cartpole", "--rounds", "1", "--seconds", "0.01"],
    "same_cost": ["--seeds", "1", "--after", "8", "--functions", "branin"],
    "scale": ["--workers", "20", "--trials", "60", "--soak", "20", "--sizes", "30"],
    "solved": ["--seeds", "1"],
    "storm": ["--kills", "4", "--seconds", "0.2"],
    "switch": [
        *(str(FOLDER.parent / "examples" / "cartpole.yaml"), "train.normalize_rewards=false"),
        *("--settings=2", "--reach=20", "--workers=1"),  # each imports torch
    ],
    "trainer": ["cartpole", "pendulum", "snake", "--steps", "20000", "--seeds", "1"],
}
STEPS = "{distribution: log, type: int, min: 3e4, max: 1e5}"
BEFORE = {  # what a benchmark needs to find
    "breakout": [
        *("-m", "sweeper.cli", "run", str(FOLDER.parent / "examples" / "breakout.yaml")),
        *(
            "--set=budget.trials=2",
            "--set=workers.count=1",
            f"--set=parameters.train.total_timesteps={STEPS}",
        ),
    ]
}


def test_none_is_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SMALL)


# PufferLib needs an interpreter of its own, and runs where PUFFERLIB_PYTHON names it; else see below.
@pytest.mark.parametrize("name", sorted(name for name in SMALL if SMALL[name][0]))
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    if name == "solved":
        pytest.importorskip("gymnasium")
    if name in BEFORE:
        subprocess.run([sys.executable, "-P", *BEFORE[name]], cwd=tmp_path, check=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-P", str(FOLDER / f"{name}.py"), *SMALL[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_our_side_of_pufferlib_answers_and_an_interpreter_without_it_is_named() -> None:
    command = [sys.executable, "-P", str(FOLDER / "pufferlib.py")]
    asked = [
        ["bare", ["squared", 0.01]],
        ["trained", ["cartpole", False, "float32", 0.01]],
        ["products", ["float32"]],
    ]
    lines = "".join(json.dumps(line) + "\n" for line in asked)
    ours = subprocess.run(
        [*command, "--side", "ours"], input=lines, capture_output=True, text=True, timeout=120
    )
    assert ours.returncode == 0, ours.stderr
    answers = [json.loads(line) for line in ours.stdout.splitlines()]
    assert [answer["rate"] > 1e5 for answer in answers] == [True] * 3
    without = subprocess.run([*command, sys.executable], capture_output=True, text=True, timeout=120)
    assert without.returncode == 2
    assert "cannot import pufferlib.pufferl" in without.stderr


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


def load(name: str) -> Any:
    """The module of a benchmark."""
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


PARTS = load("gpu").PARTS


@pytest.mark.parametrize("part", sorted(set(PARTS) - {"sharing"}))
def test_a_part_of_the_gpus_runs_emulated(part: str) -> None:
    module = load("gpu")
    assert list(PARTS[part](module.Watch(module.torch.device("cpu"), 570)))


def test_the_oracle_ends_what_lifts_nothing_and_nothing_else() -> None:
    bench = load("early_stop")
    task = bench.TASKS["log"]
    known = bench.Sweep(ran=[{"lr": 1e-3, "steps": 100_000}])  # the best params: 0.5 of 1 for 10 s
    good, bad = {"lr": 1e-3, "steps": 200_000}, {"lr": 1e-4, "steps": 200_000}
    assert [bench.lifts(task, known, good, 100_000, by) for by in (0.0, 0.14, 0.16)] == [True, True, False]
    assert bench.lifts(task, bench.Sweep(), bad, 20_000, 0.0)  # where there is nothing yet
    assert not bench.lifts(task, known, bad, 20_000, 0.0)  # the good ones could have been ended there
    sweep = bench.sweep(task, 0, 14, 3, stop=True, blind=True, oracle=0.02)
    assert 0 < sweep.ended < 14
    assert sweep.wrong == 0
    kept = bench.sweep(task, 0, 14, 3, stop=True, blind=True, oracle=0.0)
    whole = bench.sweep(task, 0, 14, 3, stop=False, blind=True, oracle=0.0)
    assert bench.share(task, kept) == pytest.approx(bench.share(task, whole))
    assert kept.spent < whole.spent == whole.full == kept.full


def test_the_best_number_of_trainings_at_once_is_the_one_with_most_trials(monkeypatch: Any) -> None:
    module = load("gpu")
    trials = [4.0] + 2 * [3.0] + 4 * [2.0] + 8 * [0.9]  # of each process, in half a minute
    names: list[str] = []
    waiting: list[int] = []

    class Process:
        def __init__(self, command: list[str], **_: Any) -> None:
            names.append(command[-2])
            self.stdin, self.stdout, self.number = self, self, len(names)
            waiting.append(self.number)

        def readline(self) -> str:
            assert self.number in waiting
            return "ready\n"

        def write(self, text: str) -> None:
            assert text == "go\n"
            waiting.remove(self.number)
            if self.number == 16:  # it crashed before
                raise BrokenPipeError

        def flush(self) -> None:
            pass

        def communicate(self, timeout: float) -> tuple[str, None]:
            assert not waiting  # all have begun
            said = {"trials": trials[(self.number - 1) % 15], "seconds": 30.0}
            return "" if self.number == 16 else json.dumps(said) + "\n", None

    monkeypatch.setattr(module.subprocess, "Popen", Process)
    monkeypatch.setattr(module, "mps", lambda: "MPS is on")
    watch = module.Watch(module.torch.device("cuda"), 570)
    said = list(module.sharing(watch))
    assert names == ["cartpole"] * 15 + ["breakout"] * 15
    assert said[0] == "MPS is on"
    assert said[3] == "cartpole   4 at once:     16.0 trials a minute together"
    assert said[5] == "cartpole   4 at once are best: workers: {gpus_per_trial: 0.25}"
    assert said[6] == "breakout   1 at once: 1 failed"


def test_a_part_that_crashes_or_hangs_costs_no_other_part(
    tmp_path: Path, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    module = load("gpu")
    program = tmp_path / "parts.py"  # in the place of gpu.py: the parts' names say what they do
    program.write_text(
        "import os, subprocess, sys, time\n"
        "name = sys.argv[sys.argv.index('--part') + 1]\n"
        "print(f'  a line of {name}', flush=True)\n"
        "if name == 'check': os.abort()\n"
        "if name == 'solving': subprocess.Popen(['sleep', '60']).wait()\n"
    )
    monkeypatch.setattr(module, "__file__", str(program))
    monkeypatch.setattr(module, "MOST_SECONDS", {"solving": 3})
    assert module.apart("build", 60, False) is None
    assert module.apart("check", 60, False) == "ended with -6"
    begin = time.monotonic()
    assert module.apart("solving", 60, False) == "stopped after 3 s"
    assert time.monotonic() - begin < 30
    assert capfd.readouterr().out.count("a line of") == 3


def test_the_tests_of_a_gpu_are_run_file_by_file(tmp_path: Path, monkeypatch: Any) -> None:
    module = load("gpu")
    marked = "import os, pytest\n@pytest.mark.gpu\ndef test_it():\n    "
    bodies = {"a_fails": "assert os.sep == '-' * 120", "b_crashes": "os.abort()", "c_passes": "pass"}
    for name, body in bodies.items():
        (tmp_path / f"test_{name}.py").write_text(marked + body)
    (tmp_path / "test_d_is_not_marked.py").write_text("assert False")
    monkeypatch.setattr(module, "TESTS", tmp_path)
    said = list(module.check(module.Watch(module.torch.device("cuda"), 570)))
    heads = [line for line in said if line.startswith("test_")]
    assert heads == ["test_a_fails: exit 1", "test_b_crashes: exit -6", "test_c_passes: exit 0"]
    assert any("FAILED" in line and "assert '/' == " in line for line in said)  # and why
    assert said[-1].startswith("NOT WELL")
    for name in ("a_fails", "b_crashes"):
        (tmp_path / f"test_{name}.py").unlink()
    assert list(module.check(module.Watch(module.torch.device("cuda"), 570)))[-1] == "all well"
    (tmp_path / "test_skips.py").write_text(marked + "pytest.skip('a GPU that no test can use')")
    assert list(module.check(module.Watch(module.torch.device("cuda"), 570)))[-1].startswith("NOT WELL")


@pytest.mark.parametrize(("code", "words"), [(0, "MPS is on"), (1, "MPS is off"), (None, "not known")])
def test_whether_processes_are_on_a_gpu_at_the_same_time_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, words: str
) -> None:
    control = tmp_path / "nvidia-cuda-mps-control"
    if code is not None:
        control.write_text(f"#!/bin/sh\nread asked && test $asked = get_server_list && exit {code}\nexit 1\n")
        control.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert words in load("gpu").mps()


def test_breakout_compares_with_what_the_front_named_for_no_more(tmp_path: Path) -> None:
    module = load("breakout")

    def entry(name: str, costs: list[float], scores: list[float]) -> Any:
        params = {"train.total_timesteps": 1000}
        return module.Entry(name, params, believed=0.0, costs=costs, scores=scores)

    # the second was named for 2 s and more, so it counts there although it came to less than the first
    front = [entry("trial 1", [0.9, 1.1], [500.0, 500.0]), entry("trial 2", [2.0, 2.0], [90.0, 110.0])]
    sure, unsure = entry("sure", [3.0, 3.0], [199.0, 201.0]), entry("unsure", [3.0, 3.0], [100.0, 300.0])
    cheap, cheaper = entry("cheap", [1.5, 1.5], [199.0, 201.0]), entry("cheaper", [0.5, 0.5], [1.0, 1.0])
    rows = module.table(front, {"peer": [sure, unsure, cheap, cheaper]})[2:6]
    named = [[cell.strip() for cell in row.split("|")][5::3] for row in rows]
    assert named == [["trial 2", "**yes**"], ["trial 2", "no"], ["trial 1", "no"], ["none", "**yes**"]]


def test_a_folder_that_is_no_run_of_breakout_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-P", str(FOLDER / "breakout.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"there is no run in {tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr
