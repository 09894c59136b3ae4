"""The command line as a person meets it: what it prints, its exit codes, and how fast it starts."""

import csv
import errno
import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import ocean
from sweeper.cli import main
from sweeper.config import parse
from sweeper.executors import WorkerState
from sweeper.export import as_csv, defused
from sweeper.gif import YELLOW
from sweeper.logs import printable
from sweeper.loop import Outcome
from sweeper.progress import TrainingLine, observer, panel
from sweeper.proposer import Member
from sweeper.store import Point, Store, TrialRow
from sweeper.summary import run_summary
from sweeper.verify import verdict, verify
from sweeper.yaml12 import read_yaml
from trainer import training
from trainer.checkpoint import load

CONFIG = """\
name: demo
objective: {synthetic: log}
budget: {trials: 8}
workers: {count: 1}
parameters:
  lr: {distribution: log, min: 1e-5, max: 0.1}
  steps: {distribution: log, type: int, min: 10000, max: 1e6}
"""


def sweep(*words: str, code: int = 0) -> None:
    """One command in this process; its exit code is asserted."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == code


def python(*words: str, **options) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run([sys.executable, "-P", *words], **options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder with the config in it."""
    monkeypatch.chdir(tmp_path)
    Path("demo.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def stored(here):
    """A run on disk as the loop leaves one: done, failed and queued trials."""
    with Store.create("runs/demo", parse(CONFIG)) as store:
        for number, (steps, score) in enumerate([(20_000, 0.2), (100_000, 0.5), (90_000, 0.1)], 1):
            store.add_trial(number, {"lr": 1e-3, "steps": steps}, "design")
            store.start_trial(number, 0)
            cost = steps / 1e4
            store.end_trial(
                number, "done", score=score, cost=cost, points=[Point(steps, cost, score)], seconds=cost
            )
        store.add_trial(4, {"lr": 0.1, "steps": 50_000}, "model")
        store.start_trial(4, 0)
        store.end_trial(4, "failed", cost=1.5, failure="crash", message="=HYPERLINK(\x1b[31mboom\x1b[0m)")
        store.trial_folder(4).mkdir(parents=True)
        (store.trial_folder(4) / "log.txt").write_text(
            "first\n\x1b]0;title\x07[bold]last \x1b[2Jline[/bold]\n"
        )
        store.add_trial(5, {"lr": 0.01, "steps": 60_000}, "model")
    return here


# ---------------------------------------------------------------- starting


def test_help_starts_fast():
    def seconds(*words):  # processor seconds, the best of three
        best = float("inf")
        for _ in range(3):
            before = os.times()
            assert python(*words).returncode == 0
            after = os.times()
            spent = after.children_user - before.children_user
            spent += after.children_system - before.children_system
            best = min(best, spent)
        return best

    bare = seconds("-c", "import click")
    assert seconds("-m", "sweeper.cli", "--help") < bare + 0.25


def test_help_names_every_command():
    text = python("-m", "sweeper.cli", "--help").stdout
    looking = ("run", "check", "status", "best", "plot", "export", "verify", "bench", "train", "play", "env")
    for command in (*looking, "stop", "pause", "resume", "enqueue", "exclude", "repair"):
        assert f"\n  {command} " in text


@pytest.mark.parametrize(
    "words", [["check", "demo.yaml"], ["status"], ["export"], ["--version"], ["play", "squared"]]
)
def test_looking_needs_no_torch(words, stored):
    code = (
        "import sys\nfrom sweeper.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = [m for m in ('torch', 'gpytorch', 'scipy', 'matplotlib') if m in sys.modules]\n"
        "assert (code, heavy) == (0, []), (code, heavy)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- checking


def test_check_says_what_it_understood(here, capsys):
    sweep("check", "demo.yaml", "--set", "budget.time=2h", "--set", "seed=7")
    out = capsys.readouterr().out
    for words in ("synthetic log", "score, maximize", "8 trials or 2 h 00 m", "seed       7", "2 parameters"):
        assert words in out
    assert re.search(r"lr +log +1e-05 to 0.1 ", out)
    assert re.search(r"steps +log int +10000 to 1000000 ", out)
    assert out.splitlines()[-1] == "ok"
    assert [p.name for p in here.iterdir()] == ["demo.yaml"]  # nothing was written


def test_what_the_terminals_encoding_lacks_is_written_with_escapes(here, monkeypatch):
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "latin-1"))
    sweep("check", "demo.yaml", "--set", "metric.name=✓")
    assert b"\\u2713, maximize" in said.getvalue()


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("budget:", "bugdet:"), ["demo.yaml, line 3: bugdet: unknown key", "did you mean 'budget'?"]),
        (("max: 0.1", "max: 1e-6"), ["demo.yaml, line 6: parameters.lr.min", "swap"]),
        (("synthetic: log", "synthetic: lgo"), ["demo.yaml, line 2: objective.synthetic", "'lgo'", "log"]),
        (
            ("synthetic: log", "command: ./nothing-here"),
            ["demo.yaml, line 2: objective.command", "nothing-here"],
        ),
    ],
)
def test_a_broken_config_ends_with_2_and_writes_nothing(command, change, words, here, capsys):
    Path("demo.yaml").write_text(CONFIG.replace(*change))
    sweep(command, "demo.yaml", code=2)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    for word in words:
        assert word in said.err
    assert "Traceback" not in said.err
    assert [p.name for p in here.iterdir()] == ["demo.yaml"]


