"""A sweep from its first trial to its last: propose, run, record, and again; and going on where one stopped.

The order of things is what makes a sweep repeatable. The proposer works in a thread of its own, one request
at a time: "here are these results; now propose". Results are written when they arrive, but the `tell` events
only when the proposer is handed them, and the `ask` when its answer is back. So the events stand in exactly
the order in which the proposer lived them, and every event is on the disk before anything follows from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from sweeper import control, objectives, pareto, warm
from sweeper.errors import ConfigError
from sweeper.executors import Executor, LocalExecutor, Message, WorkerState, core_numbers, resources
from sweeper.history import (
    ENQUEUED,
    Answer,
    ProposerThread,
    Request,
    asks_of,
    excluded_by,
    number_of,
    ran,
    rebuild,
    replayed,
    verdict,
    verify_history,
)
from sweeper.logs import last_lines, printable
from sweeper.repair import catch_up, own_config, repair
from sweeper.slots import Slots
from sweeper.store import STATUSES, Event, Point, Store, StoreDamaged, TrialRow, settings_of
from sweeper.units import format_bytes

if TYPE_CHECKING:
    from sweeper.config import SweepConfig

__all__ = ["Observer", "Outcome", "State", "rebuild", "run", "run_file", "verify_history"]

ALIKE = 5  # failures of one kind, from the first trial on, or lost trials in a row, that end a sweep
MAX_LOSSES = 3  # attempts of a trial that may be lost to the machine
AHEAD_FROM = 0.04  # propose ahead when a proposal takes this share of a trial
AHEAD = 2  # so many: of unlike trials, the short ones come in rows
PATIENCE = 2.0  # seconds: `sweep enqueue` and the like may be writing to the run just now
RECENT = 20  # proposals and trials that are looked at for that
TICK = 1.0  # seconds between updates of the observer
HOPELESS = 0.05  # a trial less likely than this to rise above the front anywhere is stopped early
JUDGE_EVERY = 1.0  # seconds between looks at the curve of one trial
LEAST_LIMIT = 10.0  # seconds: no prediction is so good that less would be fair
LISTEN = 0.2  # seconds between looks for words from outside


@dataclass
class State:
    """What an observer sees. Costs in the config's unit, times in seconds."""

    name: str
    counts: dict[str, int]
    workers: list[WorkerState]
    elapsed: float
    spent_cost: float
    budget: Any
    best: TrialRow | None
    front: list[tuple[float, float, int]]  # (cost, score, number), cheapest first, by raw scores
    rate: float | None  # trials a second
    eta_seconds: float | None
    last: TrialRow | None  # the trial that ended last
    messages: list[str]  # all so far, oldest first


class Observer(Protocol):
    """Is told about every event and about once a second."""

    def update(self, state: State) -> None:
        """Show it."""


@dataclass(frozen=True)
class Outcome:
    """How a session of a sweep ended.

    `reason`: trials, cost, time (the budget that was reached), interrupted, disk (full), or failed; `message`
    says it in words. `ms_per_proposal` is the median, `idle_share` the share of the workers' time, while
    there was something left to start, in which they stood idle; both None where there was none.
    """

    reason: str
    message: str
    folder: Path
    counts: dict[str, int]
    ran: int  # trials that ended in this session
    elapsed: float
    spent_cost: float
    ms_per_proposal: float | None = None
    idle_share: float | None = None


# ---------------------------------------------------------------- starting, going on


