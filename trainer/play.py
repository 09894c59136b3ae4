"""One environment played step by step, for people who watch: at random, or by a checkpoint's policy.

Torch is imported only where there is a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer import environments
from trainer.settings import Settings, SettingsError

Array = np.ndarray[Any, Any]


class Move(NamedTuple):
    """What one step was for the first agent."""

    action: list[float]
    """One number for each component of an action."""
    reward: float
    terminal: bool
    truncation: bool


class Game:
    """A single environment (a bundled name or a header's path) and who acts in it.

    Actions are drawn evenly from those allowed, or from the policy in the file `checkpoint`, with the
    environment's settings that it was evaluated with. Raises SettingsError for a checkpoint that is none or
    of another environment, ValueError and ocean.BuildError as ocean.Vector does.
    """

    def __init__(self, env: str, seed: int = 0, checkpoint: Path | None = None) -> None:
        state = None if checkpoint is None else _load(checkpoint, env)
        settings = Settings.parse(env, state["settings"] if state else None)
        self.env = environments.make(env, 1, seed, 1, settings.evaluated)
        spec, rows = self.env.spec, self.env.num_agents
        self.spec = spec
        self.obs = np.zeros((rows, *spec.obs_shape), spec.obs_dtype)
        self.rewards = np.zeros(rows, np.float32)
        self.terminals, self.truncations = np.zeros(rows, np.uint8), np.zeros(rows, np.uint8)
        self._act = self._random(seed)
        if state is not None:
            self._act = self._policy(state, settings, seed)
        self.env.reset(self.obs)

    def step(self) -> Move:
        """Act once. Where an episode ended, the next one has begun."""
        actions = self._act()
        self.env.step(actions, self.obs, self.rewards, self.terminals, self.truncations)
        ends = bool(self.terminals[0]), bool(self.truncations[0])
        return Move(actions[0].tolist(), float(self.rewards[0]), *ends)

    def _random(self, seed: int) -> Callable[[], Array]:
        rng, spec, rows = np.random.default_rng(seed), self.spec, self.env.num_agents

        def act() -> Array:
            if not spec.masked:
                return spec.random_actions(rng, rows)
            # The largest of even draws, those of forbidden actions left out.
            draws = rng.random(self.env.action_mask.shape) * (self.env.action_mask != 0)
            parts = np.split(draws, np.cumsum(spec.action_sizes)[:-1], axis=1)
            return np.stack([part.argmax(1) for part in parts], 1).astype(np.int32)

        return act

    def _policy(self, state: dict[str, Any], settings: Settings, seed: int) -> Callable[[], Array]:
        import torch

        from trainer.policy import Policy
        from trainer.rollout import clear_states
        from trainer.scales import ActionScale

        spec, rows, generator = self.spec, self.env.num_agents, torch.Generator().manual_seed(seed)
        policy, scale = Policy.of(spec, settings.policy, generator), ActionScale(spec, rows)
        if policy.flat.shape != state["policy"].shape:
            raise SettingsError(
                "checkpoint", f"its network does not fit {spec.name} as it is now", "train it anew"
            )
        policy.flat.copy_(state["policy"])
        memory = torch.zeros(rows, policy.memory)
        mask = torch.from_numpy(self.env.action_mask) if spec.masked else None

        @torch.no_grad()
        def act() -> Array:
            clear_states(memory, self.terminals, self.truncations)
            draw = None
            if not settings.train.eval_greedy:
                draw = policy.noise(torch.empty(rows, spec.action_count), generator)
            obs = torch.from_numpy(self.obs).flatten(1)
            actions, _, _, after = policy.act(obs, draw, memory, mask)
            memory.copy_(after)
            return np.ascontiguousarray(scale(actions.numpy()))

        return act


def _load(file: Path, env: str) -> dict[str, Any]:
    """The state in a checkpoint of an environment, by the name of its header where it has one."""
    from trainer import checkpoint

    state = checkpoint.load(file)
    was, name = (
        word if environments.is_gymnasium(word) else Path(word).stem for word in (str(state.get("env")), env)
    )
    if was != name:
        raise SettingsError("checkpoint", f"{file} is of {was}, not of {name}", "name another file")
    return state
