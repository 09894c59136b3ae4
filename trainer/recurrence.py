"""Recurrent layers: minGRU and LSTM, each in plain torch (any device) and with C kernels (CPU).

minGRU (Feng et al. 2024, "Were RNNs all we needed?") has gates of the input alone, so that its states
are a scan, here with an output gate that lets the input pass where memory is not asked for:

    z_t, c_t, o_t = sigmoid(x_t W_z + b_z), x_t W_c + b_c, sigmoid(x_t W_o + b_o)
    h_t = (1 - z_t) h_{t-1} + z_t c_t
    y_t = o_t h_t + (1 - o_t) x_t

LSTM (Hochreiter and Schmidhuber 1997) is torch.nn.LSTM's, its state the output beside the cell.
The state before a step is cleared where an episode ended: the argument `fresh`.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

STATES = {"none": 0, "mingru": 1, "lstm": 2}  # numbers that a unit carries from step to step

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


def shapes(rnn: str, units: int) -> list[tuple[int, ...]]:
    """Of the layer's parameters: matrices [inputs, gates * units], then the bias."""
    if rnn == "mingru":
        return [(units, 3 * units), (3 * units,)]
    return [(units, 4 * units), (units, 4 * units), (4 * units,)] if rnn == "lstm" else []


def first_bias(rnn: str, bias: Tensor) -> None:
    """Fill the bias so that a new layer remembers: minGRU from one step to dozens, unit by unit."""
    if rnn == "mingru":
        units = bias.shape[0] // 3
        # 1 - sigmoid(b) is kept each step: memories of 1 / sigmoid(b) steps (Tallec and Ollivier 2018)
        bias[:units] = torch.linspace(0.0, -4.0, units)
    else:
        units = bias.shape[0] // 4
        bias[units : 2 * units] = 1.0  # the forget gate


def scan(factors: Tensor, terms: Tensor, start: Tensor) -> Tensor:
    """h_t = factors_t * h_{t-1} + terms_t from h_{-1} = start, over the first dimension of all at once.

    Pairs of steps, of pairs, and so on: log2(steps) sweeps (Hillis and Steele 1986).
    """
    terms = torch.cat([terms[:1] + factors[:1] * start, terms[1:]])
    reach = 1
    while reach < len(terms):
        terms = torch.cat([terms[:reach], terms[reach:] + factors[reach:] * terms[:-reach]])
        factors = torch.cat([factors[:reach], factors[reach:] * factors[:-reach]])
        reach *= 2
    return terms


