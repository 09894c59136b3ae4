"""The fused network against plain torch: actions, losses, gradients, write-backs."""

from __future__ import annotations

import pytest
import torch

from trainer.buffer import Buffer
from trainer.network import FusedNetwork, Minibatch, TorchNetwork
from trainer.policy import Policy
from trainer.settings import PolicySettings, TrainSettings

# observation size, action sizes, hidden units, layers, agents: tiles and blocks both whole and cut
SHAPES = [
    (4, (2,), 16, 1, 1),
    (118, (3,), 128, 1, 37),
    (7, (3, 5), 48, 2, 19),
    (5, (9, 2, 4), 64, 3, 331),
]


def make_case(shape: tuple, dtype: torch.dtype = torch.float32) -> tuple[Policy, Buffer]:
    """A policy and a filled buffer whose old probabilities differ from the policy's."""
    obs_size, sizes, hidden, layers, agents = shape
    generator = torch.Generator().manual_seed(agents)
    settings = PolicySettings(hidden=hidden, layers=layers, action_gain=1.0)
    policy = Policy(obs_size, sizes, settings, generator)
    for bias in [*policy.biases, policy.head_bias]:
        bias.data.normal_(0, 0.5, generator=generator)
    buffer = Buffer.make(5, agents, (obs_size,), dtype, len(sizes), torch.device("cpu"))
    buffer.obs.copy_(torch.randn(buffer.obs.shape, generator=generator) * 2)
    for i, size in enumerate(sizes):
        buffer.actions[:, :, i] = torch.randint(0, size, buffer.actions.shape[:2], generator=generator)
    with torch.no_grad():
        obs = buffer.flat_obs[: 5 * agents].float()
        logprob, _, value = policy.logprob_entropy(obs, buffer.flat("actions"))
        noise = (
            torch.randn(2, 5 * agents, generator=generator) * 0.3
        )  # ratios and values on both sides of the clips
        buffer.flat("logprobs").copy_(logprob + noise[0])
        buffer.flat("values")[: 5 * agents] = value + noise[1]
    for column in (buffer.advantages, buffer.returns):
        column.normal_(generator=generator)
    return policy, buffer


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_actions_are_those_of_torch(shape: tuple) -> None:
    policy, buffer = make_case(shape)
    generator = torch.Generator().manual_seed(3)
    rows, components = buffer.agents, len(policy.action_sizes)
    obs = buffer.obs[0]
    for uniform in (torch.rand(rows, components, generator=generator), None):
        results = []
        for network in (FusedNetwork(policy), TorchNetwork(policy)):
            out = torch.zeros(rows, components, dtype=torch.int32), torch.zeros(rows), torch.zeros(rows)
            network.act(obs, uniform, *out)
            alone = torch.zeros(rows)
            network.values(obs, alone)
            torch.testing.assert_close(alone, out[2])
            results.append(out)
        for fused, plain in zip(*results, strict=True):
            torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@pytest.mark.parametrize("shape", SHAPES)
def test_fused_gradients_are_those_of_autograd(shape: tuple, dtype: torch.dtype, whole: bool) -> None:
    policy, buffer = make_case(shape, dtype)
    generator = torch.Generator().manual_seed(4)
    agents = buffer.agents
    segments = (
        torch.arange(agents) if whole else torch.randint(0, agents, ((agents + 1) // 2,), generator=generator)
    )
    batch = Minibatch(segments, torch.rand(agents, generator=generator) + 0.5, whole)
    train = TrainSettings(clip_coef=0.2, vf_clip_coef=0.25, vf_coef=0.8)
    values, results = buffer.values.clone(), []
    for network in (FusedNetwork(policy, dtype), TorchNetwork(policy)):
        buffer.values.copy_(values)
        buffer.ratios.fill_(1.0)
        policy.flat_grad.zero_()
        sums = network.gradients(batch, buffer, train, ent_coef=0.03)
        results.append((policy.flat_grad.clone(), buffer.ratios.clone(), buffer.values.clone(), sums))
    (fused, *fused_columns, fused_sums), (plain, *plain_columns, plain_sums) = results
    assert (fused - plain).norm() < 1e-4 * plain.norm()
    for one, other in zip(fused_columns, plain_columns, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    assert vars(fused_sums) == pytest.approx(vars(plain_sums), abs=1e-4, rel=1e-3)
