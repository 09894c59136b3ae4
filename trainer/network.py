"""Running the policy: the fused C form on the CPU, plain torch elsewhere; one face for both.

`act` fills the rollout's buffers, `gradients` adds a minibatch's loss gradients to the policy.
Tests hold the C form (network.c) against the torch form.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.buffer import Buffer
from trainer.policy import Policy
from trainer.settings import TrainSettings

# Rows that pass through the network at once: activations stay in the second-level cache.
TILE = 512

TINY = 1e-8  # keeps the division by a deviation of nothing finite

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64
_READ, _WRITTEN = ("actions", "logprobs", "advantages", "returns"), ("values", "ratios")


# A first layer of at most this many inputs is computed by network.c; torch's product is faster above.
FEW_INPUTS = 32


@dataclass
class Minibatch:
    """All steps of some segments, step by step: row i is step i // count of segments[i % count]."""

    segments: Tensor  # [count] int64 agents
    weights: Tensor  # [agents] float32 importance weights
    whole: bool  # segments counts 0, 1, 2, ... all agents: observations need not be gathered

    def places(self, buffer: Buffer) -> Tensor:
        """[horizon * count] places in the flat buffers."""
        steps = torch.arange(0, buffer.horizon * buffer.agents, buffer.agents, device=self.segments.device)
        return (steps[:, None] + self.segments).view(-1)


@dataclass
class LossSums:
    """Means over a minibatch."""

    policy: float
    value: float
    entropy: float
    kl: float
    clipped: float


class TorchNetwork:
    """The reference: autograd, any device."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @torch.no_grad()
    def act(
        self, obs: Tensor, uniform: Tensor | None, actions: Tensor, logprobs: Tensor, values: Tensor
    ) -> None:
        """Fill actions [rows, components], logprobs and values [rows]; see Policy.act."""
        drawn = self.policy.act(obs.flatten(1).float(), uniform)
        actions.copy_(drawn[0])
        logprobs.copy_(drawn[1])
        values.copy_(drawn[2])

    @torch.no_grad()
    def values(self, obs: Tensor, values: Tensor) -> None:
        """Fill values [rows]."""
        values.copy_(self.policy(obs.flatten(1).float())[1])

    def gradients(self, batch: Minibatch, buffer: Buffer, train: TrainSettings, ent_coef: float) -> LossSums:
        """Add d loss / d parameters to the policy's gradients; write back ratios and values."""
        place, weights = batch.places(buffer), batch.weights[batch.segments].repeat(buffer.horizon)
        obs = buffer.flat_obs[place].float()
        logprob, entropy, value = self.policy.logprob_entropy(obs, buffer.flat("actions")[place])
        log_ratio = logprob - buffer.flat("logprobs")[place]
        ratio = log_ratio.exp()
        advantage = buffer.flat("advantages")[place]
        if train.normalize_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + TINY)
        clipped = ratio.clamp(1 - train.clip_coef, 1 + train.clip_coef)
        policy_loss = -(weights * torch.minimum(ratio * advantage, clipped * advantage)).mean()

        old_value, target = buffer.flat("values")[place], buffer.flat("returns")[place]
        near = old_value + (value - old_value).clamp(-train.vf_clip_coef, train.vf_clip_coef)
        value_loss = 0.5 * (weights * torch.maximum((value - target) ** 2, (near - target) ** 2)).mean()
        entropy_mean = (weights * entropy).mean()
        loss = policy_loss + train.vf_coef * value_loss - ent_coef * entropy_mean
        loss.backward()

        with torch.no_grad():
            buffer.flat("ratios")[place] = ratio
            buffer.flat("values")[place] = value
            kl = (ratio - 1 - log_ratio).mean()
            outside = ((ratio - 1).abs() > train.clip_coef).float().mean()
            return LossSums(*torch.stack([policy_loss, value_loss, entropy_mean, kl, outside]).tolist())


