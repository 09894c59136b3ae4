"""The rollouts' memory: allocated once, time-major, so that one step of all agents is contiguous.

A *segment* is one column: an agent's `horizon` consecutive steps. The first `agents` columns are the
last rollout; behind them lie segments of earlier ones, as many as are to be replayed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.advantage import Rows

# What makes a kept segment; the rest is computed anew before each of its updates.
KEPT = (
    *("obs", "actions", "logprobs", "rewards", "terminals", "truncations"),
    *("values", "final_values", "states", "masks"),
)


@dataclass
class Buffer:
    """Segments. `obs` and `values` hold one row more: what follows the last step."""

    obs: Tensor  # [horizon + 1, columns, *obs_shape]
    actions: Tensor  # [horizon, columns, components] int32, or float32 where they are continuous
    masks: Tensor | None  # [horizon, columns, logits] uint8, 0 where an action was forbidden
    logprobs: Tensor  # [horizon, columns], of the actions when they were taken
    rewards: Tensor  # [horizon, columns]
    terminals: Tensor  # [horizon, columns] uint8
    truncations: Tensor  # [horizon, columns] uint8
    values: Tensor  # [horizon + 1, columns]
    final_values: Tensor  # [horizon, columns], valid where truncations is set
    ratios: Tensor  # [horizon, columns], new over old probability; 1 until trained on
    advantages: Tensor  # [horizon, columns]
    returns: Tensor  # [horizon, columns]
    states: Tensor  # [1, columns, memory], of the recurrent layer before the first step
    agents: int  # columns of the last rollout
    kept: int = 0  # segments that were ever put behind them

    @staticmethod
    def make(
        horizon: int,
        agents: int,
        obs_shape: tuple[int, ...],
        obs_dtype: torch.dtype,
        components: int,
        device: torch.device,
        memory: int = 0,
        mask: int = 0,
        replay: int = 0,
        action_dtype: torch.dtype = torch.int32,
    ) -> Buffer:
        """`memory` numbers of recurrent state, `mask` logits of masked actions, `replay` columns more."""
        columns = agents + replay

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return Buffer(
            obs=zeros(horizon + 1, columns, *obs_shape, dtype=obs_dtype),
            actions=zeros(horizon, columns, components, dtype=action_dtype),
            masks=zeros(horizon, columns, mask, dtype=torch.uint8) if mask else None,
            logprobs=zeros(horizon, columns),
            rewards=zeros(horizon, columns),
            terminals=zeros(horizon, columns, dtype=torch.uint8),
            truncations=zeros(horizon, columns, dtype=torch.uint8),
            values=zeros(horizon + 1, columns),
            final_values=zeros(horizon, columns),
            ratios=torch.ones(horizon, columns, device=device),
            advantages=zeros(horizon, columns),
            returns=zeros(horizon, columns),
            states=zeros(1, columns, memory),
            agents=agents,
        )

    @property
    def horizon(self) -> int:
        return self.actions.shape[0]

    @property
    def columns(self) -> int:
        return self.actions.shape[1]

    @property
    def used(self) -> int:
        """Columns that hold a segment."""
        return self.agents + min(self.kept, self.columns - self.agents)

    @property
    def flat_obs(self) -> Tensor:
        """[(horizon + 1) * columns, obs_size]: place = step * columns + column, as everywhere."""
        return self.obs.view(self.obs.shape[0] * self.columns, -1)

    def flat(self, name: str) -> Tensor:
        """A column by place: [horizon * columns] (actions [horizon * columns, components])."""
        column: Tensor = getattr(self, name)
        return column.view(-1, column.shape[2]) if column.dim() == 3 else column.view(-1)

    def fresh(self, columns: Tensor | slice) -> Tensor:
        """[horizon + 1, columns] uint8: 1 where an episode ended on the step before, within the segment."""
        ended = self.terminals[:, columns] | self.truncations[:, columns]
        return torch.cat([torch.zeros_like(ended[:1]), ended])

    def keep(self) -> None:
        """Put segments of the last rollout behind it, in the place of the oldest there, in turn."""
        room = self.columns - self.agents
        if not room:
            return
        turn = torch.arange(min(room, self.agents), device=self.obs.device) + self.kept
        for name in KEPT:
            column = getattr(self, name)
            if column is not None:
                column[:, self.agents + turn % room] = column[:, turn % self.agents]
        self.kept += len(turn)

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
