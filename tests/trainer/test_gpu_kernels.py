"""The kernels of `cuda/` one by one: boundaries, bounds, order, errors. On the GPU where there is one,
else emulated. What they compute as a whole, test_network.py and test_advantage.py compare."""

from __future__ import annotations

import pytest
import torch

from trainer import gpu, recurrence
from trainer.gpu_training import Draws
from trainer.optimizer import BETA2, EPSILON, adam_reference

ON_GPU = torch.cuda.is_available() and gpu.compiler() is not None
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not ON_GPU, reason="needs a GPU and nvcc")]
    ),
]
GUARD = 64


def guarded(*shape: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Poisoned memory for `shape`, and the larger tensor that it lies in the middle of."""
    size = torch.Size(shape).numel()
    whole = torch.full((size + 2 * GUARD,), 77.0, device=device)
    return whole[GUARD : GUARD + size].view(shape), whole


def untouched(whole: torch.Tensor) -> bool:
    return bool((whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("steps", "rows", "units"), [(1, 1, 1), (1, 33, 16), (7, 1, 5), (13, 19, 48)])
def test_the_scan_is_the_reference_forwards_and_backwards(
    steps: int, rows: int, units: int, device: str
) -> None:
    generator = torch.Generator().manual_seed(steps)
    x, state, slopes = (
        torch.randn(size, generator=generator)
        for size in ((steps, rows, units), (rows, units), (steps, rows, units))
    )
    weight, bias = (
        torch.randn(units, 3 * units, generator=generator),
        torch.randn(3 * units, generator=generator),
    )
    fresh = (torch.rand(steps, rows, generator=generator) < 0.3).to(torch.uint8)
    x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()
    expected, expected_states = recurrence.mingru(x, state, fresh, (weight, bias))
    expected.backward(slopes)

    kernels, there = gpu.load("recurrence.cu", torch.device(device)), torch.device(device)
    size, x_there = (steps, rows, units), x.detach().to(there)
    gates = (x.detach() @ weight.detach()).to(there).view(steps * rows, -1).contiguous()
    (states, whole_states), (out, whole_out) = (guarded(*size, device=device) for _ in range(2))
    given = x_there, gates, bias.detach().to(there), state.to(there), fresh.to(there)
    kernels.mingru_forward(*size, *given, states, out)
    torch.testing.assert_close(out.cpu(), expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states.cpu(), expected_states.detach(), atol=1e-5, rtol=1e-5)
    back, whole_back = guarded(*size, device=device)
    back.copy_(slopes)
    kernels.mingru_backward(*size, x_there, gates, state.to(there), fresh.to(there), states, back)
    grad_x = back.cpu().view(steps * rows, -1) + gates.cpu() @ weight.detach().t()
    torch.testing.assert_close(grad_x.view(size), x.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gates.cpu().sum(0), bias.grad, atol=1e-4, rtol=1e-4)
    assert untouched(whole_states)
    assert untouched(whole_out)
    assert untouched(whole_back)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [1, 127, 129])
def test_nothing_is_written_beside_the_rows(rows: int, device: str) -> None:
    kernels, there = gpu.load("ppo.cu", torch.device(device)), torch.device(device)
    (logprobs, whole), (values, whole_values) = (guarded(rows, device=device) for _ in range(2))
    sizes = torch.tensor([3], dtype=torch.int32, device=there)
    actions = torch.full((rows + GUARD, 1), -7, dtype=torch.int32, device=there)
    outs = torch.randn(rows, 4).to(there)
    value = outs[:, 3].clone()
    kernels.sample(
        rows, 1, 3, 0, sizes, None, 1.0, outs, torch.rand(rows, 1).to(there), None, actions, logprobs, values
    )
    assert torch.equal(values, value)
    assert bool((actions[rows:] == -7).all())
    assert bool(((actions[:rows] >= 0) & (actions[:rows] < 3)).all())
    assert untouched(whole)
    assert untouched(whole_values)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 2, 3, 64, 1000, 16385])
def test_a_permutation_holds_every_number_once_and_each_time_in_another_order(
    count: int, device: str
) -> None:
    draws = Draws(3, torch.device(device))
    drawn = [draws.permutation(count).cpu() for _ in range(2)]
    for one in drawn:
        assert torch.equal(one.sort().values, torch.arange(count))
    if count >= 64:
        assert not torch.equal(*drawn)
        # No order: neighbours are as far apart as two numbers drawn at random, a third on average.
        apart = drawn[0].diff().abs().double().mean() / count
        assert 0.2 < apart < 0.45


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 2, 20_001])
def test_uniform_numbers_are_uniform_and_new_each_time(count: int, device: str) -> None:
    drawn = []
    for seed, before in ((3, 0), (3, 1), (4, 0)):
        draws = Draws(seed, torch.device(device))
        draws.count = before
        out, whole = guarded(count, device=device)
        draws.uniform(out)
        assert untouched(whole)
        assert draws.count == before + 1
        drawn.append(out.cpu().double())
        assert 0 <= drawn[-1].min() <= drawn[-1].max() < 1
    again = Draws(3, torch.device(device))
    again.uniform(torch.empty(5, device=device))
    assert torch.equal(again.uniform(torch.empty(count, device=device)).cpu().double(), drawn[1])
    if count < 100:
        return
    half = count // 2 + 1  # numbers that one thread draws lie this far apart
    pairs = [
        drawn[:2],
        drawn[::2],
        drawn[1:],
        (drawn[0][1:], drawn[0][:-1]),
        (drawn[0][half:], drawn[0][:-half]),
    ]
    for numbers in drawn:
        assert numbers.mean() == pytest.approx(0.5, abs=0.01)
        assert numbers.std() == pytest.approx(12**-0.5, abs=0.01)
    for pair in pairs:
        assert abs(torch.corrcoef(torch.stack(tuple(pair)))[0, 1]) < 0.03


@pytest.mark.parametrize("device", DEVICES)
def test_normal_numbers_are_normal(device: str) -> None:
    out, whole = guarded(20_001, device=device)
    drawn = Draws(3, torch.device(device)).normal(out).cpu().double()
    assert untouched(whole)
    assert drawn.mean() == pytest.approx(0, abs=0.03)
    assert drawn.std() == pytest.approx(1, abs=0.03)
    assert (drawn.abs() < 1).double().mean() == pytest.approx(0.6827, abs=0.02)
    assert abs(torch.corrcoef(torch.stack([drawn[10_001:], drawn[:-10_001]]))[0, 1]) < 0.03


@pytest.mark.parametrize("device", DEVICES)
def test_adam_is_the_reference_step_by_step(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, mean, square = torch.randn(3, 501, generator=generator).unbind()
    mean.zero_(), square.zero_()
    mine, whole = guarded(501, device=device)
    mine.copy_(weight)
    my_mean, my_square = mean.to(device).clone(), square.to(device).clone()
    kernels, scales = gpu.load("training.cu", torch.device(device)), torch.zeros(2, device=device)
    steps, rate = torch.zeros(1, dtype=torch.int64, device=device), torch.tensor([0.02], device=device)
    for step in range(1, 6):
        grad = torch.randn(501, generator=generator)
        adam_reference(weight, grad, mean, square, step, 0.02 * 0.5, 0.9)
        kernels.next_step(steps, 0.9, BETA2, scales)
        kernels.adam(501, mine, grad.to(device), my_mean, my_square, scales, rate, 0.5, 0.9, BETA2, EPSILON)
        assert int(steps) == step
        torch.testing.assert_close(mine.cpu(), weight, atol=1e-6, rtol=1e-5)
    assert untouched(whole)


def test_no_thread_needs_another() -> None:
    """The last one first: the same numbers, to the last bit."""
    rows, found = 131, []
    for flags in ((), ("-DBACKWARDS",)):
        generator = torch.Generator().manual_seed(1)
        load = [gpu.load(name, torch.device("cpu"), flags=flags) for name in ("ppo.cu", "recurrence.cu")]
        outs = torch.randn(rows, 6, generator=generator)
        sizes, terms = torch.tensor([3, 2], dtype=torch.int32), torch.zeros(5, rows)
        actions = torch.randint(0, 2, (rows, 2), generator=generator, dtype=torch.int32)
        logprobs, advantages, returns, old, ratios = torch.randn(5, rows, generator=generator).unbind()
        segments = torch.randint(0, rows, (rows,), generator=generator)  # some of them twice
        values, coef, weights = old.clone(), torch.tensor([0.01]), torch.rand(rows, generator=generator)
        load[0].loss(
            *(
                rows,
                rows,
                1,
                2,
                5,
                0,
                sizes,
                None,
                1.0,
                segments,
                weights,
                None,
                actions,
                logprobs,
                advantages,
            ),
            *(returns, old, values, ratios, None, coef, 0.2, 0.2, 1.0, outs, terms, None),
        )
        x, gates = torch.randn(4, 9, 8, generator=generator), torch.randn(36, 24, generator=generator)
        state, states, out = (
            torch.randn(9, 8, generator=generator),
            torch.zeros(4, 9, 8),
            torch.zeros(4, 9, 8),
        )
        load[1].mingru_forward(4, 9, 8, x, gates, torch.zeros(24), state, None, states, out)
        found.append([outs, terms, ratios, gates, states, out])
    # Where a segment came twice its rows write the same place, and the same outputs would be written.
    for index in (1, 3, 4, 5):
        assert torch.equal(found[0][index], found[1][index])


def test_a_launch_that_cannot_be_is_named() -> None:
    kernels = gpu.load("training.cu", torch.device("cpu"))
    with pytest.raises(RuntimeError, match=r"^uniform: the number of threads lies outside \[1, "):
        kernels.uniform(0, torch.zeros(2, dtype=torch.int64), torch.zeros(1))
    with pytest.raises(AssertionError, match=r"a tensor of shape \(3, 2\) has gaps"):
        kernels.uniform(6, torch.zeros(2, dtype=torch.int64), torch.zeros(3, 4)[:, :2])
    with pytest.raises(AttributeError, match="no kernel is called uniformly"):
        kernels.uniformly(1)


@pytest.mark.skipif(gpu.compiler() is None, reason="needs nvcc")
@pytest.mark.parametrize("name", ["advantage", "ppo", "recurrence", "training"])
def test_every_source_compiles_for_a_gpu(
    name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entries = {"advantage": "advantage_rows", "ppo": "sample", "recurrence": "mingru_backward"}
    assert hasattr(gpu.build(f"{name}.cu", "sm_90"), entries.get(name, "permutation"))
