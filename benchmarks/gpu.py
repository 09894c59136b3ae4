"""Everything that issues and READMEs promise of a GPU, checked and timed by one command.

    python -P benchmarks/gpu.py            # on a GPU: builds, checks, times; ten minutes at most
    python -P benchmarks/gpu.py --only overlap sharing   # on a GPU: some parts of it
    python -P benchmarks/gpu.py --floors   # anywhere: what memory bandwidth allows each kernel
    python -P benchmarks/gpu.py --launches # anywhere: how many launches an iteration is
    python -P benchmarks/gpu.py --emulated # anywhere: that this program itself works, at tiny sizes

Without a GPU it says what is missing and what it would do. Floors count each byte that a kernel must read
or write once, over the memory bandwidth of an H200; sizes are far beyond its cache.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ocean
from sweeper import executors
from trainer import doctor, gpu, rollout, train
from trainer.gpu_training import Graph
from trainer.gpu_vector import GpuVector, fits
from trainer.settings import Settings
from trainer.training import Result

BANDWIDTH = 4.8e12  # bytes a second, of an H200 by its maker's word
GOAL = 0.6  # of the bandwidth
TESTS = Path(__file__).parents[1] / "tests" / "trainer"


@dataclasses.dataclass
class Kernel:
    """One launch: `count` elements of `bytes` each, read or written once. `prepare` gives the launch."""

    name: str
    element: str
    bytes: int
    count: int
    prepare: Callable[[torch.device, int], Callable[[], None]]

    @property
    def floor(self) -> float:
        """Seconds, at BANDWIDTH."""
        return self.bytes * self.count / BANDWIDTH


def advantage(device: torch.device, count: int) -> Callable[[], None]:
    from trainer.advantage import Rows, compute_kernel

    horizon, agents = 64, max(1, count // 64)

    def column(rows: int = horizon) -> torch.Tensor:
        return torch.randn(rows, agents, device=device)

    flags = [(torch.rand(horizon, agents, device=device) < 0.003).to(torch.uint8) for _ in range(2)]
    rows = Rows(column(), *flags, column(horizon + 1), column(), column().exp(), column(), column())
    return lambda: compute_kernel(rows, 0.99, 0.9, 1.0, 1.0)


ACTIONS = 3  # of one component; the value is the fourth output


def sample(device: torch.device, count: int) -> Callable[[], None]:
    kernels, sizes = gpu.load("ppo.cu", device), torch.tensor([ACTIONS], dtype=torch.int32, device=device)
    outs, uniform = torch.randn(count, ACTIONS + 1, device=device), torch.rand(count, device=device)
    actions = torch.zeros(count, dtype=torch.int32, device=device)
    logprobs, values = torch.zeros(2, count, device=device).unbind()
    return lambda: kernels.sample(
        count, 1, ACTIONS, 0, sizes, None, 1.0, outs, uniform, None, actions, logprobs, values
    )


def loss(device: torch.device, count: int) -> Callable[[], None]:
    kernels, sizes = gpu.load("ppo.cu", device), torch.tensor([ACTIONS], dtype=torch.int32, device=device)
    horizon, agents = 64, max(1, count // 64)
    rows = horizon * agents
    outs, terms = torch.randn(rows, ACTIONS + 1, device=device), torch.zeros(5, rows, device=device)
    actions = torch.randint(0, ACTIONS, (rows,), dtype=torch.int32, device=device)
    logprobs, advantages, returns, old, values, ratios = torch.randn(6, rows, device=device).unbind()
    segments, weights = torch.arange(agents, device=device), torch.ones(agents, device=device)
    given = (segments, weights, None, actions, logprobs, advantages, returns, old, values, ratios)
    moments, coef = torch.tensor([1.0, 0.0], device=device), torch.tensor([0.01], device=device)
    size = (agents, agents, horizon, 1, ACTIONS, 0, sizes, None, 1.0)
    return lambda: kernels.loss(*size, *given, moments, coef, 0.2, 0.2, 1.0, outs, terms, None)


def scan(backward: bool) -> Callable[[torch.device, int], Callable[[], None]]:
    def prepare(device: torch.device, count: int) -> Callable[[], None]:
        steps, units = 64, 128
        rows = max(1, count // (steps * units))
        kernels, bias = gpu.load("recurrence.cu", device), torch.zeros(3 * units, device=device)
        x, states, out = torch.randn(3, steps, rows, units, device=device).unbind()
        gates, state = (
            torch.rand(steps, rows, 3 * units, device=device),
            torch.zeros(rows, units, device=device),
        )
        fresh = torch.zeros(steps, rows, dtype=torch.uint8, device=device)
        size = (steps, rows, units)
        if backward:
            return lambda: kernels.mingru_backward(*size, x, gates, state, fresh, states, out)
        return lambda: kernels.mingru_forward(*size, x, gates, bias, state, fresh, states, out)

    return prepare


def adam(device: torch.device, count: int) -> Callable[[], None]:
    kernels = gpu.load("training.cu", device)
    weight, grad, mean, square = torch.rand(4, count, device=device).unbind()
    scales, rate = torch.ones(2, device=device), torch.tensor([1e-3], device=device)
    return lambda: kernels.adam(count, weight, grad, mean, square, scales, rate, 1.0, 0.9, 0.999, 1e-5)


def uniform(device: torch.device, count: int) -> Callable[[], None]:
    kernels, state = gpu.load("training.cu", device), torch.zeros(2, dtype=torch.int64, device=device)
    out = torch.zeros(count, device=device)
    return lambda: kernels.uniform(count, state, out)


MILLION = 1 << 20
KERNELS = [
    Kernel("advantage", "step of an agent", 22, 16 * MILLION, advantage),
    Kernel("sample", "row of 3 actions", 4 * (ACTIONS + 1 + 4), 16 * MILLION, sample),
    Kernel(
        "PPO loss, forward and backward", "row of 3 actions", 4 * (2 * (ACTIONS + 1) + 12), 8 * MILLION, loss
    ),
    Kernel("minGRU scan, forward", "unit of a step", 36, 16 * MILLION, scan(False)),
    Kernel("minGRU scan, backward", "unit of a step", 40, 16 * MILLION, scan(True)),
    Kernel("Adam", "parameter", 28, 16 * MILLION, adam),
    Kernel("uniform", "number", 4, 128 * MILLION, uniform),
]


def floors() -> list[str]:
    """The table of cuda/README.md, but for what was measured."""
    lines = [
        "| kernel | one element | bytes | elements | MB | floor, ms | goal (60 %), ms |",
        "|---" * 7 + "|",
    ]
    for kernel in KERNELS:
        size, floor = kernel.bytes * kernel.count / 1e6, 1000 * kernel.floor
        shown = (kernel.name, kernel.element, kernel.bytes, f"{kernel.count // MILLION} × 2^20")
        lines.append(
            "| " + " | ".join(map(str, shown)) + f" | {size:.0f} | {floor:.3f} | {floor / GOAL:.3f} |"
        )
    return lines


class Launches(TorchDispatchMode):
    """Counts what torch would launch; the kernels of ours are counted where they are called."""

    FREE = (
        *("view", "_unsafe_view", "slice", "select", "t", "transpose", "unbind", "split", "expand"),
        *("unsqueeze", "detach", "empty", "empty_like", "split_with_sizes", "squeeze", "alias"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function._schema.name.partition("::")[2] not in self.FREE
        return function(*args, **(kwargs or {}))


def launches() -> Iterator[str]:
    """The table of cuda/README.md: launches of a step and of an update, counted on the processor."""
    counts: dict[str, int] = {}
    launched = Launches()
    entry = gpu.Kernels.__getattr__

    def counting(self: gpu.Kernels, name: str) -> Callable[..., None]:
        launch = entry(self, name)

        def counted(*arguments: object) -> None:
            launched.count += 1
            launch(*arguments)

        setattr(self, name, counted)
        return counted

    def call(self: Graph) -> None:
        launched.count = 0
        with launched:
            self.work()
        counts[self.name] = launched.count

    with patch.object(gpu.Kernels, "__getattr__", counting), patch.object(Graph, "__call__", call):
        yield "| | a step of the rollout | an update with Muon | with Adam |"
        yield "|" + "---|" * 4
        for rnn, precision in (("none", "float32"), ("mingru", "float32"), ("none", "bfloat16")):
            shares = []
            for optimizer in ("muon", "adam"):
                settings = big_breakout(rnn, precision, 1, tiny=True)
                train_ = dataclasses.replace(settings.train, optimizer=optimizer)
                train(dataclasses.replace(settings, train=train_), device="emulated")
                shares.append(counts["update"] / settings.train.updates)
            step = counts["rollout"] / settings.train.horizon
            yield f"| recurrence {rnn}, {precision} | {step:.1f} | {shares[0]:.0f} | {shares[1]:.0f} |"


class Watch:
    """Times work on a device, and knows when the whole command's time is up."""

    def __init__(self, device: torch.device, limit: float) -> None:
        self.device, self.cuda, self.end = device, device.type == "cuda", time.monotonic() + limit
        self.name = "cuda" if self.cuda else "emulated"  # as `train` calls the device

    def left(self) -> float:
        return self.end - time.monotonic()

    def verdict(self, figure: float, goal: float, unit: str) -> str:
        """In words; a processor's figures are not judged."""
        reached = ("reached" if figure >= goal else "missed") if self.cuda else "is a GPU's"
        return f"goal {goal:,.4g} {unit} {reached}"

    def median(self, work: Callable[[], object], repeats: int = 20) -> float:
        """Seconds of one call, the first ones left out."""
        for _ in range(3):
            work()
        spent = []
        for _ in range(repeats if self.cuda else 1):
            if self.cuda:
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                work()  # the GPU is busy until the host has launched what is timed
                begin.record()
                work()
                end.record()
                end.synchronize()
                spent.append(begin.elapsed_time(end) / 1000)
            else:
                start = time.perf_counter()
                work()
                spent.append(time.perf_counter() - start)
        return statistics.median(spent)


