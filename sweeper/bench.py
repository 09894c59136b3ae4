"""`sweep bench synthetic`: our sweeps beside random search and a perfectly informed chooser, on known fronts.

The measure is the share of the area under a task's ideal front (score over log10 cost, noise-free truth)
that lies under the staircase of the trials so far; after a quarter, half and all of the trials, and when
three costs are spent: 1.5, 4.5 and 13.5 average random trials. What a chooser that knows the task could do
at best with as many trials, or as much cost, is found by dynamic programming over the ideal front.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeper import synthetic
from sweeper.space import Space

SPENT = (1.5, 4.5, 13.5)  # average random trials
FIRST_SEED = 20_000  # no rule or constant of the proposer was chosen on seeds from here on
_GRID = 160  # costs among which the perfect chooser chooses


@dataclass
class Sweep:
    """One sweep: true costs and scores by trial, what was seen, where trials came from, CPU ms a proposal."""

    task: str
    seed: int
    costs: list[float]
    scores: list[float]
    seen: list[float]
    origins: list[str]
    milliseconds: list[float]


@dataclass
class Row:
    """One task at one checkpoint. Shares: medians over seeds, ours with quartiles."""

    task: str
    checkpoint: str  # "40 trials" or "cost 97 s"
    ours: float
    low: float
    high: float
    random: float
    perfect: float

    @property
    def ratio(self) -> float:
        """Our gap to the ideal over random search's."""
        return (1 - self.ours) / max(1 - self.random, 1e-12)


def run_bench(
    tasks: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 10,
    trials: int = 80,
    workers: int | None = None,
    out: str | Path | None = None,
    echo: Callable[[str], Any] = print,
) -> list[Row]:
    """Runs every task with every seed, echoes progress and a table; pictures and results.json go to `out`.

    `tasks`: names of `sweeper.synthetic.TASKS` (None: all six). `seeds`: so many, or which. `workers`:
    processes (None: as many as cores). Raises ConfigError for an unknown task.
    """
    names = [synthetic.task(name).name for name in (tasks or list(synthetic.TASKS))]
    numbers = list(range(FIRST_SEED, FIRST_SEED + seeds)) if isinstance(seeds, int) else list(seeds)
    jobs = [(name, seed, trials) for name in names for seed in numbers]
    ours: dict[str, list[Sweep]] = {name: [] for name in names}
    count = min(workers or os.cpu_count() or 1, len(jobs))
    start, folder = time.monotonic(), None if out is None else Path(out)
    echo(f"{len(jobs)} sweeps of {trials} trials in {count} processes; gap = 1 - share of the ideal area")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)  # what is wrong with it is said before the work, not after
    with _running(count, jobs) as futures:
        for finished, future in enumerate(as_completed(futures), 1):
            sweep = future.result()
            ours[sweep.task].append(sweep)
            share = synthetic.task(sweep.task).share(sweep.costs, sweep.scores)
            proposal = np.median(sweep.milliseconds)
            echo(
                f"[{finished}/{len(jobs)}, {time.monotonic() - start:.0f} s] "
                f"{sweep.task}, seed {sweep.seed}: share {share:.3f}, {proposal:.0f} ms a proposal"
            )
    rows: list[Row] = []
    for name in names:
        ours[name].sort(key=lambda sweep: sweep.seed)
        blind = [run_random(name, sweep.seed, trials) for sweep in ours[name]]
        rows += summarise(synthetic.task(name), ours[name], blind, trials)
        if folder is not None:
            picture(synthetic.task(name), ours[name], blind, folder / f"{name}.png")
    for line in table(rows, ours):
        echo(line)
    if folder is not None:
        results = [{**vars(row), "ratio": row.ratio} for row in rows]
        (folder / "results.json").write_text(json.dumps(results, indent=1))
        echo(f"pictures and results.json are in {folder}")
    return rows


