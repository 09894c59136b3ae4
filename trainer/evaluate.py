"""Evaluation: fixed episodes in environments of their own, which training never notices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import ocean
from trainer.network import Network
from trainer.settings import Settings

# Evaluations draw from streams of their own: no seed of a training run leads to the same episodes.
EVALUATION_STREAM = 0x5EED_E7A1


@dataclass
class Evaluation:
    """`score` is the environment's own, the mean over `episodes`; `unfinished` ones are not in it."""

    score: float
    episodes: int
    unfinished: int


def evaluate(network: Network, settings: Settings, seed: int, device: torch.device) -> Evaluation:
    """Play `train.eval_episodes` episodes, the first one of as many environments.

    One episode an environment: stopping at the n-th episode to end would favour short ones.
    Score is nan if none ended within `train.eval_max_steps`.
    """
    train = settings.train
    streams = np.random.SeedSequence([EVALUATION_STREAM, seed]).generate_state(2, np.uint64)
    generator = torch.Generator().manual_seed(int(streams[0] >> np.uint64(1)))
    env = ocean.Vector(
        settings.env, train.eval_episodes, int(streams[1]), train.threads, dict(settings.env_settings)
    )
    try:
        rows, components = env.num_agents, len(env.spec.action_sizes)
        obs = torch.from_numpy(np.zeros((rows, *env.spec.obs_shape), env.spec.obs_dtype))
        actions = torch.zeros(rows, components, dtype=torch.int32, device=device)
        logprobs, values = torch.zeros(rows, device=device), torch.zeros(rows, device=device)
        rewards, terminals = np.zeros(rows, np.float32), np.zeros(rows, np.uint8)
        truncations, host_obs = np.zeros(rows, np.uint8), obs.numpy()
        host_actions = actions.numpy() if device.type == "cpu" else np.zeros((rows, components), np.int32)
        uniform = None if train.eval_greedy else torch.empty(rows, components)
        waiting = np.ones(env.num_envs, bool)
        total, finished = 0.0, 0.0
        env.reset(host_obs)
        for _ in range(train.eval_max_steps):
            if uniform is not None:
                torch.rand(uniform.shape, generator=generator, out=uniform)
            network.act(
                obs.to(device), uniform if uniform is None else uniform.to(device), actions, logprobs, values
            )
            if device.type != "cpu":
                host_actions[:] = actions.cpu().numpy()
            env.step(host_actions, host_obs, rewards, terminals, truncations)
            ended = (terminals | truncations).reshape(env.num_envs, -1).any(1)
            if ended.any():
                log = env.log()
                total += log["score"] * log["n"]
                finished += log["n"]
                waiting &= ~ended
                if not waiting.any():
                    break
        return Evaluation(total / finished if finished else float("nan"), int(finished), int(waiting.sum()))
    finally:
        env.close()
