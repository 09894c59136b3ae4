"""Sweep files of other tools become configs that run, and what is lost on the way is said."""

import sys
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.config import parse
from sweeper.errors import ConfigError
from sweeper.importing import from_wandb
from sweeper.placeholders import command_words

HEAD = "program: train.py\nmethod: bayes\nmetric: {name: reward, goal: maximize}\n"


def converted(parameter: str):
    """The parameter x of a W&B sweep, as it is here, and the text it stands in."""
    text = from_wandb(f"{HEAD}parameters:\n  x: {parameter}\n", "demo.yaml")
    return parse(text).space().parameters["x"], text


@pytest.mark.parametrize(
    ("theirs", "distribution", "kind", "low", "high"),
    [
        ("{min: 0.1, max: 2}", "linear", "float", 0.1, 2),
        ("{min: 1, max: 5}", "linear", "int", 1, 5),
        ("{distribution: uniform, min: 1, max: 5}", "linear", "float", 1, 5),
        ("{distribution: int_uniform, min: 1, max: 5}", "linear", "int", 1, 5),
        ("{distribution: q_uniform, min: 2, max: 10, q: 1}", "linear", "int", 2, 10),
        ("{distribution: q_uniform, min: 0, max: 1, q: 0.25}", "linear", "float", 0, 1),
        ("{distribution: log_uniform_values, min: 1e-5, max: 0.1}", "log", "float", 1e-5, 0.1),
        ("{distribution: inv_log_uniform_values, min: 1e-5, max: 0.1}", "log", "float", 1e-5, 0.1),
        ("{distribution: q_log_uniform_values, min: 16, max: 1000, q: 1}", "log", "int", 16, 1000),
        ("{distribution: q_log_uniform_values, min: 32, max: 256, q: 8}", "log", "int", 32, 256),
        ("{distribution: log_uniform, min: -9.210340371976182, max: 0}", "log", "float", 1e-4, 1),
        ("{distribution: inv_log_uniform, min: 0, max: 9.210340371976182}", "log", "float", 1e-4, 1),
        ("{distribution: q_log_uniform, min: 2, max: 5.5}", "log", "int", 7, 245),  # of q, which is 1
        ("{distribution: q_log_normal, mu: 0, sigma: 1}", "log", "int", 1, 20),
        ("{distribution: q_normal, mu: 64, sigma: 10.5, q: 2}", "linear", "int", 32, 96),
        ("{distribution: q_uniform, min: 0, max: 0.5}", "linear", "float", 0, 0.5),
        ("{distribution: normal, mu: 1, sigma: 0.5}", "linear", "float", -0.5, 2.5),
        ("{distribution: log_normal, mu: 0, sigma: 1}", "log", "float", 0.0497871, 20.0855),
        ("{distribution: beta, a: 2, b: 5}", "linear", "float", 0, 1),
        ("{values: [16, 32, 64]}", "pow2", "int", 16, 64),
    ],
)
def test_every_range_keeps_its_shape(theirs, distribution, kind, low, high):
    made, _ = converted(theirs)
    assert (made.distribution, made.kind) == (distribution, kind)
    assert (made.min, made.max) == pytest.approx((low, high), rel=1e-5)


