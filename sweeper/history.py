"""The proposer and its history: rebuilding it from the store, proving it, and running it in a thread."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweeper.store import PROPOSER_KINDS, Event, Point, Store, TrialRow

if TYPE_CHECKING:
    from sweeper.proposer import Sweeper, Trial


ENQUEUED = "pool"  # the origin of what the user wants tried: a pool of one


@dataclass(frozen=True)
class Request:
    """What the proposer is to learn before it proposes; or what it is to judge, and then not propose."""

    news: list[Event] = field(default_factory=list)
    excluded: Container[int] = ()  # trials whose results do not count
    begin_anew: Callable[[], Sweeper] | None = None  # instead of the news: the past itself has changed
    among: list[dict[str, Any]] | None = None  # the params to propose, chosen by the user
    judge: dict[int, list[Point]] | None = None  # curves of running trials


@dataclass(frozen=True)
class Answer:
    """A proposal and the seconds it took; or for each judged trial its chance to rise above the front."""

    trial: Trial | None = None
    seconds: float = 0.0
    chances: dict[int, float] = field(default_factory=dict)


def new_sweeper(settings: Mapping[str, Any]) -> Sweeper:
    """A proposer that has seen nothing, from the settings that the store holds."""
    from sweeper.proposer import Sweeper

    fidelity, metric = settings["objective"]["fidelity"], settings["metric"]
    return Sweeper(
        settings["parameters"],
        goal=metric["goal"],
        seed=settings["seed"],
        cost_limit=settings["cost"]["limit"],
        constraints=settings["constraints"],
        fixed=settings["fixed"],
        scale=metric["scale"],
        scale_max=metric["max"],
        fidelity=fidelity if fidelity in settings["parameters"] else None,
    )


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `tell` and `observe` from what an event holds."""
    arguments = {name: data[name] for name in ("score", "cost", "failure") if data.get(name) is not None}
    if data.get("points"):
        from sweeper.proposer import Point as CurvePoint

        arguments["points"] = [CurvePoint(step, cost, score) for step, cost, score in data["points"]]
    return arguments


def _apply(sweeper: Sweeper, event: Event, excluded: Container[int] = ()) -> None:
    """One event of the past, computing nothing; what `excluded` trials told is left out."""
    if event.kind == "ask":
        sweeper.restore(event.data)
    elif event.kind == "withdraw" or (event.kind in ("tell", "stop") and number_of(event) in excluded):
        sweeper.withdraw(number_of(event))
    elif event.kind == "tell":
        sweeper.tell(number_of(event), **_told(event.data))
    elif event.kind == "stop":
        sweeper.stop(number_of(event), **_told(event.data))
    elif event.kind == "observe" and event.trial not in excluded:
        sweeper.observe(event.data["params"], **_told(event.data))