@contextlib.contextmanager
def _running(count: int, jobs: Sequence[tuple[str, int, int]]) -> Iterator[list[Future[Sweep]]]:
    """The jobs' sweeps, in `count` processes. Those do not hear Ctrl-C, which ends them by their parent."""
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what they inherit
        futures = [pool.submit(run_sweep, *job) for job in jobs]
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)
            yield futures
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            raise


def run_sweep(name: str, seed: int, trials: int) -> Sweep:
    """One sweep of ours, one trial at a time."""
    from sweeper.proposer import Sweeper

    task = synthetic.task(name)
    tuner = Sweeper(task.parameters, seed=seed, scale=task.scale, fidelity=task.fidelity)
    sweep = Sweep(name, seed, [], [], [], [], [])
    for _ in range(trials):
        before = time.process_time()
        trial = tuner.ask()
        sweep.milliseconds.append(1e3 * (time.process_time() - before))
        seen, cost = task.evaluate(trial.params, seed=[seed, trial.number])
        tuner.tell(trial, score=seen, cost=cost)
        sweep.costs.append(cost)
        sweep.scores.append(task.truth(trial.params)[0])
        sweep.seen.append(seen)
        sweep.origins.append(trial.origin)
    return sweep


def run_random(name: str, seed: int, trials: int) -> Sweep:
    """Random search: every params drawn uniformly from the space."""
    task = synthetic.task(name)
    space = Space(task.parameters)
    units = space.sample(trials, np.random.default_rng([seed, 1]))
    truths = [task.truth(space.to_params(unit)) for unit in units]
    scores, costs = [score for score, _ in truths], [cost for _, cost in truths]
    return Sweep(name, seed, costs, scores, scores, ["random"] * trials, [])


def perfect_by_trials(task: synthetic.Task, trials: int) -> list[float]:
    """Best share possible with 1, 2, ... `trials` trials."""
    log_costs, scores = _ideal_grid(task)
    width = log_costs[None, :] - log_costs[:, None]  # [from, to]
    area = scores * (log_costs[-1] - log_costs)  # of the best staircase that begins at each cost
    shares = [float(area.max())]
    for _ in range(trials - 1):
        further = np.where(width > 0, scores[:, None] * width + area[None, :], -np.inf)
        area = np.maximum(area, further.max(axis=1))
        shares.append(float(area.max()))
    return [share / task.ideal_area for share in shares]


def perfect_by_cost(task: synthetic.Task, budget: float, units: int = 800) -> float:
    """Best share possible with `budget` seconds in all (counted in `units` of it, rounded)."""
    log_costs, scores = _ideal_grid(task)
    prices = np.maximum(1, np.round(10**log_costs / budget * units)).astype(int)
    # area[i, b]: of the best staircase that begins at cost i and may still spend b, cost i included.
    area = np.full((len(scores), units + 1), -np.inf)
    for i in range(len(scores) - 1, -1, -1):
        if prices[i] > units:
            continue
        after = np.full(units + 1, scores[i] * (log_costs[-1] - log_costs[i]))
        if i + 1 < len(scores):
            steps = scores[i] * (log_costs[i + 1 :] - log_costs[i])
            after = np.maximum(after, (area[i + 1 :] + steps[:, None]).max(axis=0))
        area[i, prices[i] :] = after[: units + 1 - prices[i]]
    return float(area[:, units].max()) / task.ideal_area


def _ideal_grid(task: synthetic.Task) -> tuple[np.ndarray, np.ndarray]:
    log_costs = np.linspace(np.log10(task.cost_min), np.log10(task.cost_max), _GRID)
    return log_costs, task.ideal(10**log_costs)


