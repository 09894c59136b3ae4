"""Running the policy: the fused C form on the CPU, plain torch elsewhere; one face for both.

`act` fills the rollout's buffers, `gradients` adds a minibatch's loss gradients to the policy.
Tests hold the C form (network.c) against the torch form.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from trainer import recurrence
from trainer.buffer import Buffer
from trainer.policy import Policy, hl_gauss
from trainer.settings import TrainSettings

if TYPE_CHECKING:
    from trainer.gpu_network import GpuNetwork

# Rows that pass through the network at once: activations stay in the second-level cache.
TILE = 512
# Rows of whole segments that pass through a minGRU at once.
MINGRU_ROWS = 1024
# Segments that pass through an LSTM at once: its products, step by step, are too small with fewer.
LSTM_SEGMENTS = 64

TINY = 1e-8  # keeps the division by a deviation of nothing finite
# Of normalised rewards, the least deviation that a minibatch's advantages are divided by. Where a task is
# solved they are but noise, and steps along it, at full size, unlearn what was learned.
LEAST_DEVIATION = 0.1

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64
_READ, _WRITTEN = ("actions", "logprobs", "advantages", "returns"), ("values", "ratios")


# A first layer of at most this many inputs is computed by network.c; torch's product is faster above.
FEW_INPUTS = 32


@dataclass
class Minibatch:
    """All steps of some segments, step by step: row i is step i // count of segments[i % count]."""

    segments: Tensor  # [count] int64 columns
    weights: Tensor  # [columns] float32 importance weights
    whole: bool  # segments counts 0, 1, 2, ... all columns: observations need not be gathered


def least_deviation(train: TrainSettings) -> float:
    """What advantages are divided by at least, where they are normalised."""
    return LEAST_DEVIATION if train.normalize_rewards else TINY


def places(buffer: Buffer, segments: Tensor) -> Tensor:
    """[horizon * count] places of segments [count] in the flat buffers."""
    steps = torch.arange(0, buffer.horizon * buffer.columns, buffer.columns, device=segments.device)
    return (steps[:, None] + segments).view(-1)


@dataclass
class LossSums:
    """Means over a minibatch: of the losses with importance weights, as they are followed; of the others, by
    which a policy is judged to have failed, without: one segment of a large weight is to fail none."""

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
        self,
        obs: Tensor,
        draw: Tensor | None,
        actions: Tensor,
        logprobs: Tensor,
        values: Tensor,
        state: Tensor,
        mask: Tensor | None = None,
    ) -> None:
        """Fill actions [rows, components], logprobs and values [rows]; see Policy.act.

        `state` [rows, memory] moves on by a step; `mask` [rows, logits] is 0 for forbidden actions.
        """
        drawn = self.policy.act(obs.flatten(1), draw, state, mask)
        for column, new in zip((actions, logprobs, values, state), drawn, strict=True):
            column.copy_(new)

    @torch.no_grad()
    def values(self, obs: Tensor, values: Tensor, state: Tensor) -> None:
        """Fill values [rows]; the state stays."""
        values.copy_(self.policy.act(obs.flatten(1), None, state)[2])

    def gradients(self, batch: Minibatch, buffer: Buffer, train: TrainSettings, ent_coef: float) -> LossSums:
        """Add d loss / d parameters to the policy's gradients; write back ratios and values."""
        policy, segments = self.policy, batch.segments
        place, weights = places(buffer, segments), batch.weights[segments].repeat(buffer.horizon)
        obs = buffer.obs[:-1, segments].flatten(2)
        hidden, _ = policy.unroll(obs, buffer.states[0, segments], buffer.fresh(segments)[:-1])
        mask = None if buffer.masks is None else buffer.flat("masks")[place]
        logits, value_out = policy(hidden.flatten(0, 1), mask)
        logprob, entropy = policy.logprob_entropy(logits, buffer.flat("actions")[place])
        value = policy.value(value_out)
        log_ratio = logprob - buffer.flat("logprobs")[place]
        ratio = log_ratio.exp()
        advantage = buffer.flat("advantages")[place]
        if train.normalize_advantages:
            deviation = advantage.std(correction=0).clamp(min=least_deviation(train))
            advantage = (advantage - advantage.mean()) / deviation
        clipped = ratio.clamp(1 - train.clip_coef, 1 + train.clip_coef)
        policy_loss = -(weights * torch.minimum(ratio * advantage, clipped * advantage)).mean()

        old_value, target = buffer.flat("values")[place], buffer.flat("returns")[place]
        if policy.bins:
            shares = hl_gauss(target, policy.bins, policy.value_limit)
            value_loss = -(weights[:, None] * shares * value_out.log_softmax(1)).sum(1).mean()
        else:
            near = old_value + (value - old_value).clamp(-train.vf_clip_coef, train.vf_clip_coef)
            value_loss = 0.5 * (weights * torch.maximum((value - target) ** 2, (near - target) ** 2)).mean()
        loss = policy_loss + train.vf_coef * value_loss - ent_coef * (weights * entropy).mean()
        loss.backward()

        with torch.no_grad():
            buffer.flat("ratios")[place] = ratio
            buffer.flat("values")[place] = value
            kl = (ratio - 1 - log_ratio).mean()
            outside = ((ratio - 1).abs() > train.clip_coef).float().mean()
            return LossSums(*torch.stack([policy_loss, value_loss, entropy.mean(), kl, outside]).tolist())


