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

from sweeper.store import PROPOSER_KINDS, Event, Store, TrialRow

if TYPE_CHECKING:
    from sweeper.proposer import Sweeper


ENQUEUED = "pool"  # the origin of what the user wants tried: a pool of one
# A trial that has ended: its number, and what `tell` takes; None where it is withdrawn.
News = tuple[int, dict[str, Any] | None]


@dataclass(frozen=True)
class Request:
    """What the proposer is to learn before it proposes."""

    news: list[News] = field(default_factory=list)
    begin_anew: Callable[[], Sweeper] | None = None  # instead of the news: the past itself has changed
    among: list[dict[str, Any]] | None = None  # the params to propose, chosen by the user


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
    elif event.kind == "withdraw" or (event.kind == "tell" and number_of(event) in excluded):
        sweeper.withdraw(number_of(event))
    elif event.kind == "tell":
        sweeper.tell(number_of(event), **_told(event.data))
    elif event.kind == "observe":
        sweeper.observe(event.data["params"], **_told(event.data))


def asks_of(history: Sequence[Event]) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Each ask with its record and the trials that were told or withdrawn since the ask before; and those
    told since the last ask."""
    asks: dict[int, dict[str, Any]] = {}
    told: list[int] = []
    for event in history:
        if event.kind == "ask":
            asks[number_of(event)] = {"told": told, "record": event.data}
            told = []
        elif event.kind in ("tell", "withdraw"):
            told.append(number_of(event))
    return asks, told


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
    """The proposer as the store's history left it. Needs torch; changes nothing."""
    with store.snapshot():
        settings, history = store.settings(), store.history()
    return replayed(settings, history)


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


def tell_data(row: TrialRow) -> dict[str, Any]:
    """What the proposer is told about a trial that has ended."""
    if row.status == "failed":
        return {"failure": row.failure, "cost": row.cost}
    data: dict[str, Any] = {"score": row.score, "cost": row.cost}
    curve = row.points
    ordered = all(
        a.cost <= b.cost and a.step is not None and b.step is not None and a.step <= b.step
        for a, b in itertools.pairwise(curve)
    )
    if len(curve) > 1 and ordered:
        data["points"] = [list(point) for point in curve]
    return data


class ProposerThread:
    """The proposer in a thread: one request at a time, answers fetched by the loop."""

    def __init__(self, make: Callable[[], Sweeper], wake: Callable[[], None]) -> None:
        self.busy = True  # until the sweeper is made
        self._requests: queue.Queue[Request | None] = queue.Queue()
        self._answers: queue.Queue[tuple[Any, float] | BaseException] = queue.Queue()
        self._make, self._wake = make, wake
        # Daemonic: a second Ctrl-C does not wait for a proposal.
        threading.Thread(target=self._work, daemon=True, name="proposer").start()

    def request(self, request: Request) -> None:
        """Tell and ask. Only when not busy."""
        assert not self.busy
        self.busy = True
        self._requests.put(request)

    def answer(self) -> tuple[Any, float] | None:
        """(trial, seconds it took) of the request that has ended; None while there is none; (None, 0) once,
        when the sweeper is made.

        Raises what the proposer raised.
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
            self._give((None, 0.0))
            while (request := self._requests.get()) is not None:
                started = time.perf_counter()
                if request.begin_anew is not None:
                    sweeper = request.begin_anew()
                for number, data in request.news:
                    if data is None:
                        sweeper.withdraw(number)
                    else:
                        sweeper.tell(number, **_told(data))
                self._give((sweeper.ask(among=request.among), time.perf_counter() - started))
        except BaseException as error:
            self._give(error)

    def _give(self, answer: tuple[Any, float] | BaseException) -> None:
        self._answers.put(answer)
        self._wake()
