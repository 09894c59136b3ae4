"""What a sweep of Breakout found, beside PufferLib's published settings: both trained anew, by our trainer.

    sweep run examples/breakout.yaml
    python -P benchmarks/breakout.py runs/breakout [--workers 2] [--seeds 3] [--steps 1e6 2e6 ...]

PufferLib's settings for Breakout are those of its configs, found by its own sweeps for 90 million steps. They
are trained at each of --steps, each time from the start with the whole schedule of their learning rate. Every
setting on the front of the run is trained again too, so that none is on it by luck. Each training has a seed
of its own, which the sweep has not seen: with the same few, neighbours on the front would have their luck in
common. Trainings that fail count as 0 points. Seconds are the trainer's: processor seconds of rollout and
update on one core.

At the cost of each of PufferLib's points stands the setting which the front named for it before it was
trained again: the dearest that costs no more. Writes the table and the picture, which say how they were made.

What differs: the learning rate falls linearly here, as a cosine there; the policy has no recurrent layer,
which made a step of 3.0's ten times as dear; 4.0 replays 1.42 times a rollout, in six updates here; the
second beta and the epsilon of its optimisers are not settings of ours.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sweeper import plots
from sweeper.config import SweepConfig, restore
from sweeper.executors import evaluate
from sweeper.loop import rebuild
from sweeper.store import Store, StoreError
from sweeper.verify import FIRST_SEED, interval

ROOT = Path(__file__).resolve().parents[1]
STEPS = [1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6]
BEST = 864.0  # points of the game
_BOTH = {
    "train.anneal_lr": True,
    "train.anneal_beta": True,
    "train.recompute_advantages": True,
    "train.normalize_rewards": False,
}
PUFFERLIB: dict[str, dict[str, Any]] = {
    "PufferLib 3.0": {  # pufferlib/config/ocean/breakout.ini, over default.ini
        **_BOTH,
        "train.num_envs": 8192,
        "train.horizon": 64,
        "train.minibatch_size": 32_768,
        "train.updates": 16,  # one epoch
        "train.optimizer": "muon",
        "train.learning_rate": 0.04448,
        "train.momentum": 0.8946,
        "train.gamma": 0.999705,
        "train.gae_lambda": 0.74765,
        "train.clip_coef": 0.19697,
        "train.vf_coef": 1.6833,
        "train.vf_clip_coef": 2.1785,
        "train.ent_coef": 0.00056908,
        "train.max_grad_norm": 2.2356,
        "train.rho_clip": 0.78767,
        "train.c_clip": 2.8782,
        "train.prio_alpha": 0.98967,
        "train.prio_beta0": 0.1,
        "policy.hidden": 128,
        "policy.layers": 1,
    },
    "PufferLib 4.0": {  # config/breakout.ini, over default.ini
        **_BOTH,
        "train.num_envs": 4096,
        "train.horizon": 64,
        "train.minibatch_size": 65_536,
        "train.updates": 6,
        "train.optimizer": "muon",
        "train.learning_rate": 0.1,
        "train.momentum": 0.72797,
        "train.gamma": 0.972125,
        "train.gae_lambda": 0.94872,
        "train.clip_coef": 0.67465,
        "train.vf_coef": 1.21955,
        "train.vf_clip_coef": 1.22917,
        "train.ent_coef": 0.0033241,
        "train.max_grad_norm": 1.81092,
        "train.rho_clip": 2.1017,
        "train.c_clip": 1.08304,
        "train.prio_alpha": 0.1,
        "train.prio_beta0": 0.82472,
        "policy.hidden": 64,
        "policy.layers": 2,
    },
}
COLOURS = {"PufferLib 3.0": "#c2410c", "PufferLib 4.0": "#a16207"}
FRONT = "#1d4ed8"


@dataclass
class Entry:
    """One setting, and what its trainings came to."""

    name: str
    params: dict[str, Any]
    believed: float | None = None  # the score that the sweep promised
    scores: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    @property
    def score(self) -> float:
        return statistics.mean(self.scores)

    @property
    def cost(self) -> float:
        return statistics.mean(self.costs)

    @property
    def ends(self) -> tuple[float, float]:
        """The 95 % interval of the mean."""
        return interval(self.scores)

    def told(self) -> str:
        low, high = self.ends
        return f"{self.score:.1f} ({low:.1f} to {high:.1f})"


def read(folder: Path) -> tuple[SweepConfig, list[Entry]]:
    """The config of a run of Breakout and its front, cheapest first. ValueError says what it is instead."""
    with Store.open(folder, readonly=True) as store:
        config = restore(store.settings(), folder=folder, source=store.config_text(), file="config.yaml")
        if (config.objective.kind, config.objective.target) != ("train", "breakout"):
            raise ValueError(f"{folder} is a run of {config.objective.target}, not of breakout")
        if config.cost.name != "seconds":
            raise ValueError(f"{folder} has its cost in {config.cost.name}, not in seconds")
        front = rebuild(store).front()
    if not front:
        raise ValueError(f"{folder} has no front yet: none of its trials has finished")
    return config, [
        Entry(f"trial {member.trial}", {**config.fixed, **member.params}, member.score) for member in front
    ]


def train(config: SweepConfig, entries: Sequence[Entry], seeds: int, workers: int) -> None:
    """Trains every entry with fresh seeds of its own, one process a core, and says what came of each."""
    first = FIRST_SEED + 1000 * (config.seed % 1_000_000)
    config = config.model_copy(
        update={
            "objective": config.objective.model_copy(update={"seeds": 1}),
            "workers": config.workers.model_copy(update={"count": workers, "timeout": None}),
            "fixed": {},
        }
    )
    jobs = [(entry, first + number) for number, entry in enumerate(seeds * list(entries))]
    with tempfile.TemporaryDirectory(prefix="sweep-breakout-") as folder:
        runs = evaluate(config, [(entry.params, seed) for entry, seed in jobs], Path(folder))
        for ended, (number, result) in enumerate(runs, 1):
            entry, seed = jobs[number]
            if result.status == "killed" or result.cost is None:
                raise SystemExit(f"{entry.name}, seed {seed}: {result.status}, {result.message}")
            entry.scores.append(result.score if result.status == "done" and result.score is not None else 0.0)
            entry.costs.append(result.cost)
            said = f"{entry.scores[-1]:.1f} for {result.cost:.2f} s {result.failure or ''}".rstrip()
            print(f"{ended} of {len(jobs)}: {entry.name}, seed {seed}: {said}", flush=True)


def affordable(front: Sequence[Entry], cost: float) -> Entry | None:
    """The setting that the front names for a cost: the last one that costs no more."""
    return next((entry for entry in reversed(front) if entry.cost <= cost), None)


def exceeds(theirs: Entry, ours: Entry | None) -> bool:
    """Whether their mean lies above ours by more than their interval."""
    return ours is None or theirs.ends[0] > ours.score


def table(front: Sequence[Entry], theirs: dict[str, list[Entry]]) -> list[str]:
    """Lines of Markdown: PufferLib's points with what the front buys for their cost, and the whole front."""
    lines = [
        "| | steps | score (95 % interval) | seconds "
        "| the front's setting for that | its score | its seconds | exceeds the front |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entries in theirs.items():
        for entry in entries:
            ours = affordable(front, entry.cost)
            named = f"{ours.name} | {ours.told()} | {ours.cost:.2f}" if ours else "none | | "
            lines.append(
                f"| {name} | {entry.params['train.total_timesteps']:,} | {entry.told()} | {entry.cost:.2f} "
                f"| {named} | {'**yes**' if exceeds(entry, ours) else 'no'} |"
            )
    lines += [
        "",
        "| the front | steps | the sweep's score | trained again | seconds |",
        "|---|---|---|---|---|",
    ]
    for entry in front:
        steps = entry.params["train.total_timesteps"]
        lines.append(
            f"| {entry.name} | {steps:,} | {entry.believed:.1f} | {entry.told()} | {entry.cost:.2f} |"
        )
    return lines


def draw(path: Path, front: Sequence[Entry], theirs: dict[str, list[Entry]], seeds: int) -> None:
    """The picture: score over the logarithm of the seconds, each mean with its interval."""
    figure = Figure(figsize=plots.SIZE, dpi=plots.DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.095, 0.135, 0.87, 0.69))
    plots.style(axes)
    every = [*front, *itertools.chain(*theirs.values())]
    plots._cost_limits(axes, [entry.cost for entry in every], "seconds")
    axes.set_ylim(-35, BEST + 45)
    axes.set_xlabel("processor seconds of training on one core (log scale)", labelpad=5)
    axes.set_ylabel("points of the game", labelpad=6)
    axes.axhline(BEST, color=plots.GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(axes.get_xlim()[0], BEST + 8, f" {BEST:g}: every brick", size=8.5, color=plots.GREY)
    curves = {"the sweep's front": (front, FRONT, "o")}
    curves |= {f"{name}'s settings": (entries, COLOURS[name], "s") for name, entries in theirs.items()}
    for label, (entries, colour, marker) in curves.items():
        ordered = sorted(entries, key=lambda entry: entry.cost)
        costs, scores = [entry.cost for entry in ordered], [entry.score for entry in ordered]
        ends = [entry.ends for entry in ordered]
        errors = [
            [score - max(low, 0.0) for score, (low, _) in zip(scores, ends, strict=True)],
            [min(high, BEST) - score for score, (_, high) in zip(scores, ends, strict=True)],
        ]
        axes.errorbar(
            costs, scores, errors, color=colour, marker=marker, markersize=4.5, linewidth=1.4,
            elinewidth=1.0, capsize=2.5, label=label, zorder=3 if entries is front else 2,
        )  # fmt: skip
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.012, 1.0), ncols=3, frameon=False, fontsize=9.5,
        labelcolor=plots.GREY, handletextpad=0.5, columnspacing=1.4, borderaxespad=0.1,
    )  # fmt: skip
    figure.text(
        0.022, 0.945, "Breakout: what training buys", size=16, weight="bold", color=plots.INK, va="center"
    )
    note = f"mean and 95 % interval of {seeds} fresh seeds"
    figure.text(0.978, 0.945, note, size=10.5, color=plots.GREY, ha="right", va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=plots.DPI, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="the folder of a run of examples/breakout.yaml")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, each on one core")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each setting, 2 or more")
    parser.add_argument(
        "--steps", type=float, nargs="+", default=STEPS, help="at which PufferLib's are trained"
    )
    parser.add_argument("--table", type=Path, default=ROOT / "benchmarks" / "breakout.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "breakout.png")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds {arguments.seeds}: one training has no interval; give 2 or more")
    if arguments.workers < 1:
        parser.error(f"--workers {arguments.workers}: nothing would be trained; give 1 or more")
    try:
        config, front = read(arguments.run)
    except (StoreError, ValueError) as error:
        parser.error(str(error))
    theirs = {
        name: [Entry(f"{name} at {steps:,.0f}", {**settings, "train.total_timesteps": int(steps)})
               for steps in arguments.steps]
        for name, settings in PUFFERLIB.items()
    }  # fmt: skip
    load = os.getloadavg()[0]
    train(config, [*front, *itertools.chain(*theirs.values())], arguments.seeds, arguments.workers)
    said = table(front, theirs)
    head = [
        "# Breakout: the sweep's front beside PufferLib's published settings",
        "",
        f"`python -P benchmarks/breakout.py {' '.join(sys.argv[1:])}` on {time.strftime('%Y-%m-%d')}: "
        f"{arguments.workers} trainings at once on {os.cpu_count()} cores, "
        f"whose load was {load:.1f} when it began. "
        "How it is measured stands at the head of [breakout.py](breakout.py).",
        "",
    ]
    arguments.table.write_text("\n".join([*head, *said, ""]))
    draw(arguments.picture, front, theirs, arguments.seeds)
    print("\n".join(said))
    beaten = sum(exceeds(e, affordable(front, e.cost)) for entries in theirs.values() for e in entries)
    print(f"\nof {len(PUFFERLIB) * len(arguments.steps)} points of PufferLib's, {beaten} exceed the front")
    print(f"table {arguments.table}, picture {arguments.picture}")


if __name__ == "__main__":
    main()
