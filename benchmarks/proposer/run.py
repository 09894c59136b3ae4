"""Runs sweeps and keeps them: one compact CSV a proposer, appended sweep by sweep.

A line is (task, proposer, seed, trial, noise-free score, cost, failed, CPU milliseconds of its proposal), and
where curves count the share of the ideal area after it: each point of a curve is a shorter trial's result.
What is in the file is not run again, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import csv
import gzip
import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proposer.proposers import CURVES, PROPOSERS
from benchmarks.proposer.tasks import SPENT, Task, task

RESULTS = Path(__file__).parent / "results"
HEADER = ("task", "proposer", "seed", "trial", "score", "cost", "failed", "ms")
LARGEST = 300_000  # bytes of plain CSV; beyond them it is packed


@dataclass
class Sweep:
    """One sweep of one proposer on one task, by trial; failures have a score of nan."""

    task: str
    proposer: str
    seed: int
    scores: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)  # of the ideal area, where curves count; else empty


def run_sweep(
    name: str, proposer: str, seed: int, trials: int, enough: int | None = None, of: Task | None = None
) -> Sweep:
    """One sweep, one trial at a time; after `enough` trials it ends once the large cost is spent."""
    one = of or task(name)
    tuner, sweep = PROPOSERS[proposer](one, seed), Sweep(one.name, proposer, seed)
    pool = _Pool(one) if one.pool else None
    large = SPENT[-1] * one.random_cost
    shown: list[tuple[float, float]] = []  # noise-free (cost, score) of all points of all curves
    for number in range(trials):
        if enough is not None and number >= enough and sum(sweep.costs) >= large:
            break
        before = time.process_time()
        if pool is None:
            params = tuner.ask()
        elif proposer.startswith("ours"):
            params = pool.take(tuner.ask(among=pool.left()))
        else:
            params = pool.take(tuner.ask())
        spent = time.process_time() - before
        failure = one.failure(params)
        if failure is None:
            luck = [seed, number]
            score, cost = one.evaluate(params, luck)
            points = one.curve(params, luck)
            sweep.scores.append(one.truth(params)[0])
            if proposer.endswith(CURVES):
                shown += [point[1:] for point in one.curve(params)]
        else:
            score, cost, points = None, failure[1], []
            sweep.scores.append(float("nan"))
        before = time.process_time()
        tuner.tell(params, score, cost, None if failure is None else failure[0], points)
        sweep.milliseconds.append(1e3 * (spent + time.process_time() - before))
        sweep.costs.append(cost if failure is not None else one.truth(params)[1])
        if proposer.endswith(CURVES):
            sweep.shares.append(one.share(*zip(*shown, strict=True)) if shown else 0.0)
    return sweep


class _Pool:
    """The members of a table that have not run yet."""

    def __init__(self, one: Task) -> None:
        self.space = one.space
        self.members = [dict(params) for params in one.pool or ()]
        self.features = self.space.features(np.stack([self.space.to_unit(p) for p in self.members]))
        self.free = np.ones(len(self.members), dtype=bool)

    def left(self) -> list[dict[str, Any]]:
        return [self.members[i] for i in np.flatnonzero(self.free)]

    def take(self, params: dict[str, Any]) -> dict[str, Any]:
        """The free member nearest to `params`."""
        wanted = self.space.features(self.space.to_unit(params)[None])
        away = ((self.features - wanted) ** 2).sum(axis=1)
        i = int(np.argmin(np.where(self.free, away, np.inf)))
        self.free[i] = False
        return dict(self.members[i])


def run(
    proposers: Sequence[str],
    tasks: Sequence[str],
    seeds: Iterable[int],
    trials: int,
    out: Path,
    enough: int | None = None,
    minutes: float | None = None,
    echo: Callable[[str], Any] = print,
) -> None:
    """Every seed, task and proposer that is not in `out` yet; after `minutes` no further sweep is begun."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    have = {name: {(s.task, s.seed) for s in read(out, name)} for name in proposers}
    for seed in seeds:
        for name in tasks:
            for proposer in proposers:
                if (name, seed) in have[proposer]:
                    continue
                if minutes is not None and time.monotonic() - began > 60 * minutes:
                    echo(f"stopped after {minutes:g} minutes; the same command goes on")
                    return
                before = time.process_time()
                sweep = run_sweep(name, proposer, seed, trials, enough)
                append(out, sweep)
                one = task(name)
                done = ~np.isnan(sweep.scores)
                share = one.share(np.array(sweep.costs)[done], np.array(sweep.scores)[done])
                share = sweep.shares[-1] if sweep.shares else share
                echo(
                    f"{proposer}, {name}, seed {seed}: {len(sweep.costs)} trials, share {share:.3f}, "
                    f"{time.process_time() - before:.1f} CPU s"
                )


def append(out: Path, sweep: Sweep) -> None:
    """Adds a sweep to its proposer's file, all lines in one write."""
    path = out / f"{sweep.proposer}.csv"
    head = "" if path.exists() else _head(sweep.proposer)
    with path.open("a") as file:
        file.write(head + _lines(sweep))


def _head(proposer: str) -> str:
    return ",".join([*HEADER, "share"] if proposer.endswith(CURVES) else HEADER) + "\n"


def _lines(sweep: Sweep) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for trial, (score, cost, ms) in enumerate(
        zip(sweep.scores, sweep.costs, sweep.milliseconds, strict=True), 1
    ):
        failed = int(np.isnan(score))
        shown = "" if failed else f"{score:.5g}"
        line = [sweep.task, sweep.proposer, sweep.seed, trial, shown, f"{cost:.5g}", failed, f"{ms:.3g}"]
        writer.writerow([*line, *(f"{share:.5f}" for share in sweep.shares[trial - 1 : trial])])
    return text.getvalue()


def read(out: Path, proposer: str) -> list[Sweep]:
    """The sweeps of a proposer in a folder, packed and not."""
    sweeps: dict[tuple[str, int], Sweep] = {}
    for path, opened in ((out / f"{proposer}.csv.gz", gzip.open), (out / f"{proposer}.csv", open)):
        if not path.exists():
            continue
        with opened(path, "rt") as file:
            for row in csv.DictReader(file):
                key = row["task"], int(row["seed"])
                if int(row["trial"]) == 1:
                    sweeps[key] = Sweep(row["task"], proposer, key[1])
                sweeps[key].scores.append(float(row["score"] or "nan"))
                sweeps[key].costs.append(float(row["cost"]))
                sweeps[key].milliseconds.append(float(row["ms"]))
                if row.get("share"):
                    sweeps[key].shares.append(float(row["share"]))
    return list(sweeps.values())


def pack(out: Path) -> list[Path]:
    """Sorts every file by task and seed and packs what is large. Gives the files."""
    made = []
    for name in PROPOSERS:
        sweeps = sorted(read(out, name), key=lambda s: (s.task, s.seed))
        if not sweeps:
            continue
        plain, packed = out / f"{name}.csv", out / f"{name}.csv.gz"
        content = (_head(name) + "".join(map(_lines, sweeps))).encode()
        large = len(content) > LARGEST
        made.append(packed if large else plain)
        made[-1].write_bytes(gzip.compress(content, mtime=0) if large else content)
        (plain if large else packed).unlink(missing_ok=True)
    return made
