"""The sources in `cuda/`, compiled on first use: by nvcc for a GPU, as plain C for the processor.

The second form (`cuda/launch.h` says how) runs the bodies of the kernels one thread after the other: too
slow to train with, but the same code, so that a machine without a GPU tests what a GPU will run. Tensors
decide: kernels on tensors of a GPU are nvcc's, on the processor's the others.

Without nvcc or a GPU nothing here is ever called in training.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# In a wheel the sources lie inside this package, in a checkout beside it.
_INSTALLED = Path(__file__).parent / "cuda"
SOURCES = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "cuda"
NO_NVCC = "no nvcc found: install the CUDA toolkit or set CUDA_HOME"
OLDEST = (7, 5)  # compute capability that nvcc 13 compiles for
# As on the processor (ocean/build.py): no fused multiply-adds, with which the two would part.
FLAGS = ("-O3", "-fmad=false", "-shared", "-Xcompiler", "-fPIC", "-x", "cu")


@functools.cache
def compiler() -> str | None:
    """The path of nvcc (on PATH or under CUDA_HOME), or None."""
    found = shutil.which("nvcc")
    if found is None and (home := os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")):
        found = shutil.which("nvcc", path=os.path.join(home, "bin"))
    return found


def serves(device: torch.device) -> bool:
    """Whether kernels can be compiled for a device: a GPU that nvcc knows, and there is an nvcc."""
    if device.type != "cuda" or compiler() is None:
        return False
    return torch.cuda.get_device_capability(device) >= OLDEST


def architecture(device: torch.device) -> str:
    """Of a GPU, as nvcc names it: "sm_90"."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def build(name: str, architecture: str, header: Path | None = None) -> ctypes.CDLL:
    """The library of `cuda/name` for an architecture such as "sm_90", compiled unless it is kept already.

    `header`, an environment's, is read before the source. Raises ocean.BuildError without nvcc, for an
    architecture that it does not know, and with its first error line where it fails.
    """
    from ocean.build import BuildError, find_or_build, run, texts
    from ocean.header import FOLDER

    nvcc = compiler()
    if nvcc is None:
        raise BuildError(NO_NVCC)
    source, folders = SOURCES / name, [SOURCES, FOLDER]
    headers = [header.absolute()] if header is not None else []
    options = [*FLAGS, f"-arch={architecture}"]
    program = os.stat(nvcc)
    identity = [nvcc, program.st_size, program.st_mtime_ns, *options, *texts([*headers, source], folders)]
    inputs = [f"-I{folder}" for folder in folders]
    for path in headers:
        inputs += ["-include", str(path)]

    def compile_to(output: Path) -> None:
        result = run([nvcc, *options, *inputs, str(source), "-o", str(output)], "mend the CUDA toolkit")
        if result.returncode:
            raise BuildError(_complaint(name, architecture, result.stderr + result.stdout, result.returncode))

    return find_or_build(hashlib.sha256(repr(identity).encode()).hexdigest()[:32], compile_to)


def _complaint(name: str, architecture: str, said: str, code: int) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    first = next(
        (line for line in lines if "error" in line or "fatal" in line), *lines[:1] or [f"exit {code}"]
    )
    if "nsupported gpu architecture" in first or "is not defined for option 'gpu-architecture'" in first:
        return f"nvcc cannot compile for this GPU ({architecture}): {first}; use device='cpu', or its toolkit"
    return f"nvcc could not compile {name}: {first}"


class Kernels:
    """The entry points of one source, as methods: they take tensors, numbers and None, and raise
    RuntimeError, with the entry's name, where a launch fails. Launched into torch's current stream."""

    def __init__(self, library: ctypes.CDLL, device: torch.device) -> None:
        self._library, self._device = library, device

    def __getattr__(self, name: str) -> Callable[..., None]:
        try:
            entry = getattr(self._library, name)
        except AttributeError:
            raise AttributeError(f"no kernel is called {name}") from None
        entry.restype = ctypes.c_char_p
        device = self._device

        def launch(*arguments: Tensor | int | float | None) -> None:
            given = [_argument(argument, device) for argument in arguments]
            if device.type == "cuda":
                with torch.cuda.device(device):
                    error = entry(*given, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
            else:
                error = entry(*given, None)
            if error:
                raise RuntimeError(f"{name}: {error.decode()}")

        setattr(self, name, launch)
        return launch

    def number(self, name: str) -> int:
        """What an entry without arguments gives."""
        entry = getattr(self._library, name)
        entry.restype = ctypes.c_int64
        return int(entry())


def _argument(value: Any, device: torch.device) -> Any:
    """As the entry points take it: tensors as contiguous memory of the device, or what C made."""
    if isinstance(value, Tensor):
        assert value.device.type == device.type, f"a tensor on {value.device} for kernels on {device}"
        assert value.is_contiguous(), f"a tensor of shape {tuple(value.shape)} has gaps"
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return ctypes.c_double(value) if isinstance(value, float) else value


def load(name: str, device: torch.device, header: Path | None = None, flags: Sequence[str] = ()) -> Kernels:
    """The kernels of `cuda/name` for a device. Raises ocean.BuildError where they cannot be compiled.

    `flags` are more of the C compiler's, for the processor's form.
    """
    from ocean.build import library
    from ocean.header import FOLDER

    if device.type == "cuda":
        return Kernels(build(name, architecture(device), header), device)
    include = [header] if header is not None else []
    source = SOURCES / name
    return Kernels(library([source], ["-x", "c", *flags], {}, include, [SOURCES, FOLDER]), device)
