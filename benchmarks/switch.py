"""What a switch does to settings that nobody has tuned: each is run with and without it.

    python -P benchmarks/switch.py examples/cartpole.yaml train.normalize_rewards=false [--settings 60]

A change that helps the one setting which was tuned for it says little. Here settings are drawn at random from
a config's parameters, uniform on their own scales and within its constraints. Each runs once as the config
has it and once with the fixed values given behind it, with the same seed; a run that fails counts as the
worst score of all. The difference is what the switch adds to the score, the mean over settings with its 95 %
interval; better and worse count the settings.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeper import objectives
from sweeper.config import SweepConfig, load
from sweeper.errors import ConfigError
from sweeper.executors import evaluate
from sweeper.verify import interval

SEED = 700_000  # of the first setting's run; every other's is one more


def run(config: SweepConfig, settings: Sequence[dict[str, Any]], workers: int) -> np.ndarray:
    """The score of each of `settings`, [n]; nan where a run failed."""
    config = config.model_copy(
        update={
            "objective": config.objective.model_copy(update={"seeds": 1}),
            "workers": config.workers.model_copy(update={"count": workers}),
        }
    )
    scores = np.full(len(settings), math.nan)
    jobs = [(params, SEED + number) for number, params in enumerate(settings)]
    with tempfile.TemporaryDirectory(prefix="sweep-switch-") as folder:
        for number, result in evaluate(config, jobs, Path(folder)):
            if result.status == "done" and result.score is not None:
                scores[number] = result.score
    return scores


def line(name: str, scores: np.ndarray, failed: int, reach: float | None, sign: float) -> str:
    """A row of the table: mean, quartiles, failures and the share that reached a score."""
    low, middle, high = np.percentile(scores, (25, 50, 75))
    reached = "" if reach is None else f"{np.mean(sign * scores >= sign * reach):.0%} | "
    numbers = " | ".join(f"{value:.4g}" for value in (scores.mean(), low, middle, high))
    return f"| {name} | {numbers} | {reached}{failed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", help="a sweep's config")
    parser.add_argument("switch", nargs="+", help="key=value: what is fixed, beside the config")
    parser.add_argument("--settings", type=int, default=60, help="drawn at random; 2 or more")
    parser.add_argument("--reach", type=float, help="count the settings that reach this score")
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    chosen = parser.parse_args()
    try:
        before, after = load(chosen.config), load(chosen.config, [f"fixed.{text}" for text in chosen.switch])
        after.space()
        objectives.make(after).check()
    except ConfigError as error:
        parser.error(str(error))
    space, generator = before.space(), np.random.default_rng(chosen.seed)
    units = space.sample(chosen.settings, generator)
    if len(units) < 2:
        parser.error(f"--settings {chosen.settings}: {len(units)} satisfy the constraints; 2 are needed")
    settings = [space.to_params(unit) for unit in units]
    arms = [
        run(config, [{**one, **config.fixed} for one in settings], chosen.workers)
        for config in (before, after)
    ]
    failed = [int(np.isnan(scores).sum()) for scores in arms]
    if sum(failed) == 2 * len(settings):
        raise SystemExit(f"all {sum(failed)} runs failed")
    sign = 1.0 if before.metric.goal == "maximize" else -1.0
    worst = sign * min(np.nanmin(sign * scores) for scores in arms if not np.isnan(scores).all())
    arms = [np.where(np.isnan(scores), worst, scores) for scores in arms]
    names = ["as it is", " ".join(chosen.switch)]
    print(f"{len(settings)} settings of {chosen.config}")
    reached = "" if chosen.reach is None else f"{chosen.reach:g} reached | "
    print(f"| | mean | 25 % | median | 75 % | {reached}failed |")
    print("|---|---|---|---|---|---|" + ("" if chosen.reach is None else "---|"))
    for name, scores, count in zip(names, arms, failed, strict=True):
        print(line(name, scores, count, chosen.reach, sign))
    change = arms[1] - arms[0]
    low, high = interval(list(change))
    better, worse = (int((sign * side * change > 0).sum()) for side in (1, -1))
    print(f"difference {change.mean():+.4g} ({low:+.4g} to {high:+.4g}), better {better}, worse {worse}")


if __name__ == "__main__":
    main()
