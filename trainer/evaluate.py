"""Evaluation: fixed episodes in environments of their own, which training never notices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from trainer import environments
from trainer.network import Network
from trainer.rollout import clear_states
from trainer.scales import ActionScale
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
    """Play `train.eval_episodes` episodes, the first one of as many agents (of whole environments).

    One episode an agent: stopping at the n-th episode to end would favour short ones.
    Score is nan if none ended within `train.eval_max_steps`. The environments' settings are those of
    `settings.evaluated`.
    """
    train = settings.train
    num_envs = math.ceil(train.eval_episodes / environments.agents_per_env(settings.env))
    streams = np.random.SeedSequence([EVALUATION_STREAM, seed]).generate_state(2, np.uint64)
    generator = torch.Generator().manual_seed(int(streams[0] >> np.uint64(1)))
    sizes = num_envs, int(streams[1]), train.threads
    env = environments.make(settings.env, *sizes, settings.evaluated, train.env_processes)
    try:
        rows, components, policy = env.num_agents, env.spec.action_count, network.policy
        # torch's memory is aligned, numpy's is not: matrix products may round by where a matrix lies
        obs = torch.zeros(env.final_obs.shape, dtype=torch.from_numpy(env.final_obs).dtype)
        kind = torch.float32 if policy.continuous else torch.int32
        actions = torch.zeros(rows, components, dtype=kind, device=device)
        logprobs, values = torch.zeros(rows, device=device), torch.zeros(rows, device=device)
        rewards, terminals = np.zeros(rows, np.float32), np.zeros(rows, np.uint8)
        truncations, host_obs = np.zeros(rows, np.uint8), obs.numpy()
        copied = None if device.type == "cpu" else torch.zeros_like(actions, device="cpu")
        host_actions = (actions if copied is None else copied).numpy()
        scale = ActionScale(env.spec, rows)
        noise = None if train.eval_greedy else torch.empty(rows, components)
        state = torch.zeros(rows, policy.memory, device=device)
        host_mask = torch.from_numpy(env.action_mask) if env.spec.masked else None
        playing = np.ones(rows, bool)  # has not ended its one episode
        total, count = 0.0, 0.0
        env.reset(host_obs)
        for _ in range(train.eval_max_steps):
            draw = None if noise is None else policy.noise(noise, generator).to(device)
            mask = None if host_mask is None else host_mask.to(device)
            network.act(obs.to(device), draw, actions, logprobs, values, state, mask)
            if copied is not None:
                copied.copy_(actions)
            env.step(scale(host_actions), host_obs, rewards, terminals, truncations)
            clear_states(state, terminals, truncations)
            ended = (terminals | truncations).astype(bool) & playing
            if ended.any():
                log = env.log(only=ended)
                total += log["score"] * log["n"]
                count += log["n"]
                playing &= ~ended
                if not playing.any():
                    break
        return Evaluation(total / count if count else float("nan"), int(count), int(playing.sum()))
    finally:
        env.close()
