"""What is printed can be pasted: settings read back as the same params, and numbers as people say them."""

import math
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sweeper.cli import _settings
from sweeper.config import parse
from sweeper.store import Store
from sweeper.summary import (
    command_line,
    edges,
    front_lines,
    member_summary,
    settings,
    settings_yaml,
    status_summary,
    three_budgets,
)
from sweeper.units import format_cost, format_number, format_seconds
from sweeper.yaml12 import read_yaml

PARAMS = {
    "train.learning_rate": 0.0031622776601683794,
    "train.total_timesteps": 1_234_567,
    "train.gamma": 0.99999,
    "tiny": 1.5e-17,
    "whole": 3.0,
    "flag": True,
    "policy.rnn": "none",
    "tricky": "1e5",
    "spaced": "it's a 'test'; rm -rf $HOME # not a comment",
    "wordy": "on",
    "colon": "a: b, c",
    "empty": "",
}


def config(objective: str, fixed: str = "{train.num_envs: 1024}", folder: Path | str = "."):
    text = f"name: demo\nobjective: {objective}\nfixed: {fixed}\nparameters: {{x: {{min: 0, max: 1}}}}\n"
    return parse(text, folder=folder)


def same(left: dict, right: dict) -> bool:
    return left == right and [type(v) for v in left.values()] == [type(v) for v in right.values()]


def test_the_yaml_block_reads_back_as_the_same_settings():
    demo = config("{train: cartpole}")
    block = settings_yaml(demo, PARAMS)
    assert block.startswith("fixed:\n  train.num_envs: 1024\n")
    assert same(read_yaml(block)["fixed"], {"train.num_envs": 1024, **PARAMS})
    pasted = "objective: {train: cartpole}\nname: again\nparameters: {x: {min: 0, max: 1}}\n" + block
    assert same(parse(pasted).fixed, settings(demo, PARAMS))


def test_the_trainers_command_line_reads_back_as_the_same_settings():
    demo = config("{train: cartpole}")
    words = shlex.split(command_line(demo, PARAMS, seed=3))
    assert words[:3] == ["sweep", "train", "cartpole"]
    assert words[-2:] == ["--seed", "3"]
    pairs = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert same(_settings(pairs), settings(demo, PARAMS))


def test_a_functions_command_line_calls_it_with_the_same_params(tmp_path):
    text = "import os\nclass C:\n    @staticmethod\n    def call(**params):\n"
    text += "        assert os.environ['SWEEP_SEED'] == '5'\n        return sorted(params.items())\n"
    (tmp_path / "mine.py").write_text(f"{text}call = C.call\n")
    for name in ("call", "C.call"):
        line = command_line(config(f"{{function: 'mine:{name}'}}", "{}", tmp_path), PARAMS, 5)
        assert line.startswith("(cd ")
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == repr(sorted(PARAMS.items()))


def test_a_functions_command_line_holds_any_letter(tmp_path):
    (tmp_path / "mine.py").write_text("def call(text):\n    return len(text), text\n")
    text = "\U0001f600 \u00e4\u65e5'\"\n\\"
    line = command_line(config("{function: 'mine:call'}", "{}", tmp_path), {"text": text})
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr((len(text), text))


def test_scores_that_lie_close_together_are_told_apart():
    demo = config("{synthetic: log}")
    scores = [1234567.0031, 1234567.0054, 1234567.0078]
    rows = front_lines(demo, [(10.0 + i, score, i) for i, score in enumerate(scores)])
    shown = [row.split()[2] for row in rows[1:]]
    assert shown == ["1.2345670031M", "1.2345670054M", "1.2345670078M"]
    assert "431.5" in front_lines(demo, [(1.0, 12.3456, 1), (2.0, 431.52, 2)])[2]
    text = member_summary(demo, Member(scores[2], 11.0, 1, 1e-4, low=scores[1], high=scores[2]))
    assert text.startswith("score 1.2345670078M ± 0.000196 for 11.0 s (trial 1)")
    assert "single trials 1.234567005M to 1.234567008M" in text
    text = member_summary(demo, Member(976.04, 11.0, 1, 7.6, low=956.31, high=982.94))
    assert text.startswith("score 976 ± 14.9 for 11.0 s (trial 1), single trials 956.3 to 982.9")


def test_a_commands_line_is_the_filled_command():
    demo = config("{command: 'python train.py {args:dashes} --x={x}'}", "{learning_rate: 0.5}")
    words = shlex.split(command_line(demo, {"x": 0.25, "words": "a b"}))
    assert words[:3] == ["SWEEP_SEED=0", "python", "train.py"]
    assert words[-1] == "--x=0.25"
    assert "--learning-rate" in words
    assert "a b" in words


@dataclass
class Member:
    score: float
    cost: float
    trial: int | None = 1
    score_sd: float | None = None
    params: dict = field(default_factory=lambda: {"x": 0.5})
    success: float = 1.0
    low: float = math.nan
    high: float = math.nan
    shorter: bool = False


def test_three_budgets_are_cheap_middle_and_best():
    front = [
        Member(score, cost) for score, cost in [(9, 0.1), (60, 1), (200, 3), (400, 10), (490, 30), (500, 90)]
    ]
    chosen = three_budgets(front)
    assert [(label, m.cost) for label, m in chosen] == [("cheap", 10), ("middle", 30), ("best", 90)]
    assert [label for label, _ in three_budgets(front[:2])] == ["cheap", "best"]
    assert [label for label, _ in three_budgets(front[:1])] == ["best"]
    assert three_budgets([]) == []
    losses = [Member(score, cost) for score, cost in [(9, 1), (3, 2), (2.5, 4), (2, 8)]]
    assert [(label, m.score) for label, m in three_budgets(losses, "minimize")] == [
        ("cheap", 3), ("middle", 2.5), ("best", 2),
    ]  # fmt: skip


