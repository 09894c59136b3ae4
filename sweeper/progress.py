"""What a person sees while a sweep runs: a live panel on a terminal, one line a trial everywhere else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from sweeper.config import SweepConfig
from sweeper.logs import last_lines, printable
from sweeper.units import digits, format_cost, format_number, format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sweeper.loop import State

ROWS = 8  # of the front in the live table


class Observer(Protocol):
    """What `sweeper.loop.run` is given to talk to."""

    def update(self, state: State) -> None: ...
    def __enter__(self) -> Observer: ...
    def __exit__(self, *error: Any) -> None: ...


def observer(config: SweepConfig, folder: Path, stream: TextIO | None = None) -> Observer:
    """The live panel where `stream` (standard output) is a terminal, plain lines where it is not."""
    stream = sys.stdout if stream is None else stream
    return LiveObserver(config, folder, stream) if stream.isatty() else PlainObserver(config, folder, stream)


class PlainObserver:
    """One line for every trial that ends, and the last lines of those that crash in a new way."""

    def __init__(self, config: SweepConfig, folder: Path, stream: TextIO) -> None:
        self.config, self.folder, self.stream = config, folder, stream
        self._said = 0  # messages so far
        self._last: tuple[int, str, int] | None = None
        self._crash: list[str] = []  # the lines shown last

    def __enter__(self) -> PlainObserver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.flush()

    def update(self, state: State) -> None:
        """Writes what is new since the last call; called on every event and about once a second."""
        for message in state.messages[self._said :]:
            self.say(printable(message))
        self._said = len(state.messages)
        last = state.last
        if last is None or last.status not in ("done", "failed", "stopped"):
            return
        key = (last.number, last.status, last.attempts)
        if key == self._last:
            return
        self._last = key
        self.say(trial_line(last, state, self.config))
        if last.status == "failed":
            lines = last_lines(self.folder / "trials" / f"{last.number:06d}" / "log.txt")
            if lines != self._crash:  # the same crash again needs no telling
                for line in lines:
                    self.say(f"    | {line}")
            self._crash = lines

    def say(self, line: str) -> None:
        """One line for the user."""
        try:
            print(line, file=self.stream, flush=True)
        except OSError:  # `sweep run ... | head`, or the log's disk is full
            self.fall_silent()

    def fall_silent(self) -> None:
        """Nobody reads on, but the sweep goes on."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)


def trial_line(trial: Any, state: State, config: SweepConfig) -> str:
    """A trial that has ended, in one line: which, how, score, cost, and the best so far."""
    ended = sum(state.counts.get(status, 0) for status in ("done", "failed", "stopped"))
    total = f"/{config.budget.trials}" if config.budget.trials else ""
    width = len(str(config.budget.trials or 999))
    parts = [f"[{ended:>{width}}{total}] trial {trial.number:<{width}} {trial.status:<7}"]
    if trial.status == "done":
        parts.append(f"{config.metric.name} {format_number(trial.score):<9}")
    else:
        parts.append(f"{printable(trial.failure or ''):<{len(config.metric.name) + 10}}")
    if trial.cost is not None:
        parts.append(f"cost {format_cost(trial.cost, config.cost.name):<9}")
    if trial.status == "done" and state.front:
        parts.append(f"best {format_number(state.front[-1][1])}")
    if trial.status in ("failed", "stopped") and trial.message:
        parts.append(f"({printable(trial.message).strip()[:200]})")
    return "  ".join(part for part in parts if part).rstrip()