@pytest.mark.parametrize(
    "values",
    [["adam", "sgd"], [0.1, 0.2, 0.5], [16, 64, 256], [64, 16, 32], [16, 32], [True, False], [1, 2, True]],
)
def test_a_list_of_values_stays_one(values):
    made, _ = converted(str({"values": values}).replace("True", "true").replace("False", "false"))
    assert [*made.values] == values
    assert [type(value) for value in made.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("theirs", "remark"),
    [
        (
            "{distribution: uniform, min: 1e-5, max: 0.1}",
            "# spans a factor of 1e+04: distribution: log, perhaps?",
        ),
        ("{distribution: q_uniform, min: 0, max: 1, q: 0.25}", "# not rounded to multiples of 0.25"),
        ("{distribution: q_uniform, min: 10, max: 100, q: 5}", "# not rounded to multiples of 5"),
        ("{distribution: normal}", "# normal of mu 0, sigma 1: 3 sigmas to either side"),
        ("{distribution: normal, mu: 1, sigma: 0.5}", "# normal of mu 1, sigma 0.5: 3 sigmas to either side"),
        (
            "{values: [a, b], probabilities: [0.9, 0.1]}",
            "# all are alike: their probabilities are not taken over",
        ),
        (
            "{values: [1, 2, 4], probabilities: [0.8, 0.1, 0.1]}",
            "# all are alike: their probabilities are not taken over",
        ),
        ("{values: [true, false]}", "# the script is given true and false, not True and False"),
    ],
)
def test_what_is_lost_is_said_above_the_line(theirs, remark):
    lines = converted(theirs)[1].splitlines()
    assert lines[next(i for i, line in enumerate(lines) if line.startswith("  x: ")) - 1] == f"  {remark}"


def test_a_whole_file_is_converted():
    text = from_wandb(
        HEAD
        + "name: My first sweep!\nproject: rl\nrun_cap: 30\nearly_terminate: {type: hyperband, min_iter: 3}\n"
        "parameters:\n  lr: {min: 0.1, max: 0.2}\n  seed: {value: 3}\n  one: {values: [yes]}\n"
        "  net: {parameters: {width: {values: [64, 96]}, act: {value: relu}}}\n",
        "demo.yaml",
    )
    config = parse(text)
    assert "# Left out, having no counterpart: method, project, early_terminate.\n" in text
    assert (config.name, config.budget.trials) == ("My-first-sweep", 30)
    assert (config.metric.name, config.metric.goal) == ("reward", "maximize")
    assert config.fixed == {"seed": 3, "one": "yes", "net.act": "relu"}
    assert list(config.parameters) == ["lr", "net.width"]
    assert config.objective.command == "python train.py {args}"
    plain = from_wandb(
        "program: a b.py\nmetric: {name: loss}\nparameters: {x: {min: 0.5, max: 2.5}}\n", "a/b c.yml"
    )
    assert (parse(plain).name, parse(plain).metric.goal) == ("b-c", "minimize")
    assert command_words(parse(plain).objective.command or "", {"x": 1}) == ["python", "a b.py", "--x=1"]


