"""The training loop: rollout, update, evaluation at the points of the curve."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer import checkpoint as checkpoints
from trainer import environments, gpu, gpu_training
from trainer import network as networks
from trainer.buffer import Buffer
from trainer.evaluate import evaluate
from trainer.gpu_training import GpuRollout
from trainer.gpu_vector import EnvironmentFault, GpuVector
from trainer.network import Network
from trainer.policy import Policy
from trainer.rollout import Rollout, Seconds
from trainer.settings import Settings, SettingsError, TrainSettings
from trainer.update import Updater, UpdateStats

PROGRESS_SECONDS = 0.25  # between two calls of `progress`
CHECKPOINT_SECONDS = 30.0  # between two checkpoints
# What torch calls train.precision.
PRECISIONS = {"float32": "ieee", "bfloat16": "bf16"}
_ONEDNN: Any = torch.backends.mkldnn  # torch declares not all that it has
PRODUCTS = _ONEDNN.matmul


class Point(NamedTuple):
    """An evaluation along the run."""

    step: int
    cost: float  # seconds of rollout and update so far
    score: float


@dataclass
class Result:
    """What a run came to. `seconds` are those of rollout and update alone: processor seconds where one
    thread of ours does it all, else seconds on the clock."""

    score: float
    """Mean of the last evaluation; nan if there was none."""
    steps: int
    seconds: float
    points: list[Point]
    failure: str | None
    """None, or "diverged", "entropy_collapse", "kl_explosion": the points are those before it."""
    profile: dict[str, float]
    """Shares of the seconds: env, policy, advantage, update."""
    steps_per_second: float
    unfinished: int
    """Episodes of the last evaluation that had not ended within eval_max_steps."""
    policy: Policy = field(repr=False)


def curve_steps(train: TrainSettings, per_rollout: int) -> list[int]:
    """The steps at which to evaluate: ends of rollouts, rising, the last one the end of training."""
    rollouts = math.ceil(train.total_timesteps / per_rollout)
    count = train.curve_points
    if train.curve_spacing == "log":
        wanted = [rollouts ** ((i + 1) / count) for i in range(count)]
    else:
        wanted = [rollouts * (i + 1) / count for i in range(count)]
    return sorted(
        {min(rollouts, max(1, round(ends))) * per_rollout for ends in wanted} | {rollouts * per_rollout}
    )


def average_weight(share: float, rollouts: int) -> float:
    """What the newest weights count in their average after so many rollouts, for train.average in (0, 1].

    Polynomial-decay averaging (Shamir and Zhang 2013, "Stochastic gradient descent for non-smooth
    optimization"), with the power at which the mean age is that of the plain mean over the last share:
    1 is the plain mean of all. What it leaves depends on no later step, so points along the curve are honest.
    """
    power = 2 / share - 2
    return (power + 1) / (rollouts + power)


def train(
    settings: Settings,
    seed: int = 0,
    report: Callable[[int, float, float], None] | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    network: Callable[[Policy, torch.dtype, torch.device], Network] = networks.make,
    updater: Callable[[Policy, Network, TrainSettings, torch.Generator], Updater] = Updater,
) -> Result:
    """Train a policy and evaluate it.

    `report(step, cost, score)` is called at every evaluation (`train.curve_points`), `progress(...)`
    a few times a second, `should_stop()` after every rollout: a stopped run returns what it has.
    `checkpoint` is a file: training goes on from it where it exists (its points are not reported
    again, but the last one of a finished run is where it is to be judged by other settings now), and keeps
    it up to date. `network` and `updater` make parts that take the place of the
    trainer's own: how actions are chosen, and what is learned from a rollout (see examples/gold.py).
    Raises SettingsError for settings that do not fit each other or the checkpoint, ocean.BuildError
    without a C compiler. One seed gives one result, bit for bit, on the same machine, build and thread
    count, whether stopped and continued or not; but Gymnasium's environments cannot be stopped in an
    episode: those continue with new ones, and a GPU adds the gradients of an embedding in any order.
    `device` is torch's ("cpu", "cuda"), or "emulated", what a GPU would do done slowly by the processor,
    for tests. gpu_vector.EnvironmentFault names an environment that gives a number that is none, and on a
    GPU one outside of its range. MemoryError says that there is too little, and which settings ask for most.
    """
    if checkpoint is not None and not Path(checkpoint).absolute().parent.is_dir():
        said = f"{checkpoint}: there is no such folder"  # said now, and not when all is trained and lost
        raise SettingsError("checkpoint", said, "make it first")
    emulated = device == "emulated"
    place = torch.device("cpu" if emulated else device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device", "no CUDA device is found", "use device='cpu'")
    on_processor = device == "cpu"
    if on_processor and settings.train.precision == "bfloat16" and not has_bfloat16():
        raise SettingsError("train.precision", "torch has no bfloat16 on this processor", "use float32")
    threads, precision = torch.get_num_threads(), PRODUCTS.fp32_precision
    torch.set_num_threads(settings.train.threads)
    if on_processor:
        PRODUCTS.fp32_precision = PRECISIONS[settings.train.precision]
    # Streams and events are those of the current device: of several GPUs this one is it.
    here = torch.cuda.device(place) if place.type == "cuda" else contextlib.nullcontext()
    try:
        with (
            here,
            contextlib.closing(_Training(settings, seed, place, emulated, network, updater)) as training,
        ):
            return training.run(report, progress, should_stop, Path(checkpoint) if checkpoint else None)
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error)
        if not full:
            raise
        raise _memory_error(settings, error) from None
    finally:
        torch.set_num_threads(threads)
        PRODUCTS.fp32_precision = precision


def _memory_error(settings: Settings, error: Exception) -> MemoryError:
    """What to say where memory is full: the allocator's numbers, and the settings that ask for most."""
    train = settings.train
    agents = train.num_envs * environments.agents_per_env(settings.env)
    said = " ".join(str(error).split(". ")[:3])
    return MemoryError(
        f"out of memory with {agents} agents for {train.horizon} steps and minibatches of "
        f"{train.minibatch_size}, {settings.policy.hidden} units a layer: use fewer train.num_envs, a "
        f"shorter train.horizon, a smaller policy.hidden ({said})"
    )


@cache
def has_bfloat16() -> bool:
    """Whether products in bfloat16 are to be had here: asked of a product, for a processor that has the
    instructions may go without (torch uses those of AMX, and not those of AVX512 alone)."""
    before, PRODUCTS.fp32_precision = PRODUCTS.fp32_precision, PRECISIONS["bfloat16"]
    try:
        fine = torch.full((128, 128), 1 + 2**-10)  # bfloat16 rounds it to 1
        return not torch.equal(torch.nn.functional.linear(fine, torch.eye(128)), fine)
    finally:
        PRODUCTS.fp32_precision = before


class _Training:
    """One run: everything that it is made of, and how far it has come."""

    env: environments.Environment | GpuVector
    network: Network
    rollout: Rollout | GpuRollout
    updater: Updater

    def __init__(
        self,
        settings: Settings,
        seed: int,
        device: torch.device,
        emulated: bool,
        network: Callable[[Policy, torch.dtype, torch.device], Network],
        updater: Callable[[Policy, Network, TrainSettings, torch.Generator], Updater],
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        train = settings.train
        streams = [int(s >> np.uint64(1)) for s in np.random.SeedSequence(seed).generate_state(4, np.uint64)]
        self.generators = [torch.Generator().manual_seed(stream) for stream in streams[:3]]
        sizes = train.num_envs, streams[3], train.threads
        env = environments.make(settings.env, *sizes, settings.env_settings, train.env_processes)
        self.env, spec = env, env.spec
        settings.check(spec.agents_per_env)
        environments.check_alike(spec, settings)
        self.policy = Policy.of(spec, settings.policy, self.generators[0], device)
        self.parts: gpu_training.Parts | None = None
        ours = network is networks.make and updater is Updater
        if ours and (emulated or gpu.serves(device)) and gpu_training.serves(self.policy):
            seeds = streams[1], streams[3]
            self.parts = parts = gpu_training.make(
                settings, self.policy, env, seeds, self.generators[1], device
            )
            self.env, self.network = parts.env, parts.network
            self.rollout, self.updater = parts.rollout, parts.updater
        elif train.precision == "bfloat16" and (emulated or device.type != "cpu"):
            said = "on a GPU bfloat16 needs our kernels: nvcc, and a policy without lstm"
            raise SettingsError("train.precision", said, "use float32")
        else:
            self.network = network(self.policy, torch.from_numpy(env.final_obs).dtype, device)
            self.rollout = Rollout(env, self.network, train, self.generators[1], device)
            self.updater = updater(self.policy, self.network, train, self.generators[2])
        self.average = self.policy.flat.clone() if train.average else None
        self.per_rollout = train.horizon * self.env.num_agents
        self.stops = curve_steps(train, self.per_rollout)
        self.steps, self.seconds, self.points = 0, Seconds(), list[Point]()
        # One thread of a processor is charged for the seconds it computed, not for those in which the
        # machine was busy with others: a trial costs the same alone and beside seven more.
        # Gymnasium's environments may wait, or compute in threads and processes of their own.
        ours = not environments.is_gymnasium(settings.env)
        alone = device.type == "cpu" and train.threads == 1 and ours
        self.clock = thread_time if alone else perf_counter
        self.stats, self.unfinished = UpdateStats(), 0

    def close(self) -> None:
        self.env.close()

    def run(
        self,
        report: Callable[[int, float, float], None] | None,
        progress: Callable[[dict[str, Any]], None] | None,
        should_stop: Callable[[], bool] | None,
        file: Path | None,
    ) -> Result:
        if file is not None and file.exists():
            state = checkpoints.load(file)
            self.restore(state)
            ended = self.steps >= self.stops[-1]
            if ended and not checkpoints.judged_alike(state, self.settings):
                # What it scored by other settings is no answer to these.
                self.points = [point for point in self.points if point.step < self.steps]
            if ended and (not self.points or self.points[-1].step < self.steps):
                self._judge(report)  # a longer run that was stopped, too: this is its end
                checkpoints.save(file, self.state())
        shown = saved = perf_counter()
        while self.steps < self.stops[-1]:
            begin = self.clock()
            buffer = self.rollout.collect(self.seconds)
            self.stats = self.updater.update(buffer, self.steps / self.stops[-1], self.seconds)
            self.steps += self.per_rollout
            if self.average is not None:
                rollouts = self.steps // self.per_rollout
                self.average.lerp_(self.policy.flat, average_weight(self.settings.train.average, rollouts))
            self.seconds.spent += self.clock() - begin
            if self.stats.failure is not None:
                self._check_environment(buffer)
                break
            if self.steps in self.stops:
                self._judge(report)
            stopping = should_stop is not None and should_stop()
            if progress is not None and perf_counter() - shown > PROGRESS_SECONDS:
                shown = perf_counter()
                progress(self._progress())
            last = stopping or self.steps >= self.stops[-1]
            if file is not None and (last or perf_counter() - saved > CHECKPOINT_SECONDS):
                checkpoints.save(file, self.state())
                saved = perf_counter()
            if stopping:
                break
        return self._result()

    def _check_environment(self, buffer: Buffer) -> None:
        """Raises EnvironmentFault where an environment gave a number that is none before the policy did."""
        agents, spec = self.env.num_agents, self.env.spec
        if self.stats.failure != "diverged" or not self.policy.flat.isfinite().all():
            return

        def first(part: torch.Tensor, after: int) -> tuple[float, int]:
            """The step that gave the first number that is none, and its row; row t is of step t - after."""
            wrong = (~part[:, :agents].isfinite()).flatten(2).any(2).nonzero().tolist()
            return (wrong[0][0] - after, wrong[0][1]) if wrong else (math.inf, 0)

        acted, _ = first(buffer.actions, 0)
        step, row = min(first(buffer.obs, 1), first(buffer.rewards[..., None], 0))
        if step < acted:
            step += self.steps // agents - self.settings.train.horizon
            raise EnvironmentFault(
                f"{spec.name}: environment {row // spec.agents_per_env} gave a number that is none at step "
                f"{max(0, step)}; mend it, or its settings"
            )

    def state(self) -> dict[str, Any]:
        """All that continuing needs, in types that `weights_only` loading allows."""
        optimizer = self.updater.optimizer
        return {
            "settings": self.settings.to_mapping(),
            "env": self.settings.env,
            "seed": self.seed,
            "steps": self.steps,
            "seconds": vars(self.seconds),
            "points": [tuple(point) for point in self.points],
            "unfinished": self.unfinished,
            "policy": self._judged(),
            "weights": self.policy.flat,
            "average": self.average,
            "optimizer": {"steps": optimizer.steps, "mean": optimizer.mean, "square": optimizer.square},
            "generators": [generator.get_state() for generator in self.generators],
            "draws": self.parts.draws.count if self.parts else 0,
            "environments": torch.frombuffer(bytearray(self.env.get_state()), dtype=torch.uint8),
            **self.rollout.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`. SettingsError if it is of a run that these settings do not continue."""
        checkpoints.check_continues(state, self.settings, self.seed)
        if self.policy.flat.shape != state["policy"].shape:
            said = f"its network does not fit {self.env.spec.name} as it is now"
            raise SettingsError("checkpoint", said, "train it anew")
        try:
            self.env.set_state(state["environments"].numpy().tobytes())
        except ValueError as error:  # its header was edited
            raise SettingsError("checkpoint", str(error), "use another checkpoint file") from None
        self.steps, self.seconds = state["steps"], Seconds(**state["seconds"])
        self.points = [Point(*point) for point in state["points"]]
        self.unfinished = state["unfinished"]
        self.policy.flat.copy_(state["weights"])
        if self.average is not None:
            self.average.copy_(state["average"])
        optimizer = self.updater.optimizer
        optimizer.steps = state["optimizer"]["steps"]
        optimizer.mean.copy_(state["optimizer"]["mean"])
        optimizer.square.copy_(state["optimizer"]["square"])
        for generator, generator_state in zip(self.generators, state["generators"], strict=True):
            generator.set_state(generator_state)
        if self.parts:
            self.parts.draws.count = state["draws"]
            self.parts.network.weights_changed()
        self.rollout.load(state)

    def _judge(self, report: Callable[[int, float, float], None] | None) -> None:
        """Evaluate, and report the point."""
        weights = self.policy.flat.clone()
        self._hand_out()
        outcome = evaluate(self.network, self.settings, self.seed, self.device)
        self._take(weights)
        self.unfinished = outcome.unfinished
        self.points.append(Point(self.steps, self.seconds.spent, outcome.score))
        if report is not None:
            report(*self.points[-1])

    def _judged(self) -> torch.Tensor:
        """The weights that the policy is judged and played by: their average, where one is kept, for
        observations as environments give them."""
        weights = self.policy.flat if self.average is None else self.average
        scale = self.rollout.observations if isinstance(self.rollout, Rollout) else None
        return weights if scale is None else scale.folded(self.policy, weights)

    def _hand_out(self) -> None:
        self._take(self._judged())

    def _take(self, weights: torch.Tensor) -> None:
        self.policy.flat.copy_(weights)
        if self.parts:
            self.parts.network.weights_changed()

    def _progress(self) -> dict[str, Any]:
        log, seconds = self.env.log(), self.seconds.spent
        return {
            "steps": self.steps,
            "total_timesteps": self.stops[-1],
            "seconds": seconds,
            "steps_per_second": self.steps / seconds,
            "score": log["score"] if log["n"] else math.nan,
            "episodes": log["n"],
            **{name: value for name, value in vars(self.stats).items() if name != "failure"},
        }

    def _result(self) -> Result:
        self._hand_out()
        seconds = self.seconds.spent
        return Result(
            score=self.points[-1].score if self.points else math.nan,
            steps=self.steps,
            seconds=seconds,
            points=self.points,
            failure=self.stats.failure,
            profile=self.seconds.shares(),
            steps_per_second=self.steps / seconds,
            unfinished=self.unfinished,
            policy=self.policy,
        )
