"""A sweep that begins with what another has found."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeper import config, loop
from sweeper.errors import ConfigError
from sweeper.repair import repair
from sweeper.store import Store

OLD = """
name: old
objective: {synthetic: log}
seed: 3
budget: {trials: 30}
workers: {count: 1}
parameters:
  lr: {distribution: log, min: 1e-5, max: 0.1, start: 0.03}
  steps: {distribution: log, type: int, min: 10000, max: 1000000}
"""
NEW = """
name: new
objective: {synthetic: log}
warm_start: old
budget: {trials: 3}
workers: {count: 1}
parameters:
  lr: {distribution: log, min: 1e-4, max: 0.01}
  steps: {distribution: log, type: int, min: 10000, max: 4000000}
"""


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    loop.run(config.parse(OLD), Path("runs/old"))
    return tmp_path / "runs" / "old"


def test_a_sweep_of_other_ranges_begins_with_what_fits_them(old: Path, capsys: pytest.CaptureFixture) -> None:
    with Store.open(old, readonly=True) as store:
        found = [row.params for row in store.trials()]
    fitting = [params for params in found if 1e-4 <= params["lr"] <= 0.01]
    assert 0 < len(fitting) < len(found)
    outcome = loop.run(config.parse(NEW), old.parent / "new")
    assert outcome.counts["done"] == 3
    with Store.open(old.parent / "new", readonly=True) as store:
        told = store.history(("observe",))
        assert [event.data["params"] for event in told] == fitting
        assert loop.verify_history(store) == []
        origins = [row.origin for row in store.trials()]
        front = loop.rebuild(store).front()
    assert "design" not in origins, "the models have a say from the first trial on"
    assert front[-1].score > 0.9, "what the old sweep knew"
    loop.run(config.parse(NEW), old.parent / "new")  # the same command again
    with Store.open(old.parent / "new", readonly=True) as store:
        assert len(store.history(("observe",))) == len(fitting), "told once"


def test_its_folder_is_found_from_that_of_the_config(old: Path) -> None:
    (old.parent / "projects").mkdir()
    text = NEW.replace("warm_start: old", "warm_start: ../old").replace("trials: 3", "trials: 1")
    outcome = loop.run(config.parse(text, folder=old.parent / "projects"), old.parent / "new")
    assert outcome.reason == "trials"


def test_results_of_what_is_fixed_otherwise_now_are_left_out(old: Path) -> None:
    with Store.open(old, readonly=True) as store:
        kept = store.trials()[4].params["lr"]
    lines = NEW.splitlines(keepends=True)
    text = "".join([*lines[:-2], lines[-1], f"fixed: {{lr: {kept!r}}}\n"]).replace("trials: 3", "trials: 1")
    said: list[str] = []
    observer = SimpleNamespace(update=lambda state: said.extend(state.messages))
    loop.run(config.parse(text), old.parent / "new", observer)
    with Store.open(old.parent / "new", readonly=True) as store:
        assert [list(event.data["params"]) for event in store.history(("observe",))] == [["steps"]]
    assert f"given, but it is fixed at {kept})" in said[0]


def test_a_torn_database_begins_again_with_it(old: Path) -> None:
    folder = old.parent / "new"
    loop.run(config.parse(NEW), folder)
    (folder / "run.db").write_bytes(b"torn")
    store, said = repair(folder, config.parse(NEW))
    with store:
        assert "warm start" in said
        assert loop.verify_history(store) == []
        assert store.history(("observe",))
    (folder / "run.db").write_bytes(b"torn")
    old.rename(old.parent / "gone")
    store, said = repair(folder, config.parse(NEW))
    store.close()
    assert "lost (config, line 4: warm_start: there is no run 'old')" in said


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("warm_start: old", "warm_start: odl", "no run 'odl'"),
        ("warm_start: old", "warm_start: 7", "is not a text"),
        (
            "warm_start: old",
            "warm_start: old\nmetric: {goal: minimize}",
            "metric.goal 'maximize'.*'minimize'",
        ),
    ],
)
def test_a_warm_start_that_cannot_be_is_refused_and_nothing_is_written(
    old: Path, before: str, after: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        loop.run(config.parse(NEW.replace(before, after)), old.parent / "new")
    assert not (old.parent / "new").exists()


def test_steps_that_counted_something_else_are_no_shorter_trials(old: Path) -> None:
    text = (
        "objective: {{function: 'mine.py:fit'{0}}}\ncost: {{name: cost}}\nbudget: {{trials: 2}}\n"
        "workers: {{count: 1}}\nparameters: {{x: {{min: 0, max: 1}}, epochs: {{min: 1, max: 6000}}}}\n"
    )
    (old.parents[1] / "mine.py").write_text(
        "import sweeper\ndef fit(x, epochs):\n"
        "    for i in range(1, 4): sweeper.report(score=i * x, cost=i, step=1000 * i)\n"
    )
    folder = old.parents[1]
    loop.run(config.parse(f"name: plain\n{text.format('')}", folder=folder), old.parent / "plain")
    same = f"name: same\nwarm_start: plain\n{text.format('')}"
    other = f"name: other\nwarm_start: plain\n{text.format(', fidelity: epochs')}"
    for name, points in ((same, 3), (other, 0)):
        run = old.parent / name[6:11].strip()
        loop.run(config.parse(name, folder=folder), run)
        with Store.open(run, readonly=True) as store:
            told = store.history(("observe",))
        assert [len(event.data.get("points", [])) for event in told] == [points] * 2
        assert all(event.data["cost"] == 3 for event in told)


def test_the_mend_of_a_damaged_source_is_named(old: Path) -> None:
    database = old / "run.db"
    database.write_bytes(database.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=r"run\.db is damaged: (?s:.*)`sweep repair runs/old` mends it"):
        loop.run(config.parse(NEW), Path("runs/new"))
