"""What this machine has, and what will therefore run where."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import torch

import ocean
from trainer import gpu, gpu_vector


@dataclass(frozen=True)
class Found:
    """None where there is none."""

    compiler: str | None
    """The C compiler, with its version."""
    nvcc: str | None
    cards: tuple[str, ...]
    """GPUs that the driver shows, whether torch can use them or not."""
    torch: str
    """Its version."""
    built_for: str | None
    """The CUDA that torch was built for."""
    usable: str | None
    """The GPU that torch uses."""
    capability: tuple[int, int] | None
    """Of that one."""
    trouble: str | None
    """Why torch uses none although it was built for CUDA."""
    no_compiler: str = ocean.build.NO_COMPILER
    """Why there is no C compiler, where there is none."""


def look() -> Found:
    """Look around. Compiles nothing."""
    no_compiler = ""
    try:
        command = ocean.build.compiler()
        compiler: str | None = f"{command[0]} ({_said([command[0], '--version'])[0]})"
    except ocean.BuildError as error:
        compiler, no_compiler = None, str(error)
    nvcc = gpu.compiler()
    if nvcc is not None:
        release = next((line for line in _said([nvcc, "--version"]) if "release" in line), "version unknown")
        nvcc = f"{nvcc} ({release.partition(', ')[2] or release})"
    cards = [line for line in _said(["nvidia-smi", "-L"]) if line.startswith("GPU ")]
    usable = capability = trouble = None
    if torch.version.cuda is not None:
        try:
            torch.cuda.init()
            usable, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        except (RuntimeError, AssertionError) as error:
            trouble = str(error).partition("\n")[0]
    return Found(
        compiler,
        nvcc,
        tuple(card.partition(" (UUID")[0] for card in cards),
        torch.__version__,
        torch.version.cuda,
        usable,
        capability,
        trouble,
        no_compiler,
    )


def _said(command: list[str]) -> list[str]:
    """The lines that a program prints, at least one; empty where there is no such program."""
    if shutil.which(command[0]) is None:
        return [""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"{command[0]}: {error}"]
    return done.stdout.splitlines() or [""]


def report(found: Found) -> list[tuple[str, str]]:
    """What was found, and what will run where, as (name, text)."""
    built = f"built for CUDA {found.built_for}" if found.built_for else "built without CUDA"
    return [
        ("C compiler", found.compiler or f"none: {found.no_compiler}"),
        ("nvcc", found.nvcc or f"none: {gpu.NO_NVCC}"),
        ("GPU", "; ".join(found.cards) or "none"),
        ("torch", f"{found.torch}, {built}" + (f", uses {found.usable}" if found.usable else "")),
        ("proposer", "runs on the processor, one thread"),
        ("training", _training(found)),
    ]


def _training(found: Found) -> str:
    if found.compiler is None:
        return f"cannot run: {found.no_compiler}"
    here = "runs on the processor"
    if found.usable is None:
        if found.trouble:
            return f"{here}: torch finds no GPU ({found.trouble})"
        if found.cards and not found.built_for:
            return f"{here}: this torch knows no GPU, install one that is built for CUDA"
        return f"{here}: there is no GPU"
    if found.capability is not None and found.capability < gpu.OLDEST:
        major, minor = found.capability
        return f"policy on the GPU by torch, environments on the processor: no kernels for sm_{major}{minor}"
    if found.nvcc is None:
        return "policy on the GPU by torch, environments on the processor: for all on the GPU, install nvcc"
    there = [name for name in ocean.names() if not gpu_vector.fits(ocean.spec(name))]
    but = f"; environments of {', '.join(there)} (many agents each) on the processor" if there else ""
    return f"runs on the GPU, environments as well{but}"
