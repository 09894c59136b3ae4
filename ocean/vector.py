"""Many environments behind one call: the Python face of the vector layer (vector.c)."""

from __future__ import annotations

import ctypes
import hashlib
import math
import operator
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ocean import build
from ocean.header import FOLDER, Spec
from ocean.header import spec as read_spec

CACHED_CALLS = 4096  # steps into the same five arrays that are remembered: a horizon of as many rows
TEXT_BYTES = 1 << 16  # of a picture
Array = np.ndarray[Any, Any]


class _Call(ctypes.Structure):
    """`Call` of vector.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("actions", "obs", "rewards", "terminals", "truncations")),
        *((name, ctypes.c_int32) for name in ("first", "last")),
    )


class Vector:
    """`num_envs` copies of one environment, stepped together by one C call (the GIL is released).

    `name_or_path` is a bundled environment or the path of a header; `settings` changes its numbers
    (see `ocean.settings`). With a `NAME_spread` each environment has its own NAME, drawn evenly from within
    that share of it, and from its allowed range, once for each seed. What environment i does depends on
    `seed`, i and its actions, and neither on `num_envs` nor on `threads`. Rows of every buffer:
    num_envs * spec.agents_per_env, the agents of an environment next to each other. A Vector belongs to one
    thread at a time and does not survive a fork.

    Raises ValueError for an unknown environment, setting or value, BuildError where it cannot be
    compiled.
    """

    resumes = True  # set_state goes on in the middle of an episode

    def __init__(
        self,
        name_or_path: str | Path,
        num_envs: int = 1024,
        seed: int = 0,
        threads: int = 1,
        settings: Mapping[str, float] | None = None,
    ) -> None:
        self.spec = read_spec(name_or_path)
        # Of the header as it is now: it may be edited while this Vector lives.
        self._fingerprint = hashlib.sha256(self.spec.path.read_bytes()).digest()
        self.num_envs = operator.index(num_envs)
        self.num_agents = self.num_envs * self.spec.agents_per_env
        if not 1 <= self.num_envs <= 2**31 - 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self.settings = self.spec.values(settings or {})

        # Rows are valid where the last step set terminals or truncations.
        self.final_obs: Array = np.zeros((self.num_agents, *self.spec.obs_shape), self.spec.obs_dtype)
        # One row an agent, 0 where its next action is forbidden; written by every reset and step.
        choices = sum(self.spec.action_sizes) if self.spec.masked else 0
        self.action_mask: Array = np.ones((self.num_agents, choices), np.uint8)
        self._library = _library(self.spec.path)
        _check_sizes(self.spec, self._library)
        ends = self.spec.ends(self.settings)
        handle = self._library.ocean_create(
            self.num_envs,
            _checked_seed(seed),
            min(operator.index(threads), self.num_envs),
            (ctypes.c_double * max(1, len(ends)))(*ends),
            self.final_obs.ctypes.data,
            self.action_mask.ctypes.data,
        )
        if not handle:
            raise MemoryError(f"no memory or threads for {self.num_envs} environments")
        self._handle: int | None = handle
        # Holds these arrays too: C writes into them for as long as the handle lives.
        arrays = (self.final_obs, self.action_mask)
        self._finalizer = weakref.finalize(self, _destroy, self._library, handle, arrays, os.getpid())
        self._step = self._library.ocean_step
        # By id: actions, obs; and `envs`.
        self._calls: dict[tuple[int, int, tuple[int, int] | None], tuple[Any, ...]] = {}
        rows = self.num_agents
        actions = (rows, self.spec.action_count)
        self._kinds: tuple[tuple[str, np.dtype, tuple[tuple[int, ...], ...]], ...] = (
            ("actions", self.spec.action_dtype, (actions, (rows,)) if actions[1] == 1 else (actions,)),
            ("obs", self.spec.obs_dtype, ((rows, *self.spec.obs_shape),)),
            ("rewards", np.dtype(np.float32), ((rows,),)),
            ("terminals", np.dtype(np.uint8), ((rows,),)),
            ("truncations", np.dtype(np.uint8), ((rows,),)),
        )

    def reset(self, obs: Array, seed: int | None = None) -> None:
        """Begin an episode everywhere and write the first observations into `obs`.

        The generators go on from where they are, or start anew from `seed`. Episodes that are cut off
        by a reset are not logged.
        """
        address = self._address(obs, 1)
        handle = self._open()
        if seed is not None:
            self._library.ocean_seed(handle, _checked_seed(seed))
        self._library.ocean_reset(handle, address)

    def step(
        self,
        actions: Array,
        obs: Array,
        rewards: Array,
        terminals: Array,
        truncations: Array,
        envs: tuple[int, int] | None = None,
    ) -> None:
        """Step everything once; every element of the four arrays after `actions` is written.

        actions int32 [num_agents] ([num_agents, n] for n > 1 actions; float32 for continuous ones), obs
        [num_agents, *obs_shape] of obs_dtype, rewards float32 [num_agents], terminals and truncations
        uint8 [num_agents]. Where the environment has forbidden actions, `action_mask` says which the next
        ones are. The arrays are C-contiguous (rows of a larger buffer are) and no copies are
        made. Where an episode ended, obs is the first one of the next episode and `final_obs` holds the
        last one of the old. `envs` (first, last) steps the environments from first to last - 1 alone: the
        arrays are as large, rows of all others are neither read nor written. Raises ValueError for any other
        type, shape or layout, and for environments that are not there.
        """
        # The way of every step: one look-up by identity. `is` is what makes a reused id harmless.
        try:
            a, o, r, e, u, call = self._calls[id(actions), id(obs), envs]
            if not (
                a() is actions and o() is obs and r() is rewards and e() is terminals and u() is truncations
            ):
                raise KeyError
        except KeyError:
            call = self._call(envs, actions, obs, rewards, terminals, truncations)
        self._step(*call)

    def log(self, only: Array | None = None) -> dict[str, float]:
        """Means over the episodes that ended since the last call, and their number "n"; then cleared.

        With no episode ended the means are 0. `only`, bool [num_agents], leaves all other agents out,
        whose episodes stay in the log.
        """
        fields = self.spec.log_fields
        sums = (ctypes.c_double * (len(fields) + 1))()
        handle, rows = self._open(), None
        if only is not None:
            if only.shape != (self.num_agents,):
                raise ValueError(f"only must have the shape {(self.num_agents,)}, not {only.shape}")
            rows = np.ascontiguousarray(only, bool)
        self._library.ocean_log(handle, None if rows is None else rows.ctypes.data, sums)
        n = sums[len(fields)]
        means = {name: (sums[i] / n if n else 0.0) for i, name in enumerate(fields)}
        return {**means, "n": n}

    def render(self, env: int = 0) -> str:
        """A picture of one environment as text, lines apart.

        ValueError where its header has no env_render, or there is no such environment.
        """
        if not self.spec.rendered:
            raise ValueError(f"{self.spec.name} has no env_render, and no line '#define RENDER 1' for it")
        if not 0 <= env < self.num_envs:
            raise ValueError(f"env must lie in [0, {self.num_envs}), not {env}")
        text = ctypes.create_string_buffer(TEXT_BYTES)
        self._library.ocean_render(self._open(), env, text, TEXT_BYTES)
        return text.value.decode("utf-8", "replace")

    def get_state(self) -> bytes:
        """All environments with their generators, as bytes: `set_state` continues from here.

        Not in it: observations and action masks (the last ones are the caller's) and settings.
        """
        handle = self._open()
        state = ctypes.create_string_buffer(self._library.ocean_state_bytes(handle))
        self._library.ocean_get_state(handle, state)
        return self._fingerprint + state.raw

    def set_state(self, state: bytes | bytearray | memoryview) -> None:
        """Continue from bytes of `get_state`, of a Vector of the same header and size.

        ValueError for any other bytes. They are taken as they are: only from a file that you trust.
        """
        handle = self._open()
        raw = bytes(state)
        fingerprint = self._fingerprint
        size = self._library.ocean_state_bytes(handle)
        if len(raw) != len(fingerprint) + size or not raw.startswith(fingerprint):
            raise ValueError(f"not a state of {self.num_envs} environments of this {self.spec.path.name}")
        self._library.ocean_set_state(handle, raw[len(fingerprint) :])

    def close(self) -> None:
        """Free memory and end the threads. A closed Vector refuses everything but another close."""
        self._handle = None
        self._calls.clear()  # each of them holds the handle
        self._finalizer()

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("this Vector is closed")
        return self._handle

    def _call(self, envs: tuple[int, int] | None, *arrays: Array) -> tuple[Any, Any]:
        """What ocean_step takes, once the arrays were found to be what C expects; remembered."""
        addresses = [self._address(array, kind) for kind, array in enumerate(arrays)]
        first, last = (0, self.num_envs) if envs is None else envs
        if not 0 <= first < last <= self.num_envs:
            raise ValueError(f"envs must be a range within [0, {self.num_envs}), not [{first}, {last})")
        call = ctypes.c_void_p(self._open()), ctypes.byref(_Call(*addresses, first, last))
        if len(self._calls) >= CACHED_CALLS:
            self._calls.clear()
        self._calls[id(arrays[0]), id(arrays[1]), envs] = (*map(weakref.ref, arrays), call)
        return call

    def _address(self, array: Array, kind: int) -> int:
        """Where a buffer lies, once it was found to be what C expects."""
        name, dtype, shapes = self._kinds[kind]
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} must be a numpy array, not {type(array).__name__}")
        if array.dtype != dtype:
            raise ValueError(f"{name} must be {dtype}, not {array.dtype}")
        if array.shape not in shapes:
            raise ValueError(f"{name} must have the shape {shapes[0]}, not {array.shape}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be C-contiguous: a whole array, or a row of a larger one")
        if kind and not array.flags.writeable:
            raise ValueError(f"{name} must be writable")
        address: int = array.ctypes.data
        return address


def _destroy(library: ctypes.CDLL, handle: int, arrays: tuple[Array, ...], owner: int) -> None:
    """`arrays` are taken to be kept alive until here."""
    if os.getpid() == owner:  # a forked child has no such threads: it would wait for them for ever
        library.ocean_destroy(handle)


def _checked_seed(seed: int) -> int:
    seed = operator.index(seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2^64), not {seed}")
    return seed


def _check_sizes(spec: Spec, library: ctypes.CDLL) -> None:
    """Raises BuildError where C read another declaration: our buffers would not be those it writes to."""
    read = {
        "AGENTS": spec.agents_per_env,
        "elements of OBS_SHAPE": math.prod(spec.obs_shape),
        "bytes of OBS_TYPE": spec.obs_dtype.itemsize,
        "actions of an agent": spec.action_count,
        "choices in ACTION_MASK": sum(spec.action_sizes) if spec.masked else 0,
        "settings in SETTINGS": len(spec.settings),
        "fields of Log": len(spec.log_fields) + 1,
    }
    made = (ctypes.c_int64 * len(read))()
    library.ocean_sizes(made)
    for (name, ours), theirs in zip(read.items(), made, strict=True):
        if ours != theirs:
            said = f"{name}: {theirs} for the compiler, {ours} by the header's own lines"
            raise build.BuildError(f"{spec.path}: {said}; define it there, once and under no #if")


def _library(header: Path) -> ctypes.CDLL:
    library = build.library([FOLDER / "vector.c"], include=[header], folders=[FOLDER])
    pointer, int32 = ctypes.c_void_p, ctypes.c_int32
    library.ocean_create.argtypes = [int32, ctypes.c_uint64, int32, pointer, pointer, pointer]
    library.ocean_create.restype = pointer
    library.ocean_state_bytes.argtypes = [pointer]
    library.ocean_state_bytes.restype = ctypes.c_int64
    if hasattr(library, "ocean_render"):
        library.ocean_render.argtypes = [pointer, int32, pointer, int32]
        library.ocean_render.restype = int32
    for name, arguments in (
        ("ocean_destroy", [pointer]),
        ("ocean_seed", [pointer, ctypes.c_uint64]),
        ("ocean_reset", [pointer] * 2),
        ("ocean_step", [pointer] * 2),
        ("ocean_log", [pointer] * 3),
        ("ocean_get_state", [pointer] * 2),
        ("ocean_set_state", [pointer] * 2),
    ):
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = None
    return library
