"""A config is read as meant, or refused with one message that says where and how to mend it."""

import os
from pathlib import Path

import pytest

from sweeper.config import load, parse
from sweeper.errors import ConfigError
from sweeper.summary import settings_yaml
from sweeper.units import format_bytes, parse_bytes, parse_duration
from sweeper.yaml12 import read_yaml, write_yaml

GOOD = """\
name: demo
objective: {command: "python train.py {args}", fidelity: steps}
metric: {name: score, goal: maximize}
cost: {name: seconds, limit: 120}
budget: {trials: 100, cost: 2h, time: 1h30m}
workers: {count: auto, gpus: auto, timeout: 10m}
seed: 0
fixed:
  num_envs: 1024
  mode: on
parameters:
  steps: {distribution: log, type: int, min: 1e5, max: 3e7}
  lr: {distribution: log, min: 1e-5, max: 0.1, start: 0.003}
  train.gamma: {distribution: logit, min: 0.8, max: 0.9999}
  batch: {distribution: pow2, min: 512, max: 32768}
  rnn: {values: [none, mingru, lstm]}
constraints:
  - batch <= num_envs * 64
"""


def line_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, file="demo.yaml", overrides=overrides)
    return str(caught.value)


def test_the_whole_example_is_understood():
    config = parse(GOOD, folder="/somewhere", file="demo.yaml")
    assert (config.name, config.seed, str(config.folder)) == ("demo", 0, "/somewhere")
    assert (config.objective.kind, config.objective.target) == ("command", "python train.py {args}")
    assert config.fidelity == "steps"
    assert (config.metric.goal, config.metric.scale, config.metric.last) == ("maximize", "linear", 1)
    assert (config.cost.name, config.cost.unit, config.cost.limit) == ("seconds", "s", 120.0)
    assert (config.budget.trials, config.budget.cost, config.budget.time) == (100, 7200.0, 5400.0)
    assert (config.workers.count, config.workers.gpus, config.workers.timeout) == ("auto", "auto", 600.0)
    assert config.fixed == {"num_envs": 1024, "mode": "on"}
    assert config.constraints == ["batch <= num_envs * 64"]
    assert config.space().names == ["steps", "lr", "train.gamma", "batch", "rnn"]
    assert config.source == GOOD


