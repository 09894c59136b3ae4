"""The table and the pictures of what `run` has kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proposer.proposers import CURVES, PEERS, PROPOSERS
from benchmarks.proposer.run import Sweep, read
from benchmarks.proposer.tasks import SPENT, Task, task
from sweeper import bench

COUNTS = (25, 50, 100)
SPENT_NAMES = ("small", "middle", "large")
CHECKPOINTS: list[tuple[str, float]] = [
    *((f"{name} cost", average) for name, average in zip(SPENT_NAMES, SPENT, strict=True)),
    *((f"{count} trials", float(count)) for count in COUNTS),
]
LEAST_GAP = 1e-3  # below it two gaps are alike, and no ratio is taken further
GOAL, WORST = 0.5, 1.0  # ratios beyond which a cell falls short
LEAST_SEEDS = 5  # of a peer on a task, to stand in its ratios; how many reach a checkpoint is no matter
RESAMPLES = 1000
Found = dict[str, dict[str, list[Sweep]]]  # proposer -> task -> sweeps


def load(folders: Sequence[Path], tasks: Sequence[str]) -> Found:
    """The sweeps by proposer and task; a proposer's are those of the last folder that has any."""
    found: Found = {}
    for name in PROPOSERS:
        for folder in folders:
            sweeps = [sweep for sweep in read(folder, name) if sweep.task in tasks]
            if sweeps:
                found[name] = {}
                for sweep in sorted(sweeps, key=lambda s: s.seed):
                    found[name].setdefault(sweep.task, []).append(sweep)
    return found


def share_at(sweep: Sweep, checkpoint: tuple[str, float]) -> float | None:
    """The share of the ideal area at a checkpoint; None where the sweep did not get there.

    A sweep of the full count of trials that has not spent a cost has its last share there.
    """
    one, (name, size) = task(sweep.task), checkpoint
    if name.endswith("trials"):
        count = int(size)
        if len(sweep.costs) < count:
            return None
    else:
        spent = np.cumsum(sweep.costs)
        budget = size * one.random_cost
        if spent[-1] < budget and len(sweep.costs) < COUNTS[-1]:
            return None
        count = int(np.searchsorted(spent, budget, side="right"))
    return share_of(sweep, one, count)


def share_of(sweep: Sweep, one: Task, count: int) -> float:
    """The share after `count` trials; failures count for nothing, curves where they are to."""
    if sweep.shares:
        return sweep.shares[count - 1] if count else 0.0
    costs, scores = np.array(sweep.costs[:count]), np.array(sweep.scores[:count])
    done = np.isfinite(scores)
    return one.share(costs[done], scores[done])


class _Lifted:
    """A task as the perfect chooser of `sweeper.bench` sees it: heights above the floor."""

    def __init__(self, one: Task) -> None:
        self.one = one
        self.cost_min, self.cost_max, self.ideal_area = one.cost_min, one.cost_max, one.ideal_area

    def ideal(self, costs: np.ndarray) -> np.ndarray:
        return self.one.heights(costs)


@cache
def perfect(name: str, checkpoint: tuple[str, float]) -> float:
    """The share that a chooser who knows the task reaches at best."""
    one = task(name)
    if one.flat:
        return 1.0
    lifted: Any = _Lifted(one)
    if checkpoint[0].endswith("trials"):
        return bench.perfect_by_trials(lifted, int(checkpoint[1]))[-1]
    return bench.perfect_by_cost(lifted, checkpoint[1] * one.random_cost)


Cells = dict[tuple[str, str, str], np.ndarray]  # (proposer, task, checkpoint's name) -> shares by seed


