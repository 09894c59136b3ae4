"""Collecting a rollout: the environments write observations straight into the buffer."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ocean
from trainer.buffer import KEPT, Buffer
from trainer.environments import Environment
from trainer.network import Network
from trainer.settings import TrainSettings

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


class ActionScale:
    """What an environment is given: discrete actions as they are, continuous ones in its own units.

    The policy's unit is half of a float's range, its 0 the middle (its own unit and 0 where there is no
    range: Spec.bounded_actions). What lies outside is cut to the range on its way: the policy's Gaussian
    knows no bounds, and learns from what it drew, so that its density stays simple and its slopes never
    vanish.
    """

    def __init__(self, spec: ocean.Spec, rows: int) -> None:
        self._sent = np.zeros((rows, spec.action_count), spec.action_dtype)
        low, high = np.array(spec.action_range).reshape(-1, 2).T
        bounded = spec.bounded_actions
        self.low, self.high = low.astype(np.float32), high.astype(np.float32)
        self.half, self.middle = np.ones_like(self.low), np.zeros_like(self.low)
        self.half[bounded] = (high - low)[bounded] / 2
        self.middle[bounded] = (high + low)[bounded] / 2

    def __call__(self, actions: Any) -> Any:
        """`actions` [rows, components] of the policy, as arrays; what is given is overwritten by the next."""
        if not len(self.low):
            return actions
        np.multiply(actions, self.half, out=self._sent)
        np.add(self._sent, self.middle, out=self._sent)
        return np.clip(self._sent, self.low, self.high, out=self._sent)


def clear_states(state: Tensor, terminals: Any, truncations: Any) -> None:
    """Forget, in `state` [rows, memory], where an episode has ended."""
    ended = np.flatnonzero(terminals | truncations)
    if len(ended):
        state[torch.from_numpy(ended).to(state.device)] = 0.0


class Rollout:
    """Fills `buffer` with the next `horizon` steps of `env`, again and again."""

    def __init__(
        self,
        env: Environment,
        network: Network,
        train: TrainSettings,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.env, self.network, self.train, self.generator = env, network, train, generator
        spec, agents = env.spec, env.num_agents
        dtype = torch.from_numpy(env.final_obs).dtype
        shape = (train.horizon, agents, tuple(spec.obs_shape), dtype, spec.action_count)
        memory, logits = network.policy.memory, network.policy.logits if spec.masked else 0
        replay = round(train.replay_factor * agents)
        kind = torch.float32 if network.policy.continuous else torch.int32
        self.buffer = Buffer.make(*shape, device, memory, logits, replay, kind)
        # The environments live in the computer's memory; on a GPU the rows are copied over.
        self.host = self.buffer
        if device.type != "cpu":
            self.host = Buffer.make(*shape, torch.device("cpu"), action_dtype=kind)
        self.noise = torch.empty(train.horizon, agents, spec.action_count)
        self.scale = ActionScale(spec, agents)
        self._host_rows: dict[str, list[Any]] = {
            name: [row[:agents].numpy() for row in getattr(self.host, name)] for name in _COLUMNS
        }
        self._rows: dict[str, list[Tensor]] = {
            name: [row[:agents] for row in getattr(self.buffer, name)] for name in _COLUMNS
        }
        self.state = torch.zeros(agents, memory, device=device)  # of the recurrent layer, carried on
        self.mask = torch.from_numpy(env.action_mask) if spec.masked else None  # of the next actions
        self._begin()

    def _begin(self) -> None:
        """New episodes everywhere."""
        self.env.reset(self._host_rows["obs"][-1])
        if self.host is not self.buffer:
            self._rows["obs"][-1].copy_(self.host.obs[-1])

    def collect(self, seconds: Seconds) -> Buffer:
        """One rollout, its seconds added to `seconds`. The buffer is the same every time."""
        begin = perf_counter()
        buffer, host, network, env = self.buffer, self.host, self.network, self.env
        rows, host_rows, state, agents = self._rows, self._host_rows, self.state, env.num_agents
        on_host, memory, columns = host is buffer, network.policy.memory, buffer.columns
        rows["obs"][0].copy_(rows["obs"][-1])
        buffer.ratios[:, :agents].fill_(1.0)
        masks = [] if buffer.masks is None else [row[:agents] for row in buffer.masks]
        buffer.states[0, :agents].copy_(state)
        draws = network.policy.noise(self.noise, self.generator).to(buffer.obs.device)
        # Places that were truncated, their final observations, and the states that belong to these.
        cut: list[tuple[Any, Any, Tensor]] = []
        in_env = 0.0
        for t, draw in enumerate(draws):
            mask = None if self.mask is None else masks[t].copy_(self.mask)
            drawn = (rows["actions"][t], rows["logprobs"][t], rows["values"][t])
            network.act(rows["obs"][t], draw, *drawn, state, mask)
            if not on_host:
                host.actions[t].copy_(rows["actions"][t])
            start = perf_counter()
            terminals, truncations = host_rows["terminals"][t], host_rows["truncations"][t]
            env.step(
                self.scale(host_rows["actions"][t]),
                host_rows["obs"][t + 1],
                host_rows["rewards"][t],
                terminals,
                truncations,
            )
            if truncations.any():
                late = np.flatnonzero(truncations)
                states = state[late] if memory else state[: len(late)]
                cut.append((late + t * columns, env.final_obs[late], states))
            in_env += perf_counter() - start
            if memory:
                clear_states(state, terminals, truncations)
            if not on_host:
                rows["obs"][t + 1].copy_(host.obs[t + 1])
        network.values(rows["obs"][-1], rows["values"][-1], state)
        if not on_host:
            for name in ("rewards", "terminals", "truncations"):
                getattr(buffer, name)[:, :agents].copy_(getattr(host, name))
        if cut:
            device = buffer.obs.device
            places = torch.from_numpy(np.concatenate([places for places, _, _ in cut])).to(device)
            # Cloned into torch's memory, which is aligned: products may round by where a matrix lies.
            final_obs = torch.from_numpy(np.concatenate([obs for _, obs, _ in cut])).clone().to(device)
            final_values = torch.empty(len(places), device=device)
            network.values(final_obs, final_values, torch.cat([states for _, _, states in cut]))
            buffer.flat("final_values")[places] = final_values
        if self.train.reward_scale != 1.0:
            buffer.rewards[:, :agents].mul_(self.train.reward_scale)
        if self.train.reward_clip:
            buffer.rewards[:, :agents].clamp_(-self.train.reward_clip, self.train.reward_clip)
        seconds.env += in_env
        seconds.policy += perf_counter() - begin - in_env
        return buffer

    def state_dict(self) -> dict[str, Any]:
        """What the next rollout begins with, and the segments kept of earlier ones.

        Copies: a view would be saved with all of the buffer that it is a view of.
        """
        buffer, agents = self.buffer, self.env.num_agents
        kept = [name for name in KEPT if buffer.used > agents and getattr(buffer, name) is not None]
        return {
            "obs": self._rows["obs"][-1].clone(),
            "memory": self.state,
            "mask": self.mask,
            "kept": buffer.kept,
            "replay": {name: getattr(buffer, name)[:, agents:].clone() for name in kept},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        if self.env.resumes:
            self._rows["obs"][-1].copy_(state["obs"])
            self.state.copy_(state["memory"])
            if self.mask is not None:
                self.mask.copy_(state["mask"])
        else:
            self._begin()
        self.buffer.kept = state["kept"]
        for name, column in state["replay"].items():
            getattr(self.buffer, name)[:, self.env.num_agents :].copy_(column)