class LiveObserver(PlainObserver):
    """A panel that redraws itself: budget, rate, best so far, the front, and the trial that ended last."""

    def __init__(self, config: SweepConfig, folder: Path, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(config, folder, stream)
        self._console = Console(file=stream, highlight=False, markup=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._line = ""

    def __enter__(self) -> LiveObserver:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._live.stop()
        except OSError:
            self.fall_silent()

    def say(self, line: str) -> None:
        """Done trials appear inside the panel; all else scrolls by above it."""
        if line.startswith("["):
            self._line = line
            if " failed " not in line:
                return
        from rich.text import Text

        try:
            self._console.print(Text(line, style="red" if line.startswith("[") else "dim"))
        except OSError:  # `sweep run &`, `disown`, and the terminal was closed
            self.fall_silent()

    def update(self, state: State) -> None:
        super().update(state)
        self._live.update(panel(state, self.config, self._line))


def panel(state: State, config: SweepConfig, line: str = "") -> RenderableType:
    """The live view of a sweep's state."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts = state.counts
    share, clock = used(state, config)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    trials = [f"{counts.get('done', 0)} done"]
    trials += [f"{counts[s]} {s}" for s in ("running", "failed", "stopped", "lost") if counts.get(s)]
    total = f" of {config.budget.trials}" if config.budget.trials else ""
    ended = sum(counts.get(s, 0) for s in ("done", "failed", "stopped"))
    facts.add_row("trials", f"{ended}{total}: {', '.join(trials)}")
    facts.add_row("time", clock)
    limit = f" of {format_cost(config.budget.cost, config.cost.name)}" if config.budget.cost else ""
    facts.add_row("spent", format_cost(state.spent_cost, config.cost.name) + limit)
    speed = f", {format_number(60 * state.rate)} trials a minute" if state.rate else ""
    facts.add_row("workers", f"{workers(state)}{speed}")
    if running := [w for w in state.workers if w.status == "running" and w.trial is not None]:
        shown = [f"trial {w.trial} for {format_seconds(round(w.seconds))}" for w in running[:4]]
        more = f", and {len(running) - 4} more" if len(running) > 4 else ""
        facts.add_row("running", ", ".join(shown) + more)
    if state.front:
        cost, score, number = state.front[-1]
        best = f"{format_number(score)} for {format_cost(cost, config.cost.name)} (trial {number})"
        facts.add_row("best", Text(best, style="bold"))
    rows: list[RenderableType] = [ProgressBar(total=1.0, completed=share, width=None), Text("\n"), facts]
    if state.front:
        rows += [Text(""), front_table(state.front, config, ROWS)]
    if line:
        rows += [Text(""), Text(line, style="dim", no_wrap=True, overflow="ellipsis")]
    title = Text(f" {config.name} ", style="bold")
    return Panel(Group(*rows), title=title, title_align="left", border_style="cyan", padding=(1, 2), width=76)


def workers(state: State) -> str:
    """How many workers there are, and what they do."""
    busy = sum(worker.status == "running" for worker in state.workers)
    starting = sum(worker.status == "starting" for worker in state.workers)
    return f"{len(state.workers)}, {busy} busy" + (f", {starting} starting" if starting else "")


def used(state: State, config: SweepConfig) -> tuple[float, str]:
    """The share of the budget that is spent (the part that ends first), and the clock in words."""
    budget = config.budget
    ended = sum(state.counts.get(s, 0) for s in ("done", "failed", "stopped"))
    shares = [0.0]
    if budget.trials:
        shares.append(ended / budget.trials)
    if budget.cost:
        shares.append(state.spent_cost / budget.cost)
    if budget.time:
        shares.append(state.elapsed / budget.time)
    clock = format_seconds(state.elapsed) + (f" of {format_seconds(budget.time)}" if budget.time else "")
    if state.eta_seconds is not None:
        clock += f", about {format_seconds(state.eta_seconds)} to go"
    return min(1.0, max(shares)), clock


def front_table(front: Sequence[tuple[float, float, int | None]], config: SweepConfig, rows: int) -> Any:
    """The front, cheapest first, as a small rich table; thinned to `rows`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for name in front_head(config):
        table.add_column(Text(name), justify="right")
    for row in front_rows(front, config, rows):
        table.add_row(*row)
    return table


def front_head(config: SweepConfig) -> tuple[str, str, str]:
    """The heads of a front's columns; seconds carry their unit in every cell."""
    return (
        "cost" if config.cost.name == "seconds" else f"cost ({config.cost.name})",
        config.metric.name,
        "trial",
    )


def front_rows(
    front: Sequence[tuple[float, float, int | None]], config: SweepConfig, rows: int
) -> list[tuple[str, str, str]]:
    """Cells (cost, score, trial) of at most `rows` members of the front."""
    seconds = config.cost.name == "seconds"
    scores = [score for _, score, _ in front]
    places = digits(min(scores), max(scores), 100) if scores else 4  # 0.99991 is not 0.99994
    return [
        (
            format_seconds(cost) if seconds else format_number(cost),
            format_number(score, places),
            "" if number is None else str(number),
        )
        for cost, score, number in thinned(front, rows)
    ]


def thinned(front: Sequence[Any], rows: int) -> list[Any]:
    """At most `rows` members spread evenly, both ends among them."""
    if len(front) <= rows:
        return list(front)
    return [front[round(i * (len(front) - 1) / (rows - 1))] for i in range(rows)]


class TrainingLine:
    """One line about a training that rewrites itself on a terminal and says nothing elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self._width = 0

    def __enter__(self) -> TrainingLine:
        return self

    def __exit__(self, *error: Any) -> None:
        self._write("")

    def __call__(self, facts: Mapping[str, Any]) -> None:
        """`facts`: steps, steps_per_second, seconds, score (of the episodes that training finished)."""
        score = facts.get("score")
        shown = "" if score is None else f"  score {format_number(score)}"
        self._write(
            f"{int(facts['steps']):,} steps  {format_number(facts['steps_per_second'])} steps/s"
            f"  {format_seconds(facts['seconds'])}{shown}"
        )

    def _write(self, text: str) -> None:
        if self.stream.isatty():
            text = text[: shutil.get_terminal_size().columns - 1]  # \r goes back a row at most
            self.stream.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
            self.stream.flush()
            self._width = len(text)
