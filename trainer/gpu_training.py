"""Training that never leaves the GPU: environments, policy and update, with nothing that the host waits
for inside an iteration, so that the rollout and the update are each one CUDA graph.

The algorithm is rollout.py's and update.py's. What differs is where numbers live: the learning rate, the
step count of the optimiser, the random numbers' counter and the losses are all in the GPU's memory, and
the host reads once an iteration what came out. On the processor, for tests, the kernels are emulated and
the graphs are plain calls.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import torch
from torch import Tensor

import ocean
from trainer import advantage, gpu
from trainer.buffer import KEPT, Buffer
from trainer.environments import Environment
from trainer.gpu_network import GpuNetwork
from trainer.gpu_vector import GpuVector, fits
from trainer.network import TINY, LossSums, Minibatch
from trainer.optimizer import BETA2, EPSILON, Optimizer, muon_reference
from trainer.policy import Policy
from trainer.rollout import Rollout, Seconds
from trainer.scales import ActionScale, RewardScale
from trainer.settings import Settings, TrainSettings
from trainer.update import Updater, UpdateStats, refresh, segment_probabilities

WARM_CALLS = 2  # before a graph is captured: libraries are loaded, and torch's memory is at hand
FINAL_ROWS = 1 << 17  # final observations that are valued at once, which bounds what lies between layers


def serves(policy: Policy) -> bool:
    """Whether there are kernels for this policy; else torch's autograd is a GPU's only form of it."""
    return policy.rnn != "lstm"


class Graph:
    """A function without arguments that only launches work: captured at its third call, then replayed.

    A replay costs the host one launch. On the processor, and with `captured` off, it is called. `like`
    lends its stream and its memory to a graph that is never replayed at the same time.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        device: torch.device,
        captured: bool,
        like: Graph | None = None,
    ) -> None:
        self.name, self.work, self.captured = name, work, captured and device.type == "cuda"
        self.calls, self.graph = 0, None if not self.captured else torch.cuda.CUDAGraph()
        self.stream = torch.cuda.Stream(device) if self.captured else None
        self.memory = torch.cuda.graph_pool_handle() if self.captured else None
        if like is not None:
            self.stream, self.memory = like.stream, like.memory

    def __call__(self) -> None:
        self.calls += 1
        if self.graph is None or self.stream is None:
            self.work()
        elif self.calls <= WARM_CALLS:
            # Beside the default stream, on the one that will capture: its libraries' handles belong to it.
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.work()
            torch.cuda.current_stream().wait_stream(self.stream)
        else:
            if self.calls == WARM_CALLS + 1:
                self._capture(self.graph, self.stream)
            if self.graph is not None:
                self.graph.replay()
            else:
                self.work()

    def _capture(self, graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> None:
        torch.cuda.synchronize()
        try:
            # Other threads (a progress display, a tracker) may use the GPU meanwhile.
            with torch.cuda.graph(graph, self.memory, stream, capture_error_mode="thread_local"):
                self.work()
        except RuntimeError as error:
            # Nothing was run: training goes on, launch by launch, and says that it is slow.
            self.graph = None
            # Of the end of a capture that failed it is not said why, but of what was raised before it.
            first = str(error.__context__ or error).partition("\n")[0]
            warnings.warn(f"the {self.name} cannot be captured in a CUDA graph: {first}", stacklevel=4)


Owner = TypeVar("Owner")


def not_kept(owner: Owner, method: Callable[[Owner], None]) -> Callable[[], None]:
    """The work of a graph that its owner holds. A bound method would hold the owner in turn: its memory on
    the GPU would then be free only when Python next looks for such circles, long after the training."""
    return partial(method, weakref.proxy(owner))


class Clock:
    """Where the seconds of an iteration go, asked for only when it is over."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []

    def mark(self, name: str) -> None:
        """From here on it is `name`'s time."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((name, event))
        else:
            self._marks.append((name, perf_counter()))

    def settle(self, seconds: Seconds) -> None:
        """Add the parts between the marks, the last of which ends the iteration."""
        for (name, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            spent = begin.elapsed_time(end) / 1000 if self._cuda else end - begin
            setattr(seconds, name, getattr(seconds, name) + spent)
        self._marks.clear()


class Draws:
    """Random numbers of a run. They depend on its seed and on how many draws came before."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._kernels = seed, gpu.load("training.cu", device)
        self._state = torch.zeros(2, dtype=torch.int64, device=device)

    @property
    def count(self) -> int:
        """Draws so far. Waits for the GPU."""
        return int(self._state[0])

    @count.setter
    def count(self, count: int) -> None:
        self._state[0] = count

    def uniform(self, out: Tensor) -> Tensor:
        """Fill `out` with floats in [0, 1)."""
        self._kernels.next_draw(self._seed, self._state)
        self._kernels.uniform(out.numel(), self._state, out)
        return out

    def normal(self, out: Tensor) -> Tensor:
        """Fill `out` with floats of the normal distribution."""
        self._kernels.next_draw(self._seed, self._state)
        self._kernels.normal(out.numel(), self._state, out)
        return out

    def permutation(self, count: int) -> Tensor:
        """The numbers below `count`, in random order, int64."""
        out = torch.empty(count, dtype=torch.int64, device=self._state.device)
        self._kernels.next_draw(self._seed, self._state)
        self._kernels.permutation(count, self._state, out)
        return out


class GpuRollout:
    """As rollout.Rollout: fills `buffer` with the next `horizon` steps of `env`, again and again."""

    def __init__(
        self, env: GpuVector, network: GpuNetwork, train: TrainSettings, draws: Draws, clock: Clock
    ) -> None:
        self.env, self.network, self.train, self.draws, self.clock = env, network, train, draws, clock
        device, spec, agents = env.state.device, env.spec, env.num_agents
        memory, components = network.policy.memory, spec.action_count
        shape = (train.horizon, agents, tuple(spec.obs_shape), env.obs_dtype, components)
        logits, replay = env.action_mask.shape[1], round(train.replay_factor * agents)
        kind = torch.float32 if network.policy.continuous else torch.int32
        self.buffer = Buffer.make(*shape, device, memory, logits, replay, kind)
        # Of every step, though few are written: those that count can be told apart without the host.
        self._final_obs = torch.zeros(
            train.horizon, agents, *spec.obs_shape, dtype=env.obs_dtype, device=device
        )
        self._final_states = torch.zeros(train.horizon, agents, memory, device=device)
        self._noise = torch.empty(train.horizon, agents, components, device=device)
        self.state = torch.zeros(agents, memory, device=device)  # of the recurrent layer, carried on
        self.rewards = RewardScale(train, agents, device)
        scale = ActionScale(spec, 1)
        limits = (scale.low, scale.high, scale.half, scale.middle)
        self._scale = tuple(torch.from_numpy(limit.copy()).to(device) for limit in limits)
        self.steps = 0  # of each environment
        env.reset(self.buffer.obs[-1, :agents])
        self.check()
        self.graph = Graph("rollout", not_kept(self, GpuRollout._collect), device, captured=True)

    def collect(self, seconds: Seconds) -> Buffer:
        """One rollout. The buffer is the same every time; `seconds` are added after the update."""
        self.clock.mark("policy")  # and the environments': one graph
        self.graph()
        self.steps += self.train.horizon
        return self.buffer

    def check(self) -> None:
        """Raises gpu_vector.EnvironmentFault if an environment gave a number that should not be."""
        self.env.check(self.steps - self.train.horizon if self.steps else 0)

    def _collect(self) -> None:
        buffer, env, network, state = self.buffer, self.env, self.network, self.state
        agents, memory, horizon = env.num_agents, state.shape[1], self.train.horizon
        obs, values = buffer.obs[:, :agents], buffer.values[:, :agents]
        obs[0].copy_(obs[-1])
        buffer.ratios[:, :agents].fill_(1.0)
        buffer.states[0, :agents].copy_(state)
        (self.draws.normal if network.policy.continuous else self.draws.uniform)(self._noise)
        for t in range(horizon):
            mask = None if buffer.masks is None else buffer.masks[t, :agents].copy_(env.action_mask)
            actions, logprobs = buffer.actions[t, :agents], buffer.logprobs[t, :agents]
            network.act(obs[t], self._noise[t], actions, logprobs, values[t], state, mask)
            ends = buffer.terminals[t, :agents], buffer.truncations[t, :agents]
            rewards = buffer.rewards[t, :agents]
            env.step(self._sent(actions), obs[t + 1], rewards, *ends, self._final_obs[t], t)
            if memory:
                self._final_states[t].copy_(state)
                state.masked_fill_((ends[0] | ends[1]).bool()[:, None], 0.0)
        network.values(obs[-1], values[-1], state)
        at_once = max(1, FINAL_ROWS // agents)
        for t in range(0, horizon, at_once):
            final_obs = self._final_obs[t : t + at_once].flatten(0, 1)
            final_values = torch.empty(len(final_obs), device=state.device)
            network.values(final_obs, final_values, self._final_states[t : t + at_once].flatten(0, 1))
            buffer.final_values[t : t + at_once, :agents] = final_values.view(-1, agents)
        ends = buffer.terminals[:, :agents], buffer.truncations[:, :agents]
        self.rewards(buffer.rewards[:, :agents], *ends)

    def _sent(self, actions: Tensor) -> Tensor:
        """As scales.ActionScale, on the GPU."""
        if not self.network.policy.continuous:
            return actions
        low, high, half, middle = self._scale
        # A network that has diverged gives what is no number: the environment is not to be blamed for it.
        return torch.addcmul(middle, actions, half).nan_to_num_(0.0).clamp_(low, high)

    def state_dict(self) -> dict[str, Any]:
        """As rollout.Rollout's."""
        buffer, agents = self.buffer, self.env.num_agents
        kept = [name for name in KEPT if buffer.used > agents and getattr(buffer, name) is not None]
        return {
            "obs": buffer.obs[-1, :agents].clone(),
            "memory": self.state,
            "rewards": self.rewards.state_dict(),
            "mask": self.env.action_mask,
            "kept": buffer.kept,
            "replay": {name: getattr(buffer, name)[:, agents:].clone() for name in kept},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`, or from rollout.Rollout's."""
        agents = self.env.num_agents
        self.buffer.obs[-1, :agents].copy_(state["obs"])
        self.state.copy_(state["memory"])
        self.rewards.load(state["rewards"], resumes=True)
        if state["mask"] is not None:
            self.env.action_mask.copy_(state["mask"])
        self.buffer.kept, self.steps = state["kept"], state["steps"] // agents
        for name, column in state["replay"].items():
            getattr(self.buffer, name)[:, agents:].copy_(column)


class GpuOptimizer(Optimizer):
    """As optimizer.Optimizer, its learning rate and its count of steps in the GPU's memory."""

    def __init__(self, policy: Policy, train: TrainSettings) -> None:
        self._count = torch.zeros(1, dtype=torch.int64, device=policy.flat.device)
        super().__init__(policy, train)
        self._scales = torch.zeros(2, device=policy.flat.device)
        self._training = gpu.load("training.cu", policy.flat.device)

    @property
    def steps(self) -> int:
        """Steps so far. Waits for the GPU."""
        return int(self._count)

    @steps.setter
    def steps(self, steps: int) -> None:
        self._count.fill_(steps)

    @torch.no_grad()
    def advance(self, rate: Tensor) -> None:
        """One step along the policy's gradients; `rate` [1] is the learning rate."""
        self._training.next_step(self._count, self.momentum, BETA2, self._scales)
        flats = (self.policy.flat, self.policy.flat_grad, self.mean, self.square)
        for offset, rows, columns, factor in self.matrices:
            weight, grad, mean = (
                flat[offset : offset + rows * columns].view(rows, columns) for flat in flats[:3]
            )
            muon_reference(weight, grad, mean, rate * factor, self.momentum)
        for offset, size, factor in self.others:
            parts = [flat[offset : offset + size] for flat in flats]
            factors = (float(factor), self.momentum, BETA2, EPSILON)
            self._training.adam(size, *parts, self._scales, rate, *factors)


class GpuUpdater(Updater):
    """As update.Updater: everything between two rollouts, the whole of it one graph."""

    optimizer: GpuOptimizer

    def __init__(
        self,
        policy: Policy,
        network: GpuNetwork,
        train: TrainSettings,
        rollout: GpuRollout | Rollout,
        draws: Draws,
        clock: Clock,
    ) -> None:
        super().__init__(policy, network, train, torch.Generator())  # whose generator is not asked
        device = policy.flat.device
        self.kernels, self.optimizer = network, GpuOptimizer(policy, train)
        self.rollout, self.draws, self.clock = rollout, draws, clock
        self.rate, self.ent_coef, self.beta = torch.zeros(3, device=device).split(1)
        self.losses = torch.zeros(train.updates, 6, device=device)  # of each update: LossSums, the norm
        # What is kept of earlier rollouts grows at first: another work each time, which no graph can be.
        work = not_kept(self, GpuUpdater._update)
        self.graph = Graph("update", work, device, captured=not train.replay_factor)

    def update(self, buffer: Buffer, fraction: float, seconds: Seconds) -> UpdateStats:
        """The updates after one rollout, and the first moment at which the host waits for anything.

        Where an update failed, those after it have run all the same: their policy is worth nothing.
        """
        train, left, clock = self.train, max(0.0, 1.0 - fraction), self.clock
        self.rate.fill_(train.learning_rate * (left if train.anneal_lr else 1.0))
        self.ent_coef.fill_(train.ent_coef * (left if train.anneal_entropy else 1.0))
        self.beta.fill_(1.0 - (1.0 - train.prio_beta0) * left if train.anneal_beta else train.prio_beta0)
        clock.mark("update")
        self.graph()
        clock.mark("")
        buffer.keep()
        stats = UpdateStats()
        for *sums, norm in self.losses.tolist():
            if stats.failure is None:
                self._add(stats, LossSums(*sums), norm)
        clock.settle(seconds)
        if isinstance(self.rollout, GpuRollout):
            self.rollout.check()
        return stats

    @torch.no_grad()
    def _update(self) -> None:
        train, buffer, policy = self.train, self.rollout.buffer, self.policy
        per_minibatch = train.minibatch_size // buffer.horizon
        used = buffer.used
        per_pass = used // per_minibatch
        for update in range(train.updates):
            if update == 0 and used > buffer.agents:
                refresh(policy, buffer)
            if update == 0 or train.recompute_advantages:
                advantage.compute_kernel(
                    buffer.rows, train.gamma, train.gae_lambda, train.rho_clip, train.c_clip
                )
            if update % per_pass == 0:
                count = min(per_pass, train.updates - update)
                minibatches, weights = self._draw(count, per_minibatch)
            whole = per_minibatch == buffer.columns and train.prio_alpha == 0.0
            batch = Minibatch(minibatches[update % per_pass], weights, whole)
            policy.flat_grad.zero_()
            sums = self.kernels.accumulate(batch, buffer, train, self.ent_coef)
            norm = policy.flat_grad.norm()
            self.losses[update, :5] = sums
            self.losses[update, 5] = norm
            policy.flat_grad.mul_((train.max_grad_norm / (norm + TINY)).clamp(max=1.0))
            self.optimizer.advance(self.rate)
            self.kernels.weights_changed()

    def _draw(self, count: int, per_minibatch: int) -> tuple[Tensor, Tensor]:
        """Segments of the next minibatches [count, per_minibatch], and the importance weight of each column.

        As update.draw_segments does it: a comb over the distribution, or all in random order.
        """
        buffer, draws = self.rollout.buffer, self.draws
        used, wanted, device = buffer.used, count * per_minibatch, buffer.obs.device
        probabilities = segment_probabilities(buffer.advantages[:, :used], self.train.prio_alpha)
        weights = (used * probabilities).pow(-self.beta).float()
        if self.train.prio_alpha == 0.0 and per_minibatch == used:
            return torch.arange(used, device=device).expand(count, -1), weights
        if self.train.prio_alpha == 0.0 and wanted == used:
            return draws.permutation(used).view(count, per_minibatch), weights
        offset = draws.uniform(torch.empty(1, device=device)).double()
        comb = (torch.arange(wanted, dtype=torch.float64, device=device) + offset) / wanted
        segments = torch.searchsorted(probabilities.cumsum(0), comb, right=True).clamp_(max=used - 1)
        return segments[draws.permutation(wanted)].view(count, per_minibatch), weights


@dataclass
class Parts:
    """Of a training whose policy and update are a GPU's."""

    env: GpuVector | Environment
    network: GpuNetwork
    rollout: GpuRollout | Rollout
    updater: GpuUpdater
    draws: Draws


def make(
    settings: Settings,
    policy: Policy,
    env: Environment,
    seeds: tuple[int, int],
    generator: torch.Generator,
    device: torch.device,
) -> Parts:
    """The environments are taken to the GPU where they fit it; else they stay in `env`, the processor's.

    `seeds` are those of the random numbers and of the environments; `generator` is asked for the random
    numbers of a rollout on the processor.
    """
    train = settings.train
    network = GpuNetwork(policy, bf16=train.precision == "bfloat16")
    draws, clock = Draws(seeds[0], device), Clock(device)
    rollout: GpuRollout | Rollout
    if isinstance(env, ocean.Vector) and fits(env.spec):
        try:
            there = GpuVector(settings.env, train.num_envs, seeds[1], device, dict(settings.env_settings))
        except ocean.BuildError as error:  # what C takes and CUDA does not
            warnings.warn(f"{env.spec.name} stays on the processor: {error}", stacklevel=3)
        else:
            rollout = GpuRollout(there, network, train, draws, clock)
            env.close()
            updater = GpuUpdater(policy, network, train, rollout, draws, clock)
            return Parts(there, network, rollout, updater, draws)
    graphs: list[Graph] = []

    def graph(work: Callable[[], None]) -> Graph:
        """Of one step of one half: more than a hundred of them."""
        graphs.append(Graph("step", work, device, True, graphs[0] if graphs else None))
        return graphs[-1]

    rollout = Rollout(env, network, train, generator, device, halves=True, graph=graph)
    return Parts(env, network, rollout, GpuUpdater(policy, network, train, rollout, draws, clock), draws)
