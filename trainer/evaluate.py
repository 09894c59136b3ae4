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


class _FreshState:
    """Puts environments back to where they are now, which empties their logs.

    A log holds the sums of all environments; what ended again after its one episode must not be in it.
    """

    def __init__(self, env: ocean.Vector, settings: Settings) -> None:
        self.env, self.state = env, env.get_state()
        single = ocean.Vector(settings.env, 1, settings=dict(settings.env_settings))
        before = len(single.get_state())
        single.close()
        # States are structs of one size after a prefix: two lengths tell both.
        self.size = (len(self.state) - before) // max(1, env.num_envs - 1)
        self.start = before - self.size if env.num_envs > 1 else 0

    def restore(self, envs: np.ndarray) -> None:
        state = bytearray(self.env.get_state())
        for i in envs:
            place = slice(self.start + i * self.size, self.start + (i + 1) * self.size)
            state[place] = self.state[place]
        self.env.set_state(state)


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
        # torch's memory is aligned, numpy's is not: matrix products may round by where a matrix lies
        obs = torch.zeros(env.final_obs.shape, dtype=torch.from_numpy(env.final_obs).dtype)
        actions = torch.zeros(rows, components, dtype=torch.int32, device=device)
        logprobs, values = torch.zeros(rows, device=device), torch.zeros(rows, device=device)
        rewards, terminals = np.zeros(rows, np.float32), np.zeros(rows, np.uint8)
        truncations, host_obs = np.zeros(rows, np.uint8), obs.numpy()
        host_actions = actions.numpy() if device.type == "cpu" else np.zeros((rows, components), np.int32)
        uniform = None if train.eval_greedy else torch.empty(rows, components)
        playing = np.ones(env.num_envs, bool)  # has not ended its one episode
        again = False  # something ended again since the log was last emptied
        total, count = 0.0, 0.0
        env.reset(host_obs)
        fresh = _FreshState(env, settings)
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
            again |= bool((ended & ~playing).any())
            if (ended & playing).any():
                if again:
                    fresh.restore(np.flatnonzero(~playing))
                    again = False
                log = env.log()
                total += log["score"] * log["n"]
                count += log["n"]
                playing &= ~ended
                if not playing.any():
                    break
        return Evaluation(total / count if count else float("nan"), int(count), int(playing.sum()))
    finally:
        env.close()
