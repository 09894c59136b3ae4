"""Words to a run while it lives, or at rest: stop, pause, resume, enqueue, exclude, include.

A run has one writer. A word is a file in the run's folder `requests/`, complete or not there at all; the
driver looks there a few times a second, does what is asked and leaves an answer beside it. Where there is no
driver, whoever asks takes the lock and does it. A word that nobody took up is there for the next session.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper.history import ran
from sweeper.space import Space
from sweeper.store import RunLocked, Store, StoreError

PATIENCE = 60.0  # seconds until a driver that says nothing is reported
KINDS = ("stop", "finish", "pause", "resume", "enqueue", "exclude", "include")


class Refused(ValueError):
    """What was asked makes no sense for this run; the message says why."""


@dataclass(frozen=True)
class Word:
    """One request. `id` sorts by time and is never used twice."""

    id: str
    kind: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> float:
        """When it was said, in Unix seconds; 0 for what is none of ours."""
        nanoseconds = self.id.partition("-")[0]
        return int(nanoseconds) / 1e9 if nanoseconds.isdigit() else 0.0


def ask(folder: Path, kind: str, data: Mapping[str, Any] | None = None) -> str:
    """Have a run do something; what was done, in a line.

    Raises Refused where it makes no sense, StoreError where the driver does not answer; OSError where the
    run's folder cannot be written.
    """
    word = Word(f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", kind, dict(data or {}))
    requests = folder / "requests"
    requests.mkdir(exist_ok=True)
    path = requests / f"{word.id}.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"kind": word.kind, "data": word.data}))
    draft.replace(path)
    deadline = time.monotonic() + PATIENCE
    while (answer := _answer(path)) is None:
        try:
            with Store.open(folder) as store:
                if _answer(path) is None:  # the driver may have answered, and left, just now
                    for waiting in words(folder):
                        take(store, waiting)
        except RunLocked as error:
            if time.monotonic() > deadline:
                raise StoreError(f"no answer for {PATIENCE:g} s, but the word stays there: {error}") from None
            time.sleep(0.05)
    if not answer["done"]:
        raise Refused(answer["said"])
    return str(answer["said"])


def _answer(path: Path) -> dict[str, Any] | None:
    answer = path.with_suffix(".answer")
    try:
        said: dict[str, Any] = json.loads(answer.read_text())
    except FileNotFoundError:
        return None
    answer.unlink()
    return said


def words(folder: Path) -> list[Word]:
    """What is asked and not yet answered, oldest first."""
    found = []
    # Another user may have made the folder (`sudo sweep pause`): a word that cannot be answered is not taken.
    if os.access(folder / "requests", os.R_OK | os.W_OK | os.X_OK):
        for name in sorted(os.listdir(folder / "requests")):
            if name.endswith(".json"):
                try:
                    said = json.loads((folder / "requests" / name).read_text())
                    word = Word(name.removesuffix(".json"), str(said["kind"]), dict(said["data"]))
                except (OSError, ValueError, TypeError, KeyError):  # not one of ours: it is refused, and gone
                    word = Word(name.removesuffix(".json"), "")
                found.append(word)
    return found


def forget_answers(folder: Path) -> None:
    """Answers and drafts of those who did not wait for them."""
    for ending in ("answer", "draft"):
        for path in (folder / "requests").glob(f"*.{ending}"):
            path.unlink(missing_ok=True)


def take(store: Store, word: Word, live: bool = False) -> str | None:
    """Do what a word says to the store, and answer it; None where it was refused.

    `live`: the caller is the run's driver, and does by itself what is not the store's.
    """
    try:
        with store.transaction():
            said = _done(store, word, live)
        done = True
    except Refused as refusal:
        said, done = str(refusal), False
    except (KeyError, TypeError):  # it lacks its params or its trial: not one of ours
        said, done = f"requests/{word.id}.json holds no word that a run understands", False
    path = store.folder / "requests" / f"{word.id}.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"done": done, "said": said}))
    draft.replace(path.with_suffix(".answer"))
    path.unlink(missing_ok=True)
    return said if done else None


def _done(store: Store, word: Word, live: bool) -> str:
    """Change the store as a word says; what was done."""
    name = store.meta()["name"]
    if any(event.data.get("word") == word.id for event in store.history(KINDS)):
        return "done before"  # by a driver that died before it could answer
    paused = bool(store.meta().get("paused"))
    if word.kind in ("stop", "finish"):
        if not live:
            return f"{name} is not running"
        rest = (
            "running trials are finished first" if word.kind == "finish" else "running trials will run again"
        )
        return f"{name} stops; {rest}; `sweep run` goes on from there"
    if word.kind == "pause":
        if not paused:
            store.set_meta(paused=word.id)
            store.add_event("pause", None, {"word": word.id})
        rest = "trials that run go on, no new ones start" if live else "`sweep run` will wait"
        return f"{name} is paused: {rest}; `sweep resume` ends it"
    if word.kind == "resume":
        if not paused:
            return f"{name} was not paused"
        store.set_meta(paused="")
        store.add_event("resume", None, {"word": word.id})
        return f"{name} goes on" if live else f"{name} is no longer paused; `sweep run` goes on"
    if word.kind == "enqueue":
        return _enqueue(store, word)
    if word.kind in ("exclude", "include"):
        return _exclude(store, word, live)
    raise Refused(f"requests/{word.id}.json holds no word that a run understands")


def _enqueue(store: Store, word: Word) -> str:
    settings, params = store.settings(), word.data["params"]
    space = Space(settings["parameters"], settings["constraints"], settings["fixed"])
    try:
        space.check(params)
        # As it will run: rounded to what can be told apart, and without what is fixed.
        params = space.to_params(space.to_unit(params))
        space.check(params)
    except ValueError as error:
        raise Refused(str(error)) from None
    store.add_event("enqueue", None, {"word": word.id, "params": params})
    shown = " ".join(f"{key}={value}" for key, value in params.items())
    budget, rows = settings["budget"]["trials"], store.trials(points=False)
    spent, asked = sum(map(ran, rows)), sum(row.status in ("queued", "running") for row in rows)
    more = ""
    if budget and spent + asked >= budget:
        more = " is spent" if spent >= budget else " will be spent before"
        more = f" (its budget of {budget} trials{more}: give it more)"
    return f"{store.meta()['name']} tries next: {shown}{more}"


def completed(space: Space, base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values in `given`; what those switch on is in the middle of its range, what they switch
    off is left out. Raises ValueError that names key and value where they cannot be had."""
    for name, value in given.items():
        if name in space.parameters:
            space.parameters[name].check(value)
    params = {**space.to_params(space.to_unit({**base, **given})), **given}
    space.check(params)
    return params


def enqueued(store: Store) -> list[tuple[int, dict[str, Any]]]:
    """(id, params) of what waits to be tried, oldest first."""
    taken = {event.data["enqueue"] for event in store.history(("dequeue",))}
    return [(e.id, e.data["params"]) for e in store.history(("enqueue",)) if e.id not in taken]


def _exclude(store: Store, word: Word, live: bool) -> str:
    number, excluded = word.data["trial"], word.kind == "exclude"
    try:
        row = store.trial(number)
    except KeyError:
        counts = sum(store.counts().values())
        raise Refused(f"trial {number}: there is no such trial; there are {counts}") from None
    if not ran(row):
        raise Refused(f"trial {number}: is {row.status}; only a trial that has ended has a result")
    if row.excluded is not excluded:
        store.exclude_trial(number, excluded)
        if not live:  # a driver writes it down when its proposer learns of it
            store.add_event(word.kind, number, {"word": word.id})
    return f"trial {number} {'no longer counts' if excluded else 'counts again'}"
