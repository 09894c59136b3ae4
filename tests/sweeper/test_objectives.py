"""Objectives: how commands are filled, what reports amount to, and mistakes found before anything runs."""

import argparse
import itertools
import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import ocean
from sweeper import config, objectives
from sweeper.cli import main
from sweeper.errors import ConfigError
from sweeper.objectives import Curve
from sweeper.placeholders import command_words
from sweeper.summary import command_line
from trainer.defaults import DEFAULTS

PARAMS = {"lr": 0.1, "batch_size": 64, "mode": "a b; $(rm -rf x) 'q'", "nested.flag": True}


def load(folder: Path, objective: str, more: str = "") -> config.SweepConfig:
    parameters = (
        "" if "parameters:" in more else "parameters: {lr: {min: 0, max: 1}, steps: {min: 1, max: 9}}\n"
    )
    return config.parse(f"name: t\nobjective: {objective}\n{parameters}{more}\n", folder=folder)


def problem(folder: Path, objective: str, more: str = "") -> str:
    """The message of what `check` finds."""
    with pytest.raises(ConfigError) as found:
        objectives.make(load(folder, objective, more)).check()
    return str(found.value)


# Filling commands


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run --lr={lr} -m {mode}", ["run", "--lr=0.1", "-m", PARAMS["mode"]]),
        ("run '{mode} and {lr}'", ["run", f"{PARAMS['mode']} and 0.1"]),
        (
            "run {args}",
            ["run", "--lr=0.1", "--batch_size=64", f"--mode={PARAMS['mode']}", "--nested.flag=true"],
        ),
        (
            "run {args:hydra}",
            ["run", "lr=0.1", "batch_size=64", f"mode={PARAMS['mode']}", "nested.flag=true"],
        ),
        (
            "run {args:dashes}",
            ["run", "--lr", "0.1", "--batch-size", "64", "--mode", PARAMS["mode"], "--nested.flag", "true"],
        ),
        ("run {{lr}} ${HOME} '{\"a\": 1}'", ["run", "{lr}", "${HOME}", '{"a": 1}']),
        ("run --gone={gone} {lr}", ["run", "0.1"]),
        ("run --seed {seed}", ["run", "--seed", "7"]),
    ],
)
def test_a_command_is_split_first_and_filled_after(command: str, words: list[str]) -> None:
    assert command_words(command, PARAMS, own={"seed": 7}) == words


@pytest.mark.parametrize("value", [-5e-05, -1.25e-300, -3e16, -0.5, 5e-05])
def test_a_negative_number_is_no_option(value: float) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--x", type=float)
    for command in ("{args:dashes}", "--x {x}", "{args}"):
        assert parser.parse_args(command_words(command, {"x": value})).x == value


def test_a_shell_never_sees_a_bare_value() -> None:
    shell, flag, text = command_words("echo {lr} {mode} | tee x", PARAMS, shell=True)
    assert (shell, flag) == ("/bin/sh", "-c")
    assert text == """echo 0.1 'a b; $(rm -rf x) '"'"'q'"'"'' | tee x"""


def test_a_line_to_paste_fills_the_command(tmp_path: Path) -> None:
    line = objectives.fill_command(load(tmp_path, '{command: "run {args}"}'), {"lr": 0.1, "mode": "a b"})
    assert line == "SWEEP_SEED=0 run --lr=0.1 '--mode=a b'"


