"""Training as a GPU does it, its kernels emulated and its graphs plain calls: it learns, it is the
processor's training number for number, nothing in it waits for the host."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ocean
from trainer import gpu, gpu_training, train
from trainer.gpu_training import Draws, Graph
from trainer.gpu_vector import EnvironmentFault
from trainer.settings import Settings, SettingsError

ON_GPU = torch.cuda.is_available() and gpu.compiler() is not None
gpu_only = pytest.mark.skipif(not ON_GPU, reason="needs a GPU and nvcc")

SMALL = {
    "train.total_timesteps": 4 * 16 * 9,
    "train.num_envs": 9,
    "train.horizon": 16,
    "train.minibatch_size": 48,
    "train.updates": 4,
    "train.eval_episodes": 5,
    "train.eval_max_steps": 50,
    "policy.hidden": 16,
}
# What changes the work of an iteration.
KINDS: list[dict] = [
    {},
    {"train.optimizer": "muon", "train.prio_alpha": 0.7, "train.anneal_beta": True},
    {"train.recompute_advantages": True, "train.updates": 7, "policy.layers": 2},
    {"policy.rnn": "mingru", "policy.value_bins": 11, "train.anneal_lr": True},
    {"train.replay_factor": 1.5, "train.normalize_advantages": False, "train.normalize_rewards": False},
    {"train.precision": "bfloat16", "train.minibatch_size": 144, "train.anneal_entropy": True},
]


MANY = {"train.num_envs": 2, "train.total_timesteps": 4 * 16 * 128}  # of 64 agents each
ALL = [
    ("snake", MANY),
    ("pendulum", {"env.max_steps": 10, "train.ent_coef": 0.01}),
    ("connect4", {"policy.encoder": "embedding", "policy.embedding": 3}),
    *(("cartpole", kind) for kind in KINDS),
]


def small(env: str = "cartpole", **changes: object) -> Settings:
    shorter = {"env.max_steps": 12} if env == "cartpole" else {}  # there are truncations
    return Settings.parse(env, {**SMALL, **shorter, **changes})


def test_cartpole_is_solved_by_its_defaults() -> None:
    result = train(Settings.parse("cartpole"), seed=0, device="emulated")
    assert result.failure is None
    assert result.score >= 475


def test_memory_is_solved_with_mingru() -> None:
    result = train(Settings.parse("memory"), seed=0, device="emulated")
    assert result.score >= ocean.spec("memory").solved_score


@pytest.mark.parametrize(("env", "changes"), ALL, ids=str)
def test_it_is_the_training_of_the_processor(
    env: str, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same random numbers in the same places: the same weights after four rollouts. Snake's
    environments are the processor's in both."""
    settings = small(env, **{**changes, "train.precision": "float32", "train.learning_rate": 1e-3})

    def uniform(self: Draws, out: torch.Tensor) -> torch.Tensor:
        if out.numel() == 1:  # the comb's
            return torch.rand((), dtype=torch.float64, generator=generators[2]).view(1)
        return torch.rand(out.shape, generator=generators[1], out=out)

    def permutation(self: Draws, count: int) -> torch.Tensor:
        return torch.randperm(count, generator=generators[2])

    def normal(self: Draws, out: torch.Tensor) -> torch.Tensor:
        return torch.randn(out.shape, generator=generators[1], out=out)

    expected = train(settings, seed=3)
    streams = np.random.SeedSequence(3).generate_state(4, np.uint64)  # as training.py has them
    generators = [torch.Generator().manual_seed(int(stream >> np.uint64(1))) for stream in streams]
    monkeypatch.setattr(Draws, "uniform", uniform)
    monkeypatch.setattr(Draws, "normal", normal)
    monkeypatch.setattr(Draws, "permutation", permutation)
    found = train(settings, seed=3, device="emulated")
    assert found.steps == expected.steps
    torch.testing.assert_close(found.policy.flat, expected.policy.flat, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("env", "changes"), ALL, ids=str)
def test_one_seed_is_one_result_stopped_and_continued_or_not(env: str, changes: dict, tmp_path: Path) -> None:
    settings = small(env, **changes)
    whole = train(settings, seed=1, device="emulated")
    file = tmp_path / "half.pt"
    train(settings, seed=1, device="emulated", checkpoint=file, should_stop=lambda: True)
    rest = train(settings, seed=1, device="emulated", checkpoint=file)
    assert torch.equal(rest.policy.flat, whole.policy.flat)
    assert str(rest.points[-1].score) == str(whole.points[-1].score)  # which may be nan
    other = train(settings, seed=2, device="emulated")
    assert not torch.equal(other.policy.flat, whole.policy.flat)


def test_a_checkpoint_goes_on_on_the_other_device(tmp_path: Path) -> None:
    for first, second in (("cpu", "emulated"), ("emulated", "cpu")):
        file = tmp_path / f"{first}.pt"
        train(small(), device=first, checkpoint=file, should_stop=lambda: True)
        assert train(small(), device=second, checkpoint=file).steps == 4 * 16 * 9


