"""All trials of a run as JSON or CSV. Torch-free."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.store import TrialRow

COLUMNS = (
    "number",
    "status",
    "score",
    "cost",
    "failure",
    "origin",
    "seconds",
    "started",
    "attempts",
    "worker",
    "excluded",
)


def as_json(trials: Sequence[TrialRow]) -> str:
    """A list of objects, one a trial, with its params and its points (step, cost, score)."""
    rows = []
    for trial in trials:
        row: dict[str, Any] = {name: getattr(trial, name) for name in COLUMNS}
        row["message"] = trial.message
        row["params"] = dict(trial.params)
        row["points"] = [{"step": p.step, "cost": p.cost, "score": p.score} for p in trial.points]
        rows.append(row)
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(trials: Sequence[TrialRow]) -> str:
    """One line a trial; params are columns called `params.NAME`. Nothing in it is a spreadsheet's formula."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([defused(text) for text in [*COLUMNS, *(f"params.{name}" for name in names)]])
    for trial in trials:
        values = [getattr(trial, name) for name in COLUMNS] + [trial.params.get(name) for name in names]
        writer.writerow([defused(value) for value in values])
    return stream.getvalue()


def defused(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: such texts get an apostrophe in front; numbers stay."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%"):
        return "'" + value
    return value
