"""What the trainer costs: steps a second with their profile, and seconds until cartpole is solved.

    python -P benchmarks/trainer.py [--seeds 10] [--steps 3000000] [ENV ...]

One thread. Beside every figure stands a calibration: the speed of a fixed matrix product in the
process's own CPU seconds, and how many wall seconds each of those took. Above 1.1 the processor was
shared and the wall-clock figures are too low.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import ocean
from trainer import train
from trainer.settings import Settings


def calibrate() -> float:
    """Thousand millions of floating-point operations a CPU second of one thread."""
    a, b, out = torch.ones(512, 118), torch.ones(118, 128), torch.empty(512, 128)
    begin = time.process_time()
    for _ in range(2000):
        torch.mm(a, b, out=out)
    return 2000 * 2 * 512 * 118 * 128 / (time.process_time() - begin) / 1e9


def measured(work: Callable[[], Any]) -> tuple[Any, float, str]:
    """What `work` gives, its CPU seconds, and a text on the machine's state while it ran."""
    speed, wall, cpu = calibrate(), time.perf_counter(), time.process_time()
    result = work()
    seconds = time.process_time() - cpu
    crowd = (time.perf_counter() - wall) / seconds
    return result, seconds, f"calibration {speed:.0f} Gflop/s, {crowd:.2f} wall s a CPU s"


def speed(env: str, steps: int) -> None:
    settings = Settings.parse(env, {"train.total_timesteps": steps, "train.eval_episodes": 1})
    train(Settings.parse(env, {"train.total_timesteps": 1, "train.eval_episodes": 1}))  # compile, warm up
    result, cpu, state = measured(lambda: train(settings))
    shares = "  ".join(f"{name} {share:.0%}" for name, share in result.profile.items())
    rates = f"{result.steps_per_second:>11,.0f} steps/s {result.steps / cpu:>11,.0f} steps/CPU s"
    print(f"{env:9} {rates}   {shares}   ({state})", flush=True)


def time_to_score(env: str, goal: float, seeds: int) -> None:
    """Training seconds until an evaluation of 100 episodes reaches `goal`, checked 20 times a run."""
    settings = Settings.parse(env, {"train.curve_points": 20})

    def runs() -> list[tuple[float, float]]:
        outcomes = []
        for seed in range(seeds):
            result = train(settings, seed=seed)
            reached = [point.cost for point in result.points if point.score >= goal]
            outcomes.append((min(reached, default=float("inf")), result.score))
        return outcomes

    outcomes, _, state = measured(runs)
    times, scores = zip(*outcomes, strict=True)
    print(
        f"{env} to {goal:g}: median {statistics.median(times):.2f} s, slowest {max(times):.2f} s "
        f"of {seeds} seeds; final scores {min(scores):.1f} to {max(scores):.1f}   ({state})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("envs", nargs="*", default=ocean.names())
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3_000_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for env in arguments.envs:
        speed(env, arguments.steps)
    if "cartpole" in arguments.envs:
        time_to_score("cartpole", 475, arguments.seeds)


if __name__ == "__main__":
    main()