def build(watch: Watch) -> Iterator[str]:
    """Every source and every environment, for this device."""
    begin = time.perf_counter()
    for name in ("advantage.cu", "ppo.cu", "recurrence.cu", "training.cu"):
        gpu.load(name, watch.device)
    for name in ocean.names():
        gpu.load("vector.cu", watch.device, ocean.spec(name).path)
    yield f"four sources and {len(ocean.names())} environments in {time.perf_counter() - begin:.1f} s"


def check(watch: Watch) -> Iterator[str]:
    """The tests that need a GPU: parity of environments and kernels, captured graphs, learning."""
    if not watch.cuda:
        yield "only on a GPU (the same tests run emulated in the test suite)"
        return
    # A process for each file: an error that a kernel leaves behind fails all that comes after it.
    files = [file for file in sorted(TESTS.glob("test_*.py")) if "mark.gpu" in file.read_text()]
    command = [sys.executable, "-P", "-m", "pytest", "-m", "gpu", "-rfE", "--tb=short", "--durations=3"]
    wide = {**os.environ, "COLUMNS": "200"}  # reasons are cut off at the width
    end, well = time.monotonic() + min(300, watch.left()), True
    with contextlib.ExitStack() as stack:
        running = []
        for file in files:
            said = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            process = subprocess.Popen([*command, file], stdout=said, stderr=subprocess.STDOUT, env=wide)
            running.append((file.stem, process, said))
        for name, process, said in running:
            try:
                how = f"exit {process.wait(max(0.0, end - time.monotonic()))}"
            except subprocess.TimeoutExpired:
                process.kill()
                how = "NOT DONE: more than five minutes"
            said.seek(0)
            lines = said.read().splitlines()[-25:]
            well = well and how == "exit 0" and "skipped" not in lines[-1]
            yield f"{name}: {how}"
            yield from (f"  {line}" for line in lines)
    yield "all well" if well else "NOT WELL: no figure below is worth anything"