def run(config: SweepConfig, folder: str | Path, observer: Observer | None = None) -> Outcome:
    """Run the sweep in `folder`, or go on where it stopped, until its budget is spent or Ctrl-C.

    Raises ConfigError (a config that cannot run, or that differs from the run's in more than name, budget,
    workers, executor, early_stop and wider ranges), StoreError (no usable folder, another writes it) and
    ExecutorError (workers cannot start). A second Ctrl-C raises KeyboardInterrupt at once.
    """
    objective = objectives.make(config)
    try:
        objective.check()
    except ConfigError as error:
        raise config.locate(error) from None
    folder = Path(folder)
    messages: list[str] = []
    store = None
    if Store.exists(folder):
        with contextlib.suppress(StoreDamaged):
            store = Store.open(folder, patience=PATIENCE)
    elif not ((folder / "config.yaml").exists() and any((folder / "trials").glob("*"))):
        if config.warm_start:
            warm.results(config)  # raises what there is to raise before anything is written
        store = Store.create(folder, config)
    if store is None:  # torn, or removed beside its trials
        try:  # as it began: what is another in the given config is judged below, as ever
            began = own_config(folder, config.folder)
        except ConfigError as error:  # torn, too
            messages.append(f"the given config is taken for the run's: {error.message}")
            began = config
        store, said = repair(folder, began)
        messages.append(said)
    with store:
        taken_up = _take_up(store, config)
        if config.warm_start and not store.history(("ask", "observe")):
            messages.append(warm.begin(store, config))
        if said := catch_up(store):
            messages.append(said)
        if taken_up:
            messages.append(f"taken up from the config: {', '.join(taken_up)}")
        return _Session(config, store, objective, observer, messages).run()


def run_file(
    path: str | Path,
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    observer: Observer | None = None,
) -> Outcome:
    """Run the sweep of a YAML file in runs/NAME under the current folder, or in `folder`."""
    from sweeper.config import load

    config = load(path, list(overrides))
    return run(config, Path("runs") / config.name if folder is None else folder, observer)


def _take_up(store: Store, config: SweepConfig) -> list[str]:
    """Changes of the config since the run began, taken up and named; ConfigError for those that cannot be."""
    from sweeper.config import restore

    # What the config has learned to say since then had its default.
    began = restore(store.settings(), folder=config.folder, source="", file="")
    old, new = settings_of(began), settings_of(config)
    changes = []
    for key, before, after in _differences(old, new, ""):
        section, _, rest = key.partition(".")
        wider = False
        if section == "parameters" and isinstance(before, (int, float)) and isinstance(after, (int, float)):
            name, _, bound = rest.rpartition(".")
            wider = name in old["parameters"] and (
                (bound == "min" and after < before) or (bound == "max" and after > before)
            )
        # Another name: the folder was copied or renamed.
        if section not in ("name", "budget", "workers", "executor", "early_stop") and not wider:
            raise config.locate(
                ConfigError(
                    key,
                    f"was {_shown(before)} when this run began and is {_shown(after)} now",
                    "give the sweep another name (--name), or put it back; "
                    "only budget, workers, executor, early_stop and wider ranges can change",
                )
            )
        changes.append(f"{key} {_shown(before)} -> {_shown(after)}")
    if changes or store.config_text() != config.source:
        store.change_config(config, bool(changes))
    folder, before = str(config.folder), store.meta().get("folder")
    if before not in (None, folder):  # it was moved, or is another project's of the same name
        changes.append(f"its folder {before} -> {folder}")
    store.set_meta(folder=folder)
    return changes


def _differences(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield key, old, new


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)


# ---------------------------------------------------------------- one session


@dataclass
class _Clock:
    """Where the workers' time goes, while there is something left to start."""

    busy: float = 0.0
    idle: float = 0.0
    at: float | None = None

    def tick(self, states: Sequence[WorkerState], running: bool) -> None:
        """Book the time since the last tick; `running`: trials have begun and more are to come."""
        now = time.monotonic()
        if self.at is not None and running:
            ready = [state for state in states if state.status in ("idle", "running")]
            busy = sum(state.status == "running" for state in ready)
            self.busy += (now - self.at) * busy
            self.idle += (now - self.at) * (len(ready) - busy)
        self.at = now

    @property
    def idle_share(self) -> float | None:
        """Idle over all, or None where no time went by."""
        total = self.busy + self.idle
        return self.idle / total if total else None


@dataclass
class _Live:
    """A trial that is running now."""

    points: list[Point] = field(default_factory=list)
    unwritten: list[Point] = field(default_factory=list)
    judged: int = 0  # of the points, when its chance was last reckoned
    judged_at: float = -math.inf
    stopped: str = ""  # why it is being stopped

    def take(self, points: list[Point]) -> None:
        """More points."""
        self.points += points
        self.unwritten += points


