"""How far those come who know more than a sweeper can, where ours falls short of an aim.

    python -P benchmarks/bounds.py

The linear tasks of `sweep bench synthetic`, once 97 s are spent (4.5 average random trials): the gap to the
ideal area of

    random search, and half of it, which is the aim;
    one who knows the best learning rate and how much money there is;
    one who knows the best learning rate but not when the money ends, and so multiplies the cost from trial to
    trial by a factor: the median over where that ladder begins;
    with noise, one who knows the formula, the noise and the money, and has the learning rate alone to find: a
    few trials at rates spread over the range, then ever dearer ones at the rate that promises most. Of many
    such plans the one that is best in hindsight.
"""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np

from sweeper import synthetic
from sweeper.bench import SPENT, perfect_by_cost
from sweeper.space import Space

FACTORS = (1.5, 2.0, 2.5, 3.0, 4.0)
RATES = np.linspace(-5, -1, 161)  # log10 of learning rates
# With noise: so many trials first, for so much of the money; the shares of the rest for the others.
RESTS = ((1.0,), (0.3, 0.7), (0.1, 0.25, 0.65), (0.05, 0.1, 0.25, 0.6), (0.02, 0.05, 0.1, 0.25, 0.58))
PLANS = list(itertools.product((2, 3, 4, 5), (0.1, 0.2, 0.3, 0.4, 0.5), RESTS))


def quality(away: np.ndarray) -> np.ndarray:
    """Of a learning rate so many decades from the best: `synthetic.Task.truth`."""
    return np.exp(-(away**2))


def gap(task: synthetic.Task, costs: np.ndarray, scores: np.ndarray, budget: float) -> float:
    """Of the trials that have finished when `budget` is spent."""
    inside = np.cumsum(costs) <= budget * (1 + 1e-9)
    return 1 - task.share(costs[inside], scores[inside])


def random_search(task: synthetic.Task, budget: float, seeds: int) -> float:
    """Median gap; trials are drawn uniformly from the space."""
    space, gaps = Space(task.parameters), []
    for seed in range(seeds):
        units = space.sample(100, np.random.default_rng(seed))
        scores, costs = np.array([task.truth(space.to_params(unit)) for unit in units]).T
        gaps.append(gap(task, costs, scores, budget))
    return float(np.median(gaps))


def climber(task: synthetic.Task, budget: float, factor: float) -> float:
    """Median gap of one who always takes the best learning rate and multiplies the cost by `factor`."""
    gaps = []
    for begin in task.cost_min * factor ** np.linspace(0, 1, 100, endpoint=False):
        costs = begin * factor ** np.arange(math.floor(math.log(task.cost_max / begin, factor)) + 1)
        gaps.append(gap(task, costs, task.ideal(costs), budget))
    return float(np.median(gaps))


def learner(
    task: synthetic.Task, budget: float, plan: tuple[int, float, tuple[float, ...]], seeds: int
) -> float:
    """Median gap of one who follows `plan`, over best learning rates drawn from the middle of the range."""
    first, share, rest = plan
    costs = np.append(np.full(first, share / first), (1 - share) * np.array(rest)) * budget
    costs = np.clip(costs, task.cost_min, task.cost_max)
    gaps = []
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        best = generator.uniform(-4, -2)
        log_odds = np.zeros(len(RATES))  # of each being the best
        truths = []
        for number, cost in enumerate(costs):
            belief = np.exp(log_odds - log_odds.max())
            promise = quality(RATES[:, None] - RATES[None, :]) @ belief
            rate = -5 + 4 * (number + 0.5) / first if number < first else RATES[np.argmax(promise)]
            height = cost / task.cost_max
            truths.append(float(quality(np.array(rate - best))) * height)
            told = truths[-1] + synthetic.NOISE_SD * generator.standard_normal()
            log_odds -= 0.5 * ((told - quality(rate - RATES) * height) / synthetic.NOISE_SD) ** 2
        gaps.append(gap(task, costs, np.array(truths), budget))
    return float(np.median(gaps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400, help="draws of luck (default: 400)")
    seeds = parser.parse_args().seeds
    task = synthetic.task("linear")
    budget = SPENT[1] * task.random_cost
    blind = random_search(task, budget, seeds)

    def line(name: str, value: float) -> None:
        print(f"{name:66} {value:.3f}  {value / blind:.2f} of random search")

    print(f"gap on the linear tasks after {budget:.0f} s of trials, medians")
    line("random search", blind)
    line("asked: half of it", blind / 2)
    line("knows the best learning rate and the money", 1 - perfect_by_cost(task, budget))
    for factor in FACTORS:
        line(
            f"knows the best learning rate, each trial {factor:g} times as dear",
            climber(task, budget, factor),
        )
    gaps = {plan: learner(task, budget, plan, seeds) for plan in PLANS}
    first, share, rest = min(gaps, key=lambda plan: gaps[plan])
    line("with noise: knows formula, noise and money, the best plan", min(gaps.values()))
    shares = ", ".join(f"{part:.0%}" for part in rest)
    print(f"  ({first} trials for {share:.0%} of the money, then {shares} of the rest)")


if __name__ == "__main__":
    main()