def bandwidth(watch: Watch) -> Iterator[str]:
    """Each kernel at its size, beside a copy by torch."""
    count = 64 * MILLION if watch.cuda else 1 << 12
    source, target = torch.rand(2, count, device=watch.device).unbind()

    def line(name: str, size: float, seconds: float) -> str:
        return f"{name:31} {size / 1e6:6.0f} MB {1000 * seconds:8.3f} ms {size / seconds / 1e12:6.2f} TB/s"

    yield line("copy by torch", 8 * count, watch.median(lambda: torch.add(source, 0.0, out=target)))
    for kernel in KERNELS:
        count = kernel.count if watch.cuda else 1 << 14
        seconds = watch.median(kernel.prepare(watch.device, count))
        size = kernel.bytes * count
        share = size / BANDWIDTH / seconds
        verdict = watch.verdict(100 * share, 100 * GOAL, "%")
        yield f"{line(kernel.name, size, seconds)} {share:4.0%} of the floor's speed: {verdict}"


# Breakout's rate is quoted for single ticks, as benchmarks/ocean.py has it.
ENVS = [("cartpole", {}, 2e9), ("squared", {}, 2e9), ("pong", {}, 2e9), ("breakout", {"frame_skip": 1}, 5e8)]
STEPS_A_GRAPH = 32


