"""A torn database, written anew from what every trial's own folder says about it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from sweeper.executors import result_from
from sweeper.history import tell_data
from sweeper.store import Lock, Point, Store


def repair(folder: Path, config: Any) -> tuple[Store, str]:
    """The run in `folder` with a new database, open to write, and a line that says what was recovered.

    The torn file is kept beside it as run.db.torn. A trial whose result is not in its folder runs again.
    Raises StoreError as `Store.create` does.
    """
    lock = Lock(folder)
    try:
        for ending in ("-wal", "-shm", ""):  # the database last: without it there is no run any more
            path = folder / f"run.db{ending}"
            if path.exists():
                path.replace(folder / f"run.db.torn{ending}")
    finally:
        lock.release()
    store = Store.create(folder, config)
    witnesses = _witnesses(folder)
    finished = 0
    with store.transaction():
        for number, (first, last) in witnesses.items():
            # As it was lived: first what the proposer was told, then what it proposed.
            for earlier in first["ask"]["told"]:
                row = store.trial(earlier)
                if row.status in ("done", "failed"):
                    store.add_event("tell", earlier, tell_data(row))
                else:  # lost then, or its result is now
                    store.end_trial(earlier, "stopped", message="its result was lost with the torn database")
                    store.add_event("withdraw", earlier)
            record = first["ask"]["record"]
            store.add_trial(number, record["params"], record["origin"], record)
            for _ in range(first["attempt"]):
                store.start_trial(number, 0)
            result = result_from(last["end"]) if "end" in last else None
            if result is None or result.status == "killed":
                continue
            store.end_trial(
                number,
                result.status,
                score=result.score,
                cost=result.cost,
                failure=result.failure,
                message=result.message,
                points=[Point(*point) for point in result.points],
                seconds=result.seconds,
            )
            finished += 1
        store.add_event("note", None, {"repaired": len(witnesses), "finished": finished})
    return store, (
        f"the database was torn and is written anew from the trials' folders: {finished} finished trials, "
        f"{len(witnesses) - finished} to run again (the torn one is kept as run.db.torn)"
    )


def _witnesses(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """First and last line of each trial's reports, by number, as far as the numbers have no gap."""
    found: dict[int, list[dict[str, Any]]] = {}
    for path in sorted((folder / "trials").glob("[0-9]*/reports.jsonl")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        parsed = []
        for line in lines[:1] + lines[-1:]:
            try:
                parsed.append(json.loads(line))
            except ValueError:  # torn in the middle of the line: this much is not known
                parsed.append({})
        if parsed and "ask" in parsed[0]:
            found[int(path.parent.name)] = parsed
    # A proposal cannot be restored without those before it.
    row = itertools.takewhile(found.__contains__, itertools.count(1))
    return {number: found[number] for number in row}