@pytest.mark.parametrize(
    "objective",
    [
        'command: "cat {trial_dir}/params.json"',
        'command: "cat {trial_dir}/params.json --mode={mode}", shell: true',
        'command: "cat $SWEEP_PARAMS --mode={mode}", shell: true',
    ],
)
def test_a_line_to_paste_has_the_values_where_a_trial_has_its_file(tmp_path: Path, objective: str) -> None:
    values = {"lr": 0.1, "mode": "it's"}
    line = objectives.fill_command(load(tmp_path, f"{{{objective}}}"), values).replace(" --mode=", " #")
    said = subprocess.run(line, shell=True, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(said.stdout) == values


def told(folder: Path, objective: str, script: str, metric: str = "score") -> float | None:
    """The score that a trial of this command has."""
    return ran(folder, objective, script, metric).score


def ran(folder: Path, objective: str, script: str, metric: str = "score") -> objectives.Result:
    """A trial of this command, run as a worker runs it."""
    (folder / "mine.py").write_text(script)
    settings = load(folder, objective, f"metric: {{name: {metric}}}")
    params = {"lr": 0.25, "steps": 3}
    (folder / "params.json").write_text(json.dumps(params))
    job = objectives.Job(7, params, 7, str(folder))
    return objectives.make(settings).run(job, lambda *point: None, lambda facts: None)


@pytest.mark.parametrize("shell", ["false", "true"])
@pytest.mark.parametrize("words", ["{seed} {lr}", "{lr}", "{seed}", ""])
def test_the_line_to_paste_gives_the_trials_score_again(tmp_path: Path, words: str, shell: str) -> None:
    """By placeholder or by environment: the seed and the values reach it as they did in the sweep."""
    script = (
        "import json, os, sys\n"
        "words = sys.argv[1:]\n"
        "seed = words.pop(0) if '{seed}' in WORDS else os.environ['SWEEP_SEED']\n"
        "lr = words[0] if words else json.load(open(os.environ['SWEEP_PARAMS']))['lr']\n"
        "print(json.dumps({'score': int(seed) + float(lr)}))\n"
    ).replace("WORDS", repr(words))
    objective = f"{{command: '{{python}} mine.py {words}', shell: {shell}}}"
    more = "parameters: {lr: {min: 0, max: 1}}"
    assert told(tmp_path, objective, script) == 7.25
    line = command_line(load(tmp_path, objective, more), {"lr": 0.25}, 7)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SWEEP_")}
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=bare)
    assert json.loads(done.stdout) == {"score": 7.25}


@pytest.mark.parametrize("escaped", ["True", "False"])
def test_a_metric_of_any_name_is_heard_however_its_json_is_written(tmp_path: Path, escaped: str) -> None:
    script = f"import json; print(json.dumps({{'précision': 0.5}}, ensure_ascii={escaped}))"
    objective = "{command: '{python} -X utf8 mine.py'}"
    assert told(tmp_path, objective, script, "précision") == 0.5
    assert told(tmp_path, objective, r"""print('{"eval\/reward": 0.5}')""", "eval/reward") == 0.5


@pytest.mark.parametrize(
    ("printed", "score"),
    [
        ("{'eval_loss': 0.25, 'eval_runtime': 0.1, 'epoch': 1.0}", 0.25),
        ("{'eval_loss': '0.25', 'epoch': '1'}", 0.25),
        ("{'eval_loss': np.float64(-0.25), 'epoch': 1.0}", -0.25),
        ("{'eval_loss': tensor(0.25, device='cuda:0')}", 0.25),
        ("{'eval_loss': nan, 'epoch': 1.0}", None),  # the last one is the result, no earlier one
        ("{'eval_loss': None}", 7.0),
        ("{'eval_loss': 'low', 'eval_loss_of': 3}", None),
        ("{'loss': 0.5, **{}}", 7.0),
        ("{'eval_loss': 0.25", 7.0),
        ("{'eval_loss': " + "[" * 5000, 7.0),
    ],
)
def test_a_dict_as_python_prints_it_is_a_report(tmp_path: Path, printed: str, score: float | None) -> None:
    script = f"""print('{{"eval_loss": 7}}'); print({printed!r})"""
    assert told(tmp_path, "{command: '{python} mine.py'}", script, "eval_loss") == score
    ours = "{command: '{python} mine.py', pattern: 'reward (.*)'}"
    assert told(tmp_path, ours, f"{script}; print('reward 3')", "eval_loss") == 3


@pytest.mark.parametrize(
    ("line", "metric"),
    [
        ("score: -0.5", "score"),
        ('12:30 INFO {"step": 3, "score": -0.5}', "score"),
        ("step 3, eval score = -0.5, lr 0.1", "eval score"),
        ("it's score's -.5", "score's"),
        ("Training has ended with score: -0.5.", "score"),
        ('{"step": 3, "eval": {"score": -0.5}}', "score"),
        ("{'step': 3, 'eval': {'score': -0.5}}", "score"),
    ],
)
def test_a_line_that_is_no_report_comes_with_what_would_read_it(
    tmp_path: Path, line: str, metric: str
) -> None:
    script = f"print({line!r}); print({metric!r}, 'is all'); print({metric!r})"
    failed = ran(tmp_path, "{command: '{python} mine.py'}", script, metric)
    assert failed.failure == "no_score"
    assert line in failed.message
    mend = failed.message.partition("under objective, ")[2].partition(" to read it")[0]
    heard = f"{{command: '{{python}} mine.py', {mend}}}"
    assert told(tmp_path, heard, f"print({line!r})", metric) == -0.5