def cells(found: Found) -> Cells:
    """Of a peer whose sweeps end early, those that got there or all of them, whichever looks better.

    Who gets there is no random choice: it is who spent little. What an ended sweep had is the least that it
    would have had.
    """
    made: Cells = {}
    for proposer, by_task in found.items():
        for name, sweeps in by_task.items():
            ended = np.array([share_of(sweep, task(name), len(sweep.costs)) for sweep in sweeps])
            for checkpoint in CHECKPOINTS:
                at = [share_at(sweep, checkpoint) for sweep in sweeps]
                got_there = np.array([share is not None for share in at])
                if got_there.any():
                    shares = np.array(at, float)
                    reached, least = shares[got_there], np.where(got_there, shares, ended)
                    better = np.median(least) > np.median(reached)
                    made[proposer, name, checkpoint[0]] = least if better else reached
    return made


def gap(share: float) -> float:
    return max(1 - share, LEAST_GAP)


def best_peer(
    made: Cells, ours: str, name: str, checkpoint: str, median: Callable[[np.ndarray], float]
) -> tuple[str, float]:
    """The peer of the highest median share there, of those with enough seeds; ("", nan) without any.

    One whose curves count stands only beside ours whose curves count.
    """
    all_reach = CHECKPOINTS[0][0]
    shares = {
        peer: median(made[peer, name, checkpoint])
        for peer in PEERS
        if (peer, name, checkpoint) in made
        and len(made.get((peer, name, all_reach), ())) >= LEAST_SEEDS
        and (ours.endswith(CURVES) or not peer.endswith(CURVES))
    }
    if not shares:
        return "", math.nan
    best = max(shares, key=lambda peer: shares[peer])
    return best, shares[best]


def blind(made: Cells, ours: str, name: str, checkpoint: str) -> np.ndarray | None:
    """Random search's shares, with its curves where ours count."""
    without = made.get(("random", name, checkpoint))
    return made.get(("random" + CURVES, name, checkpoint), without) if ours.endswith(CURVES) else without


def ratio(
    made: Cells, ours: str, name: str, checkpoint: str, against: str,
    median: Callable[[np.ndarray], float] = lambda shares: float(np.median(shares)),
) -> float:  # fmt: skip
    """Our gap over the best peer's (`against` "peer") or random's; nan where one is missing."""
    if (ours, name, checkpoint) not in made:
        return math.nan
    if against == "peer":
        theirs = best_peer(made, ours, name, checkpoint, median)[1]
    else:
        shares = blind(made, ours, name, checkpoint)
        theirs = math.nan if shares is None else median(shares)
    return gap(median(made[ours, name, checkpoint])) / gap(theirs) if math.isfinite(theirs) else math.nan


