"""Workers: each kind of objective end to end, and every way in which a trial can go wrong."""

import errno
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper import config, executors, processes, supervisor
from sweeper.executors import ExecutorError
from sweeper.objectives import Job, Result, make

PYTHON = sys.executable


def evaluate(folder: Path, objective: str, params: list[dict[str, Any]], more: str = "") -> list[Result]:
    """Results of all params, in order, on one worker unless `more` says else."""
    text = f"name: t\nobjective: {objective}\nparameters: {{x: {{min: 0, max: 9}}}}\n{more}\n"
    settings = config.parse(text if "workers" in more else f"{text}workers: {{count: 1}}\n", folder=folder)
    results = dict(executors.evaluate(settings, [(values, 5) for values in params], folder / "run"))
    return [results[i] for i in range(len(params))]


def command(folder: Path, script: str, more: str = "", params: dict[str, Any] | None = None) -> Result:
    """The result of one trial of a Python script."""
    (folder / "script.py").write_text(textwrap.dedent(script))
    return evaluate(folder, f'{{command: "{PYTHON} script.py {{args}}"}}', [params or {"x": 1}], more)[0]


def log(folder: Path) -> str:
    return (folder / "run" / "trials" / "000000" / "log.txt").read_text()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Commands


def test_a_command_gets_its_params_and_reports_points(tmp_path: Path) -> None:
    result = command(
        tmp_path,
        """
        import json, os, sys
        print("hello from", os.path.basename(os.getcwd()))
        assert json.load(open(os.environ["SWEEP_PARAMS"])) == {"x": 0.25}
        assert os.listdir(os.environ["SWEEP_TRIAL_DIR"])
        x = float(sys.argv[1].removeprefix("--x="))
        print(json.dumps({"score": x, "cost": 1, "step": 10}))
        print("not json {", file=sys.stderr)
        print(json.dumps({"score": 2 * x, "cost": 2, "step": 20, "seed": os.environ["SWEEP_SEED"]}))
        """,
        params={"x": 0.25},
    )
    assert (result.status, result.score, result.cost) == ("done", 0.5, 2)
    assert result.points == [(10, 1, 0.25), (20, 2, 0.5)]
    assert f"hello from {tmp_path.name}" in log(tmp_path)
    assert '"seed": "5"' in log(tmp_path)


def test_report_reaches_the_sweep_whatever_happens_to_standard_output(tmp_path: Path) -> None:
    result = command(
        tmp_path,
        """
        import os, subprocess, sys
        sys.stdout = open(os.devnull, "w")
        from sweeper import report
        report(score=1, cost=1)
        code = "import sweeper; sweeper.report(score=2, cost=2)"
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
        """,
    )
    assert result.points == [(None, 1, 1), (None, 2, 2)]


def test_a_report_that_finds_no_pipe_is_printed_under_the_metrics_name(tmp_path: Path) -> None:
    code = "import os, shutil, sweeper; shutil.rmtree(os.environ['SWEEP_TRIAL_DIR'])"
    result = command(tmp_path, code + "; sweeper.report(score=0.7, cost=2)", "metric: {name: accuracy}")
    assert (result.status, result.score, result.cost) == ("done", 0.7, 2)


def test_the_clock_is_the_cost_of_a_command_that_reports_none(tmp_path: Path) -> None:
    result = command(tmp_path, "import time; time.sleep(0.3); print('{\"score\": 1}')")
    assert result.cost is not None
    assert 0.3 < result.cost < 60


def test_a_pattern_reads_scripts_that_nobody_can_edit(tmp_path: Path) -> None:
    (tmp_path / "s.sh").write_text('echo "epoch 3: reward=1.5e1 (12 s)" >&2; echo epoch 4: reward=16.5\n')
    objective = """{command: "sh s.sh", pattern: 'epoch (?P<step>\\d+): reward=(?P<score>[-+.e\\d]+)'}"""
    (result,) = evaluate(tmp_path, objective, [{"x": 1}])
    assert sorted((step, score) for step, _, score in result.points) == [(3, 15.0), (4, 16.5)]