def test_a_line_where_the_pattern_finds_no_number_fails_a_trial_only_as_its_last(tmp_path: Path) -> None:
    objective = r"{command: '{python} mine.py', pattern: 'score[^-+.\w]+(?P<score>[-+.\w]+)'}"
    assert told(tmp_path, objective, "print('score is what counts'); print('score: -0.5')") == -0.5
    failed = ran(tmp_path, objective, "print('score: -0.5'); print('score is none')")
    assert failed.failure == "pattern"
    assert "'score is', which holds no number" in failed.message


# Reports


def curve(metric: str = "score", cost: str = "cost", last: int = 1, fidelity: str | None = None) -> Curve:
    spec = {"metric": metric, "cost": cost, "last": last, "fidelity": fidelity}
    return Curve(spec, lambda *point: None)


def test_the_last_report_is_the_result() -> None:
    c = curve(metric="acc")
    assert c.take({"acc": 0.5, "cost": 1, "step": 10})
    assert c.take({"acc": 0.4, "cost": 2, "step": 20})
    assert not c.take({"loss": 3})
    assert not c.take({"acc": None})
    result = c.result("")
    assert (result.status, result.score, result.cost) == ("done", 0.4, 2)
    assert result.points == [(10, 1, 0.5), (20, 2, 0.4)]


@pytest.mark.parametrize(
    ("fidelity", "said", "step"),
    [
        (None, {"step": 7}, 7),
        (None, {"steps": 7}, 7),
        (None, {"epoch": 7}, None),
        ("train.epochs", {"epoch": 7, "step": 700}, 7),  # in units of the swept parameter
        ("epochs", {"epochs": 7}, 7),
        ("num_train_epochs", {"epoch": 7.0, "step": 700}, 7),
        ("num_epochs", {"num_epochs": 50, "epoch": 7}, 7),  # beside the arguments, as {**vars(args), ...}
        ("max_steps", {"max_steps": 50, "step": 7}, 7),
        ("max_steps", {"max_steps": 7}, 7),
        ("epochs", {"step": 7}, 7),
        ("budget", {"budget": 7}, 7),
    ],
)
def test_a_point_is_counted_in_units_of_the_fidelity(
    fidelity: str | None, said: dict[str, int], step: int | None
) -> None:
    c = curve(fidelity=fidelity)
    assert c.take({"score": 0.5, "cost": 1, **said})
    assert [point[0] for point in c.points] == [step]


def test_a_metric_called_cost_is_not_the_cost() -> None:
    c = curve(metric="cost", cost="seconds")
    c.started -= 5
    c.take({"cost": 3})
    assert (c.result("").score, c.result("").cost) == (3, pytest.approx(5, abs=1))
    c.report({"score": 4, "cost": 7})  # of `sweeper.report`, whose words are its own
    assert (c.result("").score, c.result("").cost) == (4, 7)


def test_a_cost_called_score_is_not_the_score() -> None:
    c = curve(metric="loss", cost="score")
    assert not c.take({"score": 2})
    c.report({"score": 4, "cost": 7})
    assert (c.result("").score, c.result("").cost) == (4, 7)


def test_a_failure_costs_what_was_known_before_it() -> None:
    c = curve()
    c.take({"score": 1, "cost": 2})
    c.take({"score": 1, "cost": float("inf")})
    assert (c.result("").failure, c.result("").cost) == ("bad_cost", 2)


def test_the_mean_of_the_last_is_the_result_where_wanted() -> None:
    c = curve(last=3)
    for i in range(10):
        c.take({"score": i, "cost": i + 1})
    assert (c.result("").score, c.result("").cost) == (8.0, 10.0)


def test_where_each_point_is_a_result_it_is_the_mean_of_the_last_up_to_it() -> None:
    def after(reports: int, fidelity: str | None) -> Curve:
        c = curve(last=3, fidelity=fidelity)
        for i in range(reports):
            c.take({"score": i, "cost": i + 1, "epoch": i + 1})
        return c

    long = after(10, "epochs")
    assert [score for *_, score in long.points] == [after(n, "epochs").result("").score for n in range(1, 11)]
    assert [score for *_, score in after(10, None).points] == list(range(10))  # as they were reported


