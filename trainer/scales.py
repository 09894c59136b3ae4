"""What lies between an environment and what a policy learns from: actions, rewards and observations in units
that suit a network, whatever those of the environment are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import ocean
from trainer.adapter import Array, GymnasiumVector
from trainer.environments import Environment
from trainer.policy import Policy
from trainer.settings import SettingsError, TrainSettings

ALL = slice(None)
# An observation's numbers are no more deviations from their mean than so many, where some hardly ever change;
# and what deviates by less than this share of its mean would drown in rounding errors, or is their work.
LARGEST, FINEST = 10.0, 1e-3
TINIEST = 1e-30  # below, all is nothing


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
        self.half[bounded] = (high[bounded] - low[bounded]) / 2
        self.middle[bounded] = (high[bounded] + low[bounded]) / 2  # numpy warns of the others: inf - inf

    def __call__(self, actions: Any, rows: slice = ALL) -> Any:
        """`actions` [rows, components] of the policy, as arrays, `rows` of them rescaled. What is given holds
        all rows, and is overwritten by the next."""
        if not len(self.low):
            return actions
        sent = self._sent[rows]
        np.multiply(actions[rows], self.half, out=sent)
        np.add(sent, self.middle, out=sent)
        # A network that has diverged gives what is no number: no environment is to index by it.
        np.nan_to_num(sent, copy=False)
        np.clip(sent, self.low, self.high, out=sent)
        return self._sent


class RewardScale:
    """What is learned from: rewards scaled, clipped and, with `normalize_rewards`, divided by the deviation
    that their discounted sums have had so far.

    Values then are of much the same size whatever an environment rewards and however far it is looked ahead,
    and their loss neither drowns the policy's nor is drowned (Engstrom et al. 2020, "Implementation matters
    in deep policy gradients"). None becomes larger than 1, where so few come that their sums hardly deviate.
    Nothing waits for the device, and the memory is the same in every rollout.
    """

    def __init__(self, train: TrainSettings, agents: int, device: torch.device) -> None:
        self.train = train
        self.sums = torch.zeros(agents, device=device)  # discounted, of the episodes that go on
        # Of all sums so far: how many, their mean, their mean square; and the largest reward.
        self.seen = torch.zeros(4, dtype=torch.float64, device=device)

    def __call__(self, rewards: Tensor, terminals: Tensor, truncations: Tensor) -> None:
        """Changes `rewards` [horizon, agents] of the next rollout in place."""
        train = self.train
        if train.reward_scale != 1.0:
            rewards.mul_(train.reward_scale)
        if train.reward_clip:
            rewards.clamp_(-train.reward_clip, train.reward_clip)
        if not train.normalize_rewards:
            return
        # Of a reward that is no number the environment is to be told, and the others do not suffer.
        sums = rewards.nan_to_num(0.0, 0.0, 0.0)
        largest = sums.abs().max()
        alive = 1.0 - (terminals | truncations).float()
        carried = train.gamma * alive[:-1]  # [t]: what of the sum at t is left at t + 1
        sums[0] += train.gamma * self.sums
        step = 1
        while step < len(sums):  # every sum of so many steps takes on that of as many before it
            sums[step:] = sums[step:] + carried * sums[:-step]
            carried = carried[step:] * carried[:-step]
            step *= 2
        self.sums.copy_(sums[-1] * alive[-1])
        count, mean, square, highest = self.seen
        count += sums.numel()
        share, sums = sums.numel() / count, sums.double()
        mean.lerp_(sums.mean(), share)
        square.lerp_(sums.square().mean(), share)
        torch.maximum(highest, largest.double(), out=highest)
        size = torch.maximum((square - mean * mean).clamp(min=0.0).sqrt(), highest)
        rewards.div_((size + (size == 0)).float())

    def state_dict(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "seen": self.seen}

    def load(self, state: dict[str, Tensor], resumes: bool) -> None:
        """`resumes`: whether episodes go on where they were."""
        self.seen.copy_(state["seen"])
        if resumes:
            self.sums.copy_(state["sums"])


class ObservationScale:
    """Observations less their mean so far, divided by their deviation so far, each number by itself.

    Of numbers of all sizes a network sees the large ones alone (Engstrom et al. 2020, as above). `which`
    [numbers] are changed, the others are not.
    """

    def __init__(self, which: Array) -> None:
        self.which, self.count = which, 0
        # Of each number: mean, variance, the farthest from the mean.
        self.mean, self.variance, self.farthest = np.zeros((3, len(which)))

    def __call__(self, obs: Array) -> None:
        """Learns from `obs` [rows, numbers] and changes them in place."""
        # Of what is no number the environment is to be told, and the others do not suffer.
        new = np.nan_to_num(obs.astype(np.float64), posinf=0.0, neginf=0.0)
        self.count += len(new)
        share = len(new) / self.count
        off = new.mean(0) - self.mean
        self.mean += share * off
        self.variance += share * (new.var(0) - self.variance + (1 - share) * off**2)
        np.maximum(self.farthest, np.abs(new - self.mean).max(0), out=self.farthest)
        obs[...] = self.of(obs)

    def of(self, obs: Array) -> Array:
        """`obs` [rows, numbers] as they are learned from."""
        shift, size = self._shift_size()
        return ((obs - shift) / size).astype(np.float32)

    def folded(self, policy: Policy, weights: Tensor) -> Tensor:
        """Weights [parameters] that do with observations as they are what `weights` do with changed ones: the
        first layer shifts and scales, too."""
        shift, size = (torch.from_numpy(part) for part in self._shift_size())
        folded = weights.clone()
        first, bias = (
            folded[part.storage_offset() :][: part.numel()].view(part.shape)
            for part in (policy.weights[0], policy.biases[0])
        )
        scaled = first.detach().cpu().double() / size[:, None]
        bias.copy_(bias.cpu().double() - shift @ scaled)
        first.copy_(scaled)
        return folded

    def _shift_size(self) -> tuple[Array, Array]:
        """What is taken from each number, and what it is then divided by."""
        size = np.maximum(np.sqrt(self.variance), self.farthest / LARGEST)
        size = np.maximum(size, FINEST * np.abs(self.mean))
        shift = np.where(self.which, self.mean, 0.0)
        return shift, np.where(self.which & (size > TINIEST), size, 1.0)

    def state_dict(self) -> dict[str, Any]:
        moments = (self.mean, self.variance, self.farthest)
        return {"count": self.count, "moments": torch.from_numpy(np.stack(moments))}

    def load(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self.mean, self.variance, self.farthest = state["moments"].numpy().copy()


def observation_scale(env: Environment, train: TrainSettings) -> ObservationScale | None:
    """None where nothing is to be changed."""
    if not isinstance(env, GymnasiumVector) or train.normalize_observations == "none":
        return None
    every = train.normalize_observations == "all"
    if every and env.spec.obs_dtype != np.float32:
        said = f"{env.spec.name}: its observations are whole numbers"
        raise SettingsError("train.normalize_observations", said, "leave it at none")
    if env.spec.obs_dtype != np.float32:  # whole numbers stay as they are: they could hold no deviations
        return None
    which = env.unbounded | every
    return ObservationScale(which) if which.any() else None