def test_little_needs_to_be_said(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("objective: {synthetic: log}\nparameters: {x: {min: 0, max: 1}}\n")
    config = load(path)
    assert (config.name, config.budget.trials, config.metric.goal) == ("tiny", 100, "maximize")
    assert config.folder == tmp_path
    empty = path.read_text() + "fixed:\n  # lr: 1\nconstraints:\nbudget:\nmetric:\n"
    assert parse(empty, default_name="tiny").model_dump() == config.model_dump()
    again = parse(config.source, folder=tmp_path)  # the copy in the run's folder says the name
    assert again.model_dump() == config.model_dump()


BROKEN = {
    "unknown section": ("budget:", "bugdet:", "bugdet: {", ["unknown key 'bugdet'", "did you mean 'budget'"]),
    "unknown key": ("goal: max", "gaol: max", "gaol:", ["metric.gaol", "did you mean 'goal'"]),
    "unknown parameter key": ("min: 1e-5", "mn: 1e-5", "mn:", ["parameters.lr.mn", "did you mean 'min'"]),
    "min above max": ("max: 32768", "max: 256", "batch: {", ["batch", "512", "256", "swap"]),
    "log touching zero": ("min: 1e-5", "min: 0", "lr: {", ["parameters.lr.min", "0 ", "above zero"]),
    "logit touching one": ("0.9999", "1.0", "train.gamma: {", ["parameters.train.gamma.max", "1 ", "inside"]),
    "start outside": ("start: 0.003", "start: 3", "lr: {", ["parameters.lr.start", "3", "inside"]),
    "impossible constraint": ("num_envs * 64", "4", "- batch", ["constraints[0]", "batch <= 4", "widen"]),
    "constraint on nothing": (
        "num_envs * 64",
        "numenvs",
        "- batch",
        ["constraints[0]", "numenvs", "num_envs"],
    ),
    "bad duration": ("cost: 2h", "cost: 2 hours", "budget:", ["budget.cost", "'2 hours'", "1h30m"]),
    "negative time": ("time: 1h30m", "time: -5", "budget:", ["budget.time", "'-5'", "above 0"]),
    "name is a path": ("name: demo", "name: ../demo", "name:", ["name", "'../demo'", "never a path"]),
    "two objectives": (
        "fidelity: steps",
        "train: cartpole",
        "objective:",
        ["several", "train, command", "keep"],
    ),
    "no objective": (
        'command: "python train.py {args}", ',
        "",
        "objective:",
        ["exactly one of", "none", "keep"],
    ),
    "goal": ("goal: maximize", "goal: up", "metric:", ["metric.goal", "'up'", "maximize, minimize"]),
    "exponential": ("goal: maximize", "scale: exponential", "metric:", ["metric.scale", "`max:`"]),
    "given twice": ("seed: 0", "seed: 0\nseed: 1", "seed: 1", ["seed", "given twice", "keep one"]),
    "trials is text": ("trials: 100", "trials: many", "budget:", ["budget.trials", "'many'", "whole number"]),
    "seed is true": ("seed: 0", "seed: true", "seed:", ["seed", "'true'", "whole number"]),
    "workers": ("count: auto", "count: 0", "workers:", ["workers.count", "0", "from 1"]),
    "memory": ("gpus: auto", "memory: 4 potatoes", "workers:", ["workers.memory", "'4 potatoes'", "4GB"]),
    "more than any number": (
        "cost: 2h",
        f"cost: 1{'0' * 400}",
        "budget:",
        ["budget.cost", "too large", "below 1e308"],
    ),
    "too little memory": ("gpus: auto", "memory: 4", "workers:", ["workers.memory", "4 is less", "4GB"]),
    "gpu share": ("gpus: auto", "gpus_per_trial: 1.5", "workers:", ["gpus_per_trial", "1.5", "whole number"]),
    "gpu word": (
        "gpus: auto",
        "gpus_per_trial: half",
        "workers:",
        ["gpus_per_trial", "'half'", "auto, a share"],
    ),
    "gpu auto": ("gpus: auto", "gpus_per_trial: auto", "workers:", ["'auto'", "command objective", "0.5"]),
    "factor": ("gpus: auto", "timeout_factor: 0.5", "workers:", ["timeout_factor", "0.5", "above 1"]),
    "fidelity": (
        "fidelity: steps",
        "fidelity: step",
        "objective:",
        ["objective.fidelity", "'step'", "'steps'"],
    ),
    "fidelity of categories": (
        "fidelity: steps",
        "fidelity: rnn",
        "objective:",
        ["objective.fidelity", "'rnn'", "min and max"],
    ),
    "fixed and swept": ("num_envs: 1024", "lr: 0.1", "  lr: 0.1", ["fixed.lr", "0.1", "swept", "remove"]),
    "nested fixed": ("num_envs: 1024", "train: {lr: 1}", "train: {lr", ["fixed.train", "train.lr: ..."]),
    "tab": ("  num_envs: 1024", "\tnum_envs: 1024", "num_envs: 1024", ["not valid YAML", "spaces, not tabs"]),
    "bracket": ("[none, mingru, lstm]}", "[none, mingru, lstm}", "rnn:", ["not valid YAML", "brackets"]),
    "python tag": (
        "seed: 0",
        "seed: !!python/name:os.system",
        "seed:",
        ["!!python/name:os.system", "remove"],
    ),
    "merge key": ("seed: 0", "workers2: {<<: 1}", "workers2", ["<<", "YAML 1.2"]),
    "no alias": ("seed: 0", "seed: *nobody", "seed:", ["undefined alias", "nobody"]),
    "limit of no unit": (
        "name: seconds, limit: 120",
        "name: steps, limit: 2h",
        "cost:",
        ["cost.limit", "'2h'", "steps"],
    ),
    "pattern": (
        "fidelity: steps",
        'pattern: "reward [0-9"',
        "objective:",
        ["objective.pattern", "regular expr", "?P<score>"],
    ),
    "pattern unused": (
        'command: "python train.py {args}"',
        'synthetic: log, pattern: "(.)"',
        "objective:",
        ["pattern", "remove"],
    ),
    "no number": ("limit: 120", "limit: .nan", "cost:", ["cost.limit", "nan", "not a number"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_config_is_refused_with_line_key_and_mend(case):
    old, new, on_line, words = BROKEN[case]
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    message = refusal(text)
    first = message.splitlines()[0]
    assert first.startswith(f"demo.yaml, line {line_of(text, on_line)}: "), message
    assert len(message.splitlines()) <= 3  # where and what, the line itself, the mend
    for word in words:
        assert word in message
    assert "Traceback" not in message
    assert "pydantic" not in message


def test_what_is_missing_is_named():
    assert "objective: is missing" in refusal("name: x\nparameters: {x: {min: 0, max: 1}}\n")
    assert "parameters: is missing" in refusal("name: x\nobjective: {synthetic: log}\n")
    assert "is empty" in refusal("# nothing\n")
    assert "nothing ends the sweep" in refusal(GOOD.replace("{trials: 100, cost: 2h, time: 1h30m}", "{}"))


def test_unreadable_files_are_named(tmp_path):
    for path, words in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError, match=words):
            load(path)
    bytes_ = Path(os.fsdecode(bytes(tmp_path) + b"/\xfc"))
    bytes_.mkdir()
    (bytes_ / "demo.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"the folder '.*udcfc' has a name that is not UTF-8; rename it"):
        load(bytes_ / "demo.yaml")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(latin)


def test_a_file_whose_name_is_none_for_a_run_asks_for_one(tmp_path):
    path = tmp_path / "my sweep 50%.yaml"
    path.write_text(GOOD.partition("\n")[2])
    with pytest.raises(
        ConfigError, match=r"name: is missing, .*'my sweep 50%', is not plain\n.*my-sweep-50`"
    ):
        load(path)
    assert load(path, ["name=mine"]).name == "mine"


def test_what_is_no_text_is_refused():
    halved = GOOD.replace("mode: on", 'mode: "\\ud800"')
    assert "line 10: fixed.mode: '\\ud800' holds what is no text" in refusal(halved)
    assert "fixed.mode: 'a\\x00' holds" in refusal(GOOD.replace("mode: on", 'mode: "a\\0"'))
    assert "holds what is no text" in refusal(GOOD.replace("  mode: on", '  "\\udcff": on'))


def test_aliases_depth_and_size_are_bounded():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for last, letter in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{letter}: &{letter} [{', '.join([f'*{last}'] * 9)}]\n"
    assert "aliases" in refusal(bomb)
    assert "aliases" in refusal("a: &a [*a]\n")
    assert "nested more than" in refusal("a: " + "[" * 500)
    assert "larger than" in refusal("#" * (1 << 20) + "\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e5", 100000.0), ("1E-3", 0.001), ("3.", 3.0), (".5", 0.5), ("-7", -7), ("0o17", 15), ("0x1F", 31),
        ("012", 12), ("on", "on"), ("off", "off"), ("yes", "yes"), ("No", "No"), ("y", "y"), ("true", True),
        ("False", False), ("null", None), ("~", None), ("", None), ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-02", "2024-01-02"), ("'1e5'", "1e5"), ("1e", "1e"), ("none", "none"),
        (".inf", float("inf")),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    data = read_yaml(f"a: {text}")["a"]
    assert data == value
    assert type(data) is type(value)
    back = read_yaml(write_yaml({"a": data}))["a"]
    assert (back, type(back)) == (data, type(data))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("1h 30m 5s", 5405), ("1.5h", 5400),
        ("2d", 172800), ("250ms", 0.25), (90, 90), (0.5, 0.5), ("90", 90), ("1e3", 1000),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "h", "2x", "30m1h", "1h1h", 0, -1, True, None, float("inf"), "1,5h", []]
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_overrides_reach_sections_parameters_and_fixed_values():
    config = parse(
        GOOD,
        overrides=[
            "budget.trials=20", "num_envs=512", "train.horizon=64", "parameters.train.gamma.max=0.99",
            "fixed.seed=7", "lr=0.01", "parameters.depth={min: 1, max: 4, type: int}", "name=other",
        ],
    )  # fmt: skip
    assert (config.name, config.seed, config.budget.trials) == ("other", 0, 20)
    assert config.fixed == {"num_envs": 512, "mode": "on", "train.horizon": 64, "seed": 7, "lr": 0.01}
    assert config.parameters["train.gamma"]["max"] == 0.99
    assert "lr" not in config.parameters  # a value given by hand is no longer swept
    assert config.space().parameters["depth"].kind == "int"
    again = parse(config.source)  # what is stored with the run gives the same config without them
    assert again.model_dump() == config.model_dump()


def test_a_wrong_override_is_named_as_typed():
    assert "--set budget.trials=lots: budget.trials: 'lots'" in refusal(GOOD, "budget.trials=lots")
    assert "did you mean 'budget'" in refusal(GOOD, "budgt.trials=3")
    assert "did you mean 'lr'" in refusal(GOOD, "parameters.lrr.max=3")
    assert "is not key=value" in refusal(GOOD, "budget.trials")
    for override in ("parameters.lr.max=1e-9", "lr.max=1e-9"):
        assert f"--set {override}: parameters.lr.m" in refusal(GOOD, override)
    assert "to fix it: --set lr=3" in refusal(GOOD, "parameters.lr=3")
    assert "--set lr.mx=1: parameters.lr.mx: no such key (did you mean 'max'?)" in refusal(GOOD, "lr.mx=1")
    assert parse(GOOD, overrides=["rnn.layers=2"]).fixed["rnn.layers"] == 2  # of a program's own
    # an error elsewhere still names the file's line
    assert "demo.yaml, line 1:" in refusal(GOOD.replace("demo", "a b", 1), "budget.trials=3")


def test_a_fixed_fidelity_has_nothing_to_teach():
    assert parse(GOOD, overrides=["steps=1e6"]).fidelity is None


def test_constraints_see_the_trainers_defaults():
    text = """\
name: demo
objective: {train: cartpole}
parameters:
  train.minibatch_size: {distribution: pow2, min: 512, max: 32768}
  policy.hidden: {values: [64, 128], when: {policy.layers: 1}}
constraints: [train.minibatch_size <= train.num_envs * train.horizon]
"""
    config = parse(text)
    assert sorted(config.fixed) == ["policy.layers", "train.horizon", "train.num_envs"]
    assert parse(text, overrides=["train.horizon=128"]).fixed["train.horizon"] == 128
    assert "'train.horizn' is neither" in refusal(text.replace("train.horizon", "train.horizn"))


def test_refusing_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(GOOD.replace("goal: maximize", "goal: up"))
    with pytest.raises(ConfigError):
        load("bad.yaml")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_factor_of_the_predicted_cost_needs_a_cost_in_seconds() -> None:
    text = "name: t\nobjective: {synthetic: log}\ncost: {name: steps}\nparameters: {lr: {min: 0, max: 1}}\n"
    assert "workers.timeout_factor: cannot be reckoned" in refusal(text + "workers: {timeout_factor: 3}\n")


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4e9), ("1.5GiB", 1.5 * 2**30), (" 500 mb", 5e8), ("12", 12), (7, 7), ("0", 0)]
)
def test_amounts_of_bytes(text: str | int, size: float) -> None:
    assert parse_bytes(text) == size


def test_amounts_of_bytes_are_said_as_people_do() -> None:
    assert [format_bytes(size) for size in (0, 999, 4.2e9, 999_600)] == ["0 B", "999 B", "4.2 GB", "1 MB"]


def test_null_is_fixed_as_it_was_chosen() -> None:
    swept = "name: t\nobjective: {command: 'x {args}'}\nparameters: {lr: {min: 0, max: 1}, "
    chosen = settings_yaml(parse(swept + "opt: {values: [null, a]}}\n"), {"opt": None, "lr": 0.5})
    fixed = parse(swept.replace("lr: ", "other: ") + "}\n" + chosen)
    assert fixed.fixed == {"opt": None, "lr": 0.5}


def test_a_pattern_is_taken_as_this_python_reads_it(recwarn: pytest.WarningsRecorder) -> None:
    given = r"\[(?P<score>[[0-9.]+)"
    text = "name: t\nobjective: {command: 'x {args}', pattern: '" + given + "'}\n"
    assert parse(text + "parameters: {lr: {min: 0, max: 1}}\n").objective.pattern == given
    assert [str(warning.message) for warning in recwarn] == []
