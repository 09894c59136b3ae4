"""Gold buffer: no loss knows of rewards; the policy imitates the best segments that it has played so far.

    python gold.py --env cartpole --gold 1

Segments are ranked by their mean discounted return. After each rollout the best of it and of all before are
kept, `--gold` times as many as a rollout has, and the updates raise the probability of what was done in them.
With `--gold 0`, the default, it is the trainer's own PPO.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from trainer import train
from trainer.buffer import Buffer
from trainer.network import LossSums, Network
from trainer.policy import Policy
from trainer.rollout import Seconds
from trainer.settings import Settings, SettingsError, TrainSettings
from trainer.update import Updater, UpdateStats


def discounted_returns(buffer: Buffer, gamma: float) -> Tensor:
    """[horizon, agents]: rewards from each step to the end of its episode or segment."""
    returns, later = torch.empty_like(buffer.rewards), torch.zeros_like(buffer.rewards[0])
    for t in reversed(range(buffer.horizon)):
        goes_on = 1.0 - (buffer.terminals[t] | buffer.truncations[t]).float()
        later = returns[t] = buffer.rewards[t] + gamma * goes_on * later
    return returns


class Gold(Updater):
    """Takes the place of the trainer's updates."""

    def __init__(
        self,
        policy: Policy,
        network: Network,
        settings: TrainSettings,
        generator: torch.Generator,
        times: float,
    ) -> None:
        super().__init__(policy, network, settings, generator)
        if policy.memory or times < 0:
            raise SettingsError("gold", f"{times:g}, with rnn: {policy.rnn}", "use 0 or more, and rnn: none")
        self.times = times  # as many segments as a rollout has
        self.scores = torch.empty(0)  # [kept], of the segments below
        self.kept: tuple[Tensor, Tensor] | None = None  # observations and actions [horizon, kept, ...]

    def update(self, buffer: Buffer, fraction: float, seconds: Seconds) -> UpdateStats:
        begin, stats = perf_counter(), UpdateStats()
        self._keep(buffer)
        for _ in range(self.train.updates):
            drawn = torch.randint(
                len(self.scores), (self.train.minibatch_size // buffer.horizon,), generator=self.generator
            )
            self._imitate(drawn, stats)
            if stats.failure is not None:
                break
        seconds.update += perf_counter() - begin
        return stats

    def _keep(self, buffer: Buffer) -> None:
        """The best of what is kept and of the last rollout; of equally good ones the newest."""
        scores = torch.cat([discounted_returns(buffer, self.train.gamma).mean(0), self.scores])
        best = scores.argsort(descending=True, stable=True)[: max(1, round(self.times * buffer.agents))]
        new = (buffer.obs[:-1].flatten(2), buffer.actions)
        joined = (
            new if self.kept is None else [torch.cat(pair, 1) for pair in zip(new, self.kept, strict=True)]
        )
        obs, actions = (part[:, best] for part in joined)
        self.scores, self.kept = scores[best], (obs, actions)

    def _imitate(self, segments: Tensor, stats: UpdateStats) -> None:
        """One step towards the actions of some kept segments; entropy keeps the policy exploring."""
        assert self.kept is not None
        obs, actions = (part[:, segments].flatten(0, 1) for part in self.kept)
        self.policy.flat_grad.zero_()
        hidden, _ = self.policy.unroll(obs[None].float(), torch.zeros(len(obs), 0))
        logits, _ = self.policy(hidden[0])
        logprob, entropy = self.policy.logprob_entropy(logits, actions)
        loss = -(logprob + self.train.ent_coef * entropy).mean()
        loss.backward()
        norm = self.optimizer.gradient_norm()
        self._add(stats, LossSums(loss.item(), 0.0, entropy.mean().item(), 0.0, 0.0), norm)
        if stats.failure is None:
            self.optimizer.step(self.train.learning_rate, min(1.0, self.train.max_grad_norm / (norm + 1e-8)))


def play(
    env: str = "cartpole", gold: float = 0.0, seed: int | None = None, **changes: Any
) -> dict[str, float]:
    """Train and evaluate with any of the trainer's settings: what `gold.yaml` sweeps."""
    chosen = {Settings.resolve(name, env): value for name, value in changes.items()}
    # What is ranked has to count the same from the first rollout to the last.
    settings = Settings.parse(env, {"train.normalize_rewards": not gold, **chosen})
    seed = int(os.environ.get("SWEEP_SEED", 0)) if seed is None else seed
    result = train(settings, seed=seed, updater=partial(Gold, times=gold) if gold else Updater)
    return {"score": result.score, "cost": result.seconds, "step": result.steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Any setting: --total-timesteps=1e6")
    parser.add_argument("--env", default="cartpole")
    parser.add_argument("--gold", type=float, default=0.0)
    parser.add_argument("--seed", type=int)
    arguments, rest = parser.parse_known_args()
    changes: dict[str, Any] = {}
    for option in rest:
        name, equals, text = option.removeprefix("--").partition("=")
        if not equals:
            parser.error(f"{option}: write --name=value")
        try:
            changes[name.replace("-", "_")] = json.loads(text)
        except ValueError:  # a word
            changes[name.replace("-", "_")] = text
    try:
        print(json.dumps(play(**vars(arguments), **changes)))
    except SettingsError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
