"""The fused network and the kernels of a GPU (emulated where there is none) against plain torch: actions,
losses, gradients, write-backs."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from trainer import gpu
from trainer.buffer import Buffer
from trainer.gpu_network import GpuNetwork
from trainer.gpu_training import serves
from trainer.network import LEAST_DEVIATION, FusedNetwork, Minibatch, TorchNetwork
from trainer.policy import Policy, bin_centers, hl_gauss
from trainer.settings import PolicySettings, TrainSettings

# observation size, action sizes, hidden units, layers, agents: tiles and blocks both whole and cut
SHAPES = [
    (4, (2,), 16, 1, 1),
    (118, (3,), 128, 1, 37),
    (7, (3, 5), 48, 2, 19),
    (5, (9, 2, 4), 64, 3, 331),
]


KINDS: list[dict] = [
    {},
    {"masked": True},
    {"value_bins": 21, "value_limit": 2.5},
    {"rnn": "mingru"},
    {"rnn": "lstm", "masked": True, "value_bins": 9},
    {"continuous": True},
    {"continuous": True, "rnn": "mingru", "value_bins": 9},
    {"encoder": "onehot"},
    {"encoder": "embedding", "embedding": 3, "rnn": "lstm"},
    {"encoder": "embedding", "embedding": 5, "continuous": True},
]


def forms(policy: Policy, dtype: torch.dtype = torch.float32) -> list:
    """All that must agree, the reference last. There are no kernels for every policy."""
    kernels = [GpuNetwork(policy)] if serves(policy) else []
    return [FusedNetwork(policy, dtype), *kernels, TorchNetwork(policy)]


def make_policy(
    shape: tuple,
    generator: torch.Generator,
    device: torch.device | None = None,
    masked: bool = False,
    continuous: bool = False,
    **kind: object,
) -> Policy:
    obs_size, sizes, hidden, layers, _ = shape
    settings = PolicySettings(hidden=hidden, layers=layers, action_gain=1.0, **kind)
    dim = sum(sizes) if continuous else None
    return Policy(obs_size, () if continuous else sizes, settings, generator, device, dim, (-2, 4))


def make_case(
    shape: tuple,
    dtype: torch.dtype = torch.float32,
    masked: bool = False,
    continuous: bool = False,
    **kind: object,
) -> tuple[Policy, Buffer]:
    """A policy and a filled buffer whose old probabilities differ from the policy's.

    Continuous actions have as many components as there would be logits.
    """
    obs_size, sizes, _, _, agents = shape
    generator = torch.Generator().manual_seed(agents)
    policy = make_policy(shape, generator, continuous=continuous, **kind)
    dtype = torch.int8 if policy.table is not None else dtype
    if policy.log_sd is not None:
        policy.log_sd.data.normal_(-0.5, 0.5, generator=generator)
    for bias in [*policy.biases, policy.head_bias]:
        bias.data.normal_(0, 0.5, generator=generator)
    policy.value_head.data.normal_(0, 0.5, generator=generator)
    logits = sum(sizes) if masked else 0
    kind_of_action = torch.float32 if continuous else torch.int32
    sizes_of_it = (policy.components, torch.device("cpu"), policy.memory, logits)
    buffer = Buffer.make(5, agents, (obs_size,), dtype, *sizes_of_it, action_dtype=kind_of_action)
    buffer.obs.copy_(torch.randn(buffer.obs.shape, generator=generator) * 2)
    buffer.states.normal_(generator=generator)
    for flags in (buffer.terminals, buffer.truncations):
        flags.copy_(torch.rand(flags.shape, generator=generator) < 0.15)
    if continuous:
        buffer.actions.normal_(generator=generator)
    for i, size in enumerate(policy.action_sizes):
        buffer.actions[:, :, i] = torch.randint(0, size, buffer.actions.shape[:2], generator=generator)
    if buffer.masks is not None:
        buffer.masks.copy_(torch.rand(buffer.masks.shape, generator=generator) < 0.5)
        for part, actions in zip(buffer.masks.split(sizes, 2), buffer.actions.split(1, 2), strict=True):
            part.scatter_(2, actions.long(), 1)  # what was done was allowed
    with torch.no_grad():
        hidden, _ = policy.unroll(buffer.obs[:-1], buffer.states[0], buffer.fresh(slice(None))[:-1])
        mask = None if buffer.masks is None else buffer.flat("masks")
        logits, value_out = policy(hidden.flatten(0, 1), mask)
        logprob, _ = policy.logprob_entropy(logits, buffer.flat("actions"))
        value = policy.value(value_out)
        noise = (
            torch.randn(2, 5 * agents, generator=generator) * 0.3
        )  # ratios and values on both sides of the clips
        buffer.flat("logprobs").copy_(logprob + noise[0])
        buffer.flat("values")[: 5 * agents] = value + noise[1]
    for column in (buffer.advantages, buffer.returns):
        column.normal_(generator=generator)
    return policy, buffer


SERVED = [kind for kind in KINDS if serves(make_case((4, (2,), 16, 1, 1), **kind)[0])]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_actions_are_those_of_torch(shape: tuple, kind: dict) -> None:
    policy, buffer = make_case(shape, **kind)
    generator = torch.Generator().manual_seed(3)
    rows, components = buffer.agents, policy.components
    obs, mask = buffer.obs[0], None if buffer.masks is None else buffer.masks[0]
    for draw in (policy.noise(torch.empty(rows, components), generator), None):
        results = []
        for network in forms(policy, obs.dtype):
            out = torch.zeros(rows, components, dtype=buffer.actions.dtype), *torch.zeros(2, rows)
            state, alone = buffer.states[0].clone(), torch.zeros(rows)
            network.values(obs, alone, state)
            assert torch.equal(state, buffer.states[0])  # only acting moves it
            network.act(obs, draw, *out, state, mask)
            torch.testing.assert_close(alone, out[2])
            if mask is not None:
                places = out[0] + torch.tensor([0, *policy.action_sizes[:-1]]).cumsum(0)
                assert bool(mask.gather(1, places.long()).all())
            results.append((*out, state))
        for form in results[:-1]:
            for fused, plain in zip(form, results[-1], strict=True):
                torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_are_those_of_autograd(kind: dict, shape: tuple, dtype: torch.dtype, whole: bool) -> None:
    policy, buffer = make_case(shape, dtype, **kind)
    generator = torch.Generator().manual_seed(4)
    agents = buffer.agents
    segments = (
        torch.arange(agents) if whole else torch.randint(0, agents, ((agents + 1) // 2,), generator=generator)
    )
    batch = Minibatch(segments, torch.rand(agents, generator=generator) + 0.5, whole)
    train = TrainSettings(clip_coef=0.2, vf_clip_coef=0.25, vf_coef=0.8)
    values, results = buffer.values.clone(), []
    for network in forms(policy, buffer.obs.dtype):
        buffer.values.copy_(values)
        buffer.ratios.fill_(1.0)
        policy.flat_grad.zero_()
        sums = network.gradients(batch, buffer, train, ent_coef=0.03)
        results.append((policy.flat_grad.clone(), buffer.ratios.clone(), buffer.values.clone(), sums))
    plain, *plain_columns, plain_sums = results[-1]
    for fused, *fused_columns, fused_sums in results[:-1]:
        assert (fused - plain).norm() < 1e-4 * plain.norm()
        for one, other in zip(fused_columns, plain_columns, strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
        assert vars(fused_sums) == pytest.approx(vars(plain_sums), abs=1e-4, rel=1e-3)


def test_what_hardly_differs_is_not_blown_up() -> None:
    """Advantages of deviation 0.001 count as hundredths where rewards are normalised, elsewhere as ones."""
    for normalized, divisor in ((True, LEAST_DEVIATION), (False, 1e-3)):
        policy, buffer = make_case(SHAPES[0])
        flat = buffer.flat("advantages")
        flat.sub_(flat.mean()).mul_(1e-3 / flat.std(correction=0))
        small, values = flat.clone(), buffer.values.clone()
        batch = Minibatch(torch.arange(buffer.agents), torch.ones(buffer.agents), whole=True)
        results = []
        for form in forms(policy):
            for advantages, switch in ((small, True), (small / divisor, False)):
                flat.copy_(advantages)
                buffer.values.copy_(values)
                policy.flat_grad.zero_()
                train = TrainSettings(normalize_rewards=normalized, normalize_advantages=switch)
                form.gradients(batch, buffer, train, ent_coef=0.0)
                results.append(policy.flat_grad.clone())
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], atol=1e-5, rtol=1e-3)


# Where a rounding decides on which side of a clip a row falls, gradients of bf16 are far from float32's.
UNCLIPPED = TrainSettings(clip_coef=100.0, vf_clip_coef=100.0)


def on_gpu(policy: Policy, buffer: Buffer, shape: tuple, kind: dict) -> tuple[Policy, Buffer]:
    """The same case there."""
    device = torch.device("cuda")
    there = make_policy(shape, torch.Generator(), device, **kind)
    there.flat.copy_(policy.flat)
    columns = {
        name: column.to(device) if isinstance(column, torch.Tensor) else column
        for name, column in ((field.name, getattr(buffer, field.name)) for field in fields(buffer))
    }
    return there, Buffer(**columns)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or gpu.compiler() is None, reason="needs a GPU and nvcc")
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", SERVED, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_on_a_gpu_are_torch_on_the_processor(shape: tuple, kind: dict, bf16: bool) -> None:
    """In bfloat16 they are those emulated there: how far these are from torch, the next test says."""
    plain, buffer = make_case(shape, **kind)
    there, copy = on_gpu(plain, buffer, shape, kind)
    agents, generator = buffer.agents, torch.Generator().manual_seed(4)
    segments = torch.randint(0, agents, ((agents + 1) // 2,), generator=generator)
    weights = torch.rand(agents, generator=generator) + 0.5
    sums = []
    reference = GpuNetwork(plain, bf16=True) if bf16 else TorchNetwork(plain)
    for network, columns in ((reference, buffer), (GpuNetwork(there, bf16), copy)):
        device = columns.obs.device
        batch = Minibatch(segments.to(device), weights.to(device), False)
        network.policy.flat_grad.zero_()
        sums.append(network.gradients(batch, columns, UNCLIPPED if bf16 else TrainSettings(), 0.03))
    near = 0.1 if bf16 else 1e-3
    far = (there.flat_grad.cpu() - plain.flat_grad).norm()
    assert far < near * plain.flat_grad.norm()
    assert vars(sums[1]) == pytest.approx(vars(sums[0]), abs=near, rel=near)
    apart = (copy.ratios.cpu() - buffer.ratios).abs() / (1 + buffer.ratios)
    # A narrow Gaussian makes much of a mean's last bit, and bfloat16 has few: its ratios agree on average.
    assert (apart.mean() if bf16 and kind.get("continuous") else apart.max()) < near


@pytest.mark.parametrize("kind", SERVED, ids=str)
def test_bf16_is_near_float32_and_follows_the_weights(kind: dict) -> None:
    policy, buffer = make_case(SHAPES[1], **kind)
    network, agents, values = GpuNetwork(policy, bf16=True), buffer.agents, buffer.values.clone()
    batch = Minibatch(torch.arange(agents), torch.ones(agents), True)
    for _ in range(2):
        found = []
        for form in (network, TorchNetwork(policy)):
            policy.flat_grad.zero_()
            buffer.values.copy_(values)
            form.gradients(batch, buffer, UNCLIPPED, 0.01)
            found.append(policy.flat_grad.clone())
        assert 0 < (found[0] - found[1]).norm() < 0.1 * found[1].norm()
        policy.flat.mul_(1.1)
        network.weights_changed()


@pytest.mark.parametrize("form", [FusedNetwork, GpuNetwork, TorchNetwork])
def test_what_is_forbidden_is_never_drawn(form: type) -> None:
    """At the ends of the unit interval too, and however much the network would like to."""
    policy, _ = make_case((4, (3, 4), 16, 1, 1))
    with torch.no_grad():
        policy.head_bias[:7] = torch.tensor([30.0, 0, 30, 30, 0, 0, 30])
    mask = torch.tensor([0, 1, 0, 0, 1, 1, 0], dtype=torch.uint8).expand(400, 7).contiguous()
    generator = torch.Generator().manual_seed(5)
    drawn = torch.rand(398, 2, generator=generator)
    uniform = torch.cat([torch.zeros(1, 2), torch.full((1, 2), 1 - 2**-24), drawn])
    obs = torch.randn(400, 4, generator=generator)
    actions, logprobs = torch.zeros(400, 2, dtype=torch.int32), torch.zeros(400)
    for draw in (uniform, None):
        network = form(policy)
        network.act(obs, draw, actions, logprobs, torch.zeros(400), torch.zeros(400, 0), mask)
        assert set(actions[:, 0].tolist()) == {1}
        assert set(actions[:, 1].tolist()) <= {1, 2}
        assert bool((logprobs <= 1e-6).all())
        assert bool((logprobs > -30).all())


def test_a_histogram_has_the_mean_of_its_gaussian() -> None:
    target = torch.tensor([-3.0, -1.9, 0.0, 0.33, 1.5, 7.0])
    shares = hl_gauss(target, 41, 2.0)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    means = shares @ bin_centers(41, 2.0, torch.device("cpu"))
    torch.testing.assert_close(means[2:5], target[2:5], atol=1e-3, rtol=0)
    assert means[0] < -1.9  # what lies outside is taken for the end
    assert means[5] > 1.9