def test_the_pattern_of_the_readme_hears_what_is_no_number(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (pattern,) = re.findall(r"`pattern: ('reward: .*?')`", readme)
    for said, score in (("1.5e+1", 15.0), ("-.5", -0.5), ("nan", None), ("-inf", None)):
        (tmp_path / "s.sh").write_text(f"echo reward: 1.5\necho reward: {said}\n")
        (result,) = evaluate(tmp_path, f'{{command: "sh s.sh", pattern: {pattern}}}', [{"x": 1}])
        assert (result.score, result.failure) == (score, None if score else "non_finite")


@pytest.mark.parametrize(
    ("before", "after"), [("\\x1b[32m", "\\x1b[0m"), ("\\ufeff", ""), ("\\x1b[1m \\x1b[36m", " \\x1b[m\\r")]
)
def test_a_report_in_colours_is_read(tmp_path: Path, before: str, after: str) -> None:
    script = f"import sys; sys.stdout.buffer.write('{before}{{\"score\": 3}}{after}\\n'.encode())"
    assert command(tmp_path, script).score == 3


def test_a_last_report_too_long_to_be_read_is_named_beside_the_result(tmp_path: Path) -> None:
    script = (
        "import json; print('{\"score\": 1}'); print(json.dumps({'score': 2, 'weights': [0.5] * 50_000}))"
    )
    result = command(tmp_path, script)
    assert (result.score, result.message) == (1, "not read, above 64 KiB: 1 lines")


@pytest.mark.parametrize("end", ["\\n", ""])
def test_a_report_too_long_to_be_read_is_named(tmp_path: Path, end: str) -> None:
    script = f"import json; print(json.dumps({{'score': 1, 'weights': [0.5] * 50_000}}), end='{end}')"
    result = command(tmp_path, script)
    assert result.failure == "no_score"
    assert result.message.endswith("not read, above 64 KiB: 1 lines")


def test_what_a_progress_bar_shows_last_is_the_result(tmp_path: Path) -> None:
    bar = "for i in range(200): print(f'\\repoch {i} of 200: loss {i / 2}', end='')"
    (tmp_path / "s.py").write_text(f"{bar}\nprint('\\r{{\"score\": 7}}', end='\\r\\n')")
    command = f'command: "{PYTHON} s.py"'
    (result,) = evaluate(tmp_path, f"{{{command}, pattern: 'loss ([.0-9]+)$'}}", [{"x": 1}])
    assert [score for _, _, score in result.points] == [*(i / 2 for i in range(200)), 7]


def test_a_pattern_without_end_costs_one_trial(tmp_path: Path) -> None:
    (tmp_path / "s.sh").write_text(f"echo {'a' * 60}\nsleep 60\n")
    (result,) = evaluate(tmp_path, """{command: "sh s.sh", pattern: '(a+)+$x'}""", [{"x": 1}])
    assert (result.status, result.failure) == ("failed", "pattern")


def test_a_shell_command_cannot_be_broken_out_of(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import json, sys; print(json.dumps({'score': len(sys.argv[1]), 'cost': 1}))"
    )
    value = "'; touch broken; echo '$(touch broken)`touch broken`"
    objective = f'{{command: "{PYTHON} s.py {{mode}} | cat", shell: true}}'
    (result,) = evaluate(tmp_path, objective, [{"x": 1, "mode": value}])
    assert result.score == len(value)
    assert not (tmp_path / "broken").exists()


def test_a_crash_keeps_its_points_and_its_last_line(tmp_path: Path) -> None:
    result = command(tmp_path, "print('{\"score\": 1, \"cost\": 2}'); raise RuntimeError('no more memory')")
    assert (result.status, result.failure, result.cost) == ("failed", "crash", 2)
    assert result.message == "exit code 1: RuntimeError: no more memory"
    assert result.points == [(None, 2, 1)]


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("print('score: 0.5')", "no_score"),
        ("print('{\"score\": NaN}')", "non_finite"),
        (
            "import sys; sys.stdout.buffer.write(bytes(range(256)) * 999 + b'\\n{\\n}\\n[[[[' * 99)",
            "no_score",
        ),
        ("print('[' * 100_000); print('{\"score\":' * 5000)", "no_score"),
    ],
    ids=["no score", "nan", "garbage", "deep"],
)
def test_output_without_a_score(tmp_path: Path, script: str, failure: str) -> None:
    result = command(tmp_path, script)
    assert (result.status, result.failure) == ("failed", failure)
    assert failure != "no_score" or '{"score": 0.5}' in result.message