def environments(watch: Watch) -> Iterator[str]:
    """Random actions, steps alone, in a graph."""
    num_envs = 1 << 18 if watch.cuda else 64
    for name, settings, goal in ENVS:
        env = GpuVector(name, num_envs, 0, watch.device, settings)
        sizes = env.spec.action_sizes
        actions = torch.randint(
            0, sizes[0], (STEPS_A_GRAPH, num_envs, 1), dtype=torch.int32, device=watch.device
        )
        obs = torch.zeros(num_envs, *env.spec.obs_shape, dtype=env.obs_dtype, device=watch.device)
        rewards = torch.zeros(num_envs, device=watch.device)
        ends = torch.zeros(2, num_envs, dtype=torch.uint8, device=watch.device).unbind()
        final_obs = torch.zeros_like(obs)
        env.reset(obs)

        def steps(
            env: GpuVector = env,
            actions: torch.Tensor = actions,
            buffers: tuple = (obs, rewards, *ends, final_obs),
        ) -> None:
            for t in range(STEPS_A_GRAPH):
                env.step(actions[t], *buffers, t)

        seconds = watch.median(Graph(name, steps, watch.device, captured=True))
        env.check()
        rate = STEPS_A_GRAPH * num_envs / seconds
        verdict = watch.verdict(rate / 1e6, goal / 1e6, "million")
        yield f"{name:10} {num_envs:8,} environments {rate / 1e6:10,.0f} million steps/s: {verdict}"


def big_breakout(rnn: str, precision: str, steps: float, tiny: bool) -> Settings:
    """One hidden layer of 128, minibatches of 32,768: the network whose speed the issue asks for."""
    changes = {
        "train.num_envs": 8192,
        "train.horizon": 64,
        "train.minibatch_size": 32_768,
        "train.updates": 16,  # one pass
        "train.prio_alpha": 0.0,
        "policy.hidden": 128,
    }
    if tiny:
        changes |= {"train.num_envs": 8, "train.minibatch_size": 256, "train.updates": 2}
    evaluation = {"train.curve_points": 2, "train.eval_episodes": 1, "train.eval_max_steps": 1}
    chosen = {"policy.rnn": rnn, "train.precision": precision, "train.total_timesteps": steps}
    return Settings.parse("breakout", {**changes, **evaluation, **chosen})


def rate_of(result: Result) -> float:
    """Steps a second between the two points of a run: graphs are captured by then. Nan where it failed."""
    if result.failure is not None:
        return math.nan
    (first, early, _), (last, late, _) = result.points
    return (last - first) / (late - early)


def training(watch: Watch) -> Iterator[str]:
    """Breakout end to end, of the second half of a run, in which graphs are captured already."""
    for rnn, goal in (("none", 3e7), ("mingru", 1e7)):
        for precision in ("float32", "bfloat16"):
            settings = big_breakout(rnn, precision, 4e7 if watch.cuda else 2048, not watch.cuda)
            result = train(settings, device=watch.name)
            rate = rate_of(result)
            verdict = result.failure or watch.verdict(rate / 1e6, goal / 1e6, "million")
            yield (
                f"{rnn:7} {precision:9} {rate / 1e6:8.2f} million steps/s: {verdict}   "
                f"(rollout {result.profile['policy']:.0%}, update {result.profile['update']:.0%})"
            )


def solving(watch: Watch) -> Iterator[str]:
    """The bundled settings, tuned on processors: seconds of training to what each README calls solved."""
    goals = {"cartpole": 1.0, "pong": 2.0, "breakout": 5.0, "game2048": None, "snake": None}
    for name, goal in goals.items():
        if watch.left() < 120 and watch.cuda:
            yield f"{name:10} not measured: the time is up"
            continue
        changes: dict = {"train.curve_points": 5}
        if not watch.cuda:
            changes |= {"train.total_timesteps": 64, "train.eval_episodes": 1, "train.eval_max_steps": 2}
            changes |= {"train.num_envs": 2, "train.minibatch_size": 64, "train.horizon": 32}
        result = train(Settings.parse(name, changes), device=watch.name)
        solved = ocean.spec(name).solved_score
        reached = [point.cost for point in result.points if point.score >= solved]
        when = f"solved after {reached[0]:.2f} s" if reached else "not solved"
        asked = f", asked: {goal:g} s" if goal else ""
        yield f"{name:10} {when}{asked}; score {result.score:.1f} of {solved:g} after {result.seconds:.2f} s"