def test_a_setting_is_told_with_what_it_reaches():
    member = Member(431.52, 12.3, 7, 2.0, low=387.04, high=455.9)
    text = member_summary(config("{train: cartpole}"), member, "best")
    expected = "best: score 431.5 ± 3.92 for 12.3 s (trial 7), single trials 387 to 455.9"
    assert text.splitlines()[0] == expected
    assert "  x: 0.5" in text
    line = text.splitlines()[-1]
    assert line.startswith("sweep train cartpole --set train.num_envs=1024 --set x=0.5")
    assert line.endswith(" --seed 7")  # as trial 7 was run
    shorter = member_summary(config("{train: cartpole}"), Member(431.52, 12.3, 7, shorter=True))
    assert shorter.splitlines()[0] == "score 431.5 for 12.3 s (on the curve of trial 7)"
    mean = member_summary(config("{train: cartpole, seeds: 3}"), Member(431.52, 12.3, 7))  # its line runs one
    assert mean.splitlines()[0] == "score 431.5 for 12.3 s (trial 7), the mean of 3 trainings"


def test_a_setting_on_which_one_cannot_rely_says_so():
    def head(success: float) -> str:
        return member_summary(config("{train: cartpole}"), Member(1, 1, success=success)).splitlines()[0]

    assert head(0.84) == "score 1 for 1 s (trial 1); 1 trial in 6 there fails or collapses"
    assert head(0.3) == "score 1 for 1 s (trial 1); 1 trial in 2 there fails or collapses"
    assert head(0.9) == "score 1 for 1 s (trial 1); 1 trial in 10 there fails or collapses"
    assert head(0.95) == "score 1 for 1 s (trial 1)"


def test_params_at_the_edge_of_their_ranges_in_all_budgets_are_named():
    text = "objective: {train: cartpole}\nname: demo\nparameters:\n"
    text += "  lr: {distribution: log, min: 1e-4, max: 0.1}\n  gamma: {min: 0, max: 1}\n"
    text += "  batch: {distribution: pow2, min: 16, max: 256}\n  kind: {values: [a, b]}\n"
    demo = parse(text)

    def front(lrs, gammas, batches):
        rows = zip(lrs, gammas, batches, strict=True)
        return [
            Member(i, i, params={"lr": lr, "gamma": gamma, "batch": batch, "kind": "a"})
            for i, (lr, gamma, batch) in enumerate(rows, 1)
        ]

    assert edges(demo, front([0.09, 0.08, 0.1], [1, 0.5, 1], [16, 16, 16])) == [
        "lr (its max is 0.1)",
        "batch (its min is 16)",
    ]
    assert edges(demo, front([1e-4, 0.03, 0.1], [0, 0.01, 0.06], [16, 16, 32])) == []
    assert edges(demo, front([1e-4], [0], [16])) == []  # one member tells nothing
    assert edges(demo, [Member(1, 1, params={"lr": 0.1}), Member(2, 2, params={"lr": 0.1})]) == [
        "lr (its max is 0.1)"
    ]


@pytest.mark.parametrize(("score", "sd"), [(0.0, 3.1e-316), (5.0, 1.8e-15), (-1e12, 3.7e-4), (0.5, None)])
def test_rounding_errors_of_equal_scores_are_no_doubt(score, sd):
    text = member_summary(config("{train: cartpole}"), Member(score, 1.0, 7, sd))
    assert text.splitlines()[0] == f"score {format_number(score)} for 1 s (trial 7)"


def test_a_folder_beside_the_config_stays_a_path_in_the_line_to_paste(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    text = "name: t\nobjective: {train: ./mine}\nparameters: {x: {min: 0, max: 1}}\n"
    settings = parse(text, folder=tmp_path)
    assert command_line(settings, {"x": 0.5}).startswith("sweep train ./mine --set x=0.5")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "4.2 ms"), (0.54, "0.54 s"), (3.21, "3.21 s"), (12.34, "12.3 s"), (59.94, "59.9 s"),
     (59.99, "1 m 00 s"), (61, "1 m 01 s"), (3599.7, "1 h 00 m"), (5400, "1 h 30 m"),
     (86400 * 3 + 7300, "3 d 02 h")],
)  # fmt: skip
def test_seconds_as_people_say_them(seconds, text):
    assert format_seconds(seconds) == text


def test_numbers_as_people_say_them():
    assert [format_number(n) for n in (0.00314159, 431.52, -1e-9, 12345, 1e6, 2.5e9, 9999.6)] == [
        "0.003142", "431.5", "-1e-09", "12.35k", "1M", "2.5G", "10k",
    ]  # fmt: skip
    assert [format_number(n) for n in (1e12, 9.9994e12, 9.9996e12, -5.0387e13)] == [
        "1000G", "9999G", "1e+13", "-5.039e+13",
    ]  # fmt: skip
    assert (format_cost(90, "seconds"), format_cost(2e6, "steps")) == ("1 m 30 s", "2M steps")


def test_trials_that_were_withdrawn_are_not_said_to_have_been_stopped(tmp_path):
    run = config("{synthetic: log}", "{}")
    with Store.create(tmp_path / "run", run) as store:
        for number, (status, cost) in enumerate([("done", 2.0), ("stopped", 1.0), ("stopped", None)], 1):
            store.add_trial(number, {})
            store.end_trial(number, status, score=None if status == "stopped" else 1.0, cost=cost)
        assert "  trials   2 of 100: 1 done, 1 stopped, 1 withdrawn" in status_summary(store, run, False)