def test_huge_output_is_read_and_the_log_keeps_both_ends(tmp_path: Path) -> None:
    result = command(
        tmp_path,
        """
        import sys
        print("first line")
        for _ in range(300):
            sys.stdout.write("x" * 100_000 + "\\n")
        sys.stdout.write("y" * 5_000_000)
        print('\\n{"score": 3, "cost": 1}')
        """,
    )
    assert result.score == 3
    text = log(tmp_path)
    assert text.startswith("first line\n")
    assert text.endswith('{"score": 3, "cost": 1}\n')
    assert "bytes left out" in text
    assert len(text) < 10_000_000


def test_a_flood_of_points_is_thinned(tmp_path: Path) -> None:
    result = command(tmp_path, 'for i in range(1, 60_001): print(\'{"score": %d, "cost": %d}\' % (i, i))')
    assert (result.score, result.cost) == (60_000, 60_000)
    assert len(result.points) <= 10_000
    assert (tmp_path / "run" / "trials" / "000000" / "reports.jsonl").stat().st_size < 2_000_000


def test_points_come_when_they_are_printed(tmp_path: Path) -> None:
    code = "import time\nprint('{\"score\": 1}')\ntime.sleep(1)\nprint('{\"score\": 2}')"
    first, second = (cost for _, cost, _ in command(tmp_path, code).points)
    assert second - first > 0.5


GRANDCHILDREN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
one = subprocess.Popen([sys.executable, "-c", ignore])
two = subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
if os.fork() == 0:  # a daemon: its parent is gone at once, its session another
    os.setsid()
    if os.fork() == 0:
        open("pids", "w").write(f"{os.getpid()} {one.pid} {two.pid}")
        os.rename("pids", "pids.txt")
        time.sleep(600)
    os._exit(0)
while not os.path.exists("pids.txt"):
    time.sleep(0.01)
