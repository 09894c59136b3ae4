"""Gymnasium's environments with the face of ocean.Vector. gymnasium is an extra, imported only here.

Each of the instances is stepped by Python, one after the other, and begun anew in the very step that
ended its episode: `obs` is then the first observation of the next one and `final_obs` the last of the
old. What is `terminated` and `truncated` at once is terminal. GymnasiumProcesses shares the instances
among processes, each of which does just this. Gymnasium's own vectors are not used: they have a process
for every single instance, and give its actions other types.

A Discrete action space has forbidden actions where the first reset's `info` has an "action_mask": one
number for each choice, 0 where it is forbidden. Each reset and step must then have one.

Observations are flattened as gymnasium.spaces.flatten does: Discrete and MultiDiscrete are one-hot, the
parts of Tuple and Dict lie beside each other. The score of an episode is its return.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ocean
from trainer.defaults import GYMNASIUM
from trainer.settings import SettingsError

Array = np.ndarray[Any, Any]
OF_MAKE = "max_episode_steps"  # a keyword of gymnasium.make itself that is a setting, too
MASK = "action_mask"  # in `info`
FAR = 100.0  # a range that ends beyond does not keep numbers to a size that suits a network
LOG = ("score", "episode_return", "episode_length")


@functools.cache
def _registered(env: str) -> tuple[Any, Any, Any]:
    """Gymnasium, what it has registered under a name, and what makes one; else SettingsError."""
    try:
        import gymnasium
    except ImportError:
        mend = 'pip install "pareto-sweeper[gymnasium]"'
        raise SettingsError("env", f"{env}: gymnasium is not installed", mend) from None
    module, _, name = env[len(GYMNASIUM) :].rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        registered = gymnasium.spec(name)
    except (ImportError, ValueError, gymnasium.error.Error) as error:
        mend = "write gymnasium:NAME-v1, or gymnasium:MODULE:NAME-v1 where a module of yours registers it"
        if isinstance(error, ModuleNotFoundError):  # the current folder is not searched
            mend = "install it, or set PYTHONPATH to the folder that holds it"
        raise SettingsError("env", f"{env}: {error}", mend) from None
    entry = registered.entry_point
    if entry is None:
        raise SettingsError("env", f"{env} is there as a vector alone, not by itself", "choose another")
    try:
        creator = entry if callable(entry) else gymnasium.envs.registration.load_env_creator(entry)
    except (ImportError, AttributeError, gymnasium.error.Error) as error:
        raise SettingsError("env", f"{env}: {error}", "install what it needs") from None
    return gymnasium, registered, creator


def keywords(env: str) -> tuple[list[str], bool]:
    """What an environment is made with, by name; and whether it takes other names, too."""
    parameters = inspect.signature(_registered(env)[2]).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [parameter.name for parameter in parameters if parameter.kind in named]
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return [*(name for name in known if name != "render_mode"), OF_MAKE], open_ended


def _make(env: str, settings: Mapping[str, Any]) -> Any:
    """One instance. SettingsError where its own code refuses to make it, however it says so."""
    gymnasium, registered, creator = _registered(env)
    drawn = "ansi" in getattr(creator, "metadata", {}).get("render_modes", ())
    mode = {"render_mode": "ansi"} if drawn else {}
    try:
        return gymnasium.make(registered, disable_env_checker=True, **mode, **settings)
    except Exception as error:
        shown = ", ".join(f"env.{name}={value!r}" for name, value in settings.items())
        said = f"{env}: {type(error).__name__}: {error}"
        raise SettingsError("env", said, f"mend {shown}" if shown else "") from error


def _flattener(gymnasium: Any, env: str, space: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The Box that a space is flattened to, and what flattens an observation."""
    spaces = gymnasium.spaces
    try:
        flat = spaces.flatten_space(space)
    except NotImplementedError:
        flat = None
    if not isinstance(flat, spaces.Box):
        served = "Box, Discrete, MultiDiscrete, MultiBinary, Tuple and Dict are"
        raise SettingsError("env", f"{env}: its observation space {space} is not served", served)
    if not flat.shape[0]:
        raise SettingsError("env", f"{env}: its observation space {space} has no numbers", "choose another")
    if isinstance(space, spaces.Box):
        return flat, lambda obs: np.asarray(obs).reshape(-1)
    return flat, functools.partial(_flatten, spaces, space)


def _flatten(spaces: Any, space: Any, obs: Any) -> Array:
    """As gymnasium.spaces.flatten does, but ValueError for whole numbers that a space does not hold: it would
    take them for others, which it holds."""
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        keys = space.spaces.keys() if isinstance(space, spaces.Dict) else range(len(space.spaces))
        return np.concatenate([_flatten(spaces, space[key], obs[key]) for key in keys])
    flat: Array = spaces.flatten(space, obs)
    onehot = isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    if onehot or (isinstance(space, (spaces.Box, spaces.MultiBinary)) and space.dtype.kind != "f"):
        given = np.asarray(obs)
        whole = given.astype(space.dtype)
        if not np.array_equal(whole, given) or (onehot and not space.contains(whole)):
            raise ValueError
    return flat