def test_wrong_words_on_the_command_line_end_with_2(stored, capsys):
    for words in (
        ["rnu"],
        ["check"],
        ["check", "none.yaml"],
        ["status", "demoo"],
        ["export", "--format", "xml"],
    ):
        sweep(*words, code=2)
        said = capsys.readouterr().err
        assert said
        assert "Traceback" not in said
    sweep("status", "demoo", code=2)
    assert "did you mean 'demo'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["enqueue", "--set", "lr"], "error: --set 'lr' is not key=value"),
        (["enqueue", "--set", "lr=[1"], "error: --set lr=[1: not valid YAML"),
        (["enqueue", "--set", "lr=5"], "Error: --set lr: 5 lies outside"),
        (["train", "cartpole", "--set", "learning_rate=[1"], "error: --set learning_rate=[1: not valid YAML"),
        (["run", "demo.yaml", "--name", "a" * 65], "hint: use at most 64 letters"),
        (["check", "demo.yaml", "--set", "name=12"], "hint: write it in quotes: name: '12'"),
        (["check", "demo.yaml", "--set", f"{'a' * 129}=1"], "hint: use at most 128 letters"),
        (["check", "demo.yaml", "--set", "größe=1"], "letters (a to z)"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_given(stored, capsys, words, said):
    sweep(*words, code=2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["12", "1e5", "007"])
def test_a_name_of_digits_is_taken_as_it_is_typed(here, capsys, name):
    sweep("run", "demo.yaml", "--name", name, "--set", "budget.trials=1", "--set", "workers.count=1")
    assert f"{name}: everything goes to runs/{name}/" in capsys.readouterr().out
    assert parse((Path("runs") / name / "config.yaml").read_text()).name == name


def test_a_torn_database_is_said_with_its_mend_whatever_looks(stored, capsys):
    with Path("runs/demo/run.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    pictures = ["plot", "pareto"], ["plot", "parameters"]
    for words in (["status"], ["best"], ["export"], *pictures, ["exclude", "1"], ["verify"]):
        sweep(*words, code=1)
        said = capsys.readouterr().err
        assert said.startswith("error: runs/demo/run.db is damaged: ")
        assert said.endswith("; `sweep repair` mends it\n")


def test_gpus_that_are_not_there_are_refused_before_anything_is_written(here, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    sweep("run", "demo.yaml", "--set", "workers.gpus=3", code=2)
    assert "workers.gpus: 3 were asked for, 1 are visible" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_gpu_whose_memory_nobody_knows_is_named(here, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    Path("nvidia-smi").write_text("#!/bin/sh\nexit 9\n")  # as where the driver does not answer
    Path("nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(Path.cwd()), prepend=os.pathsep)
    text = "name: t\nobjective: {train: cartpole}\nparameters: {gamma: {min: 0, max: 1}}\n"
    Path("t.yaml").write_text(text + "workers: {gpus_per_trial: auto}\n")
    sweep("check", "t.yaml")
    assert "GPUs auto (auto a trial)" in capsys.readouterr().out
    sweep("run", "t.yaml", code=2)
    said = capsys.readouterr().err
    assert "t.yaml, line 4: workers.gpus_per_trial: auto: nvidia-smi does not say how much memory" in said
    assert "write a number" in said
    assert not Path("runs").exists()
    Path("nvidia-smi").write_text("#!/bin/sh\necho 0, GPU-a, 8192\n")
    steps = "train.total_timesteps=4096"
    sweep("run", "t.yaml", "--set", "budget.trials=2", "--set", steps, "--set", "train.eval_episodes=1")
    with Store.open(Path("runs/t"), readonly=True) as store:
        assert [trial.status for trial in store.trials()] == ["done", "done"]


def test_without_any_run_there_is_a_hint(here, capsys):
    for command in ("status", "export", "best"):
        sweep(command, code=2)
        assert "sweep run CONFIG" in capsys.readouterr().err


# ---------------------------------------------------------------- looking


def test_status_tells_counts_front_and_failures(stored, capsys):
    sweep("status")
    out = capsys.readouterr().out
    assert "demo: not running" in out
    assert "4 of 8: 3 done, 1 failed, 1 queued" in out
    assert re.search(r"2 s +0.2 +1\n +10\.0 s +0.5 +2\n", out)
    assert "failures: 1 crash" in out
    assert "    | [bold]last line[/bold]" in out  # markup is shown, not obeyed
    assert "\x1b" not in out


def test_status_calls_what_a_killed_run_left_interrupted(stored, capsys):
    with Store.open("runs/demo") as store:
        store.start_trial(5, 0)
    sweep("status")
    assert "3 done, 1 failed, 1 interrupted" in capsys.readouterr().out


def test_status_sees_a_live_run(stored, capsys):
    with Store.open("runs/demo"):
        sweep("status", "demo")
    assert "demo: running" in capsys.readouterr().out


def test_the_latest_run_is_meant_where_none_is_named(stored, capsys):
    with Store.create("runs/other", parse(CONFIG.replace("demo", "other"))):
        pass
    later = time.time() + 5
    os.utime("runs/other/run.db", (later, later))
    sweep("status")
    assert "other: not running" in capsys.readouterr().out


def test_export_gives_json_and_csv(stored, capsys):
    sweep("export", "--format", "json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in rows] == ["done", "done", "done", "failed", "queued"]
    assert rows[1]["params"] == {"lr": 0.001, "steps": 100_000}
    assert rows[1]["points"] == [{"step": 100_000, "cost": 10.0, "score": 0.5}]
    sweep("export", "demo", "-o", "all.csv")
    lines = list(csv.DictReader(io.StringIO(Path("all.csv").read_text())))
    assert (lines[1]["score"], lines[1]["params.steps"], lines[3]["score"]) == ("0.5", "100000", "")


def test_spreadsheets_find_no_formula(stored):
    for text in ("=1+1", "+1", "-cmd", "@SUM(A1)", " =1", "\t=1", "|x", "%x"):
        assert defused(text) == "'" + text
    assert [defused(v) for v in (-1.5, "fine", True, None, 3)] == [-1.5, "fine", "true", None, 3]
    with Store.open("runs/demo") as store:
        store.add_trial(6, {"=cmd()": "=1+1"})
        text = as_csv(store.trials())
    assert "'=1+1" in text
    assert "params.=cmd()" in text


def test_what_trials_print_cannot_touch_the_terminal():
    assert printable("a\x1b[31mb\x1b[0m\x1b]0;t\x07c\x1b]8;;u\x1b\\d\x08\x9b1m\tE\r\nf") == "abcd\tE\nf"
    assert printable("50%\r100%") == "50%\n100%"
    assert "\x1b" not in printable("\x1b\x1b[\x1b]")


# ---------------------------------------------------------------- watching


def state(**changes) -> SimpleNamespace:
    """A loop's state after its third trial."""
    last = TrialRow(3, "done", {"lr": 0.1}, score=0.5, cost=12.0, attempts=1)
    workers = [WorkerState(0, "running", 4), WorkerState(1, "idle")]
    values = {
        "counts": {"done": 3, "running": 1}, "workers": workers, "elapsed": 61.0,
        "spent_cost": 20.0, "rate": 0.05,
        "front": [(2.0, 0.2, 1), (12.0, 0.5, 3)], "eta_seconds": 100.0, "last": last,
        "messages": ["[b]hello"],
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def test_piped_progress_is_one_line_a_trial(stored):
    stream = io.StringIO()
    with observer(parse(CONFIG), Path("runs/demo"), stream) as view:
        for _ in range(3):  # called once a second, told once
            view.update(state())
        failed = TrialRow(4, "failed", {}, cost=1.5, failure="crash", message="\x1b[31mboom\x1b[0m")
        view.update(state(last=failed, counts={"done": 3, "failed": 1}))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[b]hello"
    assert re.fullmatch(r"\[3/8\] trial 3 done +score 0.5 +cost 12.0 s +best 0.5", lines[1])
    assert re.fullmatch(r"\[4/8\] trial 4 failed +crash +cost 1.5 s +\(boom\)", lines[2])
    assert lines[3:] == ["    | first", "    | [bold]last line[/bold]"]


def test_a_closed_terminal_and_a_full_disk_end_no_sweep(stored):
    master, terminal = pty.openpty()
    for stream in (open(terminal, "w"), open("/dev/full", "w")):  # noqa: SIM115
        with stream, observer(parse(CONFIG), Path("runs/demo"), stream) as view:
            if stream.isatty():
                os.close(master)
            view.update(state())
            view.update(state(last=TrialRow(4, "failed", {}, failure="crash")))


def test_the_live_panel_shows_front_budget_and_clock():
    from rich.console import Console

    console = Console(width=100, file=io.StringIO(), markup=False)
    console.print(panel(state(), parse(CONFIG + "cost: {limit: 60}\n"), "[3/8] trial 3 done"))
    text = console.file.getvalue()
    for words in (
        "demo",
        "3 of 8",
        "1 m 01 s, about 1 m 40 s to go",
        "2, 1 busy",
        "0.5 for 12.0 s (trial 3)",
    ):
        assert words in text
    assert re.search(r"12\.0 s +0\.5 +3 ", text)
    assert "[3/8] trial 3 done" in text
    assert "trial 4 for 0 s" in text


# ---------------------------------------------------------------- a whole sweep

SCRIPT = """\
import json, sys, time
values = dict(word[2:].split("=", 1) for word in sys.argv[1:])
x, y = float(values["x"]), float(values["y"])
print("\\x1b[31mcolours\\x1b[0m and [markup]", flush=True)
time.sleep(float(values["pause"]))
if x > 0.9:
    sys.exit("x is too large")
print(json.dumps({"score": x, "cost": 1 + 10 * x + y}))
"""
COMMAND = """\
name: whole
objective: {command: "python script.py {args}"}
cost: {name: effort}
budget: {trials: 6}
workers: {count: 1}
fixed: {pause: 0}
parameters:
  x: {min: 0, max: 1, start: 0.2}
  y: {min: 0, max: 1}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a sweep of a command that ran to its end, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "whole.yaml").write_text(COMMAND)
    return folder, run_in(folder, "run", "whole.yaml")


def run_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "sweeper.cli", *words, cwd=folder, env=environment())


def environment(**more: str) -> dict[str, str]:
    """One thread, and `python` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **more}


def test_a_sweep_ends_with_front_settings_picture_and_what_next(whole):
    folder, done = whole
    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout
    assert len(re.findall(r"^\[\d/6\] trial \d (?:done|failed)", out, re.MULTILINE)) == 6
    assert re.search(r"^whole: .*\d done.* in \d", out, re.MULTILINE)
    assert re.search(r"^ *cost \(effort\) +score +trial$", out, re.MULTILINE)
    best = r"^best: score \S+ ± \S+ for \S+ effort \(trial \d\), single trials \S+ to \S+$"
    assert re.search(best, out, re.MULTILINE)
    assert "\nfixed:\n  pause: 0\n  x: " in out
    assert re.search(r"^SWEEP_SEED=\d+ python script.py --pause=0 --x=\S+ --y=\S+$", out, re.MULTILINE)
    assert "picture    runs/whole/pareto.png" in out
    assert re.search(r"proposals  \d+ ms each \(median\), workers idle \d+\.\d % of the time", out)
    assert "go on      sweep run whole.yaml --set budget.trials=12" in out
    assert (folder / "runs/whole/pareto.png").stat().st_size > 10_000
    assert "\x1b" not in out


def test_accidents_are_named_at_the_end(here):
    outcome = Outcome("failed", "", here, {}, 0, 1.0, 0.0)
    told = run_summary(parse(COMMAND), [], [], outcome, Path("p.png"), ["sweep"], range(3, 13))
    assert "accidents  10 scores far worse than all others say: trials 3, 4, 5, 6, 7, 8, 9, 10, ..." in told
    assert "accidents" not in run_summary(parse(COMMAND), [], [], outcome, Path("p.png"), ["sweep"])


def test_a_picture_of_the_parameters_is_offered_where_there_is_one(here):
    outcome = Outcome("trials", "", here, {}, 0, 1.0, 0.0)
    front = [Member({"x": 0.5, "steps": 10}, 1.0, 2.0, 1)]
    done, failed = (SimpleNamespace(status=s, score=1.0, excluded=False) for s in ("done", "failed"))
    excluded = SimpleNamespace(status="done", score=1.0, excluded=True)
    for rows, offered in ([done] * 3, True), ([done, done, failed, excluded], False):
        told = run_summary(parse(COMMAND), rows, front, outcome, Path("p.png"), ["sweep"])
        assert ("sweep plot parameters" in told) == offered
        assert "sweep verify" in told


def test_scores_that_never_differ_are_named_at_the_end(here):
    outcome = Outcome("trials", "", here, {}, 0, 1.0, 0.0)

    def told(*scores):
        states = ["done" if score is not None else "failed" for score in scores]
        rows = [
            SimpleNamespace(status=s, score=x, excluded=False) for s, x in zip(states, scores, strict=True)
        ]
        return run_summary(parse(COMMAND), rows, [], outcome, Path("p.png"), ["sweep"])

    assert "no signal  all 3 scores are 0: do the trials read their params" in told(0.0, None, 0.0, 0.0)
    others = told(), told(0.0), told(0.0, 0.0, 1e-9), told(None, None)
    assert all("no signal" not in text for text in others)


@pytest.mark.parametrize(
    ("goal", "top", "count"), [("maximize", 5, 2), ("minimize", 5, 1), ("maximize", 9, 0)]
)
def test_scores_beyond_the_best_there_can_be_are_named_at_the_end(here, goal, top, count):
    config = parse(f"{COMMAND}metric: {{goal: {goal}, scale: exponential, max: {top}}}\n")
    rows = [SimpleNamespace(status="done", score=x, excluded=False) for x in (4.0, 5.0, 7.0, 9.0)]
    outcome = Outcome("trials", "", here, {}, 0, 1.0, 0.0)
    told = run_summary(config, rows, [], outcome, Path("p.png"), ["sweep"])
    assert told.count(f"beyond max {count} of 4 scores are better than {top}, metric.max") == bool(count)
    assert told.count("beyond max") == bool(count)


def test_steps_in_other_units_than_the_fidelity_are_named_at_the_end(tmp_path):
    report = "import json, sys; print(json.dumps({'step': int(sys.argv[1]), 'score': 1, 'effort': 1}))"
    (tmp_path / "script.py").write_text(report)
    head = COMMAND.partition("objective")[0] + "cost: {name: effort}\nbudget: {trials: 1}\n"
    for step, named in (5, 0), (400, 1):
        objective = f'{{command: "python script.py {step} {{args}}", fidelity: epochs}}'
        text = f"{head}objective: {objective}\nparameters: {{epochs: {{min: 4, max: 9, type: int}}}}\n"
        (tmp_path / f"{step}.yaml").write_text(text)
        out = run_in(tmp_path, "run", f"{step}.yaml", "--name", f"to-{step}").stdout
        assert f"to-{step}: 1 done" in out
        said = "steps      trial 1 reports step 400, with epochs 4: each counts as one of epochs"
        assert (out.count(said), out.count("\nsteps ")) == (named, named)


@pytest.mark.parametrize(("steps", "named"), [([0, 1, 2, 3], 1), ([1, 2, 3, 4], 0), ([0, 2, 4], 0)])
def test_steps_that_are_counted_from_zero_are_named_at_the_end(here, steps, named):
    objective = COMMAND.replace('}"}', '}", fidelity: n}')
    config = parse(f"{objective}  n: {{min: 3, max: 9, type: int}}\n")
    points = tuple(Point(step, step + 1.0, 0.5) for step in steps)
    row = TrialRow(1, "done", {"x": 0.5, "n": 4}, score=0.5, points=points)
    outcome = Outcome("trials", "", here, {}, 0, 1.0, 0.0)
    told = run_summary(config, [row], [], outcome, Path("p.png"), ["sweep"])
    assert told.count("steps      trial 1 counts its 4 n from 0") == told.count("\nsteps ") == named


def test_a_run_is_readable_where_its_script_is_gone(whole, tmp_path):
    shutil.copytree(whole[0] / "runs", tmp_path / "runs")
    for words in (["status"], ["best", "whole"], ["export", "whole"]):
        done = run_in(tmp_path, *words)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_a_sweep_prints_can_be_pasted(whole):
    folder, done = whole
    line = next(line for line in done.stdout.splitlines() if "python script.py" in line)
    words = ["/bin/sh", "-c", line]
    pasted = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, env=environment())
    score = json.loads(pasted.stdout.splitlines()[-1])["score"]
    trials = json.loads(run_in(folder, "export", "whole", "--format", "json").stdout)
    assert score in [trial["score"] for trial in trials]


def test_best_answers_for_a_cost(whole, monkeypatch, capsys):
    monkeypatch.chdir(whole[0])

    def best(*words):
        sweep("best", "whole", *words)
        return capsys.readouterr().out

    dear = json.loads(best("--format", "json"))
    cheap = json.loads(best("--format", "json", "--cost", "4"))
    assert cheap["cost"] <= 4
    assert cheap["score"] <= dear["score"]
    assert dear["params"]["pause"] == 0
    assert read_yaml(best("--format", "yaml"))["fixed"] == dear["params"]
    sweep("best", "whole", "--cost", "0.5", code=1)
    assert "the cheapest costs" in capsys.readouterr().err
    for none in ("nan", "-1", "0"):
        sweep("best", "whole", "--cost", none, code=2)
        assert f"--cost: '{none}' is not a number of effort above 0" in capsys.readouterr().err


def test_the_cost_that_a_table_shows_buys_its_member():
    from sweeper import cli, config

    text = "objective: {synthetic: log}\nparameters: {x: {min: 0, max: 1}}\n"
    front = [Member({}, cost, cost, number) for number, cost in enumerate((0.10000002, 2.5, 3.5300004))]
    for cost, trial in {"0.1s": 0, "2.49s": 0, "2.5": 1, "3.52s": 1, "3.53s": 2, "1h": 2}.items():
        assert cli._member(front, config.parse(text, default_name="t"), cost).trial == trial
    steps = config.parse(text + "cost: {name: steps}\n", default_name="t")
    front = [Member({}, cost, cost, number) for number, cost in enumerate((900, 510_310, 1_017_200, 2.5e9))]
    for cost, trial in {"900": 0, "510.2k": 0, "510.3k": 1, "1.017M": 2, "2.5G": 3, "1e6": 1}.items():
        assert cli._member(front, steps, cost).trial == trial


def test_a_verdict_shows_what_differs():
    text = verdict("score", [0.99991, 0.99992, 0.99991], 0.99995)
    assert text == "score 0.999913, 95 % interval 0.999899 to 0.999928: differs from the sweep's 0.99995"
    assert verdict("score", [90.0, 110.0], 101.234).endswith("-27.06 to 227.1: agrees with the sweep's 101.2")


def test_plot_writes_where_it_is_told(whole, monkeypatch, capsys):
    monkeypatch.chdir(whole[0])
    sweep("plot", "pareto", "whole", "-o", "mine.png")
    assert capsys.readouterr().out.strip() == "mine.png"
    assert Path("mine.png").stat().st_size > 10_000
    sweep("plot", "pareto", "whole", "-o", "mine.foo", code=2)
    assert "-o mine.foo: it writes PNGs only; call it mine.png" in capsys.readouterr().err
    sweep("plot", "parameters", "whole")
    assert capsys.readouterr().out.strip() == "runs/whole/parameters.png"
    assert Path("runs/whole/parameters.png").stat().st_size > 10_000
    sweep("plot", "parameters", "whole", "-o", "mine.foo", code=2)
    for command in (("plot", "pareto", "whole", "-o", "there/mine.png"), ("export", "-o", "there/mine.csv")):
        capsys.readouterr()
        sweep(*command, code=2)
        assert f"-o {command[-1]}: there is no such folder; make it first" in capsys.readouterr().err


def test_nothing_is_said_of_parameters_before_three_trials_are_done(here, capsys):
    sweep("run", "demo.yaml", "--set", "budget.trials=2")
    sweep("plot", "parameters", code=1)
    assert "fewer than three trials are done" in capsys.readouterr().err
    assert not Path("runs/demo/parameters.png").exists()


def test_verify_runs_the_best_again(whole):
    folder, _ = whole
    done = run_in(folder, "verify", "whole", "--seeds", "2", "--cost", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^  seed \d+ +\S+ +\S+ effort$", done.stdout, re.MULTILINE)) == 2
    assert re.search(r"^score \S+, 95 % interval \S+ to \S+: agrees", done.stdout, re.MULTILINE)
    shown = run_in(folder, "best", "whole", "--cost", "8").stdout.splitlines()[0]
    low, high = re.search(r"single trials (\S+) to (\S+)$", shown).groups()  # all that run here are alike
    assert f"\n2 of 2 lie in {low} to {high}, where nine of ten single trials were expected" in done.stdout


@pytest.mark.parametrize("seeds", [1, 20])
def test_what_single_trials_were_expected_to_score_is_counted(monkeypatch, seeds):
    ranges = "parameters:\n  train.learning_rate: {distribution: log, min: 1e-4, max: 0.1}\n"
    config = parse(f"name: demo\nobjective: {{train: cartpole, seeds: {seeds}}}\n{ranges}")
    scores = iter([0.2, 0.5, 0.61, 0.7, 0.9])

    def evaluate(config, jobs, folder):
        for number, _ in enumerate(jobs):
            yield number, SimpleNamespace(status="done", score=next(scores), cost=1.0)

    monkeypatch.setattr("sweeper.executors.evaluate", evaluate)
    member = Member({"train.learning_rate": 0.01}, 0.6, 1.0, 1, 0.01, 1.0, 0.4, 0.8)
    said: list[str] = []
    assert verify(config, member, 5, said.append) == 0
    counted = "3 of 5 lie in 0.4 to 0.8, where nine of ten single trials were expected"
    assert (counted in said) == (seeds == 1)  # the mean of twenty is no single training


def test_the_same_command_goes_on(whole):
    folder, _ = whole
    done = run_in(folder, "run", "whole.yaml", "--set", "budget.trials=7")
    assert done.returncode == 0
    assert len(re.findall(r"^\[", done.stdout, re.MULTILINE)) == 1
    changed = run_in(folder, "run", "whole.yaml", "--set", "pause=0.1")
    assert changed.returncode == 2
    assert "fixed.pause" in changed.stderr
    assert "--name" in changed.stderr


def test_ctrl_c_stops_cleanly_and_says_how_to_resume(whole):
    folder, _ = whole
    words = [sys.executable, "-P", "-m", "sweeper.cli", "run", "whole.yaml", "--name", "stopped"]
    process = subprocess.Popen(
        [*words, "--set", "pause=0.5", "--set", "budget.trials=90"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("["):  # the first trial has ended
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "resume     sweep run whole.yaml --set pause=0.5 --set budget.trials=90 --name stopped\n" in out


def test_a_reader_that_leaves_and_closed_streams_end_no_sweep(whole):
    folder, _ = whole
    words = ["-m", "sweeper.cli", "run", "whole.yaml", "--name"]
    for name, piped in (("unread", " | head -1"), ("closed", " <&- >&- 2>&-")):
        command = shlex.join([sys.executable, "-P", *words, name]) + piped
        subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, env=environment(), check=True)
        with Store.open(folder / "runs" / name, readonly=True) as store:
            assert store.counts()["done"] + store.counts()["failed"] == 6


def test_trials_that_all_fail_alike_end_the_sweep_with_their_last_words(whole):
    folder, _ = whole
    done = run_in(
        folder, "run", "whole.yaml", "--name", "failing", "--set", "parameters.x={min: 0.95, max: 1}"
    )
    assert done.returncode == 1
    assert done.stdout.count("    | x is too large") == 1  # once is enough
    assert "    | colours and [markup]" in done.stdout
    assert "failed alike" in done.stdout
    assert "\x1b" not in done.stdout
    status = run_in(folder, "status", "failing").stdout
    assert "failures: 5 crash" in status


def test_on_a_terminal_there_is_a_live_panel(whole):
    folder, _ = whole
    variables = environment(TERM="xterm-256color", COLUMNS="90", LINES="50")
    master, terminal = pty.openpty()
    words = [sys.executable, "-P", "-m", "sweeper.cli", "run", "whole.yaml", "--name", "live"]
    process = subprocess.Popen(words, cwd=folder, env=variables, stdout=terminal, stderr=terminal)
    os.close(terminal)
    output = b""
    while True:
        try:
            output += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait(60) == 0
    os.close(master)
    assert b"\x1b[31mcolours" not in output
    text = printable(output.decode())
    assert "╭" in text
    assert re.search(r"trials +\d of 6", text)
    assert "best: score" in text


def test_bench_prints_its_table(here):
    done = run_in(here, "bench", "synthetic", "log", "--seeds", "1", "--trials", "4", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^log +4 trials +\d\.\d+ ", done.stdout, re.MULTILINE)
    wrong = run_in(here, "bench", "synthetic", "lgo")
    assert (wrong.returncode, "did you mean 'log'" in wrong.stderr) == (2, True)


def test_ctrl_c_ends_a_bench_without_a_word_of_its_processes(here):
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sweeper.cli", "bench", "synthetic", "log", "--seeds", "99"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("99 sweeps of 80 trials")
    time.sleep(0.6)  # its processes import what they need; far from done on the fastest machine
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, "interrupted")


@pytest.fixture
def full_disk(monkeypatch):
    """Files that are written hold 100 bytes at most, and then the disk is said to be full."""

    def write(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write)
    monkeypatch.setattr(Path, "write_text", lambda path, text, encoding=None: write(path, text.encode()))


def test_on_a_full_disk_files_that_are_there_stay_whole(stored, full_disk, capsys):
    for name, words in (("out.csv", ["export", "-o"]), ("out.gif", ["play", "squared", "--gif"])):
        with open(name, "w") as file:
            file.write("GIF, of old")
        sweep(*words, name, code=1)
        assert (
            capsys.readouterr().err
            == f"error: {name}: no space left on device; make room, and run it again\n"
        )
        with open(name) as file:
            assert file.read() == "GIF, of old"
    sweep("env", "new", "mine", code=2)
    assert "error: mine: no space left on device" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["demo.yaml", "out.csv", "out.gif", "runs"]


def test_what_may_not_be_written_is_said_before_the_work(here, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    sweep("train", "squared", "--checkpoint", "agent.pt", code=2)
    assert "--checkpoint agent.pt: it may not be written; name another file" in capsys.readouterr().err


def test_an_error_without_a_file_says_what_to_do(here, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sweeper.objectives.train_once", full)
    sweep("train", "squared", code=1)
    assert capsys.readouterr().err == "error: no space left on device; make room, and run it again\n"


def test_a_training_stays_on_one_row_of_a_narrow_terminal(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    with TrainingLine(screen) as line:
        line({"steps": 169_984, "steps_per_second": 1.133e6, "seconds": 0.15, "score": 138.6})
    assert "169,984 steps  1.133M" in screen.getvalue()
    assert max(map(len, screen.getvalue().split("\r"))) < 40


def test_train_says_score_speed_and_profile(here):
    words = ["--set", "total_timesteps=20000", "--set", "eval_episodes=4", "--threads", "1"]
    done = run_in(here, "train", "cartpole", *words)
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert float(facts["score"]) > 5
    assert int(facts["steps"].replace(",", "")) >= 20_000
    assert {"seconds", "steps/s", "time"} <= set(facts)
    lost = run_in(here, "train", "cartpole", *words, "--set", "learning_rate=1e30")
    assert lost.returncode == 1
    assert re.search(r"^failed   \w+: .*; try .* learning_rate", lost.stdout, re.MULTILINE)
    wrong = run_in(here, "train", "cartpole", "--set", "learning_rat=1")
    assert wrong.returncode == 2
    assert "did you mean 'train.learning_rate'" in wrong.stderr


def test_an_interrupted_training_is_kept_and_goes_on(here, monkeypatch, capsys):
    """Bit for bit as if it had not been interrupted."""
    words = ["train", "squared", "--set", "total_timesteps=40000", "--set", "eval_episodes=20"]
    sweep(*words, "--checkpoint", "straight.pt")
    with monkeypatch.context() as patch:
        patch.setattr(training, "PROGRESS_SECONDS", 0)
        presses = iter([signal.SIGINT])  # after the first rollout, once
        patch.setattr(TrainingLine, "__call__", lambda *_: [signal.raise_signal(press) for press in presses])
        sweep(*words, "--checkpoint", "agent.pt", code=130)
    assert "interrupted: the same command goes on" in capsys.readouterr().err
    assert load(here / "agent.pt")["steps"] == 2 * 4096  # of the second rollout
    sweep(*words, "--checkpoint", "agent.pt")
    agent, straight = (load(here / name) for name in ("agent.pt", "straight.pt"))
    assert agent["points"][0][2] == straight["points"][0][2]
    assert torch.equal(agent["policy"], straight["policy"])


# ---------------------------------------------------------------- environments


def own_header(folder: Path, there: str = "", instead: str = "") -> None:
    """A folder with a copy of squared, one place in it changed."""
    source = Path(ocean.find("squared"))
    text = source.read_text()
    assert there in text
    folder.mkdir()
    (folder / f"{folder.name}.h").write_text(text.replace(there, instead) if there else text)
    (folder / "README.md").write_text((source.parent / "README.md").read_text())


def test_env_check_says_what_was_played(here, capsys):
    own_header(here / "mine")
    sweep("env", "check", "mine")
    said = capsys.readouterr().out
    assert said.startswith("sound     mine: ")
    assert "int8 [11, 11], -1 to 1" in said
    assert re.search(r"played +[\d,]+ steps, [\d,]+ episodes", said)


@pytest.mark.parametrize(
    ("there", "instead", "said", "mend"),
    [
        ("io->rewards[0] = reward;", "(void)reward;", r"rewards: .*\(environment 0, step 1\)", "set it"),
        (
            "obs[i] = 0;",
            "obs[i] = 9;",
            r"OBS_RANGE -1, 1 \(environment 0, at the reset, el.*\)",
            "keep to the",
        ),
        (
            "terminals[0] = ended;",
            "terminals[0] = 0;",
            r"\(environment \d+, step \d+: 1 in the log, 0 in .*\)",
            "add to",
        ),
        (
            "i < OBS_SIZE; i++",
            "i <= OBS_SIZE; i++",
            r"obs is written past its ends \(mine.h:\d+\)",
            "stay inside",
        ),
    ],
)
def test_env_check_names_what_is_broken_and_the_mend(here, capsys, there, instead, said, mend):
    own_header(here / "mine", there, instead)
    sweep("env", "check", "mine/mine.h", code=1)
    first, hint = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"mine is broken: .*{said}", first)
    assert hint.startswith(f"  hint: {mend}")


def test_env_check_of_what_is_none(here, capsys):
    sweep("env", "check", "squard", code=2)
    assert "did you mean 'squared'?" in capsys.readouterr().err
    sweep("env", "check", "./nowhere", code=2)
    assert "no environment header at ./nowhere" in capsys.readouterr().err
    sweep("env", "check", "gymnasium:CartPole-v1", code=2)
    assert "CartPole-v1 is Gymnasium's, and no header to check" in capsys.readouterr().err
    own_header(here / "mine", "env->steps++;", "env->step++;")
    sweep("env", "check", "mine", code=2)
    assert re.search(r"error: \S+mine.h:\d+:.*error", capsys.readouterr().err)


def test_env_new_writes_an_environment_that_is_sound_and_trains(here, capsys):
    sweep("env", "new", "walker")
    assert "sweep train ./walker" in capsys.readouterr().out
    sweep("env", "check", "walker")
    short = ("--set", "total_timesteps=300000", "--set", "eval_episodes=4")
    sweep("train", "./walker", *short)
    sweep("train", "walker/walker.h", *short)
    scores = re.findall(r"^score +(\S+)", capsys.readouterr().out, re.MULTILINE)
    assert len(scores) == 2
    assert scores[0] == scores[1]
    before = Path("walker/walker.h").read_bytes()
    sweep("env", "new", "walker", code=2)
    assert "walker is there already; choose another name" in capsys.readouterr().err
    assert Path("walker/walker.h").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("1st",), "no C identifier"),
        (("a-b",), "no C identifier"),
        (("../up",), "no C identifier"),
        (("squared",), "the name of a bundled"),
        (("mine", "--folder", "demo.yaml/deep"), "demo.yaml/deep: not a directory"),
    ],
)
def test_env_new_refuses(here, capsys, words, said):
    sweep("env", "new", *words, code=2)
    assert said in capsys.readouterr().err
    assert os.listdir(here) == ["demo.yaml"]


def test_env_new_in_a_folder_that_is_read_only(here, capsys, monkeypatch):
    (here / "locked").mkdir()
    mkdir = Path.mkdir

    def denied(path, *arguments, **options):  # root may write anywhere: what others are told
        if path.parent.name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", denied)
    sweep("env", "new", "mine", "--folder", "locked", code=2)
    assert "locked/mine: permission denied; choose a --folder that you may" in capsys.readouterr().err


def test_a_config_names_a_header_from_its_own_folder(here, capsys):
    sweep("env", "new", "walker", "--folder", "deep")
    Path("deep/walker.yaml").write_text(
        CONFIG.replace("{synthetic: log}", "{train: walker/walker.h}")
        .replace("lr:", "train.learning_rate:")
        .replace("steps:", "train.total_timesteps:")
    )
    sweep("check", "deep/walker.yaml")
    os.rename("deep/walker/walker.h", "deep/other.h")
    sweep("check", "deep/walker.yaml", code=2)
    assert "no environment header at" in capsys.readouterr().err
    sweep("check", "deep/walker.yaml", "--set", "objective.train=other.h")


# ---------------------------------------------------------------- playing


def test_play_tells_every_step_and_the_score(here, capsys):
    sweep("play", "squared", "--steps", "40", "--seed", "3")
    first = capsys.readouterr().out
    sweep("play", "squared", "--steps", "40", "--seed", "3")
    assert capsys.readouterr().out == first
    lines = first.splitlines()
    assert lines[0] == "squared: observations int8 [11, 11]"
    assert lines[1] == "step 0 of 33"
    steps = [line for line in lines if line.startswith("step ") and "action" in line]
    assert len(steps) == 40
    total = sum(float(re.search(r"reward (\S+?)(;|$)", line)[1]) for line in steps)
    assert lines[-2] == f"rewards {total:g} in 40 steps"
    assert lines[-1].startswith("score ")
    assert "\x1b" not in first
    unseen("bandit")
    sweep("play", "bandit.h")  # one step is an episode
    assert "it has no env_render" in (said := capsys.readouterr().out)
    assert re.search(r"step 1: action \d, reward \S+; the episode ended\n", said)


def unseen(name: str) -> None:
    """A bundled environment without its picture, in the current folder."""
    header = ocean.spec(name).path.read_text()
    Path(f"{name}.h").write_text(header.replace("#define RENDER 1", ""))


def test_play_draws_no_more_than_the_window_holds(monkeypatch):
    from sweeper import play
    from trainer.play import Game

    game = Game("cartpole")
    monkeypatch.setattr(play, "FRAME_SECONDS", 0)
    for rows in (1, 2, 3, 8):
        monkeypatch.setenv("LINES", str(rows))
        shown = io.StringIO()
        play._draw(game, shown, True, "step 1")
        assert shown.getvalue().count("\n") == max(1, rows - 1)
        assert "the window is too low" in shown.getvalue()


def test_play_writes_a_gif_in_which_the_picture_moves(here, capsys):
    sweep("play", "squared", "--seed", "3", "--steps", "12", "--gif", "walk.gif")
    said = capsys.readouterr().out
    assert re.search(r"rewards \S+ in 12 steps\n", said)
    assert re.search(r"wrote walk.gif: 13 pictures, \d.* s, \d.* kB\n", said)
    with Image.open("walk.gif") as film:
        assert film.info["loop"] == 0
        assert min(film.size) > 300
        frames = []
        for frame in range(film.n_frames):
            film.seek(frame)
            frames.append(np.asarray(film.convert("RGB")).reshape(-1, 3))
    assert len(frames) == 13
    assert all((one != other).any() for one, other in pairwise(frames))
    yellow = [(pixels == YELLOW).all(1).sum() for pixels in frames]  # the agent, and nothing else
    assert min(yellow) == max(yellow) > 20
    # One that is there is replaced, whole; nothing else is left behind.
    before = Path("walk.gif").read_bytes()
    sweep("play", "squared", "--seed", "4", "--gif", "walk.gif")
    assert Path("walk.gif").read_bytes()[:3] == b"GIF"
    assert Path("walk.gif").read_bytes() != before
    assert sorted(path.name for path in here.iterdir()) == ["demo.yaml", "walk.gif"]


def test_play_says_why_there_is_no_gif(here, capsys):
    def refused(name: str, said: str, environment: str = "squared") -> None:
        sweep("play", environment, "--gif", name, code=2)
        assert said in capsys.readouterr().err

    refused("film.mp4", "--gif film.mp4: it writes GIFs only; call it film.gif")
    refused("nowhere/film.gif", "there is no folder")
    refused(".", "--gif .: that is a folder; name a file")
    Path("notes.gif").write_text("not to be lost")
    refused("notes.gif", "that file is there and is no GIF; name another file")
    assert Path("notes.gif").read_text() == "not to be lost"
    Path("folder.gif").mkdir()
    refused("folder.gif", "that is a folder")
    sweep("play", "squared", "--gif", "x" * 300 + ".gif", code=1)
    assert "file name too long" in capsys.readouterr().err
    sweep("play", "squared", "--gif", "film.gif", "--steps", "501", code=2)
    assert "--steps 501: a GIF holds at most 500 steps; give fewer" in capsys.readouterr().err
    unseen("bandit")
    refused("film.gif", "bandit has no env_render: there is no picture", "bandit.h")
    assert not Path("film.gif").exists()


def test_every_bundled_environment_can_be_seen():
    assert [name for name in ocean.names() if not ocean.spec(name).rendered] == []


def test_play_plays_a_checkpoint(here, capsys):
    sweep("train", "cartpole", "--set", "total_timesteps=200000", "--checkpoint", "pole.pt")
    capsys.readouterr()
    sweep("play", "cartpole", "--checkpoint", "pole.pt")
    assert float(capsys.readouterr().out.splitlines()[-1].removeprefix("score ")) > 100  # random: 22
    sweep("play", "squared", "--checkpoint", "pole.pt", code=2)
    assert "pole.pt is of cartpole, not of squared" in capsys.readouterr().err
    Path("text.pt").write_text("hello")
    sweep("play", "cartpole", "--checkpoint", "text.pt", code=2)
    assert "text.pt is none; name another file" in capsys.readouterr().err
    sweep("play", "cartpole", "--checkpoint", "nowhere.pt", code=2)


def test_play_redraws_on_a_terminal_until_ctrl_c(here):
    master, slave = pty.openpty()
    words = [sys.executable, "-P", "-m", "sweeper.cli", "play", "snake", "--steps", "1000"]  # 50 s
    process = subprocess.Popen(
        words,
        stdout=slave,
        stderr=slave,
        stdin=slave,
        start_new_session=True,
        # Tests that run in a shell's background are deaf to Ctrl-C, and so would be what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(slave)
    output, sent = b"", 0.0
    while chunk := _rest(master):
        output += chunk
        if b"step 3: " in output and time.monotonic() - sent > 5:
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
    assert process.wait(30) == 130
    os.close(master)
    assert b"\x1b[H" in output
    assert re.search(rb"rewards \S+ in \d+ steps\r\nscore \S+", output)
    assert b"Traceback" not in output


def _rest(master: int) -> bytes:
    """What a process still writes to its terminal; nothing once it is gone."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""