"""


@pytest.mark.skipif(not processes.LINUX, reason="escaped processes are found on Linux only")
def test_a_time_limit_ends_the_whole_tree(tmp_path: Path) -> None:
    result = command(tmp_path, GRANDCHILDREN + "time.sleep(600)", "workers: {count: 1, timeout: 1}")
    assert (result.status, result.failure) == ("failed", "timeout")
    assert 1 <= result.seconds < 60
    assert not any(alive(int(pid)) for pid in (tmp_path / "pids.txt").read_text().split())


@pytest.mark.skipif(not processes.LINUX, reason="escaped processes are found on Linux only")
def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    end = supervisor.supervise(["/bin/true"], tmp_path / "gone", {}, tmp_path, lambda line, source: None)
    assert end.error == f"cannot start /bin/true in {tmp_path / 'gone'}: No such file or directory"


def test_a_machine_without_room_for_a_process_is_no_failure_of_the_params(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.parse("name: t\nobjective: {command: 'true {args}'}\nparameters: {x: {min: 0, max: 9}}")

    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("subprocess.Popen", full)
    job = Job(1, {"x": 1}, 0, str(tmp_path))
    result = make(settings).run(job, lambda *point: None, lambda values: None)
    assert (result.status, result.failure) == ("killed", None)
    assert result.message == "not started (cannot start true: Resource temporarily unavailable)"


def test_nothing_stays_behind_a_command_that_ends(tmp_path: Path) -> None:
    result = command(tmp_path, GRANDCHILDREN + 'print(\'{"score": 1, "cost": 1}\')')
    assert result.score == 1
    assert not any(alive(int(pid)) for pid in (tmp_path / "pids.txt").read_text().split())


def test_a_command_may_remove_its_folder(tmp_path: Path) -> None:
    code = "import os, shutil; shutil.rmtree(os.environ['SWEEP_TRIAL_DIR'])"
    result = command(tmp_path, code + '; print(\'{"score": 1, "cost": 1}\')')
    assert (result.status, result.score) == ("done", 1)


def test_a_command_killed_from_outside_is_no_failure_of_its_params(tmp_path: Path) -> None:
    result = command(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert (result.status, result.signal) == ("killed", 9)


# Functions

FUNCTIONS = """
import multiprocessing, os, signal, sys, time
import sweeper
calls = []
def score(x): return x
def pair(x): return x, 2 * x
def mapping(x): return {"score": x, "cost": 3, "step": 7}
def reports(x):
    for step in (1, 2, 3):
        sweeper.report(score=x * step, cost=step, step=step)
def warm(x):
    calls.append(x)
    return len(calls), 1
def wanders(x):
    here = os.path.exists("mine.py")
    os.chdir("/")
    return int(here), 1
def crash(x):
    if x > 5:
        raise ValueError("x is too large")
    return x, 1