class _Rows(dict[int, TrialRow]):
    """All trials by number; what the loop asks of them all the time is kept, not reckoned anew."""

    def __init__(self, rows: Iterable[TrialRow], goal: str) -> None:
        super().__init__()
        self.goal = goal
        self.counts = dict.fromkeys(STATUSES, 0)
        self.ran, self.cost = 0, 0.0  # trials that count in the budget, and their costs
        self.excluded: set[int] = set()
        self.front: list[TrialRow] = []  # by raw scores, cheapest first
        for row in rows:
            self[row.number] = row

    def __setitem__(self, number: int, row: TrialRow) -> None:
        before = self.get(number)
        for one, sign in ((before, -1), (row, 1)):
            if one is not None:
                self.counts[one.status] += sign
                if ran(one):
                    self.ran += sign
                    self.cost += sign * (one.cost or 0.0)
        super().__setitem__(number, row)
        if before is not None and before.excluded is not row.excluded:
            (self.excluded.add if row.excluded else self.excluded.remove)(number)
            self.front = self._front(self.values())
        elif row.excluded:
            self.excluded.add(number)
        elif row.status == "done":
            self.front = self._front([*self.front, row])

    def _front(self, rows: Iterable[TrialRow]) -> list[TrialRow]:
        done = sorted((row for row in rows if row.status == "done" and not row.excluded), key=_number)
        members = pareto.front([row.cost for row in done], [row.score for row in done], self.goal)
        return [done[i] for i in members]


def _number(row: TrialRow) -> int:
    return row.number