def test_without_a_cost_the_clock_counts() -> None:
    c = curve(cost="seconds")
    c.started -= 5
    c.take({"score": 1})
    assert c.result("").cost == pytest.approx(5, abs=1)


def test_a_named_cost_must_be_reported() -> None:
    c = curve(cost="gpu_hours")
    c.take({"score": 1})
    assert (c.result("").failure, c.result("").cost) == ("no_cost", None)
    c.take({"score": 1, "gpu_hours": 3})
    assert (c.result("").failure, c.result("").cost) == (None, 3)


@pytest.mark.parametrize(
    ("reports", "failure"),
    [
        ([], "no_score"),
        ([{"score": 1, "cost": 1}, {"score": float("nan"), "cost": 2}], "non_finite"),
        ([{"score": 1, "cost": 0}], "bad_cost"),
        ([{"score": 1, "cost": "a lot"}], "bad_cost"),  # no silent clock instead
        ([{"score": "0.9", "cost": 1}], "no_score"),
        ([{"score": 10**400, "cost": 1}], "non_finite"),
        ([{"score": 1, "cost": 1e308}], "bad_cost"),
        ([{"score": float("inf"), "cost": 1}, {"score": 1, "cost": 1}], None),
    ],
)
def test_a_result_that_is_none(reports: list[dict], failure: str | None) -> None:
    c = curve()
    for report in reports:
        c.take(report)
    assert c.result("a line").failure == failure


def test_a_flood_of_reports_is_thinned_not_kept() -> None:
    c = curve()
    for i in range(3 * objectives.MAX_POINTS):
        c.take({"score": i, "cost": i + 1})
    assert len(c.points) <= objectives.MAX_POINTS
    assert c.points[-1] == (None, 3 * objectives.MAX_POINTS, 3 * objectives.MAX_POINTS - 1)
    costs = [p[1] for p in c.points]
    assert costs == sorted(costs)
    gaps = {after - before for before, after in itertools.pairwise(costs[:-1])}
    assert len(gaps) == 1, "all of the curve as densely"


# Checks


def test_mistakes_in_a_command(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "train.py").write_text("")
    assert "was not found" in problem(tmp_path, '{command: "no-such-program {args}"}')
    assert "no program ./gone.sh" in problem(tmp_path, '{command: "./gone.sh {args}"}')
    assert "chmod +x ./run.sh" in problem(tmp_path, '{command: "./run.sh {args}"}')
    assert "no file gone.py" in problem(tmp_path, '{command: "python3 gone.py {args}"}')
    assert "no file gone.py" in problem(tmp_path, '{command: "{python} gone.py {args}"}')
    assert "only a shell sets" in problem(tmp_path, '{command: "GPU=/dev/1 python3 train.py {args}"}')
    assert "write {python}" in problem(tmp_path, '{command: "python2.3 train.py {args}"}')
    assert "{rate} names no parameter" in problem(tmp_path, '{command: "sh run.sh {lr} {steps} {rate}"}')
    assert "parameters.steps: is never used" in problem(tmp_path, '{command: "sh run.sh {lr}"}')
    assert "quotes" in problem(tmp_path, """{command: 'sh "run.sh'}""")
    assert "inside quotes" in problem(tmp_path, """{command: 'sh run.sh "{lr}" {steps}', shell: true}""")


def test_an_option_whose_value_may_be_left_out_is_one_word_with_it(tmp_path: Path) -> None:
    more = "parameters: {o: {values: [a, b]}, m: {min: 0, max: 1, when: {o: b}}}"
    given = '{command: "python3 -c pass --m {m} --o {o}"}'
    said = problem(tmp_path, given, more)
    assert "'--m {m}' leaves --m alone where m is not active" in said
    assert "write --m={m}" in said
    objectives.make(load(tmp_path, given.replace("--m {m}", "--m={m}"), more)).check()


def test_commands_without_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "train.py").write_text("")
    for command in (
        "./run.sh {args}",
        "sh run.sh {lr} --steps={steps}",
        "sh run.sh",
        "{python} train.py {args}",
        "{python} train.py",
    ):
        objectives.make(load(tmp_path, f'{{command: "{command}"}}')).check()
    shell = """{command: "cd x && sh run.sh {lr} '{{' {steps}", shell: true}"""
    objectives.make(load(tmp_path, shell)).check()


