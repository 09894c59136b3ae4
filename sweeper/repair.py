"""What the database does not know, or no longer, from what every trial's own folder says about it."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper import warm
from sweeper.control import enqueued
from sweeper.errors import ConfigError
from sweeper.executors import result_from
from sweeper.history import ENQUEUED, excluded_by, ran, verdict
from sweeper.objectives import Result, on_scale, with_cost
from sweeper.space import Space
from sweeper.store import Lock, Point, Store, StoreError, TrialRow


def repair(folder: Path, config: Any) -> tuple[Store, str]:
    """The run in `folder` with a new database, open to write, and a line that says what was recovered.

    A torn file is kept beside it as run.db.torn. A trial whose result is not in its folder runs again.
    Whenever this is killed, the next start finds either the torn database or the whole new one. Raises
    StoreError as `Store.create` does.
    """
    lock = Lock(folder)
    torn = (folder / "run.db").exists()
    draft = Path(tempfile.mkdtemp(prefix=".repair-", dir=folder))
    try:
        with Store.create(draft, config) as store:
            store.set_meta(**remembered(folder))
            began = _warm_started(store, config)
            _add(store, folder)
            left_out = _leave_out(store, folder)
            _wish_again(store, folder)
            numbers, finished = len(store.trials(points=False)), _finished(store)
            store.add_event("note", None, {"repaired": numbers, "finished": finished})
        for ending in ("", "-wal"):
            path = folder / f"run.db{ending}"
            if path.exists():
                shutil.copyfile(path, folder / f"run.db.torn{ending}")
        for ending in ("-wal", "-shm"):
            (folder / f"run.db{ending}").unlink(missing_ok=True)
        (draft / "run.db").replace(folder / "run.db")
        (draft / "config.yaml").replace(folder / "config.yaml")
    finally:
        shutil.rmtree(draft)
        lock.release()
    return Store.open(folder), (
        f"the database was {'torn' if torn else 'gone'} and is written anew from the trials' folders: "
        f"{finished} finished trials{left_out}, {numbers - finished} to run again"
        f"{' (the torn one is kept as run.db.torn)' if torn else ''}{began}"
    )


def own_config(folder: Path, origin: str | Path) -> Any:
    """The run's config from the copy in its folder; its relative paths are relative to `origin`. Raises
    ConfigError where it cannot be read."""
    from sweeper.config import parse, read_text

    file = folder / "config.yaml"
    return parse(read_text(file), folder=origin, file=str(file))


def remembered(folder: Path) -> dict[str, str]:
    """The config's folder, the time spent and whether the run is paused, as far as the torn database still
    knows them."""
    found = _still_there(folder, "SELECT key, value FROM meta WHERE key IN ('folder', 'elapsed', 'paused')")
    kept = {str(key): str(value) for key, value in found}
    try:
        float(kept.get("elapsed", 0))
    except ValueError:
        return {}
    return kept


def _still_there(folder: Path, query: str) -> list[Any]:
    """Rows of the torn database; none where they cannot be read any more."""
    uri = f"{(folder / 'run.db').resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as torn:
            torn.execute("PRAGMA trusted_schema = OFF")
            torn.execute("PRAGMA writable_schema = ON")  # or one that is cut short would be refused
            return torn.execute(query).fetchall()
    except sqlite3.Error:
        return []


def _leave_out(store: Store, folder: Path) -> str:
    """Excludes what the user had excluded last, as far as the torn database still knows it; a word on it."""
    known = dict(_still_there(folder, "SELECT number, excluded FROM trials"))
    with store.transaction():
        for row in store.trials(points=False):
            excluded = bool(known.get(row.number, row.excluded))
            if ran(row) and excluded is not row.excluded:
                store.exclude_trial(row.number, excluded)
                store.add_event("exclude" if excluded else "include", row.number)
    count = sum(row.excluded for row in store.trials(points=False))
    return f", {count} of them excluded" if count else ""


def _wish_again(store: Store, folder: Path) -> None:
    """Enqueues again what the user wanted tried and was not, as far as the torn database still knows it."""
    query = (
        "SELECT id, kind, trial, data FROM events WHERE kind IN ('enqueue', 'dequeue') AND json_valid(data)"
        " ORDER BY id"
    )
    told = [(key, kind, trial, json.loads(data)) for key, kind, trial, data in _still_there(folder, query)]
    taken = {data["enqueue"]: trial for _, kind, trial, data in told if kind == "dequeue"}
    # What was tried after the last of its commits is no longer wished for.
    tried = [
        row.params
        for row in store.trials(points=False)
        if row.origin == ENQUEUED and row.number not in taken.values()
    ]
    with store.transaction():
        for wish in [data for key, kind, _, data in told if kind == "enqueue" and key not in taken]:
            if wish["params"] in tried:
                tried.remove(wish["params"])
            else:
                store.add_event("enqueue", None, wish)


def _warm_started(store: Store, config: Any) -> str:
    """What the sweep began with, told again where it is still there; a line about it."""
    if not config.warm_start:
        return ""
    try:
        return f"; {warm.begin(store, config)}"
    except ConfigError as error:
        return f"; what it was warm-started with is lost ({str(error).splitlines()[0]})"


def catch_up(store: Store) -> str:
    """Add what the trials' folders know and the database does not; a line about it, empty where nothing.

    A power cut can cost a database its last commits, though what is left of it is whole. A trial that is
    newer than the database would then be proposed, run and written over a second time.
    """
    before, finished = {row.number for row in store.trials(points=False)}, _finished(store)
    with store.transaction():
        _add(store, store.folder)
        rows = store.trials(points=False)
        lost = [row.number for row in rows if row.number not in before]
        regained = _finished(store) - finished
        if lost or regained:
            store.add_event("note", None, {"caught up": lost, "finished": regained})
    if not lost and not regained:
        return ""
    if not lost:  # most often nothing was lost: they ended as the driver did
        return f"{regained} results that the last session did not record are taken from the trials' folders"
    return (
        f"the database had lost its last commits: trials {lost[0]} to {lost[-1]} were missing, "
        f"{regained} results were missing; they are back from the trials' folders"
    )


def _finished(store: Store) -> int:
    return sum(row.status in ("done", "failed", "stopped") for row in store.trials(points=False))


def _add(store: Store, folder: Path) -> None:
    """Trials, attempts and results that the store does not have, in the order in which they were lived.

    Raises StoreError where the trials there are of another space: no proposer could go on from them.
    """
    rows = {row.number: row for row in store.trials(points=False)}
    told = {event.trial for event in store.history(("tell", "stop", "withdraw"))}
    excluded = excluded_by(store.history(("exclude", "include")))
    settings = store.settings()
    cost_name, seeds = settings["cost"]["name"], settings["objective"].get("seeds", 1)
    space = Space(settings["parameters"], settings["constraints"], settings["fixed"])
    with store.transaction():
        for number, (ask, attempt, result) in _witnesses(folder, rows).items():
            attempts = rows[number].attempts if number in rows else 0
            if number not in rows:
                # As it was lived: first what the proposer was told, then what it proposed.
                for earlier in ask["told"]:
                    if earlier not in told:
                        _tell(store, earlier)
                        told.add(earlier)
                for other in sorted(excluded ^ set(ask.get("excluded", excluded))):
                    store.add_event("include" if other in excluded else "exclude", other)
                    if not (other in rows and rows[other].excluded):  # by now the user may want it so
                        store.exclude_trial(other, other not in excluded)
                    excluded ^= {other}
                record = ask["record"]
                try:
                    space.check(record["params"])
                except ValueError as error:
                    raise StoreError(
                        f"{folder / 'trials'} holds trials of another config (trial {number}: {error}); "
                        "move it away, or give the sweep another name (--name)"
                    ) from None
                store.add_trial(number, record["params"], record["origin"], record)
                if record["origin"] == ENQUEUED:  # the user's wish that it was need not be met again
                    wishes = [wish for wish, params in enqueued(store) if params == record["params"]]
                    for wish in wishes[:1]:
                        store.add_event("dequeue", number, {"enqueue": wish})
            if result is None or attempt < attempts:
                continue
            for _ in range(attempt - attempts):
                store.start_trial(number, 0)
            # As the loop judges it: the proposer would refuse a score that its scale does not know.
            result = on_scale(with_cost(result, cost_name, [], seeds), settings["metric"]["scale"])
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


def _tell(store: Store, number: int) -> None:
    """The proposer was told of this trial; by now its result may be lost."""
    if store.trial(number).status in ("queued", "running"):
        store.end_trial(number, "stopped", message="its result was lost with the database")
    kind, data = verdict(store.trial(number))
    store.add_event(kind, number, data)


Witness = tuple[dict[str, Any], int, Result | None]


def _witnesses(folder: Path, rows: Mapping[int, TrialRow]) -> dict[int, Witness]:
    """What the folders say of trials that have not ended in `rows`, by number, as far as none is missing:
    the ask (what was told before it, and its record), the attempt, and the result if it got that far."""
    found: dict[int, Witness] = {}
    for path in sorted((folder / "trials").glob("[0-9]*/reports.jsonl")):
        if not path.parent.name.isdecimal():  # a user's copy: 000012.bak
            continue
        number = int(path.parent.name)
        if number in rows and rows[number].status not in ("queued", "running"):
            continue
        parsed = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                parsed.append(json.loads(line or "null") or {})
            except ValueError:  # torn in the middle of the line: this much is not known
                parsed.append({})
        if not parsed or "ask" not in parsed[0]:
            continue
        first, last = parsed[0], parsed[-1]
        for earlier, ask in first["ask"]["earlier"].items():
            found.setdefault(int(earlier), (ask, 0, None))
        result = result_from(last["end"]) if "end" in last else None
        if result is not None and result.status == "killed":
            result = None
        if result is not None and not result.points:
            result.points = [(p["step"], p["cost"], p["score"]) for p in parsed if "score" in p]
        found[number] = (first["ask"], first["attempt"], result)
    # A proposal cannot be restored without those before it.
    numbers = itertools.takewhile(lambda n: n in found or n in rows, itertools.count(1))
    return {number: found[number] for number in numbers if number in found}
