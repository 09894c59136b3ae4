"""Environments on the GPU: `ocean.Vector`'s sibling, whose buffers are tensors (`cuda/vector.cu`)."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ocean
from trainer import gpu

# One thread steps all agents of an environment, one after the other: with more of them than these, too
# few threads are at work, and the processor is the better place. (Of the bundled ones: snake, with 64.)
MOST_AGENTS = 8
NO_FAULT = 2**63 - 1


class EnvironmentFault(RuntimeError):
    """An environment gave a number that is none, or an observation outside its declared range."""


class GpuVector:
    """`num_envs` copies of one environment, stepped by one kernel; nothing of it waits for the GPU.

    What environment i does depends on `seed`, i and its actions as on the processor, and states are the
    same bytes: `get_state` of one is `set_state` of the other. Buffers are contiguous tensors on the
    device, their rows agents. Raises ValueError for an unknown environment, setting or value,
    ocean.BuildError where it cannot be compiled.
    """

    def __init__(
        self,
        name_or_path: str | Path,
        num_envs: int,
        seed: int,
        device: torch.device,
        settings: Mapping[str, float] | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.spec = ocean.spec(name_or_path)
        self.num_envs, self.num_agents = num_envs, num_envs * self.spec.agents_per_env
        self._fingerprint = hashlib.sha256(self.spec.path.read_bytes()).digest()
        values = self.spec.values(settings or {}).values()
        self._settings = (ctypes.c_double * max(1, len(values)))(*values)
        self._kernels = gpu.load("vector.cu", device, self.spec.path, flags)
        size = self._kernels.number("vector_state_bytes")
        self.state = torch.zeros(num_envs, size, dtype=torch.uint8, device=device)
        fields, lanes = len(self.spec.log_fields) + 1, self._kernels.number("vector_log_lanes")
        self._partial = torch.zeros(lanes, fields, dtype=torch.float64, device=device)
        self._sums = torch.zeros(fields, dtype=torch.float64, device=device)
        self.fault = torch.full((1,), NO_FAULT, dtype=torch.int64, device=device)
        # As the C form's, beside the caller's buffers; valid where the last step ended an episode.
        choices = sum(self.spec.action_sizes) if self.spec.masked else 0
        self.action_mask = torch.ones(self.num_agents, choices, dtype=torch.uint8, device=device)
        # The generators' 64 bits, of which C takes the same whichever sign Python gives them.
        self._kernels.vector_seed(self.state, num_envs, seed - (seed >> 63 << 64))

    @property
    def obs_dtype(self) -> torch.dtype:
        return torch.from_numpy(np.empty(0, self.spec.obs_dtype)).dtype

    def reset(self, obs: Tensor) -> None:
        """Begin an episode everywhere; the first observations go to `obs` [num_agents, *obs_shape]."""
        self._kernels.vector_reset(
            self.state, self.num_envs, self._settings, obs, self.action_mask, self.fault
        )

    def step(
        self,
        actions: Tensor,
        obs: Tensor,
        rewards: Tensor,
        terminals: Tensor,
        truncations: Tensor,
        final_obs: Tensor,
        time: int = 0,
    ) -> None:
        """Step everything once, as ocean.Vector does; `time` is what `check` calls this step."""
        buffers = (actions, obs, rewards, terminals, truncations, final_obs, self.action_mask)
        self._kernels.vector_step(self.state, self.num_envs, self._settings, *buffers, self.fault, time)

    def check(self, before: int = 0) -> None:
        """Raises EnvironmentFault if a number was wrong since the last check. Waits for the GPU.

        Step `time` is reported as `before + time`.
        """
        fault = int(self.fault)
        if fault != NO_FAULT:
            self.fault.fill_(NO_FAULT)
            low, high = self.spec.obs_range
            raise EnvironmentFault(
                f"{self.spec.name}: environment {fault & 0xFFFFFFFF} gave an observation outside "
                f"[{low:g}, {high:g}], or a number that is none, at step {before + (fault >> 32)}; "
                f"mend {self.spec.path.name} or its settings"
            )

    def log(self) -> dict[str, float]:
        """Means over the episodes that ended since the last call, and their number "n"; then cleared."""
        self._kernels.vector_log(self.state, self.num_envs, self._partial, self._sums)
        *sums, n = self._sums.tolist()
        means = {
            name: (sum_ / n if n else 0.0) for name, sum_ in zip(self.spec.log_fields, sums, strict=True)
        }
        return {**means, "n": n}

    def get_state(self) -> bytes:
        """As ocean.Vector's, and the same bytes."""
        return self._fingerprint + self.state.cpu().numpy().tobytes()

    def set_state(self, state: bytes) -> None:
        """Continue from bytes of `get_state`. ValueError for those of others."""
        raw = state[len(self._fingerprint) :]
        if not state.startswith(self._fingerprint) or len(raw) != self.state.numel():
            raise ValueError(f"not a state of {self.num_envs} environments of this {self.spec.path.name}")
        self.state.copy_(torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(self.state.shape))

    def close(self) -> None:
        """Nothing to do: the memory is torch's."""


def fits(env: ocean.Spec) -> bool:
    """Whether environments of this header are stepped on the GPU where there is one; see MOST_AGENTS."""
    return env.agents_per_env <= MOST_AGENTS
