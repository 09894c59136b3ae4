"""Compile CUDA sources on first use with nvcc. Without nvcc or a GPU nothing here is ever called."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# In a wheel the sources lie inside this package, in a checkout beside it.
_INSTALLED = Path(__file__).parent / "cuda"
SOURCES = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "cuda"


@functools.cache
def compiler() -> str | None:
    """The path of nvcc (on PATH or under CUDA_HOME), or None."""
    found = shutil.which("nvcc")
    if found is None and (home := os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")):
        found = shutil.which("nvcc", path=os.path.join(home, "bin"))
    return found


def build(name: str, architecture: str) -> Path:
    """The shared library of `cuda/name` for an architecture such as "sm_90", compiled unless cached.

    Raises RuntimeError without nvcc or with the compiler's words where it fails.
    """
    from ocean.build import cache_folder

    nvcc = compiler()
    if nvcc is None:
        raise RuntimeError("no nvcc found: install the CUDA toolkit or set CUDA_HOME")
    source = SOURCES / name
    command = [nvcc, "-O3", f"-arch={architecture}", "-shared", "-Xcompiler", "-fPIC", str(source)]
    program = os.stat(nvcc)
    identity = [*command[:-1], program.st_size, program.st_mtime_ns, source.read_text()]
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    target = cache_folder() / f"{key}.so"
    if not target.exists():
        # Two processes may both build; the rename is atomic and their libraries are the same.
        with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as workplace:
            built = Path(workplace) / "library.so"
            result = subprocess.run([*command, "-o", str(built)], capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(f"nvcc could not compile {name}:\n{result.stderr.strip()}")
            os.replace(built, target)
    return target


@functools.cache
def library(name: str, architecture: str) -> ctypes.CDLL:
    """`build`, loaded."""
    return ctypes.CDLL(str(build(name, architecture)))