@pytest.mark.parametrize("env", ocean.names())
def test_every_environment_trains(env: str) -> None:
    """By the kernels, or by the processor's environments where they do not serve it."""
    agents = ocean.spec(env).agents_per_env
    changes = {"train.num_envs": max(2, 9 // agents), "train.total_timesteps": 2 * 16 * 9 // agents}
    result = train(small(env, **changes), device="emulated")
    assert result.failure is None
    assert result.steps > 0


class NoWaiting(TorchDispatchMode):
    """Refuses what would wait for a GPU, or have a shape that depends on data."""

    WAITS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "lift_fresh")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.partition("::")[2]
        assert name not in self.WAITS, f"{name} waits for the GPU"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "a mask's shape is data"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("env", "changes"),
    [case for case in ALL if "train.replay_factor" not in case[1]]
    + [("snake", {**MANY, "policy.rnn": "mingru"})],
    ids=str,
)
def test_nothing_that_is_captured_waits_for_the_host(
    env: str, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, called = Graph.__init__, []

    def watched(self: Graph, name: str, work, device: torch.device, captured: bool, like=None) -> None:
        def run() -> None:
            called.append(name)
            with NoWaiting():
                work()

        begun(self, name, run, device, captured, like)

    monkeypatch.setattr(Graph, "__init__", watched)
    train(small(env, **changes), device="emulated")
    rollout = ["rollout"] if env != "snake" else ["step"] * 2 * (16 + 1)
    assert called == [*rollout, "update"] * 4
    with pytest.raises(AssertionError, match="waits for the GPU"), NoWaiting():
        torch.ones(1).item()


class FakeGraphs:
    """What Graph needs of torch.cuda, written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: str = "") -> None:
        self.said: list[str] = []
        self.error = error
        for name in ("CUDAGraph", "Stream"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: self)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: self.beside())
        monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: self.capture())

    @contextmanager
    def beside(self) -> Iterator[None]:
        self.said.append("beside")
        yield

    @contextmanager
    def capture(self) -> Iterator[None]:
        self.said.append("capture")
        try:
            yield
        finally:
            if self.error:
                raise RuntimeError(self.error)

    def wait_stream(self, other: object) -> None:
        assert other is self

    def replay(self) -> None:
        self.said.append("replay")


def test_a_graph_is_captured_once_warm_and_then_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGraphs(monkeypatch)
    graph = Graph("rollout", lambda: fake.said.append("work"), torch.device("cuda"), captured=True)
    for _ in range(4):
        graph()
    assert fake.said == ["beside", "work", "beside", "work", "capture", "work", "replay", "replay"]


def test_graphs_of_many_steps_share_a_stream_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each of a hundred would keep some for itself."""
    fake, captured = FakeGraphs(monkeypatch), []

    def capture(graph: object, memory: object, stream: object, **_: object) -> object:
        captured.append((memory, stream))
        return fake.capture()

    monkeypatch.setattr(torch.cuda, "Stream", lambda *_: MagicMock())
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(fake, "wait_stream", lambda _: None)
    first, other = (Graph("step", lambda: None, torch.device("cuda"), captured=True) for _ in range(2))
    second = Graph("step", lambda: None, torch.device("cuda"), True, first)
    for graph in (first, second, other) * 3:
        graph()
    assert captured[0] == captured[1]
    assert all(captured[0][i] is not captured[2][i] for i in range(2))


def test_what_cannot_be_captured_runs_launch_by_launch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGraphs(monkeypatch, error="operation not permitted\nwhen stream is capturing")
    graph = Graph("update", lambda: fake.said.append("work"), torch.device("cuda"), captured=True)
    graph(), graph()
    with pytest.warns(UserWarning, match="the update cannot be captured in a CUDA graph: operation not"):
        graph()
    fake.said.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph()
    assert fake.said == ["work"]


def test_why_a_capture_failed_is_said_and_not_that_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGraphs(monkeypatch, error="operation failed due to a previous error during capture")

    def work() -> None:
        fake.said.append("work")
        if fake.said[-2:] == ["capture", "work"]:
            raise RuntimeError("sample: operation not permitted when stream is capturing")

    graph = Graph("rollout", work, torch.device("cuda"), captured=True)
    graph(), graph()
    with pytest.warns(UserWarning, match="cannot be captured in a CUDA graph: sample: operation not"):
        graph()


def test_its_memory_is_free_as_soon_as_nobody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next trial of a worker may find the GPU full."""
    made, make = [], gpu_training.make

    def watched(*arguments: Any) -> gpu_training.Parts:
        parts = make(*arguments)
        made.extend(map(weakref.ref, (parts.rollout, parts.rollout.buffer, parts.updater)))
        return parts

    monkeypatch.setattr(gpu_training, "make", watched)
    gc.disable()
    try:
        train(small(), device="emulated")
        assert [part() for part in made] == [None] * 3
    finally:
        gc.enable()


def test_a_run_that_cannot_go_on_says_why() -> None:
    changes = {"train.learning_rate": 1e30, "train.total_timesteps": 1e5}
    result = train(small(**changes), device="emulated")
    assert result.failure in ("diverged", "kl_explosion", "entropy_collapse")
    assert result.steps < 1e5


def test_an_environment_that_breaks_is_named_before_the_loss_is(tmp_path: Path) -> None:
    text = ocean.find("cartpole").read_text()
    (tmp_path / "pole.h").write_text(
        text.replace("    obs[3] = env->theta_dot;", "    obs[3] = env->steps == 7 ? NAN : env->theta_dot;")
    )
    with pytest.raises(EnvironmentFault, match=r"pole: environment \d gave .* at step 6; mend pole.h"):
        train(small(str(tmp_path / "pole.h")), device="emulated")


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_a_policy_that_breaks_is_not_blamed_on_the_environment(tmp_path: Path, device: str) -> None:
    """Its actions are no numbers, and so would be what an environment makes of them."""
    text = ocean.find("pendulum").read_text()
    line = "    action = action > MAX_ACTION ? MAX_ACTION : action > -MAX_ACTION ? action : -MAX_ACTION;"
    assert line in text
    (tmp_path / "rod.h").write_text(text.replace(line, ""))
    changes = {"train.learning_rate": 1e38, "train.updates": 1}
    assert train(small(str(tmp_path / "rod.h"), **changes), device=device).failure == "diverged"


def test_a_fault_after_a_restart_is_counted_from_the_beginning(tmp_path: Path) -> None:
    text = ocean.find("bandit").read_text()
    text = text.replace("    io->obs[0] = 1.0f;", "    io->obs[0] = env->log.n == 20 ? NAN : 1.0f;")
    (tmp_path / "arms.h").write_text(text)
    settings, file = small(str(tmp_path / "arms.h")), tmp_path / "arms.pt"
    train(settings, device="emulated", checkpoint=file, should_stop=lambda: True)  # after 16 steps
    with pytest.raises(EnvironmentFault, match="at step 19;"):
        train(settings, device="emulated", checkpoint=file)


def test_whole_numbers_do_for_floats() -> None:
    """As they do on the processor: a C double is not handed an integer's register."""
    whole = {"vf_coef": 1, "clip_coef": 1, "vf_clip_coef": 2, "momentum": 0, "gamma": 1, "rho_clip": 1}
    policies = []
    for kind in (int, float):
        settings = small()
        numbers = {name: kind(value) for name, value in whole.items()}
        settings = replace(settings, train=replace(settings.train, **numbers))
        policies.append(train(settings, device="emulated").policy.flat)
    assert torch.equal(*policies)


def test_bfloat16_without_kernels_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"train\.precision: on a GPU bfloat16 needs .* use float32"):
        train(small(**{"policy.rnn": "lstm", "train.precision": "bfloat16"}), device="emulated")