class _Network(ctypes.Structure):
    """`struct network` of network.c."""

    _fields_ = [(name, _INT) for name in ("inputs", "hidden", "components")] + [
        (name, _POINTER)
        for name in (
            *("sizes", "weight", "bias", "head", "head_bias"),
            *("grad_weight", "grad_bias", "grad_head", "grad_head_bias", "scratch"),
        )
    ]


class _Batch(ctypes.Structure):
    """`struct batch` of network.c."""

    _fields_ = (
        [(name, _INT) for name in ("agents", "count")]
        + [(name, _POINTER) for name in ("segments", "weights", "obs", *_READ, "old_values", *_WRITTEN)]
        + [
            (name, ctypes.c_float)
            for name in (
                *("advantage_mean", "advantage_scale"),
                *("clip", "vf_clip", "vf_coef", "ent_coef", "row_scale"),
            )
        ]
    )


@functools.cache
def _kernels() -> ctypes.CDLL:
    from ocean import build

    library = build.library([Path(__file__).parent / "network.c"])
    library.act.argtypes = [_POINTER, _INT, *[_POINTER] * 6]
    library.moments.argtypes = [_POINTER, _INT, _POINTER]
    library.loss.argtypes = [_POINTER, _POINTER, _INT, _INT, _POINTER, _POINTER]
    library.act.restype = library.moments.restype = library.loss.restype = None
    return library


