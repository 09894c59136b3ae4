"""The rollout's memory: allocated once, time-major, so that one step of all agents is contiguous.

A *segment* is one agent's column: its `horizon` consecutive steps.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.advantage import Rows


@dataclass
class Buffer:
    """One rollout of all agents. `obs` and `values` hold one row more: what follows the last step."""

    obs: Tensor  # [horizon + 1, agents, *obs_shape]
    actions: Tensor  # [horizon, agents, components] int32
    logprobs: Tensor  # [horizon, agents], of the actions when they were taken
    rewards: Tensor  # [horizon, agents]
    terminals: Tensor  # [horizon, agents] uint8
    truncations: Tensor  # [horizon, agents] uint8
    values: Tensor  # [horizon + 1, agents]
    final_values: Tensor  # [horizon, agents], valid where truncations is set
    ratios: Tensor  # [horizon, agents], new over old probability; 1 until trained on
    advantages: Tensor  # [horizon, agents]
    returns: Tensor  # [horizon, agents]

    @staticmethod
    def make(
        horizon: int,
        agents: int,
        obs_shape: tuple[int, ...],
        obs_dtype: torch.dtype,
        components: int,
        device: torch.device,
    ) -> Buffer:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return Buffer(
            obs=zeros(horizon + 1, agents, *obs_shape, dtype=obs_dtype),
            actions=zeros(horizon, agents, components, dtype=torch.int32),
            logprobs=zeros(horizon, agents),
            rewards=zeros(horizon, agents),
            terminals=zeros(horizon, agents, dtype=torch.uint8),
            truncations=zeros(horizon, agents, dtype=torch.uint8),
            values=zeros(horizon + 1, agents),
            final_values=zeros(horizon, agents),
            ratios=torch.ones(horizon, agents, device=device),
            advantages=zeros(horizon, agents),
            returns=zeros(horizon, agents),
        )

    @property
    def horizon(self) -> int:
        return self.actions.shape[0]

    @property
    def agents(self) -> int:
        return self.actions.shape[1]

    @property
    def flat_obs(self) -> Tensor:
        """[(horizon + 1) * agents, obs_size]: place = step * agents + agent, as everywhere."""
        return self.obs.view(self.obs.shape[0] * self.agents, -1)

    def flat(self, name: str) -> Tensor:
        """A column by place: [horizon * agents] (actions [horizon * agents, components])."""
        column: Tensor = getattr(self, name)
        return column.view(-1, column.shape[2]) if column.dim() == 3 else column.view(-1)

    @functools.cached_property
    def rows(self) -> Rows:
        """What the advantage reads and writes."""
        return Rows(
            self.rewards,
            self.terminals,
            self.truncations,
            self.values,
            self.final_values,
            self.ratios,
            self.advantages,
            self.returns,
        )
