"""The update: draw segments by priority, follow the clipped PPO loss, step the optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from trainer import advantage
from trainer.buffer import Buffer
from trainer.network import TINY, LossSums, Minibatch, Network
from trainer.optimizer import Optimizer
from trainer.policy import Policy
from trainer.rollout import Seconds
from trainer.settings import TrainSettings


def segment_probabilities(advantages: Tensor, prio_alpha: float) -> Tensor:
    """How likely each segment is drawn: advantages [horizon, agents] to [agents], summing to 1."""
    if prio_alpha == 0.0:
        count = advantages.shape[1]
        return torch.full((count,), 1 / count, dtype=torch.float64, device=advantages.device)
    weights = advantages.abs().sum(0).double().pow(prio_alpha)
    total = weights.sum()
    return torch.where(total > 0, weights / total, 1 / len(weights))


def draw_segments(probabilities: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` segments in random order, segment s expected count * p_s times.

    Systematic sampling: one random number places a comb over the distribution, so that every
    segment comes the rounded-down or rounded-up number of times; uniform and count = agents is
    one pass over the data.
    """
    offset = torch.rand((), dtype=torch.float64, generator=generator).to(probabilities.device)
    comb = (torch.arange(count, dtype=torch.float64, device=probabilities.device) + offset) / count
    segments = torch.searchsorted(probabilities.cumsum(0), comb, right=True).clamp_(
        max=len(probabilities) - 1
    )
    return segments[torch.randperm(count, generator=generator).to(segments.device)]


@torch.no_grad()
def refresh(policy: Policy, buffer: Buffer) -> None:
    """What the policy now thinks of segments of earlier rollouts: their ratios and values.

    The values of truncated episodes' final observations, which are not kept, stay those of their time.
    """
    for start in range(buffer.agents, buffer.used, REFRESHED):
        columns = slice(start, min(start + REFRESHED, buffer.used))
        steps, rows = buffer.horizon, columns.stop - start
        obs = buffer.obs[:, columns].flatten(2)
        hidden, _ = policy.unroll(obs, buffer.states[0, columns], buffer.fresh(columns))
        mask = None if buffer.masks is None else buffer.masks[:, columns].flatten(0, 1)
        logits, _ = policy(hidden[:-1].flatten(0, 1), mask)
        _, value_out = policy(hidden.flatten(0, 1))
        logprob, _ = policy.logprob_entropy(logits, buffer.actions[:, columns].flatten(0, 1))
        old = buffer.logprobs[:, columns]
        buffer.ratios[:, columns] = (logprob.view(steps, rows) - old).exp()
        buffer.values[:, columns] = policy.value(value_out).view(steps + 1, rows)


@dataclass
class UpdateStats:
    """Means over the updates after one rollout; `failure` is set where training cannot go on."""

    policy_loss: float = 0.0
    value_loss: float = 0.0
    entropy: float = 0.0
    kl: float = 0.0
    clipped: float = 0.0
    grad_norm: float = 0.0
    failure: str | None = None


class Updater:
    """Everything between two rollouts."""

    def __init__(
        self, policy: Policy, network: Network, train: TrainSettings, generator: torch.Generator
    ) -> None:
        self.policy, self.network, self.train, self.generator = policy, network, train, generator
        self.optimizer = Optimizer(policy, train)
        advantage.prepare(policy.flat.device)
        self.least_entropy = policy.least_entropy

    def update(self, buffer: Buffer, fraction: float, seconds: Seconds) -> UpdateStats:
        """The updates after one rollout; `fraction` of the training has passed (for annealing)."""
        train = self.train
        left = max(0.0, 1.0 - fraction)
        learning_rate = train.learning_rate * (left if train.anneal_lr else 1.0)
        ent_coef = train.ent_coef * (left if train.anneal_entropy else 1.0)
        beta = 1.0 - (1.0 - train.prio_beta0) * left if train.anneal_beta else train.prio_beta0
        per_minibatch = train.minibatch_size // buffer.horizon
        used = buffer.used
        per_pass = used // per_minibatch  # minibatches until every segment could have been seen
        everyone = torch.arange(buffer.columns, device=buffer.obs.device)
        stats = UpdateStats()
        for update in range(train.updates):
            begin = perf_counter()
            if update == 0 and used > buffer.agents:
                refresh(self.policy, buffer)
            if update == 0 or train.recompute_advantages:
                self._advantages(buffer)
            seconds.advantage += perf_counter() - begin
            begin = perf_counter()
            if update % per_pass == 0:
                probabilities = segment_probabilities(buffer.advantages[:, :used], train.prio_alpha)
                weights = (used * probabilities).pow(-beta).float()
                count = min(per_pass, train.updates - update)
                if train.prio_alpha == 0.0 and count * per_minibatch == used:
                    # One pass over all: what the comb would give, at the price of a shuffle.
                    drawn = torch.randperm(used, generator=self.generator).to(everyone.device)
                else:
                    drawn = draw_segments(probabilities, count * per_minibatch, self.generator)
                minibatches = drawn.view(count, per_minibatch).sort(1).values
            segments = minibatches[update % per_pass]
            whole = per_minibatch == buffer.columns and torch.equal(segments, everyone)
            batch = Minibatch(segments, weights, whole)
            self.policy.flat_grad.zero_()
            sums = self.network.gradients(batch, buffer, train, ent_coef)
            norm = self.optimizer.gradient_norm()
            self._add(stats, sums, norm)
            if stats.failure is None:
                self.optimizer.step(learning_rate, shrink=min(1.0, train.max_grad_norm / (norm + TINY)))
            seconds.update += perf_counter() - begin
            if stats.failure is not None:
                break
        buffer.keep()
        return stats

    def _advantages(self, buffer: Buffer) -> None:
        train = self.train
        advantage.compute(buffer.rows, train.gamma, train.gae_lambda, train.rho_clip, train.c_clip)

    def _add(self, stats: UpdateStats, sums: LossSums, norm: float) -> None:
        share = 1.0 / self.train.updates
        stats.policy_loss += sums.policy * share
        stats.value_loss += sums.value * share
        stats.entropy += sums.entropy * share
        stats.kl += sums.kl * share
        stats.clipped += sums.clipped * share
        stats.grad_norm += norm * share
        if not all(map(math.isfinite, (sums.policy, sums.value, sums.entropy, sums.kl, norm))):
            stats.failure = "diverged"
        elif sums.kl > MAX_KL:
            stats.failure = "kl_explosion"
        elif sums.entropy < self.least_entropy:
            stats.failure = "entropy_collapse"


# An update that finds its policy this far (nats, mean) from the one that acted no longer learns from it.
MAX_KL = 10.0
REFRESHED = 64  # segments at once: their activations are to stay in a cache
