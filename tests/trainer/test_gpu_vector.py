"""Environments as kernels against the same headers in C: on the GPU where there is one, else emulated."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import ocean
from ocean.build import BuildError
from ocean.header import FOLDER
from trainer import gpu, gpu_vector
from trainer.gpu_vector import EnvironmentFault, GpuVector

ON_GPU = torch.cuda.is_available() and gpu.compiler() is not None
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not ON_GPU, reason="needs a GPU and nvcc")]
    ),
]
ENVS = ocean.names()


class Buffers:
    """What a step writes, poisoned."""

    def __init__(self, env: GpuVector | ocean.Vector, device: torch.device) -> None:
        rows, spec = env.num_agents, env.spec
        dtype = torch.from_numpy(np.empty(0, spec.obs_dtype)).dtype
        self.obs = torch.full((rows, *spec.obs_shape), 77, dtype=dtype, device=device)
        self.final_obs = self.obs.clone()
        self.rewards = torch.full((rows,), torch.nan, device=device)
        self.terminals = torch.full((rows,), 99, dtype=torch.uint8, device=device)
        self.truncations = self.terminals.clone()

    def all(self) -> tuple[torch.Tensor, ...]:
        return self.obs, self.rewards, self.terminals, self.truncations


def agree(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Where integers are the same, and floats to 1e-5 (nan as nan)."""
    if not one.is_floating_point():
        return one == other
    return torch.isclose(one, other, rtol=1e-5, atol=1e-5, equal_nan=True)