def nan(x): return float("nan"), 1
def nothing(x): print("I forgot to return")
def leave(x): os._exit(3)
def segfault(x): os.kill(os.getpid(), signal.SIGSEGV)
def killed(x): os.kill(os.getpid(), signal.SIGKILL)
def oom(x): raise MemoryError
def torchs_oom(x): raise RuntimeError("[alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
def hang(x):
    if x > 5:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
        open("pids", "w").write(f"{child.pid} {os.getpid()}")
        os.rename("pids", "pids.txt")
        time.sleep(600)
    return x, 1
def loud(x):
    os.write(1, b"from C\\n")
    print("from Python")
    print("an error", file=sys.stderr)
    return x, 1
def forks(x):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return sum(pool.map(abs, [x, -x])), 1
"""


def function(folder: Path, name: str, xs: list[float], more: str = "") -> list[Result]:
    (folder / "mine.py").write_text(FUNCTIONS)
    return evaluate(folder, f'{{function: "mine:{name}"}}', [{"x": x} for x in xs], more)


@pytest.mark.parametrize(
    ("name", "score", "cost", "points"),
    [
        ("pair", 4, 8, 1),
        ("mapping", 4, 3, 1),
        ("reports", 12, 3, 3),
        ("loud", 4, 1, 1),
        ("forks", 8, 1, 1),
    ],
)
def test_ways_to_return_a_result(tmp_path: Path, name: str, score: float, cost: float, points: int) -> None:
    (result,) = function(tmp_path, name, [4])
    assert (result.status, result.score, result.cost, len(result.points)) == ("done", score, cost, points)
    if name == "loud":
        assert sorted(log(tmp_path).splitlines()) == ["an error", "from C", "from Python"]


@pytest.mark.parametrize("end", ["sys.exit(0)", "raise ValueError"])
def test_the_end_of_a_forked_child_is_not_that_of_the_trial(tmp_path: Path, end: str) -> None:
    code = f"import os, sys\ndef fit(x):\n    child = os.fork()\n    if child == 0:\n        {end}\n"
    code += "    return int(os.waitpid(child, 0)[1] != 0), 1"
    (tmp_path / "mine.py").write_text(code)
    (result,) = evaluate(tmp_path, '{function: "mine:fit"}', [{"x": 1}], "workers: {count: 1, timeout: 5s}")
    assert (result.status, result.score) == ("done", end != "sys.exit(0)")


def test_a_score_alone_costs_its_seconds(tmp_path: Path) -> None:
    (result,) = function(tmp_path, "score", [4])
    assert result.score == 4
    assert result.cost is not None
    assert 0 < result.cost < 60


def test_a_worker_stays_warm_from_trial_to_trial(tmp_path: Path) -> None:
    assert [result.score for result in function(tmp_path, "warm", [1, 1, 1])] == [1, 2, 3]


def test_every_trial_begins_in_the_configs_folder(tmp_path: Path) -> None:
    assert [result.score for result in function(tmp_path, "wanders", [1, 1])] == [1, 1]


def test_an_exception_fails_one_trial_and_its_worker_goes_on(tmp_path: Path) -> None:
    results = function(tmp_path, "crash", [6, 1])
    assert [(r.status, r.failure) for r in results] == [("failed", "crash"), ("done", None)]
    assert results[0].message == "ValueError: x is too large"
    assert "Traceback" in log(tmp_path)


@pytest.mark.parametrize(
    ("name", "status", "failure"),
    [
        ("nan", "failed", "non_finite"),
        ("nothing", "failed", "no_score"),
        ("leave", "failed", "crash"),
        ("segfault", "failed", "crash"),
        ("oom", "failed", "oom"),
        ("torchs_oom", "failed", "oom"),
        ("killed", "killed", None),
    ],
)
def test_ways_to_fail(tmp_path: Path, name: str, status: str, failure: str | None) -> None:
    (result,) = function(tmp_path, name, [4])
    assert (result.status, result.failure) == (status, failure)


def test_a_function_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    results = function(tmp_path, "hang", [6, 1], "workers: {count: 1, timeout: 1}")
    assert [(r.status, r.failure) for r in results] == [("failed", "timeout"), ("done", None)]
    assert not any(alive(int(pid)) for pid in (tmp_path / "pids.txt").read_text().split())


def test_a_module_that_cannot_be_imported_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import no_such_module_anywhere\ndef fit(x): return x\n")
    with pytest.raises(ExecutorError, match="No module named 'no_such_module_anywhere'"):
        evaluate(tmp_path, '{function: "bad:fit"}', [{"x": 1}])


# Limits

HUNGRY = """
import os, time
def eat(x):
    food = bytearray(int(x * 100e6))
    if x > 5:
        time.sleep(60)
    return x, 1
def eat_in_children(x):
    if x > 5:
        for _ in range(3):
            if os.fork() == 0:
                food = bytearray(int(x * 50e6))
                time.sleep(60)
        time.sleep(60)
    return x, 1
def share(x):  # resident in every one of six processes, but there once
    food = bytearray(int(100e6))
    children = [os.fork() for _ in range(5)] if x > 5 else []
    if 0 in children:
        time.sleep(1.5)
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    return x, 1
leak = []
def leaks(x):
    leak.append(bytearray(int(120e6)))
    time.sleep(0.6)
    return len(leak), 1
"""


@pytest.mark.skipif(not processes.LINUX, reason="memory is limited on Linux only")
@pytest.mark.parametrize("name", ["eat", "eat_in_children", "share"])
def test_a_memory_limit_counts_the_whole_tree_and_every_page_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(HUNGRY)
    more = "workers: {count: 1, memory: 400MB}"
    results = evaluate(tmp_path, f'{{function: "mine:{name}"}}', [{"x": 9}, {"x": 1}], more)
    assert (results[1].status, results[1].score) == ("done", 1)
    if name == "share":
        assert (results[0].status, results[0].score) == ("done", 9)
    else:
        assert (results[0].status, results[0].failure) == ("failed", "oom")
        assert "400 MB are allowed" in results[0].message
        assert ("3 processes below" in results[0].message) is (name == "eat_in_children")
        assert results[0].seconds < 20


@pytest.mark.skipif(not processes.LINUX, reason="memory is limited on Linux only")
def test_a_command_is_within_its_workers_memory_limit(tmp_path: Path) -> None:
    code = "import os, time\nos.fork()\nos.setsid\nfood = bytearray(300_000_000)\ntime.sleep(60)"
    result = command(tmp_path, code, "workers: {count: 1, memory: 400MB}")
    assert (result.status, result.failure) == ("failed", "oom")


@pytest.mark.skipif(not processes.LINUX, reason="memory is limited on Linux only")
def test_a_process_whose_name_is_no_text_is_seen(tmp_path: Path) -> None:
    script = tmp_path / "обучение.sh"  # 8 letters of 2 bytes: the kernel keeps 15 of them
    script.write_text("#!/bin/sh\nsleep 60 & wait\n")
    script.chmod(0o700)
    with subprocess.Popen([script], start_new_session=True) as process:
        try:
            wait_for(lambda: len(processes.descendants(process.pid)) == 1)
            assert process.pid in processes.descendants(os.getpid())
        finally:
            processes.kill_group(process.pid)


def test_a_trial_does_not_pay_for_what_earlier_ones_leaked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HUNGRY)
    more = "workers: {count: 1, memory: 500MB}"
    results = evaluate(tmp_path, '{function: "mine:leaks"}', [{"x": 1}] * 5, more)
    assert [result.status for result in results] == ["done"] * 5
    assert max(result.score or 0 for result in results) < 5


def test_a_worker_makes_way_after_so_many_trials(tmp_path: Path) -> None:
    results = function(tmp_path, "warm", [1] * 5, "workers: {count: 1, restart_after: 2}")
    assert [result.score for result in results] == [1, 2, 1, 2, 1]


SPOILING = """
import os, sys, types

def refuse():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def work(x):
    if x < 2:  # a GPU that fails one trial, and one that fails all after it
        synchronize = refuse if x else lambda: None
        cuda = types.SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
        sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
        raise RuntimeError("an error of CUDA")
    return os.getpid()
"""


def test_a_worker_whose_gpu_is_spoiled_makes_way_before_the_next_trial(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SPOILING)
    params = [{"x": x} for x in (2, 0, 3, 1, 4)]
    results = evaluate(tmp_path, '{function: "mine:work"}', params)
    assert [result.status for result in results] == ["done", "failed", "done", "failed", "done"]
    first, _, second, _, last = (result.score for result in results)
    assert first == second != last


@pytest.mark.skipif(not processes.LINUX, reason="escaped processes are found on Linux only")
def test_a_script_that_does_everything_wrong_costs_one_trial(tmp_path: Path) -> None:
    code = """
    import sys
    for _ in range(40):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                sys.stdout.buffer.write(os.urandom(1 << 16) + b"z" * (1 << 20))
                for said in ("NaN", '"high"', "1e999", "[1]"):
                    print('{"score": %s, "cost": -1}' % said, flush=True)
    """
    result = command(tmp_path, GRANDCHILDREN + textwrap.dedent(code), "workers: {count: 1, timeout: 2}")
    assert result.status == "failed"
    assert result.seconds < 30
    assert not any(alive(int(pid)) for pid in (tmp_path / "pids.txt").read_text().split())
    assert (tmp_path / "run" / "trials" / "000000" / "log.txt").stat().st_size < 10_000_000


# GPUs, without any


@pytest.mark.parametrize(
    ("visible", "workers", "expected"),
    [
        ("0,1", "{gpus: auto}", ["0", "1"]),
        ("0,1", "{count: 3}", ["0", "1", "0"]),
        ("0,1", "{gpus_per_trial: 0.5}", ["0", "1", "0", "1"]),
        ("0,1", "{gpus_per_trial: 0.25, gpus: 1}", ["0"] * 4),
        ("0,1", "{gpus_per_trial: 0.3, count: 3}", ["0", "1", "0"]),
        ("0,1,2,3,4", "{gpus_per_trial: 2}", ["0,1", "2,3"]),
        ("GPU-a,GPU-b", "{gpus_per_trial: 1}", ["GPU-a", "GPU-b"]),
        ("0,1", "{gpus: 0, count: 2}", ["", ""]),
        ("0", "{gpus_per_trial: 0.5, count: 3}", "3 trials at once with 0.5 GPUs each"),
        ("0", "{gpus_per_trial: 2}", "2 were asked for, 1 are visible"),
        ("", "{gpus_per_trial: 0.5}", "no GPU is visible"),
        ("0", "{gpus: 2}", "2 were asked for, 1 are visible"),
    ],
)
def test_gpus_are_dealt_out(
    monkeypatch: pytest.MonkeyPatch, visible: str, workers: str, expected: list[str] | str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    text = (
        f"name: t\nobjective: {{synthetic: log}}\nparameters: {{x: {{min: 0, max: 9}}}}\nworkers: {workers}\n"
    )
    settings = config.parse(text).workers
    if isinstance(expected, str):
        with pytest.raises(ExecutorError, match=expected):
            executors.resources(settings)
    else:
        assert executors.resources(settings) == (len(expected), expected)


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: str) -> None:
    """A program of this name that knows such GPUs."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{rows}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize(
    ("visible", "cores", "memory", "workers", "expected"),
    [
        ("0", 16, (143771,), "", ["0"] * 16),  # an H200: a core each
        ("0", 64, (24564,), "", ["0"] * 5),  # 4 GiB each
        ("0", 64, (143771,), "", ["0"] * 20),  # slots.GPU_PARTS
        ("0,1", 7, (81559, 24564), "", ["0", "1"] * 3),
        ("1", 8, (2048, 16384), "", ["1"] * 4),
        ("GPU-b", 8, (2048, 16384), "", ["GPU-b"] * 4),
        ("0", 16, (2048,), "", ["0"]),
        ("0,1", 8, (143771, 143771), ", count: 3", ["0", "1", "0"]),
        ("0,1", 4, (143771, 143771), ", count: 5", "5 trials at once with 0.5 GPUs each were asked for"),
        ("", 3, (), "", [None] * 3),  # a worker a core, as without the key
        ("0,1", 16, (143771,), "", r"gpus_per_trial: auto: nvidia-smi does not say .* GPU 1 has"),
        ("MIG-4", 16, (143771,), "", r"nvidia-smi does not say .* GPU MIG-4 has"),
    ],
)
def test_as_many_trainings_share_a_gpu_as_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    cores: int,
    memory: tuple[int, ...],
    workers: str,
    expected: list[str] | str,
) -> None:
    rows = "".join(f"{i}, GPU-{'ab'[i]}, {size}\n" for i, size in enumerate(memory))
    nvidia_smi(tmp_path, monkeypatch, rows)
    monkeypatch.setattr(executors, "cores", lambda: cores)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    text = "name: t\nobjective: {train: cartpole}\nparameters: {gamma: {min: 0, max: 1}}\n"
    settings = config.parse(f"{text}workers: {{gpus_per_trial: auto{workers}}}\n").workers
    if isinstance(expected, str):
        with pytest.raises(ExecutorError, match=expected):
            executors.resources(settings)
    else:
        count, seats = executors.resources(settings)
        assert (count, seats or [None] * count) == (len(expected), expected)