def _obs_dtype(low: float, high: float, dtype: Any) -> np.dtype:
    """The first of the types that the trainer reads that holds these; float32 is the last."""
    if dtype.kind in "iub":
        for integer in (np.uint8, np.int8, np.int32):
            if np.iinfo(integer).min <= low and high <= np.iinfo(integer).max:
                return np.dtype(integer)
    return np.dtype(np.float32)


def _actions(gymnasium: Any, env: str, space: Any) -> tuple[dict[str, Any], Callable[[Array], list[Any]]]:
    """How ocean.Spec declares an action space; and what makes the instances' actions of ours [rows, n]."""
    spaces = gymnasium.spaces
    declared: dict[str, Any] = {"action_sizes": (), "action_dim": None, "action_range": ()}

    def shaped(actions: Array) -> list[Any]:
        return list(actions.astype(space.dtype).reshape(-1, *space.shape))

    if isinstance(space, spaces.Discrete):
        declared["action_sizes"], start = (int(space.n),), int(space.start)
        return declared, lambda actions: (actions[:, 0] + start).tolist()
    if isinstance(space, spaces.MultiDiscrete):
        declared["action_sizes"] = tuple(space.nvec.ravel().tolist())
        return declared, lambda actions: shaped(actions + space.start.ravel())
    if isinstance(space, spaces.MultiBinary):
        declared["action_sizes"] = (2,) * math.prod(space.shape)
        return declared, shaped
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        low, high = space.low.ravel(), space.high.ravel()
        declared["action_range"] = tuple(zip(low.tolist(), high.tolist(), strict=True))
        declared["action_dim"] = math.prod(space.shape)
        # Ends that float32 rounds may lie just outside of a space of float64, whose check refuses them.
        return declared, lambda actions: shaped(actions.astype(space.dtype).clip(low, high))
    served = "Discrete, MultiDiscrete, MultiBinary and a Box of floats are"
    raise SettingsError("env", f"{env}: its action space {space} is not served", served)


def _mask(env: str, info: Mapping[str, Any], choices: int) -> Array:
    """The action mask in `info`, uint8 [choices]. SettingsError where it is none."""
    mask = np.asarray(info.get(MASK))
    if mask.shape != (choices,) or mask.dtype.kind not in "biuf":
        said = f"{env}: info[{MASK!r}] is {info.get(MASK)!r}, not a number for each of {choices} choices"
    elif not mask.any():
        said = f"{env}: info[{MASK!r}] forbids every choice"
    else:
        return (mask != 0).astype(np.uint8)
    raise SettingsError("env", said, "give a mask in every reset and step, with one choice that is allowed")


