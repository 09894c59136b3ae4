"""Gymnasium's environments in processes: for slow ones, whose steps cost more than waking a process.

Each process has its share of the instances, as a GymnasiumVector of its own whose buffers lie in memory
that all share; a word on a pipe says what to do. They are started by a server (multiprocessing's
forkserver), so that none inherits threads or pipes of another, and end where the trainer's end of their
pipe is closed, however that came about.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import signal
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from trainer.adapter import Array, GymnasiumVector
from trainer.settings import SettingsError

SECONDS_TO_END = 5.0  # that a process is given to close its instances
STEP = ("actions", "obs", "rewards", "terminals", "truncations")  # arguments of a step
KEPT = ("final_obs", "action_mask", "_running", "_ended")  # attributes of a vector


class GymnasiumProcesses(GymnasiumVector):
    """A GymnasiumVector whose instances are stepped by `processes` processes: same seed, same results.

    Raises as GymnasiumVector does, and RuntimeError where an instance raises something, with its
    traceback, or where a process dies. It draws nothing.
    """

    def __init__(
        self, env: str, num_envs: int, seed: int, settings: Mapping[str, Any], processes: int
    ) -> None:
        super().__init__(env, 1, seed, settings)  # which says what instances look like
        super().close()
        self.spec = dataclasses.replace(self.spec, rendered=False)
        self.num_envs = self.num_agents = num_envs
        obs = self.spec.obs_dtype, *self.spec.obs_shape
        columns: dict[str, tuple[Any, ...]] = {
            "actions": (self.spec.action_dtype, self.spec.action_count),
            "obs": obs,
            "rewards": (np.float32,),
            "terminals": (np.uint8,),
            "truncations": (np.uint8,),
            "final_obs": obs,
            "action_mask": (np.uint8, self.action_mask.shape[1]),
            "_running": (np.float64, 2),
            "_ended": (np.float64, 3),
        }
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "gymnasium"])
        shared = {}
        for name, (dtype, *shape) in columns.items():
            size = num_envs * math.prod(shape) * np.dtype(dtype).itemsize
            shared[name] = context.RawArray("B", max(1, size)), (num_envs, *shape), np.dtype(dtype)
        self._shared = _arrays(shared)
        for name in KEPT:
            setattr(self, name, self._shared[name])
        self._ranges = [
            (num_envs * i // processes, num_envs * (i + 1) // processes) for i in range(processes)
        ]
        self._pipes: list[Connection] = []
        self._processes = []
        for first, last in self._ranges:
            ours, theirs = context.Pipe()
            work = (theirs, env, seed, dict(settings), first, last, shared)
            process = context.Process(target=_serve, args=work, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._answers()

    def reset(self, obs: Array) -> None:
        self._ask("reset")
        obs[...] = self._shared["obs"]

    def step(self, actions: Array, obs: Array, rewards: Array, terminals: Array, truncations: Array) -> None:
        self._shared["actions"][...] = actions
        self._ask("step")
        for name, array in zip(STEP[1:], (obs, rewards, terminals, truncations), strict=True):
            array[...] = self._shared[name]

    def set_state(self, state: bytes) -> None:
        super().set_state(state)
        self._ask(state)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(SECONDS_TO_END)
            process.kill()

    def _ask(self, what: str | bytes) -> None:
        for pipe in self._pipes:
            with contextlib.suppress(BrokenPipeError):  # it died: there will be no answer
                pipe.send(what)
        self._answers()

    def _answers(self) -> None:
        """Wait for all. Raises what went wrong in the first of them where something did."""
        for pipe, process, (first, last) in zip(self._pipes, self._processes, self._ranges, strict=True):
            try:
                wrong = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.join(SECONDS_TO_END)
                said = (
                    f"the process of its instances {first} to {last - 1} died, exit code {process.exitcode}"
                )
                mend = "a script that trains in processes does so below `if __name__ == '__main__':`"
                wrong = RuntimeError(f"{self.spec.name}: {said}; its own words are above ({mend})")
            if wrong is not None:
                self.close()
                raise wrong


def _arrays(shared: Mapping[str, tuple[Any, tuple[int, ...], Any]]) -> dict[str, Array]:
    """The buffers by name, one row an instance."""
    return {name: np.ndarray(shape, dtype, memory) for name, (memory, shape, dtype) in shared.items()}


def _serve(
    pipe: Connection,
    env: str,
    seed: int,
    settings: Mapping[str, Any],
    first: int,
    last: int,
    shared: Mapping[str, tuple[Any, tuple[int, ...], Any]],
) -> None:
    """One process: instances [first, last). Each word is answered by None, or by what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to answer
    with contextlib.suppress(BrokenPipeError):  # the trainer is gone
        try:
            vector = GymnasiumVector(env, last - first, seed, settings, first)
            rows = {name: array[first:last] for name, array in _arrays(shared).items()}
            for name in KEPT:
                setattr(vector, name, rows[name])
            with contextlib.closing(vector):
                pipe.send(None)
                while (word := _word(pipe)) is not None:
                    if word == "step":
                        vector.step(*(rows[name] for name in STEP))
                    elif word == "reset":
                        vector.reset(rows["obs"])
                    else:
                        vector.set_state(word)
                    pipe.send(None)
        except SettingsError as error:
            pipe.send(error)
        except Exception:
            pipe.send(
                RuntimeError(
                    f"{env}, in the process of its instances {first} to {last - 1}:\n{traceback.format_exc()}"
                )
            )


def _word(pipe: Connection) -> Any:
    """What is to be done next, None where the trainer has closed its end."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None
