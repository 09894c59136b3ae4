"""Where every trial costs the same: how far the best of so many trials is from the best there is.

    python -P benchmarks/same_cost.py                             # ours and random search
    peers/bin/python -P benchmarks/same_cost.py --who gp,tpe      # Optuna's samplers, see proposer/README.md

Known functions on the unit box (Hartmann 1973; Branin 1972; Ackley 1987, its optimum off the middle;
Rosenbrock 1960; a bell in ten dimensions), scores without noise and with normal noise of a tenth of the sd of
random scores. Medians over the seeds, judged without noise. Optuna gets one objective, all else as it comes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_SCALES = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(x: np.ndarray) -> float:
    return float(_WEIGHTS @ np.exp(-(_SCALES * (x - _CENTRES) ** 2).sum(axis=1)))


def branin(x: np.ndarray) -> float:
    a, b = 15 * x[0] - 5, 15 * x[1]
    valley = b - 5.1 / (4 * math.pi**2) * a * a + 5 / math.pi * a - 6
    return -float(valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10)


def ackley(x: np.ndarray) -> float:
    z = 40 * (x - 0.37)
    hills = math.exp(float(np.cos(2 * math.pi * z).mean()))
    return 20 * math.exp(-0.2 * math.sqrt(float((z**2).mean()))) + hills - 20 - math.e


def rosenbrock(x: np.ndarray) -> float:
    z = 3 * x - 1
    return -float((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum())


def bell(x: np.ndarray) -> float:
    return math.exp(-0.5 * float((((x - np.linspace(0.2, 0.8, len(x))) / 0.25) ** 2).sum()))


# name -> (function, dimensions, its best)
FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], float], int, float]] = {
    "hartmann": (hartmann, 6, 3.32237),
    "branin": (branin, 2, -0.397887),
    "ackley": (ackley, 5, 0.0),
    "rosenbrock": (rosenbrock, 4, 0.0),
    "bell": (bell, 10, 1.0),
}


class Ours:
    def __init__(self, dim: int, seed: int) -> None:
        from sweeper import Sweeper  # not above: the peers' environment has it not

        self.tuner = Sweeper({f"x{i}": {"min": 0.0, "max": 1.0} for i in range(dim)}, seed=seed)

    def ask(self) -> np.ndarray:
        self.trial = self.tuner.ask()
        return np.array(list(self.trial.params.values()))

    def tell(self, score: float) -> None:
        self.tuner.tell(self.trial, score=score, cost=1.0)


class Random:
    def __init__(self, dim: int, seed: int) -> None:
        self.dim, self.generator = dim, np.random.default_rng([seed, 1])

    def ask(self) -> np.ndarray:
        return self.generator.random(self.dim)

    def tell(self, score: float) -> None:
        pass


class Optuna:
    def __init__(self, dim: int, seed: int, sampler: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if sampler == "gp":
            chosen: Any = optuna.samplers.GPSampler(seed=seed)
        else:
            chosen = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        self.dim, self.study = dim, optuna.create_study(direction="maximize", sampler=chosen)

    def ask(self) -> np.ndarray:
        self.trial = self.study.ask()
        return np.array([self.trial.suggest_float(f"x{i}", 0, 1) for i in range(self.dim)])

    def tell(self, score: float) -> None:
        self.study.tell(self.trial, score)


WHO: dict[str, Callable[[int, int], Any]] = {
    "ours": Ours,
    "random": Random,
    "gp": lambda dim, seed: Optuna(dim, seed, "gp"),
    "tpe": lambda dim, seed: Optuna(dim, seed, "tpe"),
}


def gaps(who: str, name: str, noise: float, seed: int, trials: int) -> list[float]:
    """How far the best is from the best there is, after each trial; `noise` in sds of random scores."""
    function, dim, best = FUNCTIONS[name]
    spread = float(np.std([function(x) for x in np.random.default_rng(1).random((2000, dim))]))
    proposer, luck, found, seen = WHO[who](dim, seed), np.random.default_rng(seed), -math.inf, []
    for _ in range(trials):
        score = function(proposer.ask())
        found = max(found, score)
        seen.append(best - found)
        proposer.tell(score + noise * spread * float(luck.standard_normal()))
    return seen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--who", default="ours,random", help=f"of {','.join(WHO)}")
    parser.add_argument("--functions", default=",".join(FUNCTIONS))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--after", default="20,40,60", help="trials")
    options = parser.parse_args(arguments)
    after = [int(number) for number in options.after.split(",")]
    for name in options.functions.split(","):
        for noise in (0.0, 0.1):
            for who in options.who.split(","):
                runs = [gaps(who, name, noise, seed, max(after)) for seed in range(options.seeds)]
                shown = ", ".join(f"{statistics.median(run[n - 1] for run in runs):.3g}" for n in after)
                print(f"{name}, noise {noise:g}, {who}: gap {shown} after {options.after} trials", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
