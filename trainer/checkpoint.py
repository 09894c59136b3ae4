"""Checkpoints: one file that is always whole, and whose loading runs no code."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from trainer.settings import ANNEALED, Settings, SettingsError

# What a run may be continued with: how long it lasts, when and how it is judged, how fast it runs.
# The length only where no schedule depends on it.
FREE = (
    "total_timesteps",
    "curve_points",
    "curve_spacing",
    "eval_episodes",
    "eval_max_steps",
    "eval_greedy",
    "env_processes",
)
HELD = ("env", "settings", "seed", "steps", "policy", "environments")  # in every checkpoint, and more


def save(file: Path, state: dict[str, Any]) -> None:
    """Write `state` to `file`: whoever reads it, even after a power cut, finds the old or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(file: Path) -> dict[str, Any]:
    """The state in `file`, its tensors on the CPU. SettingsError where it is of another kind, or damaged."""
    state: Any = None
    with file.open("rb") as stream:
        if zipfile.is_zipfile(stream):
            try:
                damaged = zipfile.ZipFile(stream).testzip()  # by its checksums, which torch does not read
                if damaged is not None:
                    raise zipfile.BadZipFile(damaged)
                stream.seek(0)
                state = torch.load(stream, map_location="cpu", weights_only=True)
            except OSError:
                raise
            except Exception as error:  # any, where bytes are wrong
                said = f"{file} is damaged, or none"
                raise SettingsError("checkpoint", said, "name another file") from error
    if not isinstance(state, dict) or not state.keys() >= set(HELD):
        raise SettingsError("checkpoint", f"{file} is none", "name another file")
    return state


def check_continues(state: dict[str, Any], settings: Settings, seed: int) -> None:
    """Raises SettingsError where a run with these settings is not the one in `state` going on."""
    mend = "use another checkpoint file, or the settings of this one"
    if state.get("env") != settings.env:
        raise SettingsError("env", f"the checkpoint is of {state.get('env')}", mend)
    if state["seed"] != seed:
        raise SettingsError("seed", f"the checkpoint is of seed {state['seed']}, not {seed}", mend)
    annealed = [f"train.{name}" for name in ANNEALED if getattr(settings.train, name)]
    free = {f"train.{name}" for name in FREE if not (annealed and name == "total_timesteps")}
    wanted = settings.to_mapping()
    for name in sorted(set(wanted) | set(state["settings"])):
        # What an environment's header gives by itself may as well be said.
        standard = Settings.default(name, settings.env) if name.startswith("env.") else None
        old, new = state["settings"].get(name, standard), wanted.get(name, standard)
        if old != new and name not in free and not name.startswith("eval_env."):
            why = f", by which {annealed[0]} goes" if name == "train.total_timesteps" else ""
            raise SettingsError(name, f"the checkpoint was made with {old!r}, not {new!r}{why}", mend)


def judged_alike(state: dict[str, Any], settings: Settings) -> bool:
    """Are the evaluations in `state` those that these settings ask for?"""
    was, wanted = state["settings"], settings.to_mapping()
    names = [name for name in {**was, **wanted} if name.startswith(("train.eval_", "eval_env."))]
    return all(was.get(name) == wanted.get(name) for name in names)
