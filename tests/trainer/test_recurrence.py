"""Recurrent layers: scan, resets inside rows, and training that sees the states of the rollout."""

from __future__ import annotations

import pytest
import torch

import ocean
from trainer import network as networks
from trainer.network import Minibatch, Network, TorchNetwork
from trainer.policy import Policy
from trainer.recurrence import STATES, scan
from trainer.rollout import Rollout, Seconds
from trainer.settings import PolicySettings, TrainSettings

CPU = torch.device("cpu")


@pytest.mark.parametrize("steps", [1, 2, 7, 64, 100])
def test_the_scan_is_the_recurrence(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    factors, terms = torch.rand(2, steps, 3, 5, generator=generator)
    factors[torch.rand(steps, 3, generator=generator) < 0.2] = 0.0
    start = torch.randn(3, 5, generator=generator)
    together, state = scan(factors, terms, start), start
    for t in range(steps):
        state = factors[t] * state + terms[t]
        torch.testing.assert_close(together[t], state)


@pytest.mark.parametrize("rnn", ["mingru", "lstm"])
def test_a_cleared_state_is_a_new_beginning(rnn: str) -> None:
    """Unrolled over ends of episodes = single steps whose state is zeroed by hand."""
    policy = make_policy(rnn)
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(12, 9, 4, generator=generator)
    fresh = (torch.rand(12, 9, generator=generator) < 0.3).to(torch.uint8)
    state = torch.randn(9, policy.memory, generator=generator)
    with torch.no_grad():
        together, states = policy.unroll(obs, state, fresh)
        for t in range(12):
            state = torch.where(fresh[t].bool()[:, None], 0.0, state)
            alone, (state,) = policy.unroll(obs[t : t + 1], state)
            torch.testing.assert_close(together[t], alone[0])
            torch.testing.assert_close(states[t], state)
        # An episode knows nothing of the one before it.
        changed = obs.clone()
        changed[:5] += 1.0
        fresh[5] = 1
        one, _ = policy.unroll(obs, state, fresh)
        other, _ = policy.unroll(changed, state, fresh)
        assert torch.equal(one[5:], other[5:])
        assert not torch.equal(one[:5], other[:5])


def test_lstm_is_torchs() -> None:
    policy = make_policy("lstm")
    weight, recurrent, bias = policy.gates
    theirs = torch.nn.LSTM(32, 32)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(weight.t())
        theirs.weight_hh_l0.copy_(recurrent.t())
        theirs.bias_ih_l0.copy_(bias)
        theirs.bias_hh_l0.zero_()
        obs = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(2))
        ours, states = policy.unroll(obs, torch.zeros(3, 64))
        x = torch.relu(obs @ policy.weights[0] + policy.biases[0])
        expected, (h, c) = theirs(x)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(states[-1], torch.cat([h[0], c[0]], 1))


def make_policy(rnn: str) -> Policy:
    settings = PolicySettings(hidden=32, rnn=rnn, action_gain=1.0)
    return Policy(4, (2,), settings, torch.Generator().manual_seed(0))


def make_rollout(rnn: str, form: str) -> tuple[Rollout, Network]:
    """Of cart-poles that fall and that are cut short, both within a row."""
    policy = make_policy(rnn)
    network = networks.make(policy, torch.float32, CPU) if form == "fused" else TorchNetwork(policy)
    env = ocean.Vector("cartpole", 24, seed=3, settings={"max_steps": 20})
    train = TrainSettings(num_envs=24, horizon=32, minibatch_size=24 * 32)
    return Rollout(env, network, train, torch.Generator().manual_seed(4), CPU), network


@pytest.mark.parametrize("form", ["fused", "torch"])
@pytest.mark.parametrize("rnn", list(STATES))
def test_training_sees_the_states_of_the_rollout(rnn: str, form: str) -> None:
    rollout, network = make_rollout(rnn, form)
    policy = network.policy
    for _ in range(3):  # rows begin from states that earlier rollouts left
        buffer = rollout.collect(Seconds())
    assert int(buffer.terminals.sum()) > 5
    assert int(buffer.truncations.sum()) > 5
    with torch.no_grad():
        hidden, states = policy.unroll(buffer.obs, buffer.states[0], buffer.fresh(slice(None)))
        values = policy.value(policy(hidden.flatten(0, 1))[1]).view_as(buffer.values)
        ended = (buffer.terminals[-1] | buffer.truncations[-1]).bool()
        last = torch.where(ended[:, None], 0.0, states[-2])
    torch.testing.assert_close(values, buffer.values, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(rollout.state, last, atol=1e-5, rtol=1e-4)
    if rnn != "none":
        assert bool((buffer.states[0] != 0).any())

    # And so does the update: nothing has changed yet, all ratios are 1.
    acted = buffer.values[:-1].clone()
    buffer.values[:-1] = 0.0
    network.gradients(Minibatch(torch.arange(24), torch.ones(24), True), buffer, rollout.train, 0.0)
    torch.testing.assert_close(buffer.ratios, torch.ones_like(buffer.ratios), atol=1e-4, rtol=0)
    torch.testing.assert_close(buffer.values[:-1], acted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rnn", ["mingru", "lstm"])
def test_truncated_episodes_are_bootstrapped_with_their_own_memory(
    rnn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The final observation is judged by the state of its episode, not by that of the next one."""
    rollout, network = make_rollout(rnn, "fused")
    rollout.collect(Seconds())
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    step = rollout.env.step

    def watched(*arrays: object) -> None:
        step(*arrays)
        seen.append((torch.from_numpy(rollout.env.final_obs.copy()), rollout.state.clone()))

    monkeypatch.setattr(rollout.env, "step", watched)
    buffer = rollout.collect(Seconds())
    steps, agents = torch.nonzero(buffer.truncations, as_tuple=True)
    for t, agent in zip(steps.tolist(), agents.tolist(), strict=True):
        final_obs, state = seen[t]
        value = torch.zeros(1)
        network.values(final_obs[agent : agent + 1].clone(), value, state[agent : agent + 1].clone())
        assert float(buffer.final_values[t, agent]) == pytest.approx(float(value), abs=1e-5)
