"""Halves of the environments that take turns: they give the rollouts of all at once, whether the policy's
device does its work at once or as late as the host lets it. On the processor, which stands in for a GPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainer import environments, gpu
from trainer.buffer import KEPT
from trainer.gpu_network import GpuNetwork
from trainer.network import TorchNetwork
from trainer.policy import Policy
from trainer.rollout import Rollout, Seconds
from trainer.settings import Settings

ON_GPU = torch.cuda.is_available() and gpu.compiler() is not None
HORIZON = 24
# Ends of both kinds, memory, masks, floats, many agents; an odd number of environments or a few.
CASES: list[tuple[str, dict]] = [
    ("cartpole", {"policy.rnn": "mingru", "env.max_steps": 12, "train.replay_factor": 0.5}),
    ("cartpole", {"env.max_steps": 12, "train.reward_scale": 0.5}),
    ("connect4", {"policy.encoder": "embedding"}),
    ("pendulum", {"env.max_steps": 10, "policy.rnn": "mingru"}),
    ("snake", {"train.num_envs": 3}),
    ("wilds", {"train.num_envs": 2}),
]


class Late(Rollout):
    """As on a device that is late: what is launched is done when it is waited for, and in order.

    `underway`: the half of each step of the environments, and what is launched and not yet done then.
    """

    def __init__(self, *arguments: Any) -> None:
        self.launched: list[tuple[Any, int]] = []
        self.underway: list[tuple[int, list[tuple[int, int]]]] = []
        super().__init__(*arguments)

    def _serve(self, half: Any, t: int) -> None:
        self.launched.append((half, t))
        if t == HORIZON and half is self._halves[-1]:
            self.work(len(self.launched))

    def _wait(self, half: Any) -> None:
        self.work([waiting for waiting, _ in self.launched].index(half) + 1)
        index = self._halves.index
        self.underway.append((index(half), [(index(other), t) for other, t in self.launched]))

    def work(self, count: int) -> None:
        for half, t in self.launched[:count]:
            super()._serve(half, t)
        del self.launched[:count]


class OneByOne(TorchNetwork):
    """Environment by environment, and values agent by agent: torch rounds products of other sizes, or of
    matrices that lie elsewhere, otherwise."""

    agents = 1  # of an environment

    def act(self, obs, draw, actions, logprobs, values, state, mask=None):
        for start in range(0, len(obs), self.agents):
            some = slice(start, start + self.agents)
            given = [None if rows is None else rows[some].clone() for rows in (obs, draw, mask)]
            written = [rows[some] for rows in (actions, logprobs, values, state)]
            super().act(*given[:2], *written, given[2])

    def values(self, obs, values, state):
        for i in range(len(obs)):
            super().values(obs[i : i + 1].clone(), values[i : i + 1], state[i : i + 1].clone())


def make(
    env: str,
    changes: dict,
    kind: type[Rollout] = Rollout,
    network: Callable[[Policy], Any] = GpuNetwork,
    halves: bool = True,
    device: str = "cpu",
) -> Rollout:
    sizes = {"train.num_envs": 7, "train.horizon": HORIZON, "train.minibatch_size": 48, "policy.hidden": 32}
    settings = Settings.parse(env, {**sizes, "policy.action_gain": 1.0, **changes})
    train, place = settings.train, torch.device(device)
    vector = environments.make(env, train.num_envs, 3, 2, settings.env_settings)
    policy = Policy.of(vector.spec, settings.policy, torch.Generator().manual_seed(0), place)
    made = network(policy)
    made.agents = vector.spec.agents_per_env
    return kind(vector, made, train, torch.Generator().manual_seed(4), place, halves)


def alike(one: Rollout, other: Rollout, tolerance: float) -> None:
    """Three rollouts of each, in the course of which episodes end."""
    assert (len(one._halves), len(other._halves)) == (1, 2)
    ended = 0
    for _ in range(3):
        one.collect(Seconds())
        other.collect(Seconds())
        for name in KEPT:
            ours, theirs = (getattr(rollout.buffer, name) for rollout in (one, other))
            if ours is not None:
                torch.testing.assert_close(ours.cpu(), theirs.cpu(), atol=tolerance, rtol=tolerance)
        ended += int(one.buffer.truncations.sum() + one.buffer.terminals.sum())
        one.buffer.keep()
        other.buffer.keep()
    assert ended > 0
    assert one.env.log() == pytest.approx(other.env.log(), rel=tolerance)


@pytest.mark.parametrize("kind", [Rollout, Late])
@pytest.mark.parametrize(("env", "changes"), CASES, ids=str)
def test_halves_give_what_all_at_once_gives_bit_for_bit(env: str, changes: dict, kind: type[Rollout]) -> None:
    whole = make(env, changes, network=OneByOne, halves=False)
    alike(whole, make(env, changes, kind, OneByOne), tolerance=0.0)


@pytest.mark.parametrize(("env", "changes"), CASES, ids=str)
def test_the_kernels_do_so_but_for_rounding(env: str, changes: dict) -> None:
    alike(make(env, changes, halves=False), make(env, changes, Late), tolerance=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a GPU and nvcc")
@pytest.mark.parametrize(("env", "changes"), CASES, ids=str)
def test_a_gpu_does_so(env: str, changes: dict) -> None:
    alike(make(env, changes, halves=False), make(env, changes, device="cuda"), tolerance=1e-4)


def test_while_one_half_steps_the_other_is_served() -> None:
    rollout = make("cartpole", {}, Late)
    rollout.collect(Seconds())
    turns = [((0, [(1, t)]), (1, [(0, t + 1)])) for t in range(HORIZON)]
    assert rollout.underway == [turn for both in turns for turn in both]


def test_the_host_waits_for_a_half_by_the_event_of_its_last_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout, said = make("cartpole", {}), []

    class Event:
        """A GPU's, written down."""

        def __init__(self, half: int) -> None:
            self.half = half

        def record(self) -> None:
            said.append(("launched", self.half))

        def synchronize(self) -> None:
            said.append(("waited", self.half))

    step = rollout.env.step
    halves = {half.envs[0]: i for i, half in enumerate(rollout._halves)}

    def stepped(*arguments: Any) -> None:
        said.append(("stepped", halves[arguments[-1]]))
        step(*arguments)

    monkeypatch.setattr(rollout.env, "step", stepped)
    for i, half in enumerate(rollout._halves):
        monkeypatch.setattr(half, "served", Event(i))
    rollout.collect(Seconds())
    turn = [(what, half) for half in (0, 1) for what in ("waited", "stepped", "launched")]
    assert said == [("launched", 0), ("launched", 1), *turn * HORIZON]


def test_the_memory_of_a_rollout_is_free_when_nobody_needs_it() -> None:
    """At once: a worker trains a hundred times, and the collector of cycles may come late."""
    for halves in (False, True):
        rollout = make("cartpole", {}, halves=halves)
        rollout.collect(Seconds())
        there = weakref.ref(rollout.buffer.obs)
        gc.disable()
        try:
            del rollout
            assert there() is None
        finally:
            gc.enable()


def test_the_processor_has_no_halves_nor_has_a_single_environment() -> None:
    assert len(make("cartpole", {}, halves=False)._halves) == 1
    assert len(make("cartpole", {"train.num_envs": 1, "train.minibatch_size": HORIZON})._halves) == 1
