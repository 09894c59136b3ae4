"""Steps per second of every bundled environment on one core, with random actions.

python -m benchmarks.ocean [--envs 1024] [--seconds 2] [names...]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import ocean

# Breakout's rate is quoted for single ticks: a step of four would count the same work as one.
SETTINGS = {"breakout": {"frame_skip": 1}}


def rate(name: str, num_envs: int, seconds: float, threads: int) -> float:
    """Agent steps per second of wall-clock time, Python's call included: the best tenth of the run.

    Whatever else the machine does can only slow a tenth down.
    """
    env = ocean.Vector(name, num_envs=num_envs, threads=threads, settings=SETTINGS.get(name))
    actions = list(env.spec.random_actions(np.random.default_rng(0), 64, env.num_agents))
    obs = np.empty((env.num_agents, *env.spec.obs_shape), env.spec.obs_dtype)
    rewards = np.empty(env.num_agents, np.float32)
    terminals, truncations = np.empty((2, env.num_agents), np.uint8)
    env.reset(obs)
    best = 0.0
    for _ in range(10):
        steps = 0
        begin = end = time.perf_counter()
        while end < begin + seconds / 10:
            for action in actions:
                env.step(action, obs, rewards, terminals, truncations)
            steps += len(actions) * env.num_agents
            end = time.perf_counter()
        best = max(best, steps / (end - begin))
    env.close()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="environments (default: all)")
    parser.add_argument("--envs", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{arguments.envs} environments, {arguments.threads} thread(s), random actions")
    for name in arguments.names or ocean.names():
        steps = rate(name, arguments.envs, arguments.seconds, arguments.threads)
        print(f"{name:12} {steps / 1e6:8.1f} million steps/s")


if __name__ == "__main__":
    main()