def states_agree(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """As `agree`, for the bytes of environments, four by four. Which of them are floats, their size tells:
    read as a float, an integer below 2^23 is nearly nothing."""

    def near(kind: torch.dtype, least: float) -> torch.Tensor:
        x, y = one.view(kind), other.view(kind)
        floats = [(part == 0) | ((part.abs() > 1e-20) & (part.abs() < 1e30)) for part in (x, y)]
        return torch.isclose(x, y, rtol=1e-5, atol=least) & floats[0] & floats[1]

    words = one.view(torch.int32) == other.view(torch.int32)
    doubles = near(torch.float64, 0.0)[..., None].expand(*one.shape[:-1], -1, 2).flatten(-2)
    return words | near(torch.float32, 1e-5) | doubles


def random_actions(spec: ocean.Spec, rows: int, rng: np.random.Generator) -> np.ndarray:
    if spec.action_dim is not None:
        return rng.uniform(-1.5, 1.5, (rows, spec.action_dim)).astype(np.float32)
    sizes = np.array(spec.action_sizes)
    return rng.integers(-1, sizes + 1, (rows, len(sizes))).astype(np.int32)  # some there is none of


AT_ONCE = 50  # steps: compared one by one, each would be a hundred launches on a GPU
PARTS = ("state", "action mask", "observation", "reward", "terminal", "truncation", "final observation")


def compare(name: str, device: torch.device, num_envs: int, steps: int, spread: float = 0.0) -> int:
    """Both forms from the same state, step by step. Gives the number of episodes that ended."""
    known = ocean.settings(name).values()
    short = {limit.name: max(limit.low, 40) for limit in known if limit.name in ("max_steps", "max_ticks")}
    short |= {f"{setting.name}_spread": spread for setting in known}
    on_host = ocean.Vector(name, num_envs, seed=5, settings=short)  # so that episodes are cut, too
    on_device = GpuVector(name, num_envs, 5, device, short)
    host, there = Buffers(on_host, torch.device("cpu")), Buffers(on_device, device)
    assert on_device.get_state() == on_host.get_state()  # seeded alike
    on_host.reset(host.obs.numpy())
    on_device.reset(there.obs)
    assert agree(there.obs, host.obs.to(device)).all()
    rng, ended, wrong, logs = np.random.default_rng(7), 0, list[tuple[int, str]](), []
    arrays, mask = [tensor.numpy() for tensor in host.all()], torch.from_numpy(on_host.action_mask)

    def state() -> torch.Tensor:
        return torch.frombuffer(bytearray(on_host.get_state()[32:]), dtype=torch.uint8).view(num_envs, -1)

    for start in range(0, steps, AT_ONCE):
        some = range(start, min(steps, start + AT_ONCE))
        given, expected, found = [], [], []
        for _ in some:
            actions = random_actions(on_host.spec, on_host.num_agents, rng)
            given.append((state(), torch.from_numpy(actions)))
            on_host.step(actions, *arrays)
            final_obs = torch.from_numpy(on_host.final_obs)
            expected.append([part.clone() for part in (state(), mask, *host.all(), final_obs)])
            ended += int((arrays[2] | arrays[3]).sum())
        before, taken = (torch.stack(part).to(device) for part in zip(*given, strict=True))
        for i, step in enumerate(some):
            on_device.state.copy_(before[i])
            on_device.step(taken[i], *there.all(), there.final_obs, step)
            parts = (on_device.state, on_device.action_mask, *there.all(), there.final_obs)
            found.append([part.clone() for part in parts])
        old, new = ([torch.stack(part) for part in zip(*steps_, strict=True)] for steps_ in (expected, found))
        old = [part.to(device) for part in old]
        over = (old[4] | old[5]).bool()  # final observations count where an episode ended
        same = [states_agree(new[0], old[0]), *map(agree, new[1:], old[1:])]
        same[6] |= ~over.view(*over.shape, *[1] * (same[6].dim() - 2))
        for name_, part in zip(PARTS, same, strict=True):
            steps_ = (~part.flatten(1).all(1)).nonzero()[:, 0].tolist()
            wrong += [(start + step, name_) for step in steps_]
        logs.append((on_device.log(), on_host.log()))
    assert not wrong, f"{name}: (step, part) {sorted(wrong)[:5]}"
    on_device.check()
    for mine, expected in logs:
        assert mine == pytest.approx(expected, rel=1e-5)
    assert sum(mine["n"] for mine, _ in logs) == ended
    on_host.close()
    return ended


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ENVS)
def test_kernels_and_c_step_alike(name: str, device: str) -> None:
    """A thousand environments for ten thousand steps on a GPU; a few, of an odd number, emulated."""
    agents = ocean.spec(name).agents_per_env
    if device == "cuda":
        assert compare(name, torch.device(device), max(16, 1024 // agents), 10_000) > 0
        assert compare(name, torch.device(device), max(16, 1024 // agents), 1000, spread=0.3) > 0
    else:
        assert compare(name, torch.device(device), max(3, 67 // agents), 120) > 0
        assert compare(name, torch.device(device), max(3, 67 // agents), 60, spread=0.3) > 0


def test_states_agree_in_floats_nearly_and_in_integers_exactly() -> None:
    def state(number: float, kind: type) -> torch.Tensor:
        return torch.from_numpy(np.array([7, number], kind)).view(torch.uint8).repeat(2, 1)

    for kind, number, other, same in [
        (np.float32, 0.5, 0.500001, True),
        (np.float32, 0.5, 0.51, False),
        (np.float64, -300.25, -300.25001, True),
        (np.float64, -300.25, -300.5, False),
        (np.int64, 3, 4, False),
        (np.int32, 8_000_000, 8_000_001, False),
        (np.int32, -1, 0, False),
        (np.uint8, 1, 0, False),
    ]:
        width = 4 if kind is np.uint8 else 1
        pair = (state(value, kind).repeat(1, width) for value in (number, other))
        assert bool(states_agree(*pair).all()) == same, (kind, number, other)


@pytest.mark.skipif(gpu.compiler() is None, reason="needs nvcc")
@pytest.mark.parametrize("name", ENVS)
def test_every_header_compiles_as_cuda(name: str, tmp_path: Path) -> None:
    """For a GPU alone: the host's side is the same for all, and takes nvcc twice as long."""
    made, flags = tmp_path / "vector.cubin", ("-O3", "-fmad=false", "-x", "cu", "-cubin", "-arch=sm_90")
    folders = (f"-I{gpu.SOURCES}", f"-I{FOLDER}")
    command = [gpu.compiler(), *flags, *folders, "-include", ocean.spec(name).path, gpu.SOURCES / "vector.cu"]
    subprocess.run([*command, "-o", made], check=True)
    assert b"vector_step" in made.read_bytes()


@pytest.mark.skipif(gpu.compiler() is None, reason="needs nvcc")
def test_a_header_makes_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hasattr(gpu.build("vector.cu", "sm_90", ocean.spec("snake").path), "vector_step")


@pytest.mark.parametrize("name", ["cartpole", "snake", "password"])
def test_no_thread_needs_another(name: str) -> None:
    """The last thread first: the same bytes."""
    states = []
    for flags in ((), ("-DBACKWARDS",)):
        env = GpuVector(name, 5, 1, torch.device("cpu"), flags=flags)
        buffers, rng = Buffers(env, torch.device("cpu")), np.random.default_rng(0)
        env.reset(buffers.obs)
        for _ in range(100):
            actions = torch.from_numpy(random_actions(env.spec, env.num_agents, rng))
            env.step(actions, *buffers.all(), buffers.final_obs)
        states.append((env.get_state(), env.log()))
    assert states[0] == states[1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("wrong", ["NAN", "1.5f"])
def test_a_number_that_should_not_be_is_named(tmp_path: Path, wrong: str, device: str) -> None:
    """The environment and the step, of the first one, whatever comes after."""
    text = ocean.find("password").read_text()
    broken = "    obs[0] = env->log.n == 3 && env->steps == 2 && io_is_third(env) ? %s : 1.0f;\n"
    broken = broken.replace("io_is_third(env)", "(env->entered & 3) == 1") % wrong
    place = "    obs[LENGTH] = rng_uniform"
    assert place in text
    (tmp_path / "odd.h").write_text(text.replace(place, broken + place))
    env = GpuVector(tmp_path / "odd.h", 9, 0, torch.device(device))
    buffers = Buffers(env, torch.device(device))
    env.reset(buffers.obs)
    for step in range(40):
        actions = torch.zeros(9, 1, dtype=torch.int32, device=device)
        actions[3:5] = 1 if step % 5 == 0 else 0  # the third and fourth enter the bits 1, 0
        env.step(actions, *buffers.all(), buffers.final_obs, step)
    with pytest.raises(EnvironmentFault, match=r"odd: environment 3 .*outside \[-1, 1\].*at step 1016; mend"):
        env.check(before=1000)
    env.check()  # said once


def test_settings_are_checked_and_states_are_not_taken_from_others() -> None:
    device = torch.device("cpu")
    with pytest.raises(ValueError, match="no setting 'graviti'"):
        GpuVector("cartpole", 1, 0, device, {"graviti": 1})
    with pytest.raises(ValueError, match="must lie in"):
        GpuVector("cartpole", 1, 0, device, {"gravity": -1})
    state = GpuVector("cartpole", 3, 0, device).get_state()
    for other in (GpuVector("cartpole", 4, 0, device), GpuVector("squared", 3, 0, device)):
        with pytest.raises(ValueError, match="not a state of"):
            other.set_state(state)


def test_many_agents_stay_on_the_processor() -> None:
    assert gpu_vector.fits(ocean.spec("breakout"))
    assert not gpu_vector.fits(ocean.spec("snake"))


@pytest.mark.skipif(gpu.compiler() is None, reason="needs nvcc")
def test_what_nvcc_cannot_do_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BuildError, match=r"cannot compile for this GPU \(sm_30\): nvcc fatal.*device='cpu'"):
        gpu.build("vector.cu", "sm_30", ocean.find("squared"))
    text = ocean.find("squared").read_text().replace("int late =", "int late = sideways;", 1)
    (tmp_path / "squared.h").write_text(text)
    with pytest.raises(BuildError, match=r'vector.cu: .*squared.h\(\d+\): error: .*"sideways" is undefined'):
        gpu.build("vector.cu", "sm_90", tmp_path / "squared.h")


def test_without_nvcc_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "compiler", lambda: None)
    with pytest.raises(BuildError, match="no nvcc found: install"):
        gpu.build("vector.cu", "sm_90")
