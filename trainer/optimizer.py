"""The optimisers: Muon for matrices with Adam for the rest, or Adam for all.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest orthogonal one, so that a step
moves every direction equally far. Both are here in plain torch for a GPU; on the CPU optimizer.c does
the same in one call a matrix, since for small networks torch's calls cost more than the arithmetic.
Tests hold Muon against torch.optim.Muon and Adam against torch.optim.Adam.
"""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path

import torch
from torch import Tensor

from trainer.policy import Policy
from trainer.settings import TrainSettings

BETA2 = 0.999
EPSILON = 1e-5  # of Adam, as PPO uses it
ITERATIONS = 5  # of Newton-Schulz
# The few parameters that are no matrices follow Adam, whose good steps are about this much smaller.
ADAM_SHARE = 0.1

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


def muon_reference(
    weight: Tensor, grad: Tensor, buffer: Tensor, rate: float | Tensor, momentum: float
) -> None:
    """One step of Muon on `weight` [inputs, outputs] in place; `buffer` is its momentum."""
    buffer.lerp_(grad, 1 - momentum)
    x = grad.lerp(buffer, momentum)
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):  # Newton-Schulz: singular values move towards 1 by an odd polynomial
        gram = x @ x.t()
        even = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, even, x, beta=3.4445)
    weight.sub_((x.t() if tall else x) * rate)


def adam_reference(
    weight: Tensor, grad: Tensor, mean: Tensor, square: Tensor, step: int, rate: float, momentum: float
) -> None:
    """One step of Adam in place; `step` counts from 1."""
    mean.lerp_(grad, 1 - momentum)
    square.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    deviation = (square / (1 - BETA2**step)).sqrt_().add_(EPSILON)
    weight.addcdiv_(mean, deviation, value=-rate / (1 - momentum**step))


@functools.cache
def _kernels() -> ctypes.CDLL:
    from ocean import build

    library = build.library([Path(__file__).parent / "optimizer.c"])
    library.norm.argtypes, library.norm.restype = [_INT, _POINTER], ctypes.c_double
    library.scale.argtypes, library.scale.restype = [_INT, _FLOAT, _POINTER], None
    library.adam.argtypes = [_INT, *[_POINTER] * 4, _INT, *[_FLOAT] * 4]
    library.muon.argtypes = [_INT, _INT, *[_POINTER] * 3, _FLOAT, _FLOAT, _INT, _POINTER]
    library.adam.restype = library.muon.restype = None
    return library


class Optimizer:
    """Steps a policy's parameters along its gradients. `state` is all it remembers."""

    def __init__(self, policy: Policy, train: TrainSettings) -> None:
        self.policy, self.momentum, self.steps = policy, float(train.momentum), 0
        self.mean, self.square = torch.zeros_like(policy.flat), torch.zeros_like(policy.flat)
        self._kernels = _kernels() if policy.flat.device.type == "cpu" else None
        # (offset, inputs, outputs, factor of the rate) of every matrix; and the rest by (offset, size)
        self.matrices: list[tuple[int, int, int, float]] = []
        self.others: list[tuple[int, int, float]] = []
        offset = 0
        for part in policy.parts:
            if train.optimizer == "adam":
                self.others.append((offset, part.numel(), 1.0))
            elif part.dim() == 2 and part is not policy.table:  # rows of a table are no directions
                # Heads are stored [outputs, inputs], all other weights [inputs, outputs].
                head = part is policy.action_head or part is policy.value_head
                inputs, outputs = part.shape[::-1] if head else part.shape
                self.matrices.append((offset, *part.shape, math.sqrt(max(1.0, outputs / inputs))))
            else:
                self.others.append((offset, part.numel(), ADAM_SHARE))
            offset += part.numel()
        if train.optimizer == "adam":
            self.others = [(0, offset, 1.0)]
        sides = [sorted((rows + 15) // 16 * 16 for rows in shape[1:3]) for shape in self.matrices]
        self._scratch = torch.empty(max((2 * (m * n + m * m) for m, n in sides), default=0))

    def gradient_norm(self) -> float:
        """Length of all gradients together."""
        grad = self.policy.flat_grad
        if self._kernels is None:
            return float(grad.norm())
        return float(self._kernels.norm(grad.numel(), grad.data_ptr()))

    def step(self, learning_rate: float, shrink: float = 1.0) -> None:
        """One step; the gradients are multiplied by `shrink` before it."""
        self.steps += 1
        if self._kernels is None:
            self._step_torch(learning_rate, shrink)
        else:
            self._step_c(self._kernels, learning_rate, shrink)

    @torch.no_grad()
    def _step_torch(self, learning_rate: float, shrink: float) -> None:
        policy = self.policy
        policy.flat_grad.mul_(shrink)
        for offset, rows, columns, factor in self.matrices:
            weight, grad, buffer = (
                flat[offset : offset + rows * columns].view(rows, columns)
                for flat in (policy.flat, policy.flat_grad, self.mean)
            )
            muon_reference(weight, grad, buffer, learning_rate * factor, self.momentum)
        for offset, size, factor in self.others:
            weight, grad, mean, square = (
                flat[offset : offset + size]
                for flat in (policy.flat, policy.flat_grad, self.mean, self.square)
            )
            adam_reference(weight, grad, mean, square, self.steps, learning_rate * factor, self.momentum)

    def _step_c(self, kernels: ctypes.CDLL, learning_rate: float, shrink: float) -> None:
        flats = (self.policy.flat, self.policy.flat_grad, self.mean, self.square)
        weight, grad, mean, square = (flat.data_ptr() for flat in flats)
        if shrink != 1.0:
            kernels.scale(self.policy.flat.numel(), shrink, grad)
        scratch, momentum = self._scratch.data_ptr(), self.momentum
        for offset, rows, columns, factor in self.matrices:
            places = (start + 4 * offset for start in (weight, grad, mean))
            kernels.muon(rows, columns, *places, learning_rate * factor, momentum, ITERATIONS, scratch)
        for offset, size, factor in self.others:
            places = (start + 4 * offset for start in (weight, grad, mean, square))
            kernels.adam(size, *places, self.steps, learning_rate * factor, momentum, BETA2, EPSILON)
