"""A fast PPO trainer over the environments of `ocean`. `trainer.settings` imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.training import Point, Result, train

__all__ = ["Point", "Result", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'trainer' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module("trainer.training"), name)