def test_a_command_of_its_own_is_kept_word_for_word():
    command = "command: ['${env}', torchrun, --nproc=2, '${program}', 'a {b}', '${args_no_hyphens}']\n"
    config = parse(from_wandb(f"{HEAD}{command}parameters: {{x: {{min: 0.5, max: 2}}}}\n", "demo.yaml"))
    words = command_words(config.objective.command or "", {"x": 1})
    assert words == ["torchrun", "--nproc=2", "train.py", "a {b}", "x=1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "demo.yaml"),
        ("name: x\n", "a W&B sweep names its parameters"),
        ("- 1\n", "a W&B sweep names its parameters"),
        (
            HEAD + "parametres: 1\nparameters: {x: {min: 1, max: 2}}\n",
            "demo.yaml, line 4: parametres: is no key",
        ),
        ("program: a.py\nparameters: {x: {min: 1, max: 2}}\n", "metric.name: is missing"),
        ("metric: {name: r}\nparameters: {x: {min: 1, max: 2}}\n", "program: is missing"),
        (
            HEAD + "parameters:\n  x: {min: 2, max: 1}\n",
            "demo.yaml, line 5: parameters.x.min: 2 is above max 1",
        ),
        (HEAD + "parameters:\n  x: {min: 2}\n", "parameters.x.max: is missing"),
        (HEAD + "parameters:\n  x: {min: two, max: 3}\n", "parameters.x.min: two is not a finite number"),
        (HEAD + "parameters:\n  x: {min: 1, max: .inf}\n", "parameters.x.max: inf is not a finite number"),
        (HEAD + f"parameters:\n  x: {{min: 1, max: 1{'0' * 400}}}\n", "is too large"),
        (
            HEAD + "parameters:\n  x: {distribution: int_uniform, min: 1, max: 2.5}\n",
            "2.5 is not a whole number",
        ),
        (
            HEAD + "parameters:\n  x: {distribution: normal, mu: .nan, sigma: 1}\n",
            "nan is not a finite number",
        ),
        (
            HEAD + "parameters:\n  x: {distribution: normal, mu: 1, sigma: -1}\n",
            "demo.yaml, line 5: parameters.x.sigma: -1 is not above 0",
        ),
        (HEAD + 'command: "a \'b"\nparameters: {x: {min: 1, max: 2}}\n', "no closing quotation"),
        (
            HEAD + "parameters:\n  x: {value: [1, 2]}\n  y: {min: 1, max: 2}\n",
            "demo.yaml, line 5: parameters.x: '[1, 2]' is not a plain value",
        ),
        (HEAD + "parameters:\n  x: 3\n", "parameters.x: 3 is not a mapping"),
        (HEAD + "parameters:\n  x: {values: 3}\n", "parameters.x.values: 3 is not a list"),
        (HEAD + "parameters:\n  x: {distribution: cauchy, min: 1, max: 2}\n", "'cauchy' has no counterpart"),
        (HEAD + "parameters:\n  x: {distribution: log_uniform, min: 1, max: 1e5}\n", "log_uniform_values"),
        (
            HEAD + "command: ['${program}', '${args_json}']\nparameters: {x: {min: 1, max: 2}}\n",
            "SWEEP_PARAMS",
        ),
        (HEAD + "command: 5\nparameters: {x: {min: 1, max: 2}}\n", "command: 5 is not a list of words"),
        (HEAD + "run_cap: many\nparameters: {x: {min: 1, max: 2}}\n", "demo.yaml, line 4: run_cap: 'many'"),
    ],
)
def test_what_cannot_be_had_is_named_with_its_mend(text, said):
    with pytest.raises(ConfigError) as error:
        from_wandb(text, "demo.yaml")
    assert said in str(error.value)


def test_from_their_file_to_a_sweep_in_two_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(
        "import json, sys\nvalues = dict(word[2:].split('=') for word in sys.argv[1:])\n"
        "print(json.dumps({'reward': 1 - (float(values['x']) - 0.7) ** 2, 'seconds': 1}))\n"
    )
    Path("theirs.yaml").write_text(f"{HEAD}parameters: {{x: {{min: 0.5, max: 2.5}}, seed: {{value: 1}}}}\n")

    def sweep(*words: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(list(words))
        return int(end.value.code or 0)

    assert sweep("import", "theirs.yaml") == 0
    printed = capsys.readouterr().out
    assert sweep("import", "theirs.yaml", "-o", "ours.yaml") == 0
    assert Path("ours.yaml").read_text() == printed
    assert "`sweep check ours.yaml`" in capsys.readouterr().out
    assert sweep("import", "theirs.yaml", "-o", "ours.yaml") == 2  # never over what is there
    assert "is there already" in capsys.readouterr().err
    assert sweep("import", "none.yaml") == 2
    own = ["--set", f"objective.command={sys.executable} train.py {{args}}"]
    assert sweep("run", "ours.yaml", "--set", "budget.trials=3", *own) == 0
    assert "theirs: 3 done" in capsys.readouterr().out


def test_what_a_metric_says_beyond_its_name_and_goal_is_left_out_aloud():
    text = "program: a.py\nmetric: {name: r, impute: latest, target: 1}\nparameters: {x: {min: 1, max: 2}}\n"
    assert "# Left out, having no counterpart: metric.impute, metric.target.\n" in from_wandb(
        text, "demo.yaml"
    )