def test_a_trial_sees_only_its_own_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    code = "import os, time\ndef fit(x):\n    time.sleep(0.5)\n"
    (tmp_path / "mine.py").write_text(code + "    return int(os.environ['CUDA_VISIBLE_DEVICES']), 1\n")
    more = "workers: {count: 4, gpus_per_trial: 0.5}"
    results = evaluate(tmp_path, '{function: "mine:fit"}', [{"x": 1}] * 4, more)
    assert sorted(result.score or 0 for result in results) == [4, 4, 7, 7]


# The other kinds


def test_a_synthetic_task(tmp_path: Path) -> None:
    text = "name: t\nobjective: {synthetic: log}\nworkers: {count: 1}\nparameters:\n"
    text += "  lr: {min: 1e-5, max: 0.1}\n  steps: {type: int, min: 10000, max: 1e6}\n"
    params = {"lr": 1e-3, "steps": 100_000}
    ((_, result),) = executors.evaluate(config.parse(text, folder=tmp_path), [(params, 1)], tmp_path / "run")
    assert (result.status, result.cost) == ("done", 10.0)


def test_training_reports_its_curve_and_its_named_failures(tmp_path: Path) -> None:
    text = """
name: t
objective: {train: squared}
workers: {count: 1}
fixed: {train.num_envs: 64, horizon: 16, minibatch_size: 512, eval_episodes: 8, curve_points: 3}
parameters: {total_timesteps: {type: int, min: 1000, max: 1e6}, learning_rate: {min: 1e-5, max: 100}}
"""
    jobs = [
        ({"total_timesteps": 6144, "learning_rate": 0.01}, 1),
        ({"total_timesteps": 6144, "horizon": 24}, 1),
    ]
    settings = config.parse(text, folder=tmp_path)
    results = dict(executors.evaluate(settings, jobs, tmp_path / "run"))
    assert results[0].status == "done", results[0].message
    assert len(results[0].points) == 3
    assert results[0].points[-1][0] == 6144
    assert 0 < results[0].cost < 60
    assert (results[1].failure, "minibatch_size" in results[1].message) == ("settings", True)