def mingru(x: Tensor, state: Tensor, fresh: Tensor | None, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Outputs and states [steps, rows, units] of `x` [steps, rows, units] from `state` [rows, units]."""
    weight, bias = parts
    gate, candidate, opening = (x @ weight + bias).chunk(3, -1)
    gate, opening = gate.sigmoid(), opening.sigmoid()
    keep = 1 - gate if fresh is None else (1 - gate) * (fresh == 0)[..., None]
    states = scan(keep, gate * candidate, state)
    return opening * states + (1 - opening) * x, states


def lstm(x: Tensor, state: Tensor, fresh: Tensor | None, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Outputs [steps, rows, units] and states [steps, rows, 2 units] from `state` [rows, 2 units]."""
    weight, recurrent, bias = parts
    products, states = x @ weight + bias, []
    for t, product in enumerate(products):
        if fresh is not None:
            state = state * (fresh[t] == 0)[:, None]
        h, cell = state.chunk(2, -1)
        enter, forget, candidate, opening = (product + h @ recurrent).chunk(4, -1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        state = torch.cat([opening.sigmoid() * cell.tanh(), cell], -1)
        states.append(state)
    stacked = torch.stack(states)
    return stacked[..., : x.shape[-1]], stacked


REFERENCES: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"mingru": mingru, "lstm": lstm}


@functools.cache
def _kernels() -> ctypes.CDLL:
    from ocean import build

    library = build.library([Path(__file__).parent / "recurrence.c"])
    library.mingru_forward.argtypes = [*[_INT] * 3, *[_POINTER] * 7]
    library.mingru_backward.argtypes = [*[_INT] * 3, *[_POINTER] * 7]
    library.lstm_forward.argtypes = [*[_INT] * 2, *[_POINTER] * 6]
    library.lstm_backward.argtypes = [*[_INT] * 2, *[_POINTER] * 6]
    for name in ("mingru_forward", "mingru_backward", "lstm_forward", "lstm_backward"):
        getattr(library, name).restype = None
    return library


class Fused:
    """A layer on the CPU: `step` for the rollout; `forward`, then `backward`, for a minibatch.

    Products by torch over all steps at once where there is no recurrence in them, the rest in C. All
    tensors are contiguous float32, `fresh` uint8. What is given out is overwritten by the next call.
    """

    STATE: int  # numbers of state a unit

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._parts = [part.detach() for part in parts]
        self._grads = [part.grad for part in parts]
        self._library, self.units = _kernels(), parts[0].shape[0]
        self._gates = self._out = self._states = torch.empty(0, 0)

    def _make_room(self, steps: int, rows: int) -> None:
        """Scratch is made once for the largest minibatch."""
        if self._gates.shape[0] < steps * rows:
            self._gates = torch.empty(steps * rows, self._parts[0].shape[1])
            self._out = torch.empty(steps * rows, self.units)
        if self._states.numel() < (steps + 1) * rows * self.STATE * self.units:
            self._states = torch.empty((steps + 1) * rows * self.STATE * self.units)

    def _add_gradients(self, x: Tensor, gates: Tensor) -> None:
        weight, bias = self._grads[0], self._grads[-1]
        assert weight is not None
        assert bias is not None
        weight.addmm_(x.t(), gates)
        bias.add_(gates.sum(0))


class FusedMinGRU(Fused):
    """`mingru` above."""

    STATE = 1

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """Outputs [rows, units]; `state` [rows, units] moves on in place."""
        return self._run(x, 1, state, None, state)

    def forward(self, x: Tensor, steps: int, state: Tensor, fresh: Tensor) -> Tensor:
        """Outputs [steps * rows, units] of `x`, alike, from `state` [rows, units]; fresh [steps, rows]."""
        self._make_room(steps, state.shape[0])
        self._given = x, steps, state, fresh
        return self._run(x, steps, state, fresh, self._states)

    def _run(self, x: Tensor, steps: int, state: Tensor, fresh: Tensor | None, states: Tensor) -> Tensor:
        rows = state.shape[0]
        self._make_room(steps, rows)
        weight, bias = self._parts
        gates = torch.mm(x, weight, out=self._gates[: steps * rows])
        out = self._out[: steps * rows]
        read = (x, gates, bias, state)
        self._library.mingru_forward(
            *(steps, rows, self.units, *(part.data_ptr() for part in read)),
            *(fresh.data_ptr() if fresh is not None else None, states.data_ptr(), out.data_ptr()),
        )
        return out

    def backward(self, slopes: Tensor) -> Tensor:
        """From d loss / d outputs of the last `forward` to d loss / d x, in place; adds to the gradients."""
        x, steps, state, fresh = self._given
        gates, carry = self._gates[: len(x)], torch.zeros_like(state)
        places = (x, gates, state, fresh, self._states, slopes, carry)
        self._library.mingru_backward(
            *(steps, state.shape[0], self.units, *(part.data_ptr() for part in places))
        )
        self._add_gradients(x, gates)
        return slopes.addmm_(gates, self._parts[0].t())


class FusedLSTM(Fused):
    """`lstm` above."""

    STATE = 2

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """Outputs [rows, units]; `state` [rows, 2 units] moves on in place."""
        rows = state.shape[0]
        self._make_room(1, rows)
        weight, recurrent, bias = self._parts
        gates = torch.mm(x, weight, out=self._gates[:rows]).addmm_(state[:, : self.units], recurrent)
        out = self._out[:rows]
        self._library.lstm_forward(
            *(rows, self.units, gates.data_ptr(), bias.data_ptr(), state.data_ptr(), None),
            *(state.data_ptr(), out.data_ptr()),
        )
        return out

    def forward(self, x: Tensor, steps: int, state: Tensor, fresh: Tensor) -> Tensor:
        """Outputs [steps * rows, units] of `x`, alike, from `state` [rows, 2 units]; fresh [steps, rows]."""
        rows = state.shape[0]
        self._make_room(steps, rows)
        self._given = x, steps, fresh
        weight, recurrent, bias = self._parts
        gates = torch.mm(x, weight, out=self._gates[: steps * rows]).view(steps, rows, -1)
        out = self._out[: steps * rows].view(steps, rows, -1)
        states = self._befores(steps, rows)
        torch.mul(state, (fresh[0] == 0)[:, None], out=states[0])
        for t in range(steps):
            gates[t].addmm_(states[t, :, : self.units], recurrent)
            cleared = fresh[t + 1].data_ptr() if t + 1 < steps else None
            self._library.lstm_forward(
                *(rows, self.units, gates[t].data_ptr(), bias.data_ptr(), states[t].data_ptr(), cleared),
                *(states[t + 1].data_ptr(), out[t].data_ptr()),
            )
        return out.view(steps * rows, -1)

    def _befores(self, steps: int, rows: int) -> Tensor:
        """The states before each step, cleared where an episode ended, and the one after the last."""
        size = (steps + 1) * rows * 2 * self.units
        return self._states[:size].view(steps + 1, rows, 2 * self.units)

    def backward(self, slopes: Tensor) -> Tensor:
        """From d loss / d outputs of the last `forward` to d loss / d x, in place; adds to the gradients."""
        x, steps, fresh = self._given
        rows = x.shape[0] // steps
        weight, recurrent, _ = self._parts
        gates, states = self._gates[: len(x)].view(steps, rows, -1), self._befores(steps, rows)
        carry_h, carry_c = torch.zeros(rows, self.units), torch.zeros(rows, self.units)
        by_step = slopes.view(steps, rows, -1)
        for t in reversed(range(steps)):
            cleared = fresh[t + 1].data_ptr() if t + 1 < steps else None
            self._library.lstm_backward(
                *(rows, self.units, gates[t].data_ptr(), states[t].data_ptr(), cleared),
                *(by_step[t].data_ptr(), carry_h.data_ptr(), carry_c.data_ptr()),
            )
            torch.mm(gates[t], recurrent.t(), out=carry_h)
        flat, befores = gates.view(steps * rows, -1), states[:steps].view(steps * rows, -1)
        self._add_gradients(x, flat)
        grad = self._grads[1]
        assert grad is not None
        grad.addmm_(befores[:, : self.units].t(), flat)
        return torch.mm(flat, weight.t(), out=slopes)


def fused(rnn: str, parts: Sequence[Tensor]) -> FusedMinGRU | FusedLSTM | None:
    """The layer's fast form on the CPU; None without recurrence."""
    return {"none": lambda _: None, "mingru": FusedMinGRU, "lstm": FusedLSTM}[rnn](parts)