def asks_of(history: Sequence[Event]) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Each ask with its record, the trials that were told or withdrawn since the ask before, and those that
    did not count then; and those told since the last ask."""
    asks: dict[int, dict[str, Any]] = {}
    told: list[int] = []
    excluded: set[int] = set()
    for event in history:
        if event.kind == "ask":
            asks[number_of(event)] = {"told": told, "excluded": sorted(excluded), "record": event.data}
            told = []
        elif event.kind in ("tell", "stop", "withdraw"):
            told.append(number_of(event))
        elif event.kind in ("exclude", "include"):
            (excluded.add if event.kind == "exclude" else excluded.discard)(number_of(event))
    return asks, told


def ran(row: TrialRow) -> bool:
    """Whether a trial has run to an end that counts in the budget: done, failed, or stopped on its way."""
    return row.status in ("done", "failed") or (row.status == "stopped" and row.cost is not None)


def excluded_by(history: Sequence[Event]) -> set[int]:
    """Trials whose results the proposer was told to leave out."""
    excluded: set[int] = set()
    for event in history:
        if event.kind == "exclude":
            excluded.add(number_of(event))
        elif event.kind == "include":
            excluded.discard(number_of(event))
    return excluded


def replayed(settings: Mapping[str, Any], history: Sequence[Event]) -> Sweeper:
    """The proposer after all of a history."""
    sweeper, excluded = new_sweeper(settings), excluded_by(history)
    for event in history:
        _apply(sweeper, event, excluded)
    return sweeper


def number_of(event: Event) -> int:
    assert event.trial is not None
    return event.trial


def rebuild(store: Store) -> Sweeper:
    """The proposer as all that the store holds leaves it; changes nothing.

    Of a run that lives that is more than its history: its driver writes down what ended, and what the user
    left out, only when it asks for the next trial; while it is paused, or waits for the last, it does not.
    """
    with store.snapshot():
        settings, history, rows = store.settings(), store.history(), store.trials()
    told = {event.trial for event in history if event.kind in ("tell", "stop", "withdraw")}
    ended = [row for row in rows if row.status not in ("queued", "running") and row.number not in told]
    news = [Event(0, 0.0, kind, row.number, data) for row in ended for kind, data in [verdict(row)]]
    excluded = {row.number for row in rows if row.excluded}
    changed = excluded ^ excluded_by(history)
    news += [Event(0, 0.0, "exclude" if n in excluded else "include", n) for n in sorted(changed)]
    return replayed(settings, [*history, *news])


def verify_history(store: Store) -> list[str]:
    """Replay the recorded order of asks and tells through a fresh proposer, proposing anew.

    Gives what differs from the record: nothing, on the same machine and versions. Stops at the first
    difference, since all later proposals follow from it.
    """
    sweeper: Sweeper | None = None
    settings: dict[str, Any] = {}
    past: list[Event] = []
    for event in store.history((*PROPOSER_KINDS, "config")):
        if event.kind in ("config", "exclude", "include"):  # from here on another past, or other settings
            if event.kind == "config":
                settings = event.data
            else:
                past.append(event)
            sweeper = replayed(settings, past)
            continue
        assert sweeper is not None
        if event.kind == "ask":
            asked = event.data
            trial = sweeper.ask(among=[asked["params"]] if asked["origin"] == ENQUEUED else None)
            anew = json.loads(json.dumps(trial.record()))
            if anew != asked:
                keys = [key for key in anew if anew[key] != asked.get(key)]
                return [f"trial {event.trial}: {key}: {asked.get(key)} was {anew[key]}" for key in keys]
        else:
            _apply(sweeper, event, excluded_by(past))
        past.append(event)
    return []


def verdict(row: TrialRow) -> tuple[str, dict[str, Any]]:
    """The event (kind, data) by which the proposer learns how a trial ended."""
    if row.status in ("done", "failed"):
        return "tell", _tell_data(row)
    points = _stepped(row)
    if row.status == "stopped" and points and points[-1].cost > 0 and _ordered(points):
        return "stop", {"points": [list(point) for point in points]}
    return "withdraw", {}


def _stepped(row: TrialRow) -> list[Point]:
    """The points of a trial's curve; a last line that sums up, or what a function returns, has no step."""
    return [point for point in row.points if point.step is not None]


def _ordered(points: Sequence[Point]) -> bool:
    """Whether steps and costs do not fall."""
    return all(a.cost <= b.cost and (a.step or 0) <= (b.step or 0) for a, b in itertools.pairwise(points))


def _tell_data(row: TrialRow) -> dict[str, Any]:
    """What the proposer is told about a trial that has ended."""
    if row.status == "failed":
        return {"failure": row.failure, "cost": row.cost}
    data: dict[str, Any] = {"score": row.score, "cost": row.cost}
    points = _stepped(row)
    if points and len(row.points) > 1 and _ordered(points):
        data["points"] = [list(point) for point in points]
    return data


class ProposerThread:
    """The proposer in a thread: one request at a time, answers fetched by the loop."""

    def __init__(self, make: Callable[[], Sweeper], wake: Callable[[], None]) -> None:
        self.busy = True  # until the sweeper is made
        self._requests: queue.Queue[Request | None] = queue.Queue()
        self._answers: queue.Queue[Answer | BaseException] = queue.Queue()
        self._make, self._wake = make, wake
        # Daemonic: a second Ctrl-C does not wait for a proposal.
        threading.Thread(target=self._work, daemon=True, name="proposer").start()

    def request(self, request: Request) -> None:
        """Tell and ask, or judge. Only when not busy."""
        assert not self.busy
        self.busy = True
        self._requests.put(request)

    def answer(self) -> Answer | None:
        """The answer to the request that has ended; None while there is none; an empty one once, when the
        sweeper is made. Raises what the proposer raised.
        """
        try:
            answer = self._answers.get_nowait()
        except queue.Empty:
            return None
        self.busy = False
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stop(self) -> None:
        """Let the thread end after what it does now."""
        self._requests.put(None)

    def _work(self) -> None:
        try:
            sweeper = self._make()
            self._give(Answer())
            while (request := self._requests.get()) is not None:
                started = time.perf_counter()
                if request.judge is not None:
                    self._give(Answer(chances=_chances(sweeper, request.judge)))
                    continue
                if request.begin_anew is not None:
                    sweeper = request.begin_anew()
                for event in request.news:
                    _apply(sweeper, event, request.excluded)
                trial = sweeper.ask(among=request.among)
                self._give(Answer(trial, time.perf_counter() - started))
        except BaseException as error:
            self._give(error)

    def _give(self, answer: Answer | BaseException) -> None:
        self._answers.put(answer)
        self._wake()


def _chances(sweeper: Sweeper, trials: Mapping[int, list[Point]]) -> dict[int, float]:
    from sweeper.proposer import Point as CurvePoint

    return {
        number: sweeper.chance(number, [CurvePoint(p.step or 0.0, p.cost, p.score) for p in points])
        for number, points in trials.items()
    }