def test_mistakes_in_a_function(tmp_path: Path) -> None:
    touched = tmp_path / "imported"
    (tmp_path / "mine.py").write_text(
        f"open({str(touched)!r}, 'w')\n"
        "def fit(lr, steps, depth=3):\n    return 1\n"
        "def anything(**params):\n    return 1\n"
        "def needy(lr, steps, data):\n    return 1\n"
    )
    (tmp_path / "broken.py").write_text("def fit(:\n")
    assert "no file gone.py" in problem(tmp_path, '{function: "gone.py:fit"}')
    assert "no module 'gone'" in problem(tmp_path, '{function: "gone:fit"}')
    assert "is not module:callable" in problem(tmp_path, "{function: mine}")
    assert "defines no 'fti'" in problem(tmp_path, '{function: "mine:fti"}')
    assert "broken.py, line 1" in problem(tmp_path, '{function: "broken:fit"}')
    assert "needs 'data'" in problem(tmp_path, '{function: "mine:needy"}')
    assert "fit() takes no 'momentum'" in problem(
        tmp_path, '{function: "mine:fit"}', "fixed: {momentum: 0.9}"
    )
    at_times = "parameters: {lr: {min: 0, max: 1}, steps: {values: [1, 2]}, data: {min: 0, max: 1, "
    at_times += "when: {steps: 2}}}"
    said = problem(tmp_path, '{function: "mine:needy"}', at_times)  # trials with one step would all fail
    assert "parameters.data.when: needy() needs it, and some values of steps leave it out" in said
    always = at_times.replace("steps: {values: [1, 2]}, ", "") + "\nfixed: {steps: 2}"
    objectives.make(load(tmp_path, '{function: "mine:needy"}', always)).check()
    for function in ("mine:fit", "mine.py:fit", "mine:anything"):
        objectives.make(load(tmp_path, f'{{function: "{function}"}}')).check()
    assert not touched.exists()


def test_mistakes_in_a_synthetic_task(tmp_path: Path) -> None:
    assert "synthetic" in problem(tmp_path, "{synthetic: gone}").lower()
    assert "needs 'steps'" in problem(tmp_path, "{synthetic: log}", "parameters: {lr: {min: 0, max: 1}}")


def test_mistakes_in_training(tmp_path: Path) -> None:
    steps = "parameters: {train.total_timesteps: {type: int, min: 1000, max: 2000}"
    assert "parameters.train.lerning_rate" in problem(
        tmp_path, "{train: cartpole}", f"{steps}, train.lerning_rate: {{min: 0.1, max: 1}}}}"
    )
    assert "fixed.env.gravitee" in problem(
        tmp_path, "{train: cartpole}", f"{steps}}}\nfixed: {{env.gravitee: 1}}"
    )
    for parameter, words in (
        ("train.num_envs: {min: 16, max: 64}", "parameters.train.num_envs: takes whole numbers"),
        ("train.optimizer: {values: [muon, sgd]}", "parameters.train.optimizer.values: 'sgd'"),
        ("train.gamma: {min: 0.9, max: 1.5}", "parameters.train.gamma.max: 1.5 is out of range"),
    ):
        assert words in problem(tmp_path, "{train: cartpole}", f"{steps}, {parameter}}}")
    assert "cartpole" in problem(tmp_path, "{train: cartpoll}", f"{steps}}}")
    objectives.make(load(tmp_path, "{train: cartpole}", f"{steps}}}")).check()


def test_schedules_are_off_where_curves_are_said_to_be_honest(tmp_path: Path) -> None:
    steps = "parameters: {total_timesteps: {type: int, min: 1000, max: 2000}"
    honest = "{train: %s, fidelity: total_timesteps}"
    config = load(tmp_path, honest % "memory", f"{steps}}}")  # whose tuned defaults have two
    assert config.fixed == {"train.anneal_lr": False, "train.anneal_entropy": False}
    objectives.make(config).check()
    assert load(tmp_path, honest % "cartpole", f"{steps}}}").fixed == {}
    assert load(tmp_path, "{train: memory}", f"{steps}}}").fixed == {}
    still = "parameters: {gamma: {min: 0.8, max: 0.9}}\nfixed: {total_timesteps: 1000}"  # teaches nothing
    assert load(tmp_path, honest % "memory", still).fixed == {"total_timesteps": 1000}
    wanted = problem(tmp_path, honest % "memory", f"{steps}}}\nfixed: {{anneal_lr: true}}")
    assert "objective.fidelity: with train.anneal_lr" in wanted
    swept = f"{steps}, anneal_beta: {{values: [false, true]}}}}"
    assert "with train.anneal_beta" in problem(tmp_path, honest % "cartpole", swept)


