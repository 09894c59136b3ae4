"""`sweeper.report` outside a sweep, and what it costs to import."""

import json
import subprocess
import sys

import pytest

from sweeper import report


def test_prints_a_line_of_json_outside_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    report(score=0.5)
    report(score=1, cost=2.5, step=1000)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"score": 0.5}, {"score": 1.0, "cost": 2.5, "step": 1000.0}]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"score": float("nan")}, "score is nan"),
        ({"score": 1.0, "cost": float("inf")}, "cost is inf"),
        ({"score": "high"}, "score is 'high'"),
        ({"score": 1.0, "step": [1, 2]}, "step is"),
    ],
)
def test_refuses_what_is_no_finite_number(values: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        report(**values)


def test_works_where_nobody_listens_any_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_REPORTS", str(tmp_path / "gone"))
    report(score=2)
    assert json.loads(capsys.readouterr().out) == {"score": 2.0}


def test_imports_nothing_heavy() -> None:
    code = "import sweeper, sys; sweeper.report; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