def summarise(task: synthetic.Task, ours: list[Sweep], blind: list[Sweep], trials: int) -> list[Row]:
    """One row for each checkpoint."""
    rows = []
    perfect = perfect_by_trials(task, trials)
    for count in sorted({max(1, trials // 4), max(1, trials // 2), trials}):
        cut = [[task.share(s.costs[:count], s.scores[:count]) for s in sweeps] for sweeps in (ours, blind)]
        rows.append(_row(task, f"{count} trials", cut, perfect[count - 1]))
    for average in SPENT:
        budget = average * task.random_cost
        cut = [[task.share(*spent(s, budget)) for s in sweeps] for sweeps in (ours, blind)]
        rows.append(_row(task, f"cost {budget:.0f} s", cut, perfect_by_cost(task, budget)))
    return rows


def _row(task: synthetic.Task, checkpoint: str, cut: list[list[float]], perfect: float) -> Row:
    low, middle, high = (float(v) for v in np.quantile(cut[0], [0.25, 0.5, 0.75]))
    return Row(task.name, checkpoint, middle, low, high, float(np.median(cut[1])), perfect)


def spent(sweep: Sweep, budget: float) -> tuple[list[float], list[float]]:
    """Costs and scores of the trials that had finished when `budget` was spent."""
    count = int(np.searchsorted(np.cumsum(sweep.costs), budget, side="right"))
    return sweep.costs[:count], sweep.scores[:count]


def stalled(sweep: Sweep) -> bool:
    """Whether it never left the cheap end: after all its trials less than half of the ideal area."""
    return synthetic.task(sweep.task).share(sweep.costs, sweep.scores) < 0.5


def table(rows: list[Row], ours: dict[str, list[Sweep]]) -> list[str]:
    """The rows as text, then proposal times and stalls by task."""
    lines = [
        "",
        f"{'task':<17} {'after':<11} {'ours':>6} {'(quartiles)':>15} {'random':>7} {'perfect':>8}   "
        f"{'gap ours':>8} {'random':>7} {'ratio':>6}",
    ]
    for row in rows:
        lines.append(
            f"{row.task:<17} {row.checkpoint:<11} {row.ours:6.3f} ({row.low:6.3f} -{row.high:6.3f}) "
            f"{row.random:7.3f} {row.perfect:8.3f}   "
            f"{1 - row.ours:8.3f} {1 - row.random:7.3f} {row.ratio:6.2f}"
        )
    lines.append("")
    for name, sweeps in ours.items():
        times = [value for sweep in sweeps for value in sweep.milliseconds]
        still = sum(map(stalled, sweeps))
        lines.append(
            f"{name:<17} {np.median(times):.0f} ms of CPU a proposal (median), "
            f"{np.quantile(times, 0.95):.0f} ms (95 %); stalled at the cheap end: {still} of {len(sweeps)}"
        )
    return lines


def picture(task: synthetic.Task, ours: list[Sweep], blind: list[Sweep], path: Path) -> None:
    """The sweep of median share: scores over cost coloured by trial order; and what all sweeps spent."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = sorted(ours, key=lambda sweep: task.share(sweep.costs, sweep.scores))
    sweep = order[len(order) // 2]
    figure = Figure(figsize=(9.6, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    costs = np.geomspace(task.cost_min, task.cost_max, 200)
    left.plot(costs, task.ideal(costs), color="0.25", linewidth=1.5, label="ideal front", zorder=1)
    dots = left.scatter(
        sweep.costs, sweep.seen, c=np.arange(1, len(sweep.costs) + 1), cmap="viridis", s=26, zorder=2,
        edgecolors="white", linewidths=0.4, label="trials as seen",
    )  # fmt: skip
    figure.colorbar(dots, ax=left, label="trial number", pad=0.01)
    left.set(xscale="log", xlabel="cost of the trial (seconds)", ylabel="score (1 = best possible)")
    left.set_title(f"{task.name}, seed {sweep.seed}: the sweep of median share", fontsize=11)
    left.legend(loc="upper left", frameon=False)
    for sweeps, colour, name in ((blind, "0.7", "random search"), (ours, "tab:blue", "ours")):
        for i, one in enumerate(sweeps):
            label = name if i == 0 else None
            right.plot(
                np.arange(1, len(one.costs) + 1),
                np.cumsum(one.costs),
                color=colour,
                linewidth=0.9,
                label=label,
            )
    right.set(yscale="log", xlabel="trial number", ylabel="cost so far (seconds)")
    right.set_title("cumulative cost, all seeds", fontsize=11)
    right.legend(loc="lower right", frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path)