# Trainings


def trained(folder: Path, seeds: int, seed: int) -> objectives.Result:
    small = """parameters: {train.total_timesteps: {type: int, min: 4096, max: 8192}}
fixed: {train.num_envs: 16, train.horizon: 32, train.minibatch_size: 128, train.curve_points: 2}"""
    loaded = load(folder, f"{{train: cartpole, seeds: {seeds}}}", f"cost: {{name: steps}}\n{small}")
    objective = objectives.make(loaded)
    objective.load()
    params = {**loaded.fixed, "train.total_timesteps": 4096}
    job = objectives.Job(1, params, seed, str(folder))
    return objective.run(job, lambda *point: None, lambda progress: None)


def test_a_header_that_does_not_compile_is_said_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "maze").mkdir()
    text = ocean.find("squared").read_text()
    (tmp_path / "maze" / "maze.h").write_text(text.replace("env_step(Env", "env_stepp(Env"))
    objective = objectives.make(
        load(tmp_path, "{train: ./maze}", "parameters: {train.gamma: {min: 0, max: 1}}")
    )
    objective.load()
    job = objectives.Job(1, {"train.gamma": 0.5}, 0, str(tmp_path))
    result = objective.run(job, lambda *point: None, lambda progress: None)
    assert (result.status, result.failure) == ("failed", "crash")
    assert "implicit declaration of function 'env_step'" in result.message.replace("‘", "'").replace("’", "'")
    assert "Traceback" not in capfd.readouterr().err


def test_a_trial_of_three_seeds_reports_their_means(tmp_path: Path) -> None:
    alone = [trained(tmp_path, 1, 7 + (number << 31)) for number in range(3)]
    together = trained(tmp_path, 3, 7)
    assert together.score == pytest.approx(sum(result.score or 0 for result in alone) / 3)
    assert [step for step, _, _ in together.points] == [2048, 4096]
    assert together.cost == 4096  # of one training
    assert len({result.score for result in alone}) > 1


def test_episodes_that_do_not_end_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(DEFAULTS["cartpole"], "train.eval_max_steps", 20)
    assert trained(tmp_path, 1, 7).score is not None
    assert re.fullmatch(
        r"the evaluation leaves out \d+ episodes that had not ended after train\.eval_max_steps\n",
        capfd.readouterr().out,
    )
    monkeypatch.setitem(DEFAULTS["cartpole"], "train.eval_max_steps", 2)
    result = trained(tmp_path, 1, 7)
    assert result.failure == "no_score"
    assert "leaves out 100 episodes" in result.message
    with pytest.raises(SystemExit, match="0"):
        main(["train", "cartpole", "--set", "total_timesteps=2048"])
    assert "\nleft out 100 episodes that had not ended" in capfd.readouterr().out


def test_seeds_are_the_trainers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"objective\.seeds: means nothing for a command objective"):
        load(tmp_path, '{command: "sh run.sh {args}", seeds: 3}')


def test_what_a_trial_of_three_seeds_cost_is_counted_once(tmp_path: Path) -> None:
    seeds = 3
    swept = "parameters: {train.gamma: {min: 0, max: 1}}"
    loaded = load(tmp_path, f"{{train: cartpole, seeds: {seeds}}}", swept)
    objective = objectives.make(loaded)
    objective.load()

    def train(*_: object, seed: int, **__: object) -> SimpleNamespace:
        failure = "diverged" if seed >> 31 == 1 else None
        seconds = 2.0 if failure else 10.0
        return SimpleNamespace(steps=1, seconds=seconds, score=1.0, failure=failure, unfinished=0)

    objective.train = train
    job = objectives.Job(1, {"train.gamma": 0.5}, 0, str(tmp_path))
    failed = objective.run(job, lambda *point: None, lambda progress: None)
    assert failed.failure == "diverged"
    assert failed.cost == pytest.approx((10 + 2) / seeds), "as the mean of its trainings, as all costs are"
    late = objectives.Result("failed", failure="timeout", seconds=12.0)
    assert objectives.with_cost(late, "seconds", [], seeds).cost == 12 / seeds
