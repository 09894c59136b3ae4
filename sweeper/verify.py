"""Is a setting on the front as good as the sweep believes? It runs again with seeds it has never seen."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sweeper.config import SweepConfig
from sweeper.logs import last_lines, printable
from sweeper.summary import FrontMember
from sweeper.units import digits, format_cost, format_number

FIRST_SEED = 500_000  # a sweep's trials count up from far below; every sweep seed has a thousand of its own


def verify(config: SweepConfig, member: FrontMember, seeds: int, say: Callable[[str], None]) -> int:
    """Runs `member` with `seeds` fresh seeds, in parallel; says each score, the mean, its interval.

    Returns the exit code: 1 where a run failed. Raises ExecutorError when workers cannot start.
    """
    from sweeper.executors import evaluate

    single = config.objective.seeds == 1  # the sweep's trials were what runs here
    config = config.model_copy(update={"objective": config.objective.model_copy(update={"seeds": 1})})
    name, unit = config.metric.name, config.cost.name
    which = f"trial {member.trial}" if member.trial is not None else "the setting"
    claim = f"{name} {format_number(member.score)} for {format_cost(member.cost, unit)}"
    say(f"{config.name}: {which} ({claim}) again, with {seeds} fresh seeds")
    first = FIRST_SEED + 1000 * (config.seed % 1_000_000)
    scores: list[float] = []
    costs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="sweep-verify-") as folder:
        jobs = [(member.params, first + number) for number in range(seeds)]
        for number, result in evaluate(config, jobs, Path(folder)):
            seed = first + number
            if result.status == "done" and result.score is not None and result.cost is not None:
                scores.append(result.score)
                costs.append(result.cost)
                say(f"  seed {seed}  {format_number(result.score):>9}  {format_cost(result.cost, unit)}")
                continue
            what = f"{result.failure or result.status} {printable(result.message)}".strip()
            say(f"  seed {seed}  failed: {what}")
            for line in last_lines(Path(folder) / "trials" / f"{number:06d}" / "log.txt"):
                say(f"    | {line}")
    if scores:
        say(verdict(name, scores, member.score, member.score_sd or 0.0))
        if single and member.low < member.high:
            inside = sum(member.low <= score <= member.high for score in scores)
            places = digits(member.low, member.high)
            between = " to ".join(format_number(end, places) for end in (member.low, member.high))
            say(f"{inside} of {len(scores)} lie in {between}, where nine of ten single trials were expected")
        say(f"cost {format_cost(float(np.mean(costs)), unit)} on average")
    if len(scores) < seeds:
        say(f"{seeds - len(scores)} of {seeds} failed")
        return 1
    return 0


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean by Student's t; needs two scores, without them it is unbounded."""
    from scipy.special import stdtrit  # Student's t; scipy.stats takes a second to import

    if len(scores) < 2:
        return -np.inf, np.inf
    half = stdtrit(len(scores) - 1, 0.975) * np.std(scores, ddof=1) / np.sqrt(len(scores))
    mean = float(np.mean(scores))
    return mean - float(half), mean + float(half)


def verdict(name: str, scores: Sequence[float], claimed: float, sd: float = 0.0) -> str:
    """The mean with its interval, and whether it agrees with what the sweep believed (give or take `sd`)."""
    low, high = interval(scores)
    mean = float(np.mean(scores))
    if len(scores) < 2:
        return f"{name} {format_number(mean)} (one score has no interval)"
    places = digits(min(low, claimed), max(high, claimed))  # what differs must not look the same
    shown = [format_number(value, places) for value in (mean, low, high, claimed)]
    agrees = low <= claimed + 1.96 * sd and claimed - 1.96 * sd <= high
    text = f"{name} {shown[0]}, 95 % interval {shown[1]} to {shown[2]}"
    return f"{text}: {'agrees with' if agrees else 'differs from'} the sweep's {shown[3]}"
