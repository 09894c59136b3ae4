"""A warm start: what an earlier sweep has found, told to a new one before its first trial."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import ConfigError
from sweeper.history import verdict
from sweeper.space import Space
from sweeper.store import Store, StoreDamaged, StoreError

if TYPE_CHECKING:
    from sweeper.config import SweepConfig


def begin(store: Store, config: SweepConfig) -> str:
    """Writes the results of the run that `warm_start` names into a new store; a line about it.

    Results that the new space cannot have (other ranges, what is fixed at another value now, parameters that
    it does not know, broken constraints) are left out. Raises ConfigError where there is no such run or its
    scores or costs mean something else.
    """
    found = results(config)
    space = Space(config.parameters, config.constraints, config.fixed)
    told, why = 0, ""
    with store.transaction():
        for params, data in found:
            try:
                space.check(params)
            except ValueError as error:
                why = why or str(error)
                continue
            swept = {name: value for name, value in params.items() if name in space.parameters}
            store.add_event("observe", None, {"params": swept, **data})
            told += 1
    left_out = f", {len(found) - told} outside this space left out (the first: {why})" if why else ""
    return f"warm start: {told} results of {config.warm_start}{left_out}"


def results(config: SweepConfig) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(params, what was told) of every result of the run that `warm_start` names: what was swept there, and
    what was fixed there where this sweep has a word on it."""
    name = str(config.warm_start)
    places = (config.folder / name, Path(name), Path("runs") / name)
    folder = next((place for place in places if Store.exists(place)), None)
    if folder is None:
        raise config.locate(
            ConfigError("warm_start", f"there is no run '{name}'", "name one under runs/, or its folder")
        )
    try:
        with Store.open(folder, readonly=True) as old:
            settings, rows = old.settings(), old.trials()
    except StoreError as error:
        mend = f"`sweep repair {folder}` mends it" if isinstance(error, StoreDamaged) else ""
        raise config.locate(ConfigError("warm_start", str(error), mend)) from None
    for key, new in (("metric", config.metric), ("cost", config.cost)):
        for part in ("name", "goal", "scale", "max"):
            before, now = settings[key].get(part), getattr(new, part, None)
            if before != now:
                raise config.locate(
                    ConfigError(
                        "warm_start",
                        f"'{name}' has {key}.{part} {before!r}, this sweep {now!r}: "
                        "its results would mislead",
                        "leave warm_start out, or make them the same",
                    )
                )
    found = []
    same_steps = settings["objective"]["fidelity"] == config.objective.fidelity
    for row in rows:
        kind, data = verdict(row)
        if not same_steps:  # a curve's steps count something else there
            data.pop("points", None)
        if kind == "tell" and not row.excluded:
            known = {**config.fixed, **config.parameters}
            fixed = {name: value for name, value in settings["fixed"].items() if name in known}
            found.append(({**fixed, **row.params}, data))
    return found
