"""Look-ahead: before it acts, the agent imagines rollouts in a model that it has learned, and takes the first
action of the best.

    python lookahead.py --env cartpole --steps 4 --rollouts 8

The model lives on the policy's own hidden units: from them and an action it foretells the next ones, the
reward and whether the episode ends, so that the policy's heads act and judge in imagination too. What is
learned from a rollout is PPO, as always. With `--steps 0`, the default, nothing is imagined.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from trainer import train
from trainer.buffer import Buffer
from trainer.network import FusedNetwork, make
from trainer.policy import Policy
from trainer.rollout import Seconds
from trainer.settings import Settings, SettingsError
from trainer.update import Updater, UpdateStats

MODEL_UNITS, MODEL_RATE, MODEL_ROWS = 256, 1e-3, 512  # units and learning rate of the model, rows of a step


class Imagining(FusedNetwork):
    """The trainer's network, whose drawn actions are those that do best in imagination."""

    def __init__(
        self,
        policy: Policy,
        obs_dtype: torch.dtype,
        device: torch.device,
        steps: int,
        rollouts: int,
        gamma: float,
    ) -> None:
        if device.type != "cpu" or policy.memory or len(policy.action_sizes) != 1:
            raise SettingsError("steps", "look-ahead needs one action, no recurrence, the CPU", "use steps 0")
        if steps < 1 or rollouts < 1:
            raise SettingsError(
                "steps", f"{steps} of them, {rollouts} rollouts", "use 1 or more; steps 0: off"
            )
        super().__init__(policy, obs_dtype)
        self.steps, self.rollouts, self.gamma, self.actions = steps, rollouts, gamma, policy.action_sizes[0]
        self.generator = torch.Generator().manual_seed(0)
        # hidden units and an action to: change of the units, reward, log odds of the end
        sizes = (policy.hidden + self.actions, MODEL_UNITS, policy.hidden + 2)
        self.model = nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]))
        with torch.no_grad():
            for part in self.model.parameters():
                part.normal_(0, sizes[0] ** -0.5, generator=self.generator)
        self.optimizer = torch.optim.Adam(self.model.parameters(), MODEL_RATE)

    def foretell(self, hidden: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next hidden units [rows, units], reward [rows], log odds of the end [rows]."""
        told = self.model(torch.cat([hidden, nn.functional.one_hot(action, self.actions).float()], 1))
        return torch.relu(hidden + told[:, :-2]), told[:, -2], told[:, -1]

    def act(
        self,
        obs: Tensor,
        uniform: Tensor | None,
        actions: Tensor,
        logprobs: Tensor,
        values: Tensor,
        state: Tensor,
        mask: Tensor | None = None,
    ) -> None:
        super().act(obs, uniform, actions, logprobs, values, state, mask)
        if mask is not None:
            raise SettingsError("steps", "look-ahead knows no forbidden actions", "use steps 0")
        if uniform is None:
            return
        with torch.no_grad():
            hidden = self.policy.unroll(obs.flatten(1).float()[None], state)[0][0]
            best = self._best_first_action(hidden, actions[:, 0])
            actions[:, 0] = best
            logprobs.copy_(self.policy.logprob_entropy(self.policy(hidden)[0], best[:, None])[0])

    def _best_first_action(self, hidden: Tensor, drawn: Tensor) -> Tensor:
        """[rows] of `rollouts` imagined ones a row, the first of which begins with the action `drawn`."""
        rows, many = len(hidden), self.rollouts
        hidden = hidden.repeat(many, 1)
        alive, gained = torch.ones(len(hidden)), torch.zeros(len(hidden))
        first = torch.empty(0)
        for step in range(self.steps):
            probs = self.policy(hidden)[0].softmax(1)
            action = torch.multinomial(probs, 1, generator=self.generator)[:, 0]
            if step == 0:
                action[:rows] = drawn
                first = action
            hidden, reward, end = self.foretell(hidden, action)
            gained += alive * reward * self.gamma**step
            alive = alive * torch.sigmoid(-end)
        gained += alive * self.policy.value(self.policy(hidden)[1]) * self.gamma**self.steps
        return first.view(many, rows).gather(0, gained.view(many, rows).argmax(0)[None])[0].int()

    def learn(self, buffer: Buffer) -> None:
        """One pass over the last rollout."""
        with torch.no_grad():
            hidden = self.policy.unroll(buffer.obs.flatten(2).float(), buffer.states[0])[0]
        ended = (buffer.terminals | buffer.truncations).flatten().float()
        before, after = hidden[:-1].flatten(0, 1), hidden[1:].flatten(0, 1)
        action, reward = buffer.actions.flatten().long(), buffer.rewards.flatten()
        for rows in torch.randperm(len(ended), generator=self.generator).split(MODEL_ROWS):
            told, told_reward, told_end = self.foretell(before[rows], action[rows])
            off = (1 - ended[rows]) * ((told - after[rows]) ** 2).mean(1) + (told_reward - reward[rows]) ** 2
            ends = nn.functional.binary_cross_entropy_with_logits(told_end, ended[rows])
            self.optimizer.zero_grad()
            (off.mean() + ends).backward()
            self.optimizer.step()


class WithModel(Updater):
    """The trainer's updates, and the model's beside."""

    def update(self, buffer: Buffer, fraction: float, seconds: Seconds) -> UpdateStats:
        begin = perf_counter()
        assert isinstance(self.network, Imagining)
        self.network.learn(buffer)
        seconds.update += perf_counter() - begin
        return super().update(buffer, fraction, seconds)


def play(
    env: str = "cartpole", steps: int = 0, rollouts: int = 8, seed: int | None = None, **changes: Any
) -> dict[str, float]:
    """Train and evaluate with any of the trainer's settings: what `lookahead.yaml` sweeps."""
    settings = Settings.parse(env, {Settings.resolve(name, env): value for name, value in changes.items()})
    seed = int(os.environ.get("SWEEP_SEED", 0)) if seed is None else seed
    imagining = partial(Imagining, steps=steps, rollouts=rollouts, gamma=settings.train.gamma)
    parts: dict[str, Any] = {"network": imagining, "updater": WithModel} if steps else {"network": make}
    result = train(settings, seed=seed, **parts)
    return {"score": result.score, "cost": result.seconds, "step": result.steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Any setting: --total-timesteps=1e6")
    parser.add_argument("--env", default="cartpole")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--rollouts", type=int, default=8)
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