class _Network(ctypes.Structure):
    """`struct network` of network.c."""

    _fields_ = (
        [(name, _INT) for name in ("inputs", "hidden", "components", "bins")]
        + [
            (name, _POINTER)
            for name in (
                *("sizes", "weight", "bias", "head", "head_bias", "log_sd"),
                *("grad_weight", "grad_bias", "grad_head", "grad_head_bias", "grad_log_sd", "scratch"),
            )
        ]
        + [("value_limit", ctypes.c_float)]
    )


class _Batch(ctypes.Structure):
    """`struct batch` of network.c."""

    _fields_ = (
        [(name, _INT) for name in ("agents", "count")]
        + [(name, _POINTER) for name in ("segments", "weights", "obs", "mask")]
        + [(name, _POINTER) for name in (*_READ, "old_values", *_WRITTEN)]
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
    library.act.argtypes = [_POINTER, _INT, *[_POINTER] * 7]
    library.moments.argtypes = [_POINTER, _INT, _POINTER]
    library.loss.argtypes = [_POINTER, _POINTER, _INT, _INT, _POINTER, _POINTER]
    library.hidden_forward.argtypes = [*[_INT] * 2, *[_POINTER] * 2]
    library.hidden_backward.argtypes = [*[_INT] * 2, *[_POINTER] * 3]
    for name in ("act", "moments", "loss", "hidden_forward", "hidden_backward"):
        getattr(library, name).restype = None
    return library


class FusedNetwork:
    """Large matrix products by torch, everything else in one pass of C. CPU only."""

    def __init__(self, policy: Policy, obs_dtype: torch.dtype = torch.float32) -> None:
        self.policy = policy
        self._library = _kernels()
        # Decided once: torch and C must not alternate in computing one layer.
        few = policy.obs_size <= FEW_INPUTS and len(policy.weights) == 1 and obs_dtype == torch.float32
        few = few and policy.table is None
        self._rnn = recurrence.fused(policy.rnn, policy.gates)
        self._in_c = few and self._rnn is None
        self._weights = [weight.detach() for weight in policy.weights]
        self._biases = [bias.detach() for bias in policy.biases]
        self._make_room(TILE)
        self._places = torch.empty(0, dtype=torch.int64)  # an encoder's, of the last observations read
        # A Gaussian's mean is one output, as a choice is.
        self._sizes = torch.tensor(policy.action_sizes or [1] * policy.components, dtype=torch.int32)
        self._sums = torch.zeros(5, dtype=torch.float64)
        self._moments = torch.zeros(2, dtype=torch.float64)
        heads = (policy.biases[-1], policy.action_head, policy.head_bias)
        log_sd = policy.log_sd
        self._struct = _Network(
            *(policy.obs_size, policy.hidden, policy.components, policy.bins),
            self._sizes.data_ptr(),
            self._weights[0].data_ptr() if self._in_c else None,
            # What a recurrent layer gives needs neither bias nor ReLU.
            *(part.data_ptr() if i or self._rnn is None else None for i, part in enumerate(heads)),
            None if log_sd is None else log_sd.data_ptr(),
            *(_grad(policy.weights[0]).data_ptr(), *(_grad(part).data_ptr() for part in heads)),
            None if log_sd is None else _grad(log_sd).data_ptr(),
            *(self._hidden[0].data_ptr(), policy.value_limit),
        )
        self._address = ctypes.addressof(self._struct)

    def _make_room(self, rows: int) -> None:
        """For what passes through at once: activations layer by layer, observations gathered or converted."""
        self._hidden = [torch.empty(rows, self.policy.hidden) for _ in self._weights]
        self._obs = torch.empty(rows, self.policy.obs_size)

    def act(
        self,
        obs: Tensor,
        draw: Tensor | None,
        actions: Tensor,
        logprobs: Tensor,
        values: Tensor,
        state: Tensor,
        mask: Tensor | None = None,
    ) -> None:
        """Fill actions [rows, components], logprobs and values [rows]; see Policy.act.

        All are contiguous, `obs` [rows, *obs_shape] of any type, `draw` float32 [rows, components].
        `state` [rows, memory] moves on by a step; `mask` [rows, logits] is 0 for forbidden actions.
        """
        drawn = (
            draw.data_ptr() if draw is not None else None,
            mask.data_ptr() if mask is not None else None,
            actions.data_ptr(),
            logprobs.data_ptr(),
        )
        self._act(obs, *drawn, values.data_ptr(), state)

    def values(self, obs: Tensor, values: Tensor, state: Tensor) -> None:
        """Fill values [rows]; the state stays."""
        moving = state if self._rnn is None else state.clone()
        self._act(obs, None, None, None, None, values.data_ptr(), moving)

    def _act(
        self,
        obs: Tensor,
        draw: int | None,
        mask: int | None,
        actions: int | None,
        logprobs: int | None,
        values: int,
        state: Tensor,
    ) -> None:
        rows, library = obs.shape[0], self._library
        if self._in_c:
            library.act(self._address, rows, obs.data_ptr(), None, draw, mask, actions, logprobs, values)
            return
        components, logits = self.policy.components, self.policy.logits
        for start in range(0, rows, TILE):
            pre = self._last_layer(self._rows(obs, start))
            if self._rnn is not None:
                pre = self._rnn.step(pre, state[start : start + TILE])
            library.act(
                self._address,
                pre.shape[0],
                None,
                pre.data_ptr(),
                draw and draw + 4 * start * components,
                mask and mask + start * logits,
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
        mask = buffer.masks.data_ptr() if buffer.masks is not None else None
        coefs = (train.clip_coef, train.vf_clip_coef, train.vf_coef, ent_coef, 1.0 / rows)
        struct = _Batch(
            *(buffer.columns, count, *where, mask, *read, self._old_values.data_ptr(), *written),
            *(0.0, 1.0, *coefs),
        )
        address, sums = ctypes.addressof(struct), self._sums
        if train.normalize_advantages:
            self._library.moments(address, buffer.horizon, self._moments.data_ptr())
            struct.advantage_mean, deviation = self._moments.tolist()
            struct.advantage_scale = 1.0 / max(deviation, least_deviation(train))
        sums.zero_()
        if self._in_c:
            self._library.loss(self._address, address, 0, rows, None, sums.data_ptr())
            return LossSums(*sums.tolist())
        if self._rnn is not None:
            self._through_time(self._rnn, batch.segments, buffer, struct)
            return LossSums(*sums.tolist())
        obs, place = buffer.flat_obs[:rows], None if batch.whole else places(buffer, batch.segments)
        for start in range(0, rows, TILE):
            tile = (
                self._rows(obs, start) if place is None else self._gather(buffer, place[start : start + TILE])
            )
            pre = self._last_layer(tile)
            self._library.loss(self._address, address, start, pre.shape[0], pre.data_ptr(), sums.data_ptr())
            self._backward(tile, pre)
        return LossSums(*sums.tolist())

    def _through_time(
        self,
        rnn: recurrence.FusedMinGRU | recurrence.FusedLSTM,
        segments: Tensor,
        buffer: Buffer,
        struct: _Batch,
    ) -> None:
        """Gradients of whole segments, some at a time."""
        at_once = LSTM_SEGMENTS if self.policy.rnn == "lstm" else max(1, MINGRU_ROWS // buffer.horizon)
        if self._obs.shape[0] < at_once * buffer.horizon:
            self._make_room(at_once * buffer.horizon)
        address, sums = ctypes.addressof(struct), self._sums.data_ptr()
        fresh, states = buffer.fresh(segments), buffer.states[0, segments]
        for start in range(0, len(segments), at_once):
            some = segments[start : start + at_once]
            struct.segments, struct.count = some.data_ptr(), len(some)
            tile = self._gather(buffer, places(buffer, some))
            x = self._last_layer(tile)
            cleared = fresh[:-1, start : start + at_once].contiguous()
            out = rnn.forward(x, buffer.horizon, states[start : start + at_once], cleared)
            self._library.loss(self._address, address, 0, out.shape[0], out.data_ptr(), sums)
            self._backward(tile, rnn.backward(out))

    def _rows(self, obs: Tensor, start: int) -> Tensor:
        """A tile of consecutive observations, as floats [rows, obs_size]."""
        return self._read(obs[start : start + TILE].flatten(1))

    def _gather(self, buffer: Buffer, places: Tensor) -> Tensor:
        obs = buffer.flat_obs
        if obs.dtype == torch.float32:
            return torch.index_select(obs, 0, places, out=self._obs[: places.shape[0]])
        return self._read(obs[places])

    def _read(self, rows: Tensor) -> Tensor:
        """Observations as the first layer takes them; what is not taken as it is overwritten by the next."""
        if self.policy.table is not None:
            self._places, table = self.policy.places(rows), self.policy.table.detach()
            out = self._obs[: len(rows)].view(-1, table.shape[1])
            return torch.index_select(table, 0, self._places, out=out).view(len(rows), -1)
        return rows if rows.dtype == torch.float32 else self._obs[: len(rows)].copy_(rows)

    def _last_layer(self, obs: Tensor) -> Tensor:
        """The last hidden layer before its bias and ReLU, which the kernels add; with recurrence after."""
        for weight, bias, hidden in zip(self._weights, self._biases, self._hidden, strict=True):
            obs = pre = torch.mm(obs, weight, out=hidden[: obs.shape[0]])
            if weight is not self._weights[-1] or self._rnn is not None:
                self._library.hidden_forward(*pre.shape, pre.data_ptr(), bias.data_ptr())
        return pre

    def _backward(self, obs: Tensor, grad: Tensor) -> None:
        """From the gradient of what `_last_layer` gave down to the first weights; overwrites it."""
        for layer in reversed(range(len(self._weights))):
            if layer < len(self._weights) - 1 or self._rnn is not None:
                places = (self._hidden[layer], grad, _grad(self.policy.biases[layer]))
                self._library.hidden_backward(*grad.shape, *(place.data_ptr() for place in places))
            below = self._hidden[layer - 1][: obs.shape[0]] if layer else obs
            _grad(self.policy.weights[layer]).addmm_(below.t(), grad)
            if layer:
                grad = torch.mm(grad, self._weights[layer].t())
            elif self.policy.encoder == "embedding":
                assert self.policy.table is not None
                slopes = torch.mm(grad, self._weights[0].t()).view(len(self._places), -1)
                _grad(self.policy.table).index_add_(0, self._places, slopes)


def _grad(part: Tensor) -> Tensor:
    assert part.grad is not None
    return part.grad


Network: TypeAlias = "TorchNetwork | FusedNetwork | GpuNetwork"


def make(policy: Policy, obs_dtype: torch.dtype, device: torch.device) -> TorchNetwork | FusedNetwork:
    """The fastest form of the network for a device."""
    return FusedNetwork(policy, obs_dtype) if device.type == "cpu" else TorchNetwork(policy)
