"""Advantages: one recurrence in three forms that agree (plain torch, C, CUDA), chosen by the device.

For every agent, from the last step backwards, with rho = min(ratio, rho_clip), c = min(ratio, c_clip):

    delta_t = rho_t * (r_t + gamma * (1 - terminal_t) * V_next_t - V_t)
    A_t     = delta_t + gamma * lambda * c_t * (1 - terminal_t) * (1 - truncation_t) * A_{t+1}
    R_t     = A_t + V_t

V_next is the value of the next observation, or of the episode's final observation where it was
truncated; the row's end is bootstrapped from the observation after it. With ratios 1 this is
generalised advantage estimation (Schulman et al. 2016), with lambda 1 V-trace (Espeholt et al. 2018).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import gpu

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS: list[Any] = [_INT, _INT, *[_POINTER] * 6, *[_FLOAT] * 4, _POINTER, _POINTER]


@dataclass
class Rows:
    """What the recurrence reads and writes, time-major; contiguous, on one device."""

    rewards: Tensor  # [horizon, agents] float32
    terminals: Tensor  # [horizon, agents] uint8
    truncations: Tensor  # [horizon, agents] uint8
    values: Tensor  # [horizon + 1, agents] float32, the last row of the observation after the rollout
    final_values: Tensor  # [horizon, agents] float32, read where truncations is set
    ratios: Tensor  # [horizon, agents] float32
    advantages: Tensor  # [horizon, agents] float32, written
    returns: Tensor  # [horizon, agents] float32, written


def reference(rows: Rows, gamma: float, gae_lambda: float, rho_clip: float, c_clip: float) -> None:
    """The recurrence in plain torch, on any device: what the other forms are held against."""
    later = torch.zeros_like(rows.advantages[0])
    for t in reversed(range(rows.rewards.shape[0])):
        rho, c = rows.ratios[t].clamp(max=rho_clip), rows.ratios[t].clamp(max=c_clip)
        alive = 1.0 - rows.terminals[t].float()
        unbroken = alive * (1.0 - rows.truncations[t].float())
        bootstrap = torch.where(rows.truncations[t].bool(), rows.final_values[t], rows.values[t + 1])
        delta = rho * (rows.rewards[t] + gamma * alive * bootstrap - rows.values[t])
        later = delta + gamma * gae_lambda * c * unbroken * later
        rows.advantages[t] = later
        rows.returns[t] = later + rows.values[t]


def compute(rows: Rows, gamma: float, gae_lambda: float, rho_clip: float, c_clip: float) -> None:
    """Fill `rows.advantages` and `rows.returns` by the fastest form there is for their device."""
    if rows.rewards.device.type == "cpu":
        _compute_c(rows, gamma, gae_lambda, rho_clip, c_clip)
    elif gpu.serves(rows.rewards.device):
        compute_kernel(rows, gamma, gae_lambda, rho_clip, c_clip)
    else:
        reference(rows, gamma, gae_lambda, rho_clip, c_clip)


def prepare(device: torch.device) -> None:
    """Compile or find the kernel for a device, so that no training second is spent on it."""
    zeros = torch.zeros(1, 1, device=device)
    flags = torch.zeros(1, 1, dtype=torch.uint8, device=device)
    values = torch.zeros(2, 1, device=device)
    compute(Rows(zeros, flags, flags, values, zeros, zeros, zeros.clone(), zeros.clone()), 0.0, 0.0, 1.0, 1.0)


def _arguments(rows: Rows) -> list[int]:
    """Horizon, agents and the addresses that the C form reads, after making sure of the layout."""
    horizon, agents = rows.rewards.shape
    floats = (rows.rewards, rows.final_values, rows.ratios, rows.advantages, rows.returns)
    flags = (rows.terminals, rows.truncations)
    assert all(x.shape == (horizon, agents) for x in (*floats, *flags)), "rows must share one shape"
    assert rows.values.shape == (horizon + 1, agents), "values needs a row after the rollout"
    assert all(x.dtype == torch.float32 and x.is_contiguous() for x in (*floats, rows.values))
    assert all(x.dtype == torch.uint8 and x.is_contiguous() for x in flags)
    read = (rows.rewards, *flags, rows.values, rows.final_values, rows.ratios)
    return [horizon, agents, *(x.data_ptr() for x in read)]


@functools.cache
def _c_kernel() -> Callable[..., None]:
    from ocean import build

    kernel = build.library([Path(__file__).parent / "advantage.c"]).advantage_rows
    kernel.argtypes, kernel.restype = _ARGUMENTS, None
    return kernel


def _compute_c(rows: Rows, *factors: float) -> None:
    _c_kernel()(*_arguments(rows), *factors, rows.advantages.data_ptr(), rows.returns.data_ptr())


@functools.cache
def _kernels(device: torch.device) -> gpu.Kernels:
    return gpu.load("advantage.cu", device)


def compute_kernel(rows: Rows, *factors: float) -> None:
    """The CUDA form on a GPU; on the processor its emulation, for tests."""
    _arguments(rows)
    read = (rows.rewards, rows.terminals, rows.truncations, rows.values, rows.final_values, rows.ratios)
    written = (rows.advantages, rows.returns)
    kernels = _kernels(rows.rewards.device)
    kernels.advantage_rows(*rows.rewards.shape, *read, *map(float, factors), *written)