def test_a_header_that_cuda_refuses_stays_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ocean.BuildError('nvcc could not compile vector.cu: error: "table" is undefined')

    monkeypatch.setattr(gpu_training, "GpuVector", refused)
    with pytest.warns(UserWarning, match='cartpole stays on the processor: nvcc .*"table" is undefined'):
        result = train(small(), device="emulated")
    assert result.failure is None
    assert result.profile["env"] > 0


def test_a_full_gpu_is_said_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has less. More.")

    monkeypatch.setattr(gpu_training, "make", full)
    settings = small(**{"train.num_envs": 65536, "train.horizon": 64, "train.minibatch_size": 64})
    message = r"with 65536 agents for 64 steps .* fewer train\.num_envs.*allocate 9\.00 GiB"
    with pytest.raises(MemoryError, match=message):
        train(settings, device="emulated")


def test_of_several_gpus_the_one_that_is_asked_for_is_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else streams and events of the first would be waited for."""

    class Entered(Exception):
        pass

    def enter(device: torch.device) -> None:
        raise Entered(str(device))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", enter)
    with pytest.raises(Entered, match="cuda:1"):
        train(small(), device="cuda:1")


@pytest.mark.gpu
@gpu_only
@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_graphs_are_captured_and_train_as_calls_do(changes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU: eager, captured, and emulated on the processor, to the same weights."""
    settings = small(**{**changes, "train.total_timesteps": 8 * 16 * 9, "train.learning_rate": 1e-3})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the .* cannot be captured")
        captured = train(settings, device="cuda").policy.flat.cpu()
    begun = Graph.__init__
    monkeypatch.setattr(
        Graph, "__init__", lambda self, name, work, device, captured: begun(self, name, work, device, False)
    )
    eager = train(settings, device="cuda").policy.flat.cpu()
    emulated = train(settings, device="emulated").policy.flat
    torch.testing.assert_close(captured, eager, atol=1e-5, rtol=1e-4)
    if settings.train.precision == "float32":
        torch.testing.assert_close(eager, emulated, atol=1e-3, rtol=1e-2)


@pytest.mark.gpu
@gpu_only
def test_cartpole_is_solved_on_a_gpu() -> None:
    result = train(Settings.parse("cartpole"), device="cuda")
    assert result.failure is None
    assert result.score >= 475
