"""The advantage recurrence: its three forms, and what it must do at the ends of episodes and rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trainer import advantage, gpu

FACTORS = (0.97, 0.8, 0.9, 1.3)  # gamma, lambda, rho_clip, c_clip
SIZES = [(1, 1), (7, 1), (1, 33), (13, 5), (64, 257)]


def make_rows(horizon: int, agents: int, device: str = "cpu") -> advantage.Rows:
    """Random rows with every kind of boundary, and ratios on both sides of the clips."""
    generator = torch.Generator().manual_seed(100 * horizon + agents)

    def normal(rows: int = horizon) -> torch.Tensor:
        return torch.randn(rows, agents, generator=generator).to(device)

    def flags() -> torch.Tensor:
        return (torch.rand(horizon, agents, generator=generator) < 0.2).to(torch.uint8).to(device)

    ratios = (0.5 * normal()).exp()
    return advantage.Rows(
        normal(),
        flags(),
        flags(),
        normal(horizon + 1),
        normal(),
        ratios,
        torch.empty_like(ratios),
        torch.empty_like(ratios),
    )


def one_agent(rewards: list[float], values: list[float], **changes: list[float]) -> advantage.Rows:
    """A single agent's row of [horizon] rewards and [horizon + 1] values; ratios 1, nothing ends."""

    def column(numbers: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor(numbers, dtype=dtype)[:, None].contiguous()

    nothing = [0.0] * len(rewards)
    return advantage.Rows(
        column(rewards),
        column(changes.get("terminals", nothing), torch.uint8),
        column(changes.get("truncations", nothing), torch.uint8),
        column(values),
        column(changes.get("final_values", nothing)),
        column(changes.get("ratios", [1.0] * len(rewards))),
        column(nothing),
        column(nothing),
    )


def test_a_negative_gamma_is_the_other_sides_future() -> None:
    rows = one_agent([0.0, 0.0, 1.0], [0.5, -0.25, 0.5, 9.0], terminals=[0.0, 0.0, 1.0])
    for form in (advantage.reference, advantage.compute):
        form(rows, -1.0, 1.0, 1.0, 1.0)
        assert rows.returns[:, 0].tolist() == [1.0, -1.0, 1.0]  # who moves first wins


def compare(device: str, form: Callable[..., None]) -> None:
    for horizon, agents in SIZES:
        rows = make_rows(horizon, agents, device)
        advantage.reference(rows, *FACTORS)
        expected = rows.advantages.clone(), rows.returns.clone()
        rows.advantages.fill_(torch.nan), rows.returns.fill_(torch.nan)
        form(rows, *FACTORS)
        torch.testing.assert_close((rows.advantages, rows.returns), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", [advantage.compute, advantage.compute_kernel], ids=["c", "emulated kernel"])
def test_every_form_is_the_reference(form: Callable[..., None]) -> None:
    compare("cpu", form)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or gpu.compiler() is None, reason="needs a GPU and nvcc")
def test_cuda_is_the_reference() -> None:
    compare("cuda", advantage.compute)


def test_with_ratios_one_and_lambda_one_advantages_are_discounted_sums() -> None:
    rows = one_agent([1.0, 2.0, 4.0], [0.5, 0.25, 0.125, 8.0])
    advantage.compute(rows, 0.5, 1.0, 1.0, 1.0)
    returns = [1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 8)), 2 + 0.5 * (4 + 0.5 * 8), 4 + 0.5 * 8]
    assert rows.returns[:, 0].tolist() == pytest.approx(returns)


def test_a_terminal_cuts_the_return_and_a_truncation_bootstraps_from_the_final_observation() -> None:
    ends = one_agent([1.0, 1.0], [0.0, 5.0, 7.0], terminals=[1.0, 0.0], final_values=[3.0, 0.0])
    advantage.compute(ends, 0.5, 1.0, 1.0, 1.0)
    assert ends.returns[0, 0] == 1.0
    cut = one_agent([1.0, 1.0], [0.0, 5.0, 7.0], truncations=[1.0, 0.0], final_values=[3.0, 0.0])
    advantage.compute(cut, 0.5, 1.0, 1.0, 1.0)
    assert cut.returns[0, 0] == 1.0 + 0.5 * 3.0


def test_ratios_are_clipped_each_at_its_own_limit() -> None:
    rows = one_agent([1.0, 1.0], [0.0, 0.0, 0.0], ratios=[4.0, 4.0])
    advantage.compute(rows, 1.0, 1.0, 2.0, 3.0)
    assert rows.advantages[:, 0].tolist() == [2.0 + 3.0 * 2.0, 2.0]
