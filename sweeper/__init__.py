"""Sweeper: what score each amount of compute can buy, and the settings for it.

Nothing heavy is imported until it is used, so that `sweeper.report` costs a training script nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.loop import run_file as run
    from sweeper.proposer import Member, Point, Sweeper, Trial
    from sweeper.reporting import report

__version__ = "0.1.0"
__all__ = ["Member", "Point", "Sweeper", "Trial", "report", "run"]

_HOME = {
    "Sweeper": ("sweeper.proposer", "Sweeper"),
    "Trial": ("sweeper.proposer", "Trial"),
    "Point": ("sweeper.proposer", "Point"),
    "Member": ("sweeper.proposer", "Member"),
    "report": ("sweeper.reporting", "report"),
    "run": ("sweeper.loop", "run_file"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sweeper' has no attribute '{name}'")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)