def summary(
    made: Cells, ours: str, names: Sequence[str], checkpoint: str, against: str
) -> tuple[float, float, float, int]:
    """Geometric mean of the ratios with a 95 % interval over tasks and seeds, and how many tasks it holds.

    Each resample draws tasks, and seeds within them for ours and theirs; the best peer is chosen anew.
    """
    ratios = {name: ratio(made, ours, name, checkpoint, against) for name in names}
    kept = [name for name in names if math.isfinite(ratios[name])]
    if not kept:
        return math.nan, math.nan, math.nan, 0
    middle = math.exp(np.mean([math.log(ratios[name]) for name in kept]))
    generator = np.random.default_rng(0)

    def redrawn(shares: np.ndarray) -> float:
        return float(np.median(generator.choice(shares, len(shares))))

    drawn = []
    for _ in range(RESAMPLES):
        tasks = generator.choice(kept, len(kept))
        logs = [math.log(ratio(made, ours, str(name), checkpoint, against, redrawn)) for name in tasks]
        drawn.append(math.exp(np.mean(logs)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return middle, float(low), float(high), len(kept)


# -- the table -----------------------------------------------------------------------------------------


def table(folders: Sequence[Path], tasks: Sequence[str], out: Path) -> list[Path]:
    """Writes RESULTS.md; prints its summary."""
    found = load(folders, tasks)
    if not found:
        raise SystemExit(f"no results in {', '.join(map(str, folders))}: `run` comes first")
    names = [name for name in tasks if any(name in by_task for by_task in found.values())]
    made = cells(found)
    here = [name for name in PROPOSERS if name in found]
    mine: list[str] = [name for name in ("ours", "ours-curves") if name in found]
    lines = ["# Proposers side by side", "", *_preamble(), ""]
    brief = _summaries(made, mine, names)
    print("\n".join(brief))
    lines += brief
    for name, _ in CHECKPOINTS:
        lines += _one_table(made, here, mine, names, name)
    lines += _short(made, mine, names)
    lines += _times(found, here)
    path = out / "RESULTS.md"
    path.write_text("\n".join(lines) + "\n")
    return [path]


def _preamble() -> list[str]:
    averages = ", ".join(f"{average:g}" for average in SPENT)
    return [
        "Written by `python -m benchmarks.proposer table` from the CSV files beside it.",
        "",
        "- Share of the area under the ideal front (score over log10 cost, noise-free truth) that lies under "
        "the staircase of the trials so far: median over seeds, quartiles in brackets, then how many seeds "
        "stand behind it. `-`: not run so far.",
        f"- Small, middle and large cost: {averages} average random trials, failures at what they cost.",
        "- `perfect`: the best that a chooser who knows the task could do.",
        "- A ratio is the gap (1 - share) of one median over that of another, both gaps at least "
        f"{LEAST_GAP:g}. `peer` is the best of that very cell; who has fewer than {LEAST_SEEDS} seeds of a "
        "task is shown and is no peer yet.",
        "- Sweeps of slow peers end once the large cost is spent. In columns of trials stand the seeds that "
        "got there or, if that is better for the peer, all of them, the others with what they had in the "
        "end, which is the least that they would have had.",
        "- Names that end in -curves: where a task's curves are honest each of their points counts as the "
        "result of a shorter trial (not of the table of real trainings, whose ideal front is made of "
        "ends). Ours learns from them, the others do not; Protein, GPSampler, BoTorch and HEBO stand "
        "beside `ours-curves` by the ends of their trials alone.",
        "- Tasks marked * are held out: nothing was chosen on them.",
    ]


def _shown(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _marked(name: str) -> str:
    return name + ("*" if task(name).held_out else "")


def _summaries(made: Cells, mine: list[str], names: list[str]) -> list[str]:
    lines = ["## Geometric mean of the gap ratios, with 95 % bootstrap intervals over tasks and seeds", ""]
    lines += ["| ours | tasks | against | " + " | ".join(name for name, _ in CHECKPOINTS) + " |"]
    lines += ["|---" * (3 + len(CHECKPOINTS)) + "|"]
    groups = [
        ("all", names),
        ("open", [name for name in names if not task(name).held_out]),
        ("held out", [name for name in names if task(name).held_out]),
    ]
    for ours in mine:
        for label, chosen in groups:
            if ours == "ours-curves":
                chosen = [name for name in chosen if task(name).fidelity is not None]
            for against in ("peer", "random"):
                row = []
                for name, _ in CHECKPOINTS:
                    middle, low, high, count = summary(made, ours, chosen, name, against)
                    row.append(f"{middle:.2f} ({low:.2f}-{high:.2f}), {count}" if count else "-")
                lines.append(f"| {ours} | {label} | best {against} | ".replace("best random", "random")
                             + " | ".join(row) + " |")  # fmt: skip
    return [
        *lines,
        "",
        "After the comma: the number of tasks. With curves only tasks whose curves are honest.",
        "",
    ]


def _one_table(made: Cells, here: list[str], mine: list[str], names: list[str], checkpoint: str) -> list[str]:
    lines = [f"## After {checkpoint}", ""]
    heads = [f"{ours} / {against}" for ours in mine for against in ("peer", "random")]
    lines.append("| task | " + " | ".join([*here, "perfect", "best peer", *heads]) + " |")
    lines.append("|---" * (len(here) + 3 + len(heads)) + "|")
    size = dict(CHECKPOINTS)[checkpoint]
    for name in names:
        row = []
        for proposer in here:
            shares = made.get((proposer, name, checkpoint))
            if shares is None:
                row.append("-")
                continue
            low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75])
            row.append(f"{middle:.3f} ({low:.2f}-{high:.2f}) {len(shares)}")
        row.append(f"{perfect(name, (checkpoint, size)):.3f}")
        row.append(
            best_peer(made, "ours", name, checkpoint, lambda shares: float(np.median(shares)))[0] or "-"
        )
        for ours in mine:
            row += [_shown(ratio(made, ours, name, checkpoint, against)) for against in ("peer", "random")]
        lines.append(f"| {_marked(name)} | " + " | ".join(row) + " |")
    return [*lines, ""]


def _short(made: Cells, mine: list[str], names: list[str]) -> list[str]:
    """Cells that fall short of the goal, and seeds of ours below random's median."""
    lines = ["## Cells that fall short", ""]
    for ours in mine:
        worse, over, below = [], [], []
        for checkpoint, _ in CHECKPOINTS:
            for name in names:
                against = ratio(made, ours, name, checkpoint, "peer")
                where = f"{_marked(name)} at {checkpoint}"
                if against > WORST:
                    worse.append((against, f"{where} ({against:.2f})"))
                elif against > GOAL:
                    over.append((against, f"{where} ({against:.2f})"))
                shares, random = made.get((ours, name, checkpoint)), blind(made, ours, name, checkpoint)
                if shares is None or random is None:
                    continue
                count = int((shares < np.median(random)).sum())
                if count:
                    below.append((count / len(shares), f"{where} ({count} of {len(shares)})"))
        for title, entries in (
            (f"ratio to the best peer above {WORST:g}", worse),
            (f"ratio above {GOAL:g}", over),
            ("seeds below random's median", below),
        ):
            shown = "; ".join(text for _, text in sorted(entries, reverse=True)) or "none"
            lines.append(f"- {ours}, {title}: {len(entries)} cells. {shown}")
    return [*lines, ""]


def _times(found: Found, here: list[str]) -> list[str]:
    lines = ["## CPU milliseconds a proposal (ask and tell, medians over tasks and seeds)", ""]
    lines += ["On whatever machines ran the sweeps, of which some are three times as fast as others.", ""]
    lines += ["| proposer | " + " | ".join(f"at {count} trials" for count in COUNTS) + " | sweeps |"]
    lines += ["|---" * (2 + len(COUNTS)) + "|"]
    for name in here:
        sweeps = [sweep for by_task in found[name].values() for sweep in by_task]
        row = []
        for count in COUNTS:
            near = [ms for s in sweeps if len(s.costs) >= count for ms in s.milliseconds[count - 4 : count]]
            row.append(f"{np.median(near):.3g}" if near else "-")
        lines.append(f"| {name} | " + " | ".join(row) + f" | {len(sweeps)} |")
    return [*lines, ""]


# -- the pictures --------------------------------------------------------------------------------------

COLOURS = {
    "ours": "#0b5fa5", "ours-curves": "#17a2c4", "random": "#9a9a9a", "genetic": "#b08b57",
    "protein": "#d97706", "tpe": "#2f9e44", "gpsampler": "#8bc34a", "botorch": "#c2255c", "hebo": "#7048c8",
    "random-curves": "#c9c9c9", "genetic-curves": "#d9c7ad", "tpe-curves": "#8fd19e",
}  # fmt: skip
BAND = ("ours", "ours-curves")  # quartiles are drawn for these; bands of all would hide one another


def plot(folders: Sequence[Path], tasks: Sequence[str], out: Path) -> list[Path]:
    """Two pictures of small multiples: share against spent cost, and against trials."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = load(folders, tasks)
    names = [name for name in tasks if any(name in by_task for by_task in found.values())]
    if not names:
        raise SystemExit(f"no results in {', '.join(map(str, folders))}: `run` comes first")
    curves = {
        (proposer, sweep.task, sweep.seed): _shares(sweep)
        for proposer, by_task in found.items()
        for sweeps in by_task.values()
        for sweep in sweeps
    }
    columns = min(5, len(names))
    rows = math.ceil(len(names) / columns)
    paths = []
    for kind in ("cost", "trials"):
        figure = Figure(figsize=(3.3 * columns, 2.5 * rows + 0.7), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        handles = {}
        for panel, name in zip(axes, names, strict=False):
            one = task(name)
            for proposer in [*(p for p in found if p not in BAND), *(p for p in BAND if p in found)]:
                sweeps = found[proposer].get(name, [])
                if not sweeps:
                    continue
                drawn = _lines(kind, one, [(sweep, curves[proposer, name, sweep.seed]) for sweep in sweeps])
                if drawn is None:
                    continue
                x, low, middle, high = drawn
                colour, front = COLOURS[proposer], proposer in BAND
                (handles[proposer],) = panel.plot(
                    x, middle, color=colour, linewidth=2.0 if front else 1.2, zorder=3 if front else 2
                )
                panel.fill_between(x, low, high, color=colour, alpha=0.22 if front else 0.07, linewidth=0)
            panel.set_title(_marked(name), fontsize=10)
            panel.set_ylim(0, 1.02)
            if kind == "cost":
                panel.set_xscale("log")
                for average in SPENT:
                    panel.axvline(average, color="0.8", linewidth=0.7, zorder=0)
            else:
                for count in COUNTS:
                    panel.axvline(count, color="0.8", linewidth=0.7, zorder=0)
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=8)
        for panel in axes[len(names) :]:
            panel.set_axis_off()
        figure.supxlabel("spent cost (average random trials)" if kind == "cost" else "trials", fontsize=11)
        figure.supylabel("share of the ideal area (median, quartiles)", fontsize=11)
        order = [name for name in PROPOSERS if name in handles]
        figure.legend(
            [handles[name] for name in order],
            order,
            loc="outside upper center",
            ncols=len(order),
            frameon=False,
        )
        paths.append(out / f"share-{kind}.png")
        figure.savefig(paths[-1])
    return paths


def _shares(sweep: Sweep) -> np.ndarray:
    """The share after 1, 2, ... trials."""
    one, shares, last = task(sweep.task), [], (0, 0.0)
    for count in range(1, len(sweep.costs) + 1):
        if math.isfinite(sweep.scores[count - 1]):
            last = (count, share_of(sweep, one, count))
        shares.append(last[1])
    return np.array(shares)


def _lines(
    kind: str, one: Task, sweeps: list[tuple[Sweep, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """x, lower quartile, median, upper quartile; only as far as every sweep goes."""
    if kind == "trials":
        length = min(len(shares) for _, shares in sweeps)
        x = np.arange(1, length + 1).astype(float)
        stacked = np.stack([shares[:length] for _, shares in sweeps])
    else:
        spent = [np.cumsum(sweep.costs) / one.random_cost for sweep, _ in sweeps]
        ends = [s[-1] if len(s) < COUNTS[-1] else math.inf for s in spent]  # whole sweeps keep their last
        end = min(min(ends), max(float(s[-1]) for s in spent), 4 * SPENT[-1])
        if end <= 0.1:
            return None
        x = np.geomspace(0.1, end, 120)
        stacked = np.stack([
            np.concatenate([[0.0], shares])[np.searchsorted(s, x, side="right")]
            for s, (_, shares) in zip(spent, sweeps, strict=True)
        ])  # fmt: skip
    low, middle, high = np.quantile(stacked, [0.25, 0.5, 0.75], axis=0)
    return x, low, middle, high
