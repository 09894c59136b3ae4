"""Environments by their name: ocean's (bundled, or a header by its path) and Gymnasium's.

`gymnasium:NAME` is an environment that Gymnasium has registered; `gymnasium:MODULE:NAME` imports the
module first, which registers it. Imports neither torch nor, but for such a name, gymnasium.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import ocean
from ocean.header import find_setting
from trainer.adapter import GymnasiumVector, keywords
from trainer.defaults import GYMNASIUM
from trainer.processes import GymnasiumProcesses
from trainer.settings import Settings, SettingsError

Environment: TypeAlias = ocean.Vector | GymnasiumVector


def is_gymnasium(env: str) -> bool:
    return env.startswith(GYMNASIUM)


def names(env: str) -> list[str]:
    """The settings of an environment that are known by name. SettingsError for an unknown environment."""
    if is_gymnasium(env):
        return keywords(env)[0]
    return list(_declared(env))


def setting(env: str, name: str) -> ocean.Setting | None:
    """A setting in a header, or the spread of one; None where there is none, and for Gymnasium."""
    return None if is_gymnasium(env) else find_setting(_declared(env), name)


def accepts(env: str, name: str) -> bool:
    """Is there such a setting?"""
    if is_gymnasium(env):
        known, others = keywords(env)
        return others or name in known
    return setting(env, name) is not None


def _declared(env: str) -> Mapping[str, ocean.Setting]:
    try:
        header = ocean.find(env)
    except (ValueError, OSError) as error:
        raise SettingsError("env", str(error), f"bundled are: {', '.join(ocean.names())}") from error
    try:
        return ocean.settings(header)
    except (ValueError, OSError) as error:  # which say what its declaration lacks
        raise SettingsError("env", str(error)) from error


def agents_per_env(env: str) -> int:
    return 1 if is_gymnasium(env) else ocean.spec(env).agents_per_env


def make(
    env: str, num_envs: int, seed: int, threads: int, settings: Mapping[str, Any], processes: int = 0
) -> Environment:
    """Many of an environment. Raises as ocean.Vector does, SettingsError for what Gymnasium refuses.

    Gymnasium's are stepped one after the other by one thread, whatever `threads` is, or shared among
    `processes`.
    """
    if is_gymnasium(env):
        if processes:
            return GymnasiumProcesses(env, num_envs, seed, settings, min(processes, num_envs))
        return GymnasiumVector(env, num_envs, seed, settings)
    return ocean.Vector(env, num_envs, seed, threads, dict(settings))


def check_alike(spec: ocean.Spec, settings: Settings) -> None:
    """Raises SettingsError where `eval_env.` makes an environment that a policy for `spec` cannot play."""
    if not settings.eval_env_settings:
        return
    with contextlib.closing(make(settings.env, 1, 0, 1, settings.evaluated)) as other:
        for name in ("obs_shape", "obs_dtype", "action_sizes", "action_dim", "masked"):
            trained, judged = getattr(spec, name), getattr(other.spec, name)
            if trained != judged:
                shown = ", ".join(
                    f"eval_env.{key}={value!r}" for key, value in settings.eval_env_settings.items()
                )
                said = f"in evaluation {name} is {judged}, in training {trained}, with {shown}"
                raise SettingsError("eval_env", said, "leave out what changes observations or actions")
