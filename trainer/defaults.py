"""Tuned settings of the bundled environments, laid over the defaults in settings.py."""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, dict[str, Any]] = {
    "cartpole": {},
    "breakout": {},
}
