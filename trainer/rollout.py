"""Collecting a rollout: the environments write observations straight into the buffer.

Where the policy has kernels on a GPU, two halves of the environments take turns: while the processor steps
one, the GPU serves the other. The host launches a CUDA graph and goes on; all that it waits for, by an event,
are the actions of the half that it steps next. Random numbers are drawn once a rollout, for each step and
agent its own: what an agent does depends on no halves. Gymnasium's environments are stepped all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ocean
from trainer.buffer import KEPT, Buffer
from trainer.environments import Environment
from trainer.network import Network
from trainer.scales import ActionScale, RewardScale, observation_scale
from trainer.settings import TrainSettings

_WRITTEN = ("rewards", "terminals", "truncations")  # by the environments
_HOST = ("obs", "actions", "masks", *_WRITTEN)  # what they have to do with
_DEVICE = (*_HOST, "logprobs", "values")  # what the policy has to do with
HALVES = 2  # 1: all at once, on a GPU as well (benchmarks/gpu.py measures both)


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


def placed(array: Any, device: torch.device) -> Tensor:
    """A copy of an array in torch's memory, which is aligned: products may round by where a matrix lies.

    The host does not wait until it has come to the device.
    """
    tensor = torch.from_numpy(array)
    return tensor.clone() if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def clear_states(state: Tensor, terminals: Any, truncations: Any) -> None:
    """Forget, in `state` [rows, memory], where an episode has ended."""
    ended = np.flatnonzero(terminals | truncations)
    if len(ended):
        state[torch.from_numpy(ended).to(state.device)] = 0.0


class _Half:
    """Environments that step together (all of them, where there are no halves), and their rows step by step.

    Sliced once: indexing tensors costs more than a step of a small environment.
    """

    def __init__(
        self,
        envs: tuple[tuple[int, int], ...],
        rows: slice,
        device: dict[str, Tensor],
        host: dict[str, Tensor],
        state: Tensor,
    ) -> None:
        self.envs = envs  # the last argument of `step`, where there are halves
        self.rows, self.state = rows, state[rows]
        self.device, self.host = (
            {name: [step[rows] for step in column] for name, column in columns.items()}
            for columns in (device, host)
        )
        self.terminals, self.truncations = (
            [step.numpy() for step in self.host[name]] for name in ("terminals", "truncations")
        )
        # Set when its actions have come to the host.
        self.served = torch.cuda.Event() if state.device.type == "cuda" else None


def _launch(half: _Half, network: Network, t: int, apart: bool) -> None:
    """What the policy's device does for a half between its steps t - 1 and t: nothing that the host waits
    for, and the same memory in every rollout."""
    device, host = half.device, half.host
    if t and apart:
        device["obs"][t].copy_(host["obs"][t], non_blocking=True)
    if t and network.policy.memory:
        if apart:
            for name in ("terminals", "truncations"):
                device[name][t - 1].copy_(host[name][t - 1], non_blocking=True)
            ended = device["terminals"][t - 1] | device["truncations"][t - 1]
            half.state.masked_fill_(ended.bool()[:, None], 0.0)
        else:
            clear_states(half.state, half.terminals[t - 1], half.truncations[t - 1])
    if t == len(half.terminals):
        return
    mask = device["masks"][t] if "masks" in device else None
    if mask is not None and apart:
        mask.copy_(host["masks"][t], non_blocking=True)
    drawn = (device["actions"][t], device["logprobs"][t], device["values"][t])
    network.act(device["obs"][t], device["noise"][t], *drawn, half.state, mask)
    if apart:
        host["actions"][t].copy_(device["actions"][t], non_blocking=True)


class Rollout:
    """Fills `buffer` with the next `horizon` steps of `env`, again and again.

    Where the policy has a device of its own, the environments' rows are not the policy's but copied. With
    `halves` they take turns, and rows are copied anywhere, as tests need it. `graph` makes of work that only
    launches what launches it all at once, without which launching twice may cost what halves hide.
    """

    def __init__(
        self,
        env: Environment,
        network: Network,
        train: TrainSettings,
        generator: torch.Generator,
        device: torch.device,
        halves: bool = False,
        graph: Callable[[Callable[[], None]], Callable[[], None]] = lambda work: work,
    ) -> None:
        self.env, self.network, self.train, self.generator = env, network, train, generator
        self.apart = halves or device.type != "cpu"
        spec, agents, pinned = env.spec, env.num_agents, device.type == "cuda"
        dtype = torch.from_numpy(env.final_obs).dtype
        shape = (train.horizon, agents, tuple(spec.obs_shape), dtype, spec.action_count)
        memory, logits = network.policy.memory, network.policy.logits if spec.masked else 0
        replay = round(train.replay_factor * agents)
        kind = torch.float32 if network.policy.continuous else torch.int32
        self.buffer = Buffer.make(*shape, device, memory, logits, replay, kind)
        self._device, self._host = (
            {name: column[:, :agents] for name in names if (column := getattr(self.buffer, name)) is not None}
            for names in (_DEVICE, _HOST)
        )
        self.noise = torch.empty(train.horizon, agents, spec.action_count, pin_memory=pinned)
        self._device["noise"] = self.noise
        if self.apart:
            self._device["noise"] = torch.empty(self.noise.shape, device=device)
            self._host = {
                name: torch.zeros(column.shape, dtype=column.dtype, pin_memory=pinned)
                for name, column in self._host.items()
            }
        taken: list[Any] = [self._host[name].numpy() for name in ("actions", "obs", *_WRITTEN)]
        taken[1] = taken[1][1:]  # what a step gives is what the next one is chosen by
        self._steps = list(zip(*map(list, taken), strict=True))  # the arguments of each
        self.scale, self.rewards = ActionScale(spec, agents), RewardScale(train, agents, device)
        self.observations = observation_scale(env, train)
        self.state = torch.zeros(agents, memory, device=device)  # of the recurrent layer, carried on
        self.mask = torch.from_numpy(env.action_mask) if spec.masked else None  # of the next actions
        parts = min(HALVES, env.num_envs) if halves and isinstance(env, ocean.Vector) else 1
        ends = [env.num_envs * i // parts for i in range(parts + 1)]
        self._halves = [
            _Half(
                ((first, last),) if parts > 1 else (),
                slice(first * spec.agents_per_env, last * spec.agents_per_env),
                self._device,
                self._host,
                self.state,
            )
            for first, last in pairwise(ends)
        ]
        # Of neither a half nor this object, whose memory is then free at once when nobody needs it.
        self._launches = {
            half: [graph(partial(_launch, half, network, t, self.apart)) for t in range(train.horizon + 1)]
            for half in self._halves
        }
        self._begin()

    def _begin(self) -> None:
        """New episodes everywhere."""
        obs = self._host["obs"][-1].numpy()
        self.env.reset(obs)
        if self.observations is not None:
            self.observations(obs)
        if self.apart:
            self._device["obs"][-1].copy_(self._host["obs"][-1])

    def collect(self, seconds: Seconds) -> Buffer:
        """One rollout, its seconds added to `seconds`. The buffer is the same every time."""
        begin = perf_counter()
        buffer, network, env, obs = self.buffer, self.network, self.env, self._device["obs"]
        agents, memory, device = env.num_agents, network.policy.memory, buffer.obs.device
        scale = self.observations
        obs[0].copy_(obs[-1])
        buffer.ratios[:, :agents].fill_(1.0)
        buffer.states[0, :agents].copy_(self.state)
        network.policy.noise(self.noise, self.generator)
        if self.apart:
            self._device["noise"].copy_(self.noise, non_blocking=True)
        # Places that were truncated, their final observations, and the states that belong to these.
        cut: list[tuple[Any, Any, Tensor]] = []
        in_env = 0.0
        for half in self._halves:
            self._serve(half, 0)
        for t, (actions, next_obs, rewards, terminals, truncations) in enumerate(self._steps):
            for half in self._halves:
                self._wait(half)
                start = perf_counter()
                sent = self.scale(actions, half.rows)
                env.step(sent, next_obs, rewards, terminals, truncations, *half.envs)
                if scale is not None:
                    scale(next_obs)
                if half.truncations[t].any():
                    late = np.flatnonzero(half.truncations[t])
                    states = half.state[placed(late, device)] if memory else half.state[: len(late)]
                    late += half.rows.start
                    final = env.final_obs[late] if scale is None else scale.of(env.final_obs[late])
                    cut.append((late + t * buffer.columns, final, states))
                in_env += perf_counter() - start
                self._serve(half, t + 1)
        network.values(obs[-1], self._device["values"][-1], self.state)
        if self.apart:
            for name in _WRITTEN:
                getattr(buffer, name)[:, :agents].copy_(self._host[name], non_blocking=True)
        if cut:
            places = placed(np.concatenate([places for places, _, _ in cut]), device)
            final_obs = placed(np.concatenate([obs for _, obs, _ in cut]), device)
            final_values = torch.empty(len(places), device=device)
            network.values(final_obs, final_values, torch.cat([states for _, _, states in cut]))
            buffer.flat("final_values")[places] = final_values
        self.rewards(*(getattr(buffer, name)[:, :agents] for name in _WRITTEN))
        seconds.env += in_env
        seconds.policy += perf_counter() - begin - in_env
        return buffer

    def _serve(self, half: _Half, t: int) -> None:
        """Have the policy's device begin what it does for a half between its steps t - 1 and t: `_launch`."""
        if self.mask is not None and t < self.train.horizon:
            half.host["masks"][t].copy_(self.mask[half.rows])
        self._launches[half][t]()
        if half.served is not None:
            half.served.record()

    def _wait(self, half: _Half) -> None:
        """Until the half's actions are there."""
        if half.served is not None:
            half.served.synchronize()

    def state_dict(self) -> dict[str, Any]:
        """What the next rollout begins with, and the segments kept of earlier ones.

        Copies: a view would be saved with all of the buffer that it is a view of.
        """
        buffer, agents = self.buffer, self.env.num_agents
        kept = [name for name in KEPT if buffer.used > agents and getattr(buffer, name) is not None]
        return {
            "obs": self._device["obs"][-1].clone(),
            "memory": self.state,
            "rewards": self.rewards.state_dict(),
            "observations": None if self.observations is None else self.observations.state_dict(),
            "mask": self.mask,
            "kept": buffer.kept,
            "replay": {name: getattr(buffer, name)[:, agents:].clone() for name in kept},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        if self.observations is not None:
            self.observations.load(state["observations"])
        if self.env.resumes:
            self._device["obs"][-1].copy_(state["obs"])
            self.state.copy_(state["memory"])
            if self.mask is not None:
                self.mask.copy_(state["mask"])
        else:
            self._begin()
        self.rewards.load(state["rewards"], self.env.resumes)
        self.buffer.kept = state["kept"]
        for name, column in state["replay"].items():
            getattr(self.buffer, name)[:, self.env.num_agents :].copy_(column)
