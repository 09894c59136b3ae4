"""Collecting a rollout: the environments write observations straight into the buffer."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ocean
from trainer.buffer import Buffer
from trainer.network import Network
from trainer.settings import SettingsError, TrainSettings

# A nested list of arrays is made once: indexing tensors costs more than a step of a small environment.
_COLUMNS = ("obs", "actions", "logprobs", "rewards", "terminals", "truncations", "values")


@dataclass
class Seconds:
    """What training took, and where it went."""

    env: float = 0.0
    policy: float = 0.0
    advantage: float = 0.0
    update: float = 0.0
    spent: float = 0.0
    """All of it, by the clock that is the trial's cost; the parts are wall-clock seconds."""

    def shares(self) -> dict[str, float]:
        """Each part's share of the whole."""
        parts = {name: value for name, value in vars(self).items() if name != "spent"}
        total = sum(parts.values()) or 1.0
        return {name: value / total for name, value in parts.items()}


def check_discrete(env: ocean.Vector) -> None:
    """Raises SettingsError for an environment whose actions this policy cannot draw."""
    if not env.spec.action_sizes:
        raise SettingsError(
            "env", f"{env.spec.name} has continuous actions", "only discrete ones are trained"
        )
    if sum(env.spec.action_sizes) > 256:
        raise SettingsError(
            "env", f"{env.spec.name} has {sum(env.spec.action_sizes)} logits", "256 are the most"
        )


class Rollout:
    """Fills `buffer` with the next `horizon` steps of `env`, again and again."""

    def __init__(
        self,
        env: ocean.Vector,
        network: Network,
        train: TrainSettings,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        check_discrete(env)
        self.env, self.network, self.train, self.generator = env, network, train, generator
        spec = env.spec
        dtype = torch.from_numpy(env.final_obs).dtype
        shape = (train.horizon, env.num_agents, tuple(spec.obs_shape), dtype, len(spec.action_sizes))
        self.buffer = Buffer.make(*shape, device)
        # The environments live in the computer's memory; on a GPU the rows are copied over.
        self.host = self.buffer if device.type == "cpu" else Buffer.make(*shape, torch.device("cpu"))
        self.uniform = torch.empty(train.horizon, env.num_agents, len(spec.action_sizes))
        self._host_rows: dict[str, list[Any]] = {
            name: [row.numpy() for row in getattr(self.host, name)] for name in _COLUMNS
        }
        self._rows: dict[str, list[Tensor]] = {name: list(getattr(self.buffer, name)) for name in _COLUMNS}
        env.reset(self._host_rows["obs"][-1])
        if self.host is not self.buffer:
            self.buffer.obs[-1].copy_(self.host.obs[-1])

    def collect(self, seconds: Seconds) -> Buffer:
        """One rollout, its seconds added to `seconds`. The buffer is the same every time."""
        begin = perf_counter()
        buffer, host, network, env = self.buffer, self.host, self.network, self.env
        rows, host_rows = self._rows, self._host_rows
        on_host = host is buffer
        buffer.obs[0].copy_(buffer.obs[-1])
        buffer.ratios.fill_(1.0)
        uniforms = torch.rand(self.uniform.shape, generator=self.generator, out=self.uniform).to(
            buffer.obs.device
        )
        cut: list[tuple[Any, Any]] = []  # places that were truncated, and their final observations
        in_env = 0.0
        for t, uniform in enumerate(uniforms):
            network.act(rows["obs"][t], uniform, rows["actions"][t], rows["logprobs"][t], rows["values"][t])
            if not on_host:
                host.actions[t].copy_(buffer.actions[t])
            start = perf_counter()
            truncations = host_rows["truncations"][t]
            env.step(
                host_rows["actions"][t],
                host_rows["obs"][t + 1],
                host_rows["rewards"][t],
                host_rows["terminals"][t],
                truncations,
            )
            if truncations.any():
                agents = np.flatnonzero(truncations)
                cut.append((agents + t * env.num_agents, env.final_obs[agents]))
            in_env += perf_counter() - start
            if not on_host:
                buffer.obs[t + 1].copy_(host.obs[t + 1])
        network.values(rows["obs"][-1], rows["values"][-1])
        if not on_host:
            for name in ("rewards", "terminals", "truncations"):
                getattr(buffer, name).copy_(getattr(host, name))
        if cut:
            places = torch.from_numpy(np.concatenate([places for places, _ in cut])).to(buffer.obs.device)
            # Cloned into torch's memory, which is aligned: products may round by where a matrix lies.
            final_obs = torch.from_numpy(np.concatenate([obs for _, obs in cut])).clone()
            final_obs = final_obs.to(buffer.obs.device)
            final_values = torch.empty(len(places), device=buffer.obs.device)
            network.values(final_obs, final_values)
            buffer.flat("final_values")[places] = final_values
        if self.train.reward_clip:
            buffer.rewards.clamp_(-self.train.reward_clip, self.train.reward_clip)
        seconds.env += in_env
        seconds.policy += perf_counter() - begin - in_env
        return buffer
