"""The optimisers against torch's own, on the CPU's kernels and in plain torch."""

from __future__ import annotations

import pytest
import torch

from trainer.optimizer import EPSILON, Optimizer, adam_reference, muon_reference
from trainer.policy import Policy
from trainer.settings import PolicySettings, TrainSettings


def make_policy() -> Policy:
    return Policy(5, (3,), PolicySettings(hidden=48, layers=2), torch.Generator().manual_seed(0))


def follow(optimizer: Optimizer, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.policy.flat_grad.normal_(generator=generator)
        optimizer.step(0.01, shrink=0.5)


@pytest.mark.parametrize("kind", ["muon", "adam"])
def test_kernels_step_as_plain_torch_does(kind: str) -> None:
    results = []
    for in_c in (True, False):
        optimizer = Optimizer(make_policy(), TrainSettings(optimizer=kind))
        if not in_c:
            optimizer._kernels = None
        follow(optimizer)
        results.append(optimizer.policy.flat.clone())
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["muon", "adam"])
def test_what_gets_no_gradient_any_more_fades_to_zero_and_not_to_denormal_numbers(kind: str) -> None:
    """A processor takes a hundred times as long to multiply these."""
    optimizer = Optimizer(make_policy(), TrainSettings(optimizer=kind))
    follow(optimizer)
    grad = optimizer.policy.flat_grad
    grad[::3] = 0.0
    for _ in range(1750):  # 0.95 to this power is below the least normal number, 1.2e-38
        optimizer.step(0.01)
    assert (optimizer.mean[::3] == 0).all()
    torch.testing.assert_close(optimizer.mean[1::3], grad[1::3])


@pytest.mark.parametrize("shape", [(118, 128), (4, 128), (128, 7), (1, 33)])
def test_muon_goes_where_torch_goes(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)
    ours, momentum = torch.zeros(shape), torch.zeros(shape)
    theirs = torch.nn.Parameter(torch.zeros(shape))
    optimizer = torch.optim.Muon([theirs], lr=0.1, momentum=0.95, weight_decay=0.0)
    for _ in range(3):
        theirs.grad = torch.randn(shape, generator=generator)
        optimizer.step()
        rate = 0.1 * max(1.0, shape[0] / shape[1]) ** 0.5  # torch's factor for [outputs, inputs]
        muon_reference(ours, theirs.grad, momentum, rate, 0.95)
    # torch computes in bfloat16, which has three digits
    assert (ours - theirs.detach()).norm() < 0.03 * theirs.detach().norm()


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(3)
    ours, mean, square = torch.zeros(50), torch.zeros(50), torch.zeros(50)
    theirs = torch.nn.Parameter(torch.zeros(50))
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.999), eps=EPSILON)
    for step in range(1, 5):
        theirs.grad = torch.randn(50, generator=generator)
        optimizer.step()
        adam_reference(ours, theirs.grad, mean, square, step, 0.1, 0.9)
    torch.testing.assert_close(ours, theirs.detach())