class _Session:
    """One process's work on a run: from its start or resumption to its end."""

    def __init__(
        self,
        config: SweepConfig,
        store: Store,
        objective: objectives.Objective,
        observer: Observer | None,
        messages: list[str],
    ) -> None:
        self.config, self.store, self.objective, self.observer = config, store, objective, observer
        self.messages = messages
        self.began, self.began_at = time.monotonic(), time.time()
        self.elapsed_before = float(store.meta()["elapsed"])
        self.rows = _Rows(store.trials(), config.metric.goal)
        asks, self.told = asks_of(store.history())
        # Of trials that are still to run, or never did and have no folder; the others' stay in the database.
        self.asks = {
            n: ask
            for n, ask in asks.items()
            if self.rows[n].status in ("queued", "running") or not self.rows[n].attempts
        }
        self.kills = _losses(store, signal.SIGKILL)
        self.losses = _losses(store, None)
        self.queue: deque[int] = deque()
        self.untold: list[int] = []  # ended, the proposer not yet told, in their order of ending
        self.live: dict[int, _Live] = {}
        self.last: TrialRow | None = None
        self.ran = 0
        self.alike: list[TrialRow] = []  # this session's failures, while nothing has ever gone well
        self.given_up: list[TrialRow] = []  # trials lost to the machine since the last one that was not
        self.ask_seconds: list[float] = []
        self.trial_seconds: deque[float] = deque(maxlen=RECENT)
        self.clock = _Clock()
        self.interrupts = 0
        self.finishing = False  # what runs is finished, nothing more is started
        self.paused = bool(store.meta().get("paused"))
        self.rested = 0.0  # seconds of this session with nothing running in a pause
        self.cycled = self.began
        self.listened = -LISTEN
        self.enqueued = deque(control.enqueued(store))
        self.excluded = excluded_by(store.history(("exclude", "include")))  # as the proposer knows it
        self.shown = self.written = self.measured = -TICK
        self.full = False  # the disk
        self.waited = False  # for other sweeps
        self.proposer: ProposerThread | None = None
        self.executor: Executor | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    # The way through

    def run(self) -> Outcome:
        """All of it."""
        try:
            with self._signals():
                self._recover()
                self._listen(begun=False)
                reason = self._spent()
                if reason is None:
                    reason = self._sweep()
                else:
                    self._withdraw_queue()
            return self._outcome(reason)
        finally:
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _sweep(self) -> str:
        """Until the reason for its end."""
        # Of this folder too: a copied run has the same id, and may be going on elsewhere.
        place = hashlib.sha256(str(self.store.folder.resolve()).encode()).hexdigest()
        mark = f"{self.store.meta()['id']}-{place[:16]}"
        executor = self._executor(mark)
        self.executor = executor
        grace = False
        try:
            executor.watch(self._wake_read)
            executor.start()  # imports of workers and proposer go on side by side
            settings, history = self.store.settings(), self.store.history()
            self.proposer = ProposerThread(lambda: replayed(settings, history), self._wake)
            with self.store.transaction():
                self.store.add_event("session", None, {"pid": os.getpid(), "workers": len(executor.states)})
            reason = self._cycle(executor, self.proposer)
            grace = True
            return reason
        finally:
            try:
                executor.close(grace)
            except KeyboardInterrupt:  # the second one: no more patience with trials that are being stopped
                executor.close(False)
                raise
            finally:
                if self.proposer is not None:
                    self.proposer.stop()
                self._put_back()

    def _executor(self, mark: str) -> Executor:
        workers = self.config.workers
        memory, restart_after, share = workers.memory, workers.restart_after, workers.gpus_per_trial
        share = None if share == "auto" else share  # whose shares `resources` has dealt out
        if self.config.executor == "ray":
            from sweeper.ray_executor import RayExecutor

            share = 0.0 if workers.gpus == 0 else share
            return RayExecutor(self.objective, workers.count, share, memory, restart_after, mark)
        count, gpus = resources(workers)
        slots = None if workers.share is False else Slots(core_numbers(), wait=workers.shares)
        return LocalExecutor(
            self.objective, self.store.folder, count, gpus, memory, restart_after, slots, share, mark
        )

    def _cycle(self, executor: Executor, proposer: ProposerThread) -> str:
        while True:
            self._listen()
            reason = "interrupted" if self.interrupts else self._failing() or self._spent()
            if reason in ("interrupted", "failed"):
                return reason
            if self.finishing:
                reason = "interrupted"
            elif reason is None and not self._room():
                reason = "disk"
            if reason is not None:
                executor.rest()
                if not self.live and not proposer.busy:
                    if reason in ("trials", "cost", "time"):
                        self._withdraw_queue()
                    return reason
            elif self.paused:
                executor.rest()
            else:
                self._dispatch(executor)
                self._propose(executor, proposer)
                self._judge(proposer)
            wanted = not (self.paused or self.finishing or self._all_started())
            begun = bool(self.trial_seconds or self.live)
            self.clock.tick(executor.states, begun and wanted)
            messages = executor.poll(min(TICK, max(0.0, self.shown + TICK - time.monotonic())))
            self.clock.tick(executor.states, begun and wanted)
            now = time.monotonic()
            if self.paused and not self.live:
                self.rested += now - self.cycled
            self.cycled = now
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            answer = proposer.answer()
            if answer is not None:
                self._end_hopeless(executor, answer.chances)
            ended = self._record(messages, answer)
            for row in ended:
                self.last = row
                self._show()
            if not ended and (answer or time.monotonic() - self.shown >= TICK):
                self._show()

    # Proposing and starting

    def _propose(self, executor: Executor, proposer: ProposerThread) -> None:
        """Hand the proposer what is new and ask for more, if it is free and more is wanted."""
        if proposer.busy:
            return
        asked = self.rows.counts["queued"] + self.rows.counts["running"] + self.rows.ran
        trials = self.config.budget.trials
        free = sum(state.status in ("starting", "idle") for state in executor.states)
        if len(self.queue) >= free + self._ahead() or (trials is not None and asked >= trials):
            return
        with self.store.transaction():
            before = set(self.excluded)
            news = self._tell()
        among = [self.enqueued[0][1]] if self.enqueued else None
        if self.excluded == before:
            proposer.request(Request(news, before, among=among))
        else:
            settings, history = self.store.settings(), self.store.history()
            proposer.request(Request(begin_anew=lambda: replayed(settings, history), among=among))

    def _judge(self, proposer: ProposerThread) -> None:
        """Have the chances reckoned of running trials that have reported since, if the proposer is free."""
        if not self.config.early_stop or proposer.busy:
            return
        now, due = time.monotonic(), {}
        shares = self.config.metric.scale == "percentile"
        for number, live in self.live.items():
            fresh = len(live.points) > live.judged and now - live.judged_at >= JUDGE_EVERY
            if not fresh or (shares and not 0 <= live.points[-1].score <= 1):  # its end is judged, see `_end`
                continue
            if not live.stopped and live.points[-1].step is not None:
                live.judged, live.judged_at = len(live.points), now
                due[number] = list(live.points)
        if due:
            proposer.request(Request(judge=due))

    def _end_hopeless(self, executor: Executor, chances: Mapping[int, float]) -> None:
        """End trials that will not rise above the front, unless they ended meanwhile."""
        for number, chance in chances.items():
            if chance < HOPELESS and number in self.live:
                self.live[number].stopped = f"its chance to rise above the front was {100 * chance:.2g} %"
                executor.stop(number)

    def _tell(self) -> list[Event]:
        """Write down what the proposer is now told: trials that have ended, results that no longer count."""
        news: list[Event] = []
        for number in self.untold:
            kind, data = verdict(self.rows[number])
            self.store.add_event(kind, number, data)
            news.append(Event(0, 0.0, kind, number, data))
        self.told += self.untold
        self.untold = []
        excluded = set(self.rows.excluded)
        for number in sorted(excluded ^ self.excluded):
            self.store.add_event("exclude" if number in excluded else "include", number)
        self.excluded = excluded
        return news

    def _ahead(self) -> int:
        """How many proposals to hold ready for workers that are still busy.

        Some, where proposals are slow beside trials but still faster: a worker then never waits for one, at
        the price of proposals that know one or two results less. Measured with two workers on two cores and
        proposals of 0.3 s: 16 % idle -> 5 % with trials of 2 s, 7 % -> 2 % with trials of 5 s. Where trials
        are the faster, workers wait for the proposer either way.
        """
        if not self.ask_seconds or not self.trial_seconds:
            return 0
        ask, trial = statistics.median(self.ask_seconds[-RECENT:]), statistics.fmean(self.trial_seconds)
        return AHEAD if AHEAD_FROM * trial < ask < trial else 0

    def _dispatch(self, executor: Executor) -> None:
        """Start queued trials on idle workers."""
        if not self.queue:
            executor.rest()
        idle = [state.index for state in executor.states if state.status == "idle"]
        starting = []
        for index in idle[: len(self.queue)]:
            if not executor.reserve(index):
                if not self.waited:
                    self.say("all cores or GPUs are taken by other sweeps on this machine; taking turns")
                    self.waited = True
                break
            starting.append((index, self.queue.popleft()))
        if not starting:
            return
        with self.store.transaction():
            for index, number in starting:
                self.store.start_trial(number, index)
        for index, number in starting:
            row = self.rows[number]
            row = replace(row, status="running", started=time.time(), attempts=row.attempts + 1, worker=index)
            self.rows[number], self.live[number] = row, _Live()
            seed = objectives.trial_seed(self.config.seed, number)
            folder = str(self.store.trial_folder(number).resolve())
            params = {**self.config.fixed, **row.params}
            # With those of earlier trials that have no folder yet, or were withdrawn just before this one and
            # will never have one, so that no number is missing.
            bare = itertools.takewhile(lambda n: not self.rows[n].attempts, range(number - 1, 0, -1))
            earlier = {str(n): self.asks[n] for n in sorted({*bare, *(n for n in self.queue if n < number)})}
            ask = {**self.asks[number], "earlier": earlier}
            limit = self._time_limit(number)
            job = objectives.Job(number, params, seed, folder, row.attempts, limit, ask)
            executor.submit(index, job)

    def _time_limit(self, number: int) -> float | None:
        """Seconds that a trial may take: what the config says, or what follows from its predicted cost."""
        workers = self.config.workers
        limits = [workers.timeout] if workers.timeout is not None else []
        predicted = self.asks[number]["record"]["predicted_cost"]
        if workers.timeout_factor is not None and predicted is not None:
            seconds = predicted * self.config.objective.seeds
            limits.append(max(LEAST_LIMIT, workers.timeout_factor * seconds))
        return min(limits, default=None)

    def _room(self) -> bool:
        """Whether the disk has room for more trials; looked at once in a while."""
        if time.monotonic() - self.measured >= TICK:
            self.measured = time.monotonic()
            free = shutil.disk_usage(self.store.folder).free
            if (free < self.config.workers.disk) is not self.full:
                self.full = not self.full
                what = "nothing more is started" if self.full else "there is room again"
                self.say(f"{format_bytes(free)} of disk are free: {what}")
        return not self.full

    # Recording

    def _record(self, messages: Sequence[Message], answer: Answer | None) -> list[TrialRow]:
        """Write all that came in, in one transaction; the trials that ended."""
        trial = answer.trial if answer is not None else None
        for message in messages:
            if message.kind == "points" and message.trial in self.live:
                self.live[message.trial].take([Point(*point) for point in message.data])
        ends = [message for message in messages if message.kind == "end"]
        if trial is None and not ends and time.monotonic() - self.written < TICK:
            return []  # points can wait a moment to share a commit
        self.written = time.monotonic()
        ended: list[TrialRow] = []
        with self.store.transaction():
            if trial is not None:
                self.store.add_trial(trial.number, trial.params, trial.origin, trial.record())
                if trial.origin == ENQUEUED:
                    self.store.add_event("dequeue", trial.number, {"enqueue": self.enqueued[0][0]})
            for number, live in self.live.items():
                if live.unwritten:
                    self.store.add_points(number, live.unwritten)
                    live.unwritten = []
            for message in ends:
                assert message.trial is not None
                row = self._end(message.trial, message.data)
                if row is not None:
                    ended.append(row)
            self.store.set_meta(elapsed=repr(self._elapsed()))
        if answer is not None and trial is not None:
            self.rows[trial.number] = TrialRow(trial.number, "queued", dict(trial.params), trial.origin)
            excluded = sorted(self.excluded)
            self.asks[trial.number] = {"told": self.told, "excluded": excluded, "record": trial.record()}
            self.told = []
            if trial.origin == ENQUEUED:
                self.enqueued.popleft()
                self.queue.appendleft(trial.number)
            else:
                self.queue.append(trial.number)
            self.ask_seconds.append(answer.seconds)
        return ended

    def _end(self, number: int, result: objectives.Result) -> TrialRow | None:
        """An attempt is over. None where the machine was at fault and the trial waits for another one."""
        row, live = self.rows[number], self.live.pop(number, _Live())
        if result.status == "killed":
            result = self._killed(row, result)
            if result.status == "killed":
                return None
        result = objectives.with_cost(result, self.config.cost.name, live.points, self.config.objective.seeds)
        if result.status == "stopped":
            result = replace(result, message=live.stopped)
        result = objectives.on_scale(result, self.config.metric.scale)
        points = tuple(Point(*point) for point in result.points)
        row = replace(
            row,
            status=result.status,
            score=result.score,
            cost=result.cost,
            failure=result.failure,
            message=result.message,
            points=points,
            seconds=result.seconds,
        )
        self.store.end_trial(
            number,
            row.status,
            score=row.score,
            cost=row.cost,
            failure=row.failure,
            message=row.message,
            points=points,
            seconds=row.seconds,
        )
        self.rows[number] = row
        del self.asks[number]
        self.untold.append(number)
        if ran(row):
            self.ran += 1
            self.trial_seconds.append(result.seconds)
            self.given_up = []
        if row.status == "lost":
            self.given_up.append(row)
        if row.status == "failed":
            self.alike.append(row)
        return row

    def _killed(self, row: TrialRow, result: objectives.Result) -> objectives.Result:
        """A death from outside: run again, unless it is a pattern."""
        number = row.number
        self.losses[number] = self.losses.get(number, 0) + 1
        if result.signal == signal.SIGKILL:
            self.kills[number] = self.kills.get(number, 0) + 1
        loss = {"signal": result.signal, "message": result.message}
        if self.kills.get(number, 0) >= 2 or self.losses[number] >= MAX_LOSSES:
            self.store.add_event("lost", number, loss)  # its row keeps when and where it ran last
        else:
            self.store.requeue_trial(number, "lost", loss)
        if self.kills.get(number, 0) >= 2:
            message = "killed by SIGKILL twice, which is what running out of memory looks like"
            return replace(result, status="failed", failure="oom", message=message)
        if self.losses[number] >= MAX_LOSSES:
            message = f"lost {self.losses[number]} times ({result.message}); not tried again"
            self.say(f"trial {number} {message}")
            return replace(result, status="lost", message=message)
        self.say(f"trial {number} was {result.message}; it will be run again")
        self.rows[number] = replace(row, status="queued", started=None, worker=None, points=())
        self.queue.appendleft(number)
        return result

    # Words from outside

    def _listen(self, begun: bool = True) -> None:
        """Do what `sweep stop`, `pause`, `enqueue` and the like ask for."""
        if time.monotonic() - self.listened < LISTEN:
            return
        self.listened = time.monotonic()
        if not begun:
            control.forget_answers(self.store.folder)
        for word in control.words(self.store.folder):
            # Who asked for the end of an earlier session did not ask for that of this one.
            live = begun or word.kind not in ("stop", "finish") or word.time > self.began_at
            said = control.take(self.store, word, live)
            if said is None or not live:
                continue
            self.say(said)
            if word.kind == "stop":
                self.interrupts += 1
            elif word.kind == "finish":
                self.finishing = True
            elif word.kind in ("pause", "resume"):
                self.paused = word.kind == "pause"
            elif word.kind == "enqueue":
                self.enqueued = deque(control.enqueued(self.store))
            else:
                row = self.store.trial(word.data["trial"])
                self.rows[row.number] = replace(self.rows[row.number], excluded=row.excluded)
            self._show()
        if self.paused and not begun:
            self.say("the run is paused; `sweep resume` lets it go on")

    # Beginning and end

    def _recover(self) -> None:
        """What an earlier session left: trials that ran, and results the proposer has not heard."""
        told = {event.trial for event in self.store.history(("tell", "stop", "withdraw"))}
        with self.store.transaction():
            for row in list(self.rows.values()):
                if row.status == "running":
                    self.store.requeue_trial(row.number, "interrupted")
                    self.rows[row.number] = replace(row, status="queued", started=None, points=())
        self.ran, self.alike = 0, []
        self.queue.extend(n for n, row in sorted(self.rows.items()) if row.status == "queued")
        ended = ("done", "failed", "lost", "stopped")
        self.untold = [n for n, row in self.rows.items() if row.status in ended and n not in told]
        if self.rows:
            again = f", {len(self.queue)} to run again" if self.queue else ""
            self.say(f"going on after {self.rows.ran} finished trials{again}")

    def _put_back(self) -> None:
        """Trials that were stopped with their workers wait for the next session."""
        with self.store.transaction():
            for number in list(self.live):
                self.store.requeue_trial(number, "interrupted")
                self.rows[number] = replace(self.rows[number], status="queued", started=None, points=())
                del self.live[number]
            self._tell()
            self.store.set_meta(elapsed=repr(self._elapsed()))

    def _withdraw_queue(self) -> None:
        """The budget is spent: what has ended is told, and proposals never started will not be."""
        with self.store.transaction():
            for number in self.queue:
                row = self.rows[number] = replace(self.rows[number], status="stopped")
                self.store.end_trial(number, "stopped", message="the budget was spent before it started")
                if row.origin == ENQUEUED:  # the user wants it tried: it waits for a larger budget
                    self.store.add_event("enqueue", None, {"params": row.params})
            self.untold += self.queue
            self._tell()
        self.queue.clear()

    def _spent(self) -> str | None:
        """Which part of the budget is used up."""
        budget = self.config.budget
        if budget.trials is not None and self.rows.ran >= budget.trials:
            return "trials"
        if budget.cost is not None and self._cost() >= budget.cost:
            return "cost"
        if budget.time is not None and self._elapsed() >= budget.time:
            return "time"
        return None

    def _all_started(self) -> bool:
        """Whether nothing is left to start: workers that stand idle now do so for good."""
        trials = self.config.budget.trials
        active = self.rows.counts["running"] + self.rows.ran
        return self._spent() is not None or (trials is not None and active >= trials)

    def _failing(self) -> str | None:
        """Whether all trials so far failed in one and the same way, or so many in a row were lost that none
        will ever count in the budget."""
        if len(self.given_up) >= ALIKE:
            return "failed"
        if len(self.alike) < ALIKE or self.rows.counts["done"]:
            return None
        return "failed" if len({_signature(row) for row in self.alike}) == 1 else None

    def _outcome(self, reason: str) -> Outcome:
        folder, budget = self.store.folder, self.config.budget
        done = self.rows.counts["done"]
        failures = [row for row in self.rows.values() if row.status == "failed"]
        if reason == "failed" and len(self.given_up) >= ALIKE:
            message = f"{len(self.given_up)} trials in a row were {self.given_up[-1].message}. "
            message += "Find out who ends them; the same command goes on."
        elif reason == "failed" or (failures and not done and reason != "interrupted"):
            last = self.alike[-1] if self.alike else failures[-1]
            log = "\n".join(last_lines(self.store.trial_folder(last.number) / "log.txt"))
            alike = f"all {len(self.alike)} trials failed alike"
            what = alike if reason == "failed" else "every trial failed, the last one so"
            message = f"{what}: {last.failure} ({printable(last.message)}). "
            message += "Mend it and start under a new name."
            message += f"\nThe last lines of trial {last.number}:\n{log}" if log else ""
            reason = "failed"
        elif reason == "interrupted":
            message = "stopped; the same command goes on from here"
        elif reason == "disk":
            sizes = [(_size(path), path.name) for path in (folder / "trials").iterdir()]
            size, largest = max(sizes, default=(0, "none"))
            message = f"less than {format_bytes(self.config.workers.disk)} of disk are free (workers.disk); "
            message += "make room, and the same command goes on"
            message += f" (the largest trial: {largest}, {format_bytes(size)})"
        else:
            limit = {"trials": budget.trials, "cost": budget.cost, "time": budget.time}[reason]
            message = f"the budget of {reason} is spent ({limit:g})"
        self.say(message.splitlines()[0])
        self.store.set_meta(ended=reason)
        self._show()
        proposals = statistics.median(self.ask_seconds) * 1000 if self.ask_seconds else None
        counts, idle = dict(self.rows.counts), self.clock.idle_share
        return Outcome(
            reason, message, folder, counts, self.ran, self._elapsed(), self._cost(), proposals, idle
        )

    # Showing

    def say(self, message: str) -> None:
        """A line for the user."""
        self.messages.append(message)

    def _elapsed(self) -> float:
        return self.elapsed_before + time.monotonic() - self.began - self.rested

    def _cost(self) -> float:
        return self.config.objective.seeds * self.rows.cost

    def _show(self) -> None:
        self.shown = time.monotonic()
        if self.observer is None:
            return
        front = [(row.cost or 0.0, row.score or 0.0, row.number) for row in self.rows.front]
        seconds = time.monotonic() - self.began - self.rested
        counts = dict(self.rows.counts)
        counts["stopped"] = self.rows.ran - counts["done"] - counts["failed"]  # those withdrawn never ran
        rate = self.ran / seconds if self.ran else None
        self.observer.update(
            State(
                name=self.config.name,
                counts=counts,
                workers=self.executor.states if self.executor is not None else [],
                elapsed=self._elapsed(),
                spent_cost=self._cost(),
                budget=self.config.budget,
                best=self.rows[front[-1][2]] if front else None,
                front=front,
                rate=rate,
                eta_seconds=self._eta(rate, seconds),
                last=self.last,
                messages=self.messages,
            )
        )

    def _eta(self, rate: float | None, seconds: float) -> float | None:
        budget, estimates = self.config.budget, []
        if budget.trials is not None and rate:
            estimates.append((budget.trials - self.rows.ran) / rate)
        if budget.cost is not None and self._cost() > 0:
            estimates.append((budget.cost - self._cost()) / self._cost() * self._elapsed())
        if budget.time is not None:
            estimates.append(budget.time - self._elapsed())
        return max(0.0, min(estimates)) if estimates else None

    # Signals

    def _wake(self) -> None:
        """Let `poll` return; from any thread or handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b".")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C (and TERM) once: stop cleanly. Twice: at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.interrupts += 1
            if self.interrupts > 1:
                raise KeyboardInterrupt
            self.say("stopping; Ctrl-C once more stops at once")
            self._wake()

        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
            heard.append(signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _losses(store: Store, number: int | None) -> dict[int, int]:
    """How often each trial was lost, to this signal or to any."""
    counts: dict[int, int] = {}
    for event in store.history(("lost",)):
        if number is None or event.data.get("signal") == number:
            counts[number_of(event)] = counts.get(number_of(event), 0) + 1
    return counts


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, those in its folders too."""
    files = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return sum(file.lstat().st_size for file in files if file.exists())


def _signature(row: TrialRow) -> tuple[str, str]:
    """What makes two failures alike: the kind, and the message without its numbers."""
    return row.failure or "", re.sub(r"[-+.e\d]*\d[-+.e\d]*", "0", row.message)