# The driver's death


@pytest.mark.skipif(not processes.LINUX, reason="needs the parent's death signal")
@pytest.mark.parametrize("kind", ["command", "function"])
def test_no_worker_outlives_a_killed_driver(tmp_path: Path, kind: str) -> None:
    (tmp_path / "script.py").write_text(GRANDCHILDREN + "time.sleep(600)")
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    objective = f'{{command: "{PYTHON} script.py"}}' if kind == "command" else '{function: "mine:hang"}'
    text = f"name: t\nobjective: {objective}\nworkers: {{count: 2}}\nparameters: {{x: {{min: 0, max: 9}}}}\n"
    code = """
import sys
from pathlib import Path
from sweeper import config, executors
folder = Path(sys.argv[1])
list(executors.evaluate(config.parse(sys.argv[2], folder=folder), [({"x": 9}, 1)] * 2, folder / "run"))
"""
    mark = f"SWEEP_TEST_MARK={tmp_path}"
    environment = {**os.environ, "SWEEP_TEST_MARK": str(tmp_path)}
    driver = subprocess.Popen([PYTHON, "-c", code, str(tmp_path), text], env=environment)
    try:
        wait_for((tmp_path / "pids.txt").exists)
        assert len(marked(mark)) >= 4
    finally:
        driver.kill()
        driver.wait()
    if kind == "command":
        wait_for(lambda: not marked(mark))
    else:  # what a function forked is ended at the latest when the run goes on
        worker = int((tmp_path / "pids.txt").read_text().split()[1])
        wait_for(lambda: not alive(worker))
        processes.kill_marked(mark)
        wait_for(lambda: not marked(mark))


def marked(mark: str) -> list[int]:
    """Living processes with `mark` in their environment."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and alive(int(entry)):
            try:
                if mark.encode() in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def test_a_function_may_put_anything_in_the_place_of_its_output(tmp_path: Path) -> None:
    (tmp_path / "tee.py").write_text(
        "import sys\nclass Tee:\n    def write(self, text): pass\n"
        "def fit(x):\n    sys.stdout = None if x > 1 else Tee()\n    return x\n"
    )
    results = evaluate(tmp_path, "{function: 'tee.py:fit'}", [{"x": x} for x in (1.0, 2.0)])
    assert [(result.status, result.score) for result in results] == [("done", 1.0), ("done", 2.0)]
