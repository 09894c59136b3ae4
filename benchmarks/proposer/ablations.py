"""Each ingredient of the proposer taken out, alone: what that costs.

`python -m benchmarks.proposer ablations` sweeps the open tasks with each of `WITHOUT` and prints, beside the
whole, the mean log of the gap (1 - share) over tasks and seeds at each checkpoint, less that of the whole:
+0.10 says that gaps are a tenth wider without. The standard error over the pairs stands behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.proposer.report import CHECKPOINTS, gap, share_at
from benchmarks.proposer.run import run_sweep
from sweeper import acquisition, models, parameter, proposer

NEVER = 10**9

# ingredient -> (module, attribute, value) that take it out
WITHOUT: dict[str, list[tuple[Any, str, Any]]] = {
    "the warp of scores": [(models, "_OFFSETS", (100.0, 100.0))],
    "the unknown level": [(models, "_LEVEL", 1e-6)],  # that of costs and success too
    "the discount of accidents": [(models.GaussianProcess, "_weigh", lambda self: None)],
    "the retry of fits": [(models, "_RETRIED", NEVER)],
    "draws in the retry of fits": [(models, "_DRAWS", 0)],
    "the width of success": [(models, "_WIDE", 1e-3)],
    "discoveries": [(models, "_DISCOVERY", 1e-300)],
    "collapses in success": [(models.GaussianProcess, "collapsed", lambda self: np.zeros(len(self.y)))],
    "variance in the rating": [
        (acquisition, "log_expected_improvement", lambda mean, sd, best: _lift(mean, 1e-3 * sd, best))
    ],
    "distance in the rating": [
        (acquisition.Acquisition, "distance", lambda self, log_cost: np.ones(len(log_cost)))
    ],
    "the price": [(acquisition.Acquisition, "price", lambda self, log_cost: np.zeros(len(log_cost)))],
    "the front's end in the price": [(acquisition.Acquisition, "price", lambda self, log_cost: log_cost)],
    "the probability of success": [
        (models.Models, "success_probability", lambda self, features: np.ones(len(features)))
    ],
    "the cap": [(acquisition, "LEAP", 100.0)],
    "the pruning of the front": [(acquisition, "PRUNE", 0.0)],
    "the search in the dark": [(acquisition, "EXPLAINED", -math.inf)],
    "repeats of a noisy end": [(acquisition, "SETTLE_FROM", NEVER)],
    "other categories": [(acquisition, "SWAP_EVERY", NEVER)],
    "probes": [(acquisition, "PROBE_SHARE", 0.0)],
    "whole numbers by chance": [(parameter.Parameter, "cell", lambda self, unit: np.zeros(len(unit)))],
    "refining candidates": [(acquisition, "_ROUNDS", 0)],
    "a design about the start values": [(proposer, "HOMEWARD", 0.0)],
    "the ladder at the cheap end": [(proposer, "LADDER", 1.0)],
}
_lift = acquisition.log_expected_improvement


@contextmanager
def without(ingredient: str) -> Iterator[None]:
    with ExitStack() as stack:
        for where, name, value in WITHOUT[ingredient]:
            stack.enter_context(patch.object(where, name, value))
        yield


def gaps(tasks: Sequence[str], seeds: Sequence[int], trials: int) -> np.ndarray:
    """Log gaps [tasks x seeds, checkpoints]; nan where a sweep did not get that far."""
    rows = []
    for name in tasks:
        for seed in seeds:
            sweep = run_sweep(name, "ours", seed, trials)
            shares = [share_at(sweep, checkpoint) for checkpoint in CHECKPOINTS]
            rows.append([math.nan if share is None else math.log(gap(share)) for share in shares])
    return np.array(rows)


def table(
    tasks: Sequence[str],
    seeds: Sequence[int],
    trials: int,
    echo: Callable[[str], Any],
    ingredients: Sequence[str] = tuple(WITHOUT),
) -> None:
    """Prints a Markdown table, line by line as they come."""
    names = [name for name, size in CHECKPOINTS if not name.endswith("trials") or size <= trials]
    whole = gaps(tasks, seeds, trials)[:, : len(names)]
    echo(f"{len(tasks)} tasks ({', '.join(tasks)}), {len(seeds)} seeds each")
    echo("| without | " + " | ".join(names) + " |")
    echo("|---|" + "---|" * len(names))
    for ingredient in ingredients:
        with without(ingredient):
            wider = gaps(tasks, seeds, trials)[:, : len(names)] - whole
        echo(f"| {ingredient} | " + " | ".join(_cell(column) for column in wider.T) + " |")


def _cell(wider: np.ndarray) -> str:
    """Mean and standard error of the pairs there are."""
    pairs = wider[np.isfinite(wider)]
    return f"{pairs.mean():+.2f} ({pairs.std() / np.sqrt(len(pairs)):.2f})" if len(pairs) else "-"
