"""Makes the table of real trainings: random settings of our PPO on cart-pole, two seeds each.

    python -m benchmarks.proposer.ppo_table [--configs 2000] [--seeds 2] [--out FILE]

Each line is one training: its settings, its failure if any, and its curve as step:cost:score. Costs are
seconds of rollout and update on one core; where the processor was shared, wall seconds are brought down to
the process's own by the whole training's ratio. What the file holds already is not run again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proposer.tasks import CARTPOLE, CARTPOLE_CONSTRAINTS, CARTPOLE_FILE, CARTPOLE_FIXED
from sweeper.space import Space

HEADER = ("config", "seed", *CARTPOLE, "failure", "seconds", "curve")


def settings(configs: int) -> list[dict[str, Any]]:
    """So many random settings; the same for every run."""
    space = Space(CARTPOLE, CARTPOLE_CONSTRAINTS, {"train.horizon": CARTPOLE_FIXED["train.horizon"]})
    units = space.sample(configs, np.random.default_rng(20))
    return [_short(space.to_params(unit)) for unit in units]


def _short(params: dict[str, Any]) -> dict[str, Any]:
    """Four digits are enough, and the file is the smaller for it."""
    return {k: v if isinstance(v, int) else float(f"{v:.4g}") for k, v in params.items()}


def training(params: dict[str, Any], seed: int) -> tuple[str, float, str]:
    """(failure or "", seconds, curve) of one training."""
    from trainer import train
    from trainer.settings import Settings

    wall, cpu = time.perf_counter(), time.process_time()
    result = train(Settings.parse("cartpole", {**CARTPOLE_FIXED, **params}), seed=seed)
    own = min(1.0, (time.process_time() - cpu) / (time.perf_counter() - wall))
    curve = " ".join(f"{p.step}:{p.cost * own:.4g}:{p.score:.4g}" for p in result.points)
    return result.failure or "", result.seconds * own, curve


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CARTPOLE_FILE)
    chosen = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    lines: dict[tuple[int, int], list[Any]] = {}
    if chosen.out.exists():
        with gzip.open(chosen.out, "rt") as file:
            lines = {(int(row[0]), int(row[1])): row for row in list(csv.reader(file))[1:]}
    everything = settings(chosen.configs)
    training(everything[0], 0)  # compiles and warms up
    began = time.monotonic()
    for number, params in enumerate(everything):
        for seed in range(chosen.seeds):
            if (number, seed) not in lines:
                failure, seconds, curve = training(params, seed)
                lines[number, seed] = [number, seed, *params.values(), failure, f"{seconds:.4g}", curve]
        if number % 100 == 99 or number + 1 == len(everything):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerows([HEADER, *(lines[key] for key in sorted(lines))])
            chosen.out.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
            print(f"{number + 1} of {len(everything)} settings, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