def _begun(env: str, given: Any) -> tuple[Any, Mapping[str, Any]]:
    """What a reset gave: an observation and the `info`. SettingsError where it is no such pair."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        return given
    said = f"{env}: its reset() gives no pair of an observation and a dict"
    raise SettingsError("env", said, "let it return observation, {}")


class GymnasiumVector:
    """`num_envs` instances of `gymnasium:NAME`, made with the keywords `settings`.

    What instance i does depends on `seed`, `first` + i and its actions, if its own code keeps to
    Gymnasium's rules.
    Methods and buffers are those of ocean.Vector, but for the state, which Gymnasium cannot give: what is
    restored begins new episodes. Raises SettingsError for a name or keywords that Gymnasium refuses, for
    spaces that the trainer does not serve, and for an action mask that is none or an observation that does
    not fit its space, here as in every step. Floats may leave their range.
    """

    resumes = False

    def __init__(
        self, env: str, num_envs: int, seed: int, settings: Mapping[str, Any], first: int = 0
    ) -> None:
        gymnasium, registered, _ = _registered(env)
        self._envs = [_make(env, settings)]
        example = self._envs[0]
        self._space = example.observation_space
        flat, self._flatten = _flattener(gymnasium, env, self._space)
        declared, self._taken = _actions(gymnasium, env, example.action_space)
        self._envs += [_make(env, settings) for _ in range(num_envs - 1)]
        self._seed, self._restored, self._first = seed, 0, first
        self._seeded = False
        # Whether there is a mask is seen in a reset alone. The next one begins with the same seed again.
        discrete = isinstance(example.action_space, gymnasium.spaces.Discrete)
        masked = discrete and MASK in _begun(env, example.reset(seed=self._stream(0)))[1]
        low, high = float(flat.low.min()), float(flat.high.max())
        # Which numbers of an observation are of no known size.
        self.unbounded: Array = ~((flat.low > -FAR) & (flat.high < FAR))
        threshold = registered.reward_threshold
        self.spec = ocean.Spec(
            name=env,
            path=Path(env),
            obs_shape=flat.shape,
            obs_dtype=_obs_dtype(low, high, flat.dtype),
            obs_range=(low, high),
            reward_range=(-math.inf, math.inf),
            masked=masked,
            rendered=example.render_mode == "ansi",
            agents_per_env=1,
            log_fields=LOG,
            settings={},
            random_score=(-math.inf, math.inf),
            solved_score=math.inf if threshold is None else threshold,
            **declared,
        )
        self.num_envs = self.num_agents = num_envs
        self.final_obs: Array = np.zeros((num_envs, *flat.shape), self.spec.obs_dtype)
        choices = sum(self.spec.action_sizes) if masked else 0
        self.action_mask: Array = np.ones((num_envs, choices), np.uint8)
        self._running = np.zeros((num_envs, 2))  # return and steps of the episodes that go on
        self._ended = np.zeros((num_envs, 3))  # their sums over the ended ones, and the number of these

    def reset(self, obs: Array) -> None:
        """Begin an episode everywhere and write the first observations into `obs`."""
        for i, env in enumerate(self._envs):
            seed = None if self._seeded else self._stream(i)
            after, info = _begun(self.spec.name, env.reset(seed=seed))
            self._write(i, after, info, obs)
        self._seeded = True
        self._running[:] = 0

    def _stream(self, i: int) -> int:
        """The seed of an instance's first episode."""
        words = [self._seed, self._restored, self._first + i]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def _write(self, i: int, after: Any, info: Mapping[str, Any], obs: Array) -> None:
        """What an instance's next action is chosen by."""
        self._put(after, obs[i])
        if self.spec.masked:
            self.action_mask[i] = _mask(self.spec.name, info, self.spec.action_sizes[0])

    def _put(self, given: Any, row: Array) -> None:
        """Write an observation. SettingsError where its space is such that another one would be written."""
        try:
            flat = self._flatten(given)
            fits = flat.shape == row.shape
            if fits:
                row[:] = flat
                fits = row.dtype.kind == "f" or np.array_equal(row, flat)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            fits = False
        if not fits:
            message = f"{self.spec.name}: it observes {str(given)[:100]}, which does not fit {self._space}"
            raise SettingsError("env", message, "mend its observation_space")

    def step(self, actions: Array, obs: Array, rewards: Array, terminals: Array, truncations: Array) -> None:
        """Step everything once; every element of the four last arrays is written."""
        running = self._running
        for i, (env, action) in enumerate(zip(self._envs, self._taken(actions), strict=True)):
            given = env.step(action)
            if not isinstance(given, tuple) or len(given) != 5:
                things = f"{len(given)} things" if isinstance(given, tuple) else type(given).__name__
                message = f"{self.spec.name}: its step() gives {things}, not 5 things"
                mend = "let it return observation, reward, terminated, truncated, info"
                raise SettingsError("env", message, mend)
            after, reward, terminal, truncation, info = given
            if isinstance(reward, np.ndarray):  # one number in an array will do
                if reward.size != 1:
                    message = f"{self.spec.name}: a reward of shape {reward.shape}"
                    raise SettingsError("env", message, "let its step() return one number")
                reward = reward.item()
            try:
                rewards[i] = reward
                running[i] += reward, 1
            except (TypeError, ValueError):
                message = f"{self.spec.name}: its step() rewards {reward!r}"
                raise SettingsError("env", message, "let it return one number") from None
            # Any kind of true is 1: a 2 would carry the sum of rewards into the next episode.
            terminals[i], truncations[i] = bool(terminal), bool(truncation and not terminal)
            if terminal or truncation:
                self._put(after, self.final_obs[i])
                self._ended[i, :2] += running[i]
                self._ended[i, 2] += 1
                running[i] = 0
                after, info = _begun(self.spec.name, env.reset())
            self._write(i, after, info, obs)

    def log(self, only: Array | None = None) -> dict[str, float]:
        """Means over the episodes that ended since the last call, and their number "n"; then cleared."""
        rows = slice(None) if only is None else only
        returned, steps, n = self._ended[rows].sum(0).tolist()
        self._ended[rows] = 0
        means = (returned / n, returned / n, steps / n) if n else (0.0, 0.0, 0.0)
        return {**dict(zip(LOG, means, strict=True)), "n": n}

    def render(self, env: int = 0) -> str:
        """A picture of one instance as text. ValueError where it cannot draw itself so."""
        if not self.spec.rendered:
            raise ValueError(f"{self.spec.name} cannot be drawn as text")
        return str(self._envs[env].render())

    def get_state(self) -> bytes:
        """How often it was restored, as bytes."""
        return self._restored.to_bytes(8, "little")

    def set_state(self, state: bytes) -> None:
        """The next reset begins new episodes, others than those before it."""
        self._restored, self._seeded = int.from_bytes(state, "little") + 1, False

    def close(self) -> None:
        for env in self._envs:
            env.close()
