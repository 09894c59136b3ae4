"""Running the policy: the fused C form on the CPU, plain torch elsewhere; one face for both.

`act` fills the rollout's buffers, `gradients` adds a minibatch's loss gradients to the policy.
Tests hold the C form (network.c) against the torch form.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trainer.buffer import Buffer
from trainer.policy import Policy
from trainer.settings import TrainSettings

# Rows that pass through the network at once: activations stay in the second-level cache.
TILE = 512

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


@dataclass
class Minibatch:
    """Which places of the buffers are trained on, and with which weights."""

    index: Tensor  # [rows] int64 places in [horizon * agents]
    weights: Tensor  # [rows] importance weights
    whole: bool  # index counts 0, 1, 2, ...: observations need not be gathered
    advantage_mean: float
    advantage_scale: float


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
        place = batch.index
        obs = buffer.flat_obs[place].float()
        logprob, entropy, value = self.policy.logprob_entropy(obs, buffer.flat("actions")[place])
        log_ratio = logprob - buffer.flat("logprobs")[place]
        ratio = log_ratio.exp()
        advantage = (buffer.flat("advantages")[place] - batch.advantage_mean) * batch.advantage_scale
        clipped = ratio.clamp(1 - train.clip_coef, 1 + train.clip_coef)
        policy_loss = -(batch.weights * torch.minimum(ratio * advantage, clipped * advantage)).mean()

        old_value, target = buffer.flat("values")[place], buffer.flat("returns")[place]
        near = old_value + (value - old_value).clamp(-train.vf_clip_coef, train.vf_clip_coef)
        value_loss = (
            0.5 * (batch.weights * torch.maximum((value - target) ** 2, (near - target) ** 2)).mean()
        )
        entropy_mean = (batch.weights * entropy).mean()
        loss = policy_loss + train.vf_coef * value_loss - ent_coef * entropy_mean
        loss.backward()  # type: ignore[no-untyped-call]

        with torch.no_grad():
            buffer.flat("ratios")[place] = ratio
            buffer.flat("values")[place] = value
            kl = (ratio - 1 - log_ratio).mean()
            outside = ((ratio - 1).abs() > train.clip_coef).float().mean()
            return LossSums(*torch.stack([policy_loss, value_loss, entropy_mean, kl, outside]).tolist())


class _LossSettings(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_float)
        for name in (
            "advantage_mean",
            "advantage_scale",
            "clip",
            "vf_clip",
            "vf_coef",
            "ent_coef",
            "row_scale",
        )
    ]


@functools.cache
def _kernels() -> ctypes.CDLL:
    from ocean import build

    # Contraction is safe here: every row is computed by the same vector instructions wherever it lies.
    library = build.library([Path(__file__).parent / "network.c"], flags=["-ffp-contract=fast"])
    library.act.argtypes = [_INT, _INT, ctypes.c_int32, *[_POINTER] * 9]
    library.loss.argtypes = [_INT, _INT, ctypes.c_int32, *[_POINTER] * 18]
    library.act.restype = library.loss.restype = None
    return library


@dataclass
class FusedNetwork:
    """Matrix products by torch, everything after the last of them in one pass of C. CPU only."""

    policy: Policy
    _hidden: list[Tensor] = field(init=False)  # a tile's activations, layer by layer
    _obs: Tensor = field(init=False)  # a tile's observations, gathered

    def __post_init__(self) -> None:
        policy = self.policy
        self._library = _kernels()
        self._hidden = [torch.empty(TILE, policy.hidden) for _ in policy.weights]
        self._obs = torch.empty(TILE, policy.obs_size)
        self._weights = [weight.detach() for weight in policy.weights]
        self._biases = [bias.detach() for bias in policy.biases]
        self._sizes = (ctypes.c_int32 * len(policy.action_sizes))(*policy.action_sizes)
        self._shape = (policy.hidden, len(policy.action_sizes), ctypes.addressof(self._sizes))
        self._heads = (
            policy.biases[-1].data_ptr(),
            policy.action_head.data_ptr(),
            policy.head_bias.data_ptr(),
        )
        last_bias, head, head_bias = policy.biases[-1].grad, policy.action_head.grad, policy.head_bias.grad
        assert last_bias is not None and head is not None and head_bias is not None
        self._head_grads = (last_bias.data_ptr(), head.data_ptr(), head_bias.data_ptr())
        self._sums = torch.zeros(5, dtype=torch.float64)

    def act(
        self, obs: Tensor, uniform: Tensor | None, actions: Tensor, logprobs: Tensor, values: Tensor
    ) -> None:
        """Fill actions [rows, components], logprobs and values [rows]; see Policy.act."""
        components = len(self.policy.action_sizes)
        for start in range(0, len(obs), TILE):
            pre = self._last_layer(self._rows(obs, start))
            self._library.act(
                len(pre),
                *self._shape,
                pre.data_ptr(),
                *self._heads,
                None if uniform is None else uniform.data_ptr() + 4 * start * components,
                actions.data_ptr() + 4 * start * components,
                logprobs.data_ptr() + 4 * start,
                values.data_ptr() + 4 * start,
            )

    def values(self, obs: Tensor, values: Tensor) -> None:
        """Fill values [rows]."""
        for start in range(0, len(obs), TILE):
            pre = self._last_layer(self._rows(obs, start))
            target = values.data_ptr() + 4 * start
            self._library.act(
                len(pre), *self._shape, pre.data_ptr(), *self._heads, None, None, None, target
            )

    def gradients(self, batch: Minibatch, buffer: Buffer, train: TrainSettings, ent_coef: float) -> LossSums:
        """Add d loss / d parameters to the policy's gradients; write back ratios and values."""
        rows = len(batch.index)
        settings = _LossSettings(
            batch.advantage_mean,
            batch.advantage_scale,
            train.clip_coef,
            train.vf_clip_coef,
            train.vf_coef,
            ent_coef,
            1.0 / rows,
        )
        columns = [
            buffer.flat(name).data_ptr()
            for name in ("actions", "logprobs", "advantages", "returns", "values", "ratios")
        ]
        self._sums.zero_()
        for start in range(0, rows, TILE):
            if batch.whole:
                obs = self._rows(buffer.flat_obs[:rows], start)
            else:
                obs = self._gather(buffer.flat_obs, batch.index[start : start + TILE])
            pre = self._last_layer(obs)
            self._library.loss(
                len(pre),
                *self._shape,
                pre.data_ptr(),
                *self._heads,
                batch.index.data_ptr() + 8 * start,
                batch.weights.data_ptr() + 4 * start,
                *columns,
                ctypes.addressof(settings),
                *self._head_grads,
                self._sums.data_ptr(),
            )
            self._backward(obs, pre)
        return LossSums(*self._sums.tolist())

    def _rows(self, obs: Tensor, start: int) -> Tensor:
        """A tile of consecutive observations, as floats [rows, obs_size]."""
        rows = obs[start : start + TILE].view(-1, self.policy.obs_size)
        return rows if rows.dtype == torch.float32 else self._obs[: len(rows)].copy_(rows)

    def _gather(self, obs: Tensor, index: Tensor) -> Tensor:
        rows = self._obs[: len(index)]
        if obs.dtype == torch.float32:
            return torch.index_select(obs, 0, index, out=rows)
        return rows.copy_(obs[index])

    def _last_layer(self, obs: Tensor) -> Tensor:
        """The last hidden layer before its bias and ReLU, which the kernels add."""
        for weight, bias, hidden in zip(self._weights, self._biases, self._hidden, strict=True):
            pre = torch.mm(obs, weight, out=hidden[: len(obs)])
            if weight is not self._weights[-1]:
                obs = pre.add_(bias).relu_()
        return pre

    def _backward(self, obs: Tensor, grad: Tensor) -> None:
        """From the gradient of the last layer before bias and ReLU down to the first weights."""
        for layer in reversed(range(len(self._weights))):
            below = self._hidden[layer - 1][: len(obs)] if layer else obs
            weight_grad, bias_grad = self.policy.weights[layer].grad, self.policy.biases[layer].grad
            assert weight_grad is not None and bias_grad is not None
            weight_grad.addmm_(below.t(), grad)
            if layer < len(self._weights) - 1:
                bias_grad.add_(grad.sum(0))
            if layer:
                grad = torch.mm(grad, self._weights[layer].t()).mul_(below > 0)


Network = TorchNetwork | FusedNetwork


def make(policy: Policy, device: torch.device) -> Network:
    """The fastest form of the network for a device."""
    return FusedNetwork(policy) if device.type == "cpu" else TorchNetwork(policy)