class FusedNetwork:
    """Large matrix products by torch, everything else in one pass of C. CPU only."""

    def __init__(self, policy: Policy, obs_dtype: torch.dtype = torch.float32) -> None:
        self.policy = policy
        self._library = _kernels()
        # Decided once: torch and C must not alternate in computing one layer.
        self._in_c = policy.obs_size <= FEW_INPUTS and len(policy.weights) == 1 and obs_dtype == torch.float32
        self._weights = [weight.detach() for weight in policy.weights]
        self._biases = [bias.detach() for bias in policy.biases]
        self._hidden = [torch.empty(TILE, policy.hidden) for _ in policy.weights]  # a tile, layer by layer
        self._obs = torch.empty(TILE, policy.obs_size)  # a tile's observations, gathered or converted
        self._sizes = torch.tensor(policy.action_sizes, dtype=torch.int32)
        self._sums = torch.zeros(5, dtype=torch.float64)
        self._moments = torch.zeros(2, dtype=torch.float64)
        heads = (policy.biases[-1], policy.action_head, policy.head_bias)
        self._struct = _Network(
            *(policy.obs_size, policy.hidden, len(policy.action_sizes)),
            self._sizes.data_ptr(),
            *(self._weights[0].data_ptr() if self._in_c else None, *(part.data_ptr() for part in heads)),
            *(_grad(policy.weights[0]).data_ptr(), *(_grad(part).data_ptr() for part in heads)),
            self._hidden[0].data_ptr(),
        )
        self._address = ctypes.addressof(self._struct)

    def act(
        self, obs: Tensor, uniform: Tensor | None, actions: Tensor, logprobs: Tensor, values: Tensor
    ) -> None:
        """Fill actions [rows, components], logprobs and values [rows]; see Policy.act.

        All are contiguous, `obs` [rows, *obs_shape] of any type, `uniform` float32 [rows, components].
        """
        places = (
            uniform.data_ptr() if uniform is not None else None,
            actions.data_ptr(),
            logprobs.data_ptr(),
        )
        self._act(obs, *places, values.data_ptr())

    def values(self, obs: Tensor, values: Tensor) -> None:
        """Fill values [rows]."""
        self._act(obs, None, None, None, values.data_ptr())

    def _act(
        self, obs: Tensor, uniform: int | None, actions: int | None, logprobs: int | None, values: int
    ) -> None:
        rows = obs.shape[0]
        if self._in_c:
            self._library.act(self._address, rows, obs.data_ptr(), None, uniform, actions, logprobs, values)
            return
        components = len(self.policy.action_sizes)
        for start in range(0, rows, TILE):
            pre = self._last_layer(self._rows(obs, start))
            self._library.act(
                self._address,
                pre.shape[0],
                None,
                pre.data_ptr(),
                uniform and uniform + 4 * start * components,
                actions and actions + 4 * start * components,
                logprobs and logprobs + 4 * start,
                values + 4 * start,
            )

    def gradients(self, batch: Minibatch, buffer: Buffer, train: TrainSettings, ent_coef: float) -> LossSums:
        """Add d loss / d parameters to the policy's gradients; write back ratios and values."""
        count = batch.segments.shape[0]
        rows = count * buffer.horizon
        read, written = ([getattr(buffer, name).data_ptr() for name in names] for names in (_READ, _WRITTEN))
        self._old_values = buffer.values.clone()
        where = (batch.segments.data_ptr(), batch.weights.data_ptr(), buffer.obs.data_ptr())
        coefs = (train.clip_coef, train.vf_clip_coef, train.vf_coef, ent_coef, 1.0 / rows)
        struct = _Batch(
            buffer.agents, count, *where, *read, self._old_values.data_ptr(), *written, 0.0, 1.0, *coefs
        )
        address, sums = ctypes.addressof(struct), self._sums
        if train.normalize_advantages:
            self._library.moments(address, buffer.horizon, self._moments.data_ptr())
            struct.advantage_mean, deviation = self._moments.tolist()
            struct.advantage_scale = 1.0 / (deviation + TINY)
        sums.zero_()
        if self._in_c:
            self._library.loss(self._address, address, 0, rows, None, sums.data_ptr())
            return LossSums(*sums.tolist())
        obs, places = buffer.flat_obs[:rows], None if batch.whole else batch.places(buffer)
        for start in range(0, rows, TILE):
            tile = (
                self._rows(obs, start)
                if places is None
                else self._gather(buffer, places[start : start + TILE])
            )
            pre = self._last_layer(tile)
            self._library.loss(self._address, address, start, pre.shape[0], pre.data_ptr(), sums.data_ptr())
            self._backward(tile, pre)
        return LossSums(*sums.tolist())

    def _rows(self, obs: Tensor, start: int) -> Tensor:
        """A tile of consecutive observations, as floats [rows, obs_size]."""
        rows = obs[start : start + TILE].view(-1, self.policy.obs_size)
        return rows if rows.dtype == torch.float32 else self._obs[: rows.shape[0]].copy_(rows)

    def _gather(self, buffer: Buffer, places: Tensor) -> Tensor:
        rows, obs = self._obs[: places.shape[0]], buffer.flat_obs
        if obs.dtype == torch.float32:
            return torch.index_select(obs, 0, places, out=rows)
        return rows.copy_(obs[places])

    def _last_layer(self, obs: Tensor) -> Tensor:
        """The last hidden layer before its bias and ReLU, which the kernels add."""
        for weight, bias, hidden in zip(self._weights, self._biases, self._hidden, strict=True):
            pre = torch.mm(obs, weight, out=hidden[: obs.shape[0]])
            if weight is not self._weights[-1]:
                obs = pre.add_(bias).relu_()
        return pre

    def _backward(self, obs: Tensor, grad: Tensor) -> None:
        """From the gradient of the last layer before bias and ReLU down to the first weights."""
        for layer in reversed(range(len(self._weights))):
            below = self._hidden[layer - 1][: obs.shape[0]] if layer else obs
            _grad(self.policy.weights[layer]).addmm_(below.t(), grad)
            if layer < len(self._weights) - 1:
                _grad(self.policy.biases[layer]).add_(grad.sum(0))
            if layer:
                grad = torch.mm(grad, self._weights[layer].t()).mul_(below > 0)


def _grad(part: Tensor) -> Tensor:
    assert part.grad is not None
    return part.grad


Network = TorchNetwork | FusedNetwork


def make(policy: Policy, obs_dtype: torch.dtype, device: torch.device) -> Network:
    """The fastest form of the network for a device."""
    return FusedNetwork(policy, obs_dtype) if device.type == "cpu" else TorchNetwork(policy)