def curves(watch: Watch) -> Iterator[str]:
    """Breakout's score over steps by its bundled settings, on this device and on the processor."""
    for device in (watch.name, "cpu"):
        for seed in (1, 2, 3) if watch.cuda else (1,):
            changes: dict = {"train.curve_points": 4}
            if not watch.cuda:
                changes |= {"train.total_timesteps": 256, "train.eval_episodes": 1, "train.eval_max_steps": 2}
                changes |= {"train.num_envs": 2, "train.minibatch_size": 64, "train.horizon": 32}
            result = train(Settings.parse("breakout", changes), seed=seed, device=device)
            points = ", ".join(f"{point.step:,} steps {point.score:.0f}" for point in result.points)
            yield f"{device:8} seed {seed}: {result.failure or points}"


MANY_AGENTS = ("snake", "wilds")  # 64 an environment, which the processor steps


def overlap(watch: Watch) -> Iterator[str]:
    """Environments on the processor, policy on the GPU: all stepped at once, and halves that take turns."""
    threads = min(16, executors.cores()) if watch.cuda else 1
    for name in MANY_AGENTS:
        for num_envs in (16, 256) if watch.cuda else (2,):
            rollouts, segment = (40, 64) if watch.cuda else (4, 8)
            agents = num_envs * ocean.spec(name).agents_per_env
            changes = {"train.num_envs": num_envs, "train.horizon": segment, "train.threads": threads}
            changes |= {"train.minibatch_size": agents * segment // 4, "train.updates": 4}
            changes |= {"train.curve_points": 2, "train.eval_episodes": 1, "train.eval_max_steps": 1}
            changes |= {"train.total_timesteps": rollouts * agents * segment}
            rates, who = [], f"{name:6} {agents:6,} agents"
            for halves in (1, 2):
                with patch.object(rollout, "HALVES", halves):
                    result = train(Settings.parse(name, changes), device=watch.name)
                rates.append(rate_of(result))
                shares = ", ".join(f"{part} {share:.0%}" for part, share in result.profile.items())
                kind = "halves" if halves == 2 else "at once"
                yield f"{who} {kind:7} {rates[-1] / 1e6:8.3f} million steps/s ({shares})"
            yield f"{who} halves are {rates[1] / rates[0]:.2f} times as fast"


SMALL = ("cartpole", "breakout")  # as they are bundled, breakout for two million steps
SHARED_WINDOW = 15  # seconds, from the moment at which all are ready to the end of all


def mps() -> str:
    """Whether processes are on the GPU at the same time, by its Multi-Process Service, or in turn."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        return "MPS: not known, there is no nvidia-cuda-mps-control here"
    question = "get_server_list\n"
    try:
        asked = subprocess.run([control], input=question, text=True, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return f"MPS: not known, {control} does not answer"
    return "MPS is on" if asked.returncode == 0 else "MPS is off: `nvidia-cuda-mps-control -d` starts it"


def sharing(watch: Watch) -> Iterator[str]:
    """Several small trainings at once on one GPU, each a process: trials a minute, and the best count."""
    yield mps()
    for name in SMALL if watch.cuda else SMALL[:1]:
        rates: dict[int, float] = {}
        for count in (1, 2, 4, 8) if watch.cuda else (1,):
            if watch.cuda and watch.left() < 45:
                yield f"{name:10} {count} at once: not measured: the time is up"
                continue
            command = [sys.executable, "-P", __file__, "--child", name, watch.name]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            children = [subprocess.Popen(command, **pipes) for _ in range(count)]
            for child in children:
                child.stdout.readline()  # ready
            for child in children:
                with contextlib.suppress(BrokenPipeError):  # it failed, as is said below
                    child.stdin.write("go\n")
                    child.stdin.flush()
            try:
                said = [child.communicate(timeout=100)[0] for child in children]
            except subprocess.TimeoutExpired:
                for child in children:
                    child.kill()
                yield f"{name:10} {count} at once: not measured: more than 100 s"
                continue
            done = [json.loads(text) for text in said if text]
            if len(done) < count:
                yield f"{name:10} {count} at once: {count - len(done)} failed"
                continue
            rates[count] = sum(child["trials"] for child in done) / done[0]["seconds"] * 60
            yield f"{name:10} {count} at once: {rates[count]:8.1f} trials a minute together"
        if rates:
            best = max(rates, key=lambda count: rates[count])
            yield f"{name:10} {best} at once are best: workers: {{gpus_per_trial: {1 / best:g}}}"


def child(name: str, device: str) -> None:
    """One of several processes that train again and again from the moment at which all are ready, as a
    sweep's worker does. Says how many trainings they were; the last counts by its share."""
    window = SHARED_WINDOW if device == "cuda" else 1.0
    settings = Settings.parse(name, {"train.total_timesteps": 2e6} if name == "breakout" else {})
    warm = dataclasses.replace(settings.train, total_timesteps=1, eval_max_steps=1)
    train(dataclasses.replace(settings, train=warm), device=device)  # loads and compiles
    print("ready", flush=True)
    sys.stdin.readline()
    trials, seed, end = 0.0, 0, time.monotonic() + window
    while time.monotonic() < end:
        seed += 1
        result = train(settings, seed, device=device, should_stop=lambda: time.monotonic() >= end)
        trials += min(1.0, result.steps / settings.train.total_timesteps)
    print(json.dumps({"trials": trials, "seconds": window}))


PARTS: dict[str, Callable[[Watch], Iterator[str]]] = {
    "build": build,
    "check": check,
    "bandwidth": bandwidth,
    "environments": environments,
    "training": training,
    "solving": solving,
    "curves": curves,
    "overlap": overlap,
    "sharing": sharing,
}


MOST_SECONDS = {"check": 320, "solving": 240, "sharing": 320}  # of a part, before it is stopped
OTHERS = 150


def apart(name: str, limit: float, emulated: bool) -> str | None:
    """A part in a process of its own, so that what crashes, hangs or leaves the GPU in error costs no other
    part its figures. Gives what went wrong."""
    command = [sys.executable, "-P", __file__, "--part", name, "--limit", str(limit)]
    part = subprocess.Popen(command + ["--emulated"] * emulated, start_new_session=True)
    most = min(limit, MOST_SECONDS.get(name, OTHERS))
    try:
        code = part.wait(most)
    except subprocess.TimeoutExpired:
        return f"stopped after {most:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # with all that it began
            os.killpg(part.pid, signal.SIGKILL)
        part.wait()
    return f"ended with {code}" if code else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--limit", type=float, default=570, help="seconds after which the parts are stopped")
    parser.add_argument("--floors", action="store_true", help="the table of floors, nothing else")
    parser.add_argument("--launches", action="store_true", help="the table of launches, nothing else")
    parser.add_argument(
        "--emulated", action="store_true", help="tiny, on the processor: a test of this program"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(*arguments.child)
        return
    if arguments.part is not None:
        warnings.simplefilter("default")
        watch = Watch(torch.device("cpu" if arguments.emulated else "cuda"), arguments.limit)
        for line in PARTS[arguments.part](watch):
            print(f"  {line}", flush=True)
        return
    if arguments.floors or arguments.launches:
        for line in floors() if arguments.floors else launches():
            print(line)
        return
    found = doctor.look()
    for name, text in doctor.report(found):
        print(f"{name:12}{text}")
    usable = torch.cuda.is_available() and gpu.serves(torch.device("cuda"))
    if not usable and not arguments.emulated:
        print("\nNothing is measured: it needs a GPU that torch uses, and nvcc. Then this command does:")
        for name, part in PARTS.items():
            print(f"  {name:13} {(part.__doc__ or '').splitlines()[0]}")
        print("Stays on the processor even there: environments of", end=" ")
        print(", ".join(name for name in ocean.names() if not fits(ocean.spec(name))), "(many agents each).")
        return
    end, wrong = time.monotonic() + arguments.limit, []
    for name in arguments.only:
        print(f"\n{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
        left = end - time.monotonic()
        said = apart(name, left, arguments.emulated) if left > 0 else "not done: the time is up"
        if said is not None:
            print(f"  {said}", flush=True)
            wrong.append(name)
    if usable and "training" in arguments.only:
        print(
            "\nA sweep of a hundred trials, by itself: sweep run examples/breakout.yaml --name breakout-gpu"
            " --set budget.trials=100 --set budget.time=15m --set parameters.train.num_envs.max=8192"
        )
    if wrong:
        raise SystemExit(f"not whole: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
