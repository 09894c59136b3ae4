"""The training loop: rollout, update, evaluation at the points of the curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

import ocean
from trainer import network as networks
from trainer.evaluate import Evaluation, evaluate
from trainer.policy import Policy
from trainer.rollout import Rollout, Seconds, check_discrete
from trainer.settings import Settings, TrainSettings
from trainer.update import Updater, UpdateStats

PROGRESS_SECONDS = 0.25  # between two calls of `progress`


class Point(NamedTuple):
    """An evaluation along the run."""

    step: int
    cost: float  # seconds of rollout and update so far
    score: float


@dataclass
class Result:
    """What a run came to. `seconds` are those of rollout and update alone."""

    score: float
    """Mean of the last evaluation; nan if there was none."""
    steps: int
    seconds: float
    points: list[Point]
    failure: str | None
    """None, or "diverged", "entropy_collapse", "kl_explosion": the points are those before it."""
    profile: dict[str, float]
    """Shares of the seconds: env, policy, advantage, update."""
    steps_per_second: float
    unfinished: int
    """Episodes of the last evaluation that had not ended within eval_max_steps."""
    policy: Policy = field(repr=False)


def curve_steps(train: TrainSettings, per_rollout: int) -> list[int]:
    """The steps at which to evaluate: ends of rollouts, rising, the last one the end of training."""
    rollouts = math.ceil(train.total_timesteps / per_rollout)
    count = train.curve_points
    if train.curve_spacing == "log":
        wanted = [rollouts ** ((i + 1) / count) for i in range(count)]
    else:
        wanted = [rollouts * (i + 1) / count for i in range(count)]
    return sorted(
        {min(rollouts, max(1, round(ends))) * per_rollout for ends in wanted} | {rollouts * per_rollout}
    )


def train(
    settings: Settings,
    seed: int = 0,
    report: Callable[[int, float, float], None] | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
) -> Result:
    """Train a policy and evaluate it.

    `report(step, cost, score)` is called at every evaluation (`train.curve_points`), `progress(...)`
    a few times a second, `should_stop()` after every rollout: a stopped run returns what it has.
    Raises SettingsError for settings that do not fit, ocean.BuildError without a C compiler. One
    seed gives one result, bit for bit, on the same machine, build and thread count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.train.threads)
    try:
        return _train(settings, seed, report, progress, should_stop, torch.device(device))
    finally:
        torch.set_num_threads(threads)


def _train(
    settings: Settings,
    seed: int,
    report: Callable[[int, float, float], None] | None,
    progress: Callable[[dict[str, Any]], None] | None,
    should_stop: Callable[[], bool] | None,
    device: torch.device,
) -> Result:
    train = settings.train
    streams = [int(s >> np.uint64(1)) for s in np.random.SeedSequence(seed).generate_state(4, np.uint64)]
    generators = [torch.Generator().manual_seed(stream) for stream in streams[:3]]
    env = ocean.Vector(settings.env, train.num_envs, streams[3], train.threads, dict(settings.env_settings))
    settings.check(env.spec.agents_per_env)
    check_discrete(env)
    policy = Policy(
        math.prod(env.spec.obs_shape), env.spec.action_sizes, settings.policy, generators[0], device
    )
    network = networks.make(policy, torch.from_numpy(env.final_obs).dtype, device)
    rollout = Rollout(env, network, train, generators[1], device)
    updater = Updater(policy, network, train, generators[2])

    per_rollout = train.horizon * env.num_agents
    stops = curve_steps(train, per_rollout)
    seconds, points, stats = Seconds(), [], UpdateStats()
    last, steps, shown = Evaluation(math.nan, 0, 0), 0, perf_counter()
    while steps < stops[-1]:
        buffer = rollout.collect(seconds)
        stats = updater.update(buffer, steps / stops[-1], seconds)
        steps += per_rollout
        if stats.failure is not None or (should_stop is not None and should_stop()):
            break
        if steps in stops:
            last = evaluate(network, settings, seed, device)
            points.append(Point(steps, seconds.total(), last.score))
            if report is not None:
                report(*points[-1])
        if progress is not None and perf_counter() - shown > PROGRESS_SECONDS:
            shown = perf_counter()
            progress(_progress(env, steps, stops[-1], seconds, stats))
    env.close()
    return Result(
        score=last.score,
        steps=steps,
        seconds=seconds.total(),
        points=points,
        failure=stats.failure,
        profile=seconds.shares(),
        steps_per_second=steps / seconds.total(),
        unfinished=last.unfinished,
        policy=policy,
    )


def _progress(
    env: ocean.Vector, steps: int, total: int, seconds: Seconds, stats: UpdateStats
) -> dict[str, Any]:
    log = env.log()
    return {
        "steps": steps,
        "total_timesteps": total,
        "seconds": seconds.total(),
        "steps_per_second": steps / seconds.total(),
        "score": log["score"] if log["n"] else math.nan,
        "episodes": log["n"],
        **{name: value for name, value in vars(stats).items() if name != "failure"},
    }
