"""The picture of the parameters: what moving one of them alone does to the score, at three budgets."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

from sweeper.files import write_whole
from sweeper.parameter import Parameter
from sweeper.plots import (
    DPI,
    GREY,
    INK,
    PlottedTrial,
    drawable,
    finite,
    fit,
    fit_legend,
    plain,
    short_enough,
    shortened,
    style,
)
from sweeper.proposer import Member, Sweeper
from sweeper.summary import scalar, three_budgets
from sweeper.units import format_cost, format_number

COLUMNS, WIDTH, ROW = 3, 7.2, 1.75  # panels a row, inches
PLACES = 33  # along a range
_OWN: dict[str, Any] = {"marker": "o", "markersize": 5.5, "markeredgecolor": "white", "zorder": 5}
COLOURS = {"cheap": "#e09f3e", "middle": "#2a9d8f", "best": "#3d2c8d"}


class TriedTrial(PlottedTrial, Protocol):
    """What is read of a trial (`sweeper.store.TrialRow` is one)."""

    @property
    def params(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Slice:
    """A budget's setting with one parameter moved: its places in [-1, 1] and what is expected there."""

    label: str
    places: np.ndarray
    scores: np.ndarray
    sds: np.ndarray
    success: np.ndarray
    own: tuple[float, float]  # the setting's own place, and the score there


def slices(tuner: Sweeper, front: Sequence[Member]) -> dict[str, list[Slice]]:
    """Of each parameter a slice for each budget whose setting has it; first the one that moves scores most.

    Parameters that a moved category brings to life are at the middle of their range. Raises ValueError before
    three trials are done.
    """
    budgets = three_budgets(front, tuner.goal)
    wanted = [
        (parameter, label, member)
        for parameter in tuner.space.parameters.values()
        for label, member in budgets
        if parameter.name in member.params
    ]
    moved = [_moved(tuner, parameter, member) for parameter, _, member in wanted]
    # All at once: every call of predict fits the models anew.
    params = [tuner.space.to_params(unit) for units in moved for unit in units]
    expected = iter(tuner.predict(params) if params else [])
    found: dict[str, list[Slice]] = {name: [] for name in tuner.space.parameters}
    for (parameter, label, member), units in zip(wanted, moved, strict=True):
        column = tuner.space.column[parameter.name]
        seen = list(itertools.islice(expected, len(units)))
        own = int(np.argmin(np.abs(units[:, column] - tuner.space.to_unit(member.params)[column])))
        scores = np.array([m.score for m in seen])
        sds, success = np.array([m.score_sd for m in seen]), np.array([m.success for m in seen])
        at = float(units[own, column]), float(scores[own])
        found[parameter.name].append(Slice(label, units[:, column], scores, sds, success, at))
    return dict(sorted(found.items(), key=lambda item: -max(map(_moves, item[1]), default=0.0)))


def _moves(one: Slice) -> float:
    """By how much the parameter moves the score, where trials mostly succeed."""
    return float(np.ptp(one.scores[one.success >= 0.5])) if (one.success >= 0.5).any() else 0.0


def _moved(tuner: Sweeper, parameter: Parameter, member: Member) -> np.ndarray:
    """Places of a setting with one parameter moved, [n, dim], in order, its own among them."""
    space, column = tuner.space, tuner.space.column[parameter.name]
    unit = space.to_unit(member.params)
    count = len(parameter.values) or PLACES
    units = np.repeat(unit[None], count + 1, axis=0)
    units[:count, column] = (
        -1 + (2 * np.arange(count) + 1) / count if parameter.values else np.linspace(-1, 1, count)
    )
    units = units[np.argsort(units[:, column], kind="stable")]  # its own place among them
    units = space.snap(units)
    units = units[space.feasible(units) | (units == unit).all(axis=1)]
    return units[np.append(True, np.diff(units[:, column]) > 0)]


def plot_parameters(
    path: str | Path,
    tuner: Sweeper,
    trials: Sequence[TriedTrial],
    *,
    name: str = "sweep",
    score_name: str = "score",
    cost_name: str = "seconds",
) -> Path:
    """Writes the picture of all parameters as a PNG 1440 pixels wide and returns its path.

    One panel a parameter, first the one that moves scores most; in it a line a budget: the score that the
    models expect of the budget's setting when this parameter alone is changed, with a 95 % interval, dotted
    where most trials would fail. Grey: all trials. Raises ValueError before three trials are done.
    """
    front = tuner.front()
    budgets = three_budgets(front, tuner.goal)
    panels = slices(tuner, front)
    rows = math.ceil(len(panels) / COLUMNS)
    height = 1.25 + ROW * rows
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    head: dict[str, Any] = {"y": 1 - 0.25 / height, "va": "center"}
    title = figure.text(0.022, s=plain(name), size=16, weight="bold", color=INK, **head)
    said = "one parameter changed, all others kept"
    beside = figure.text(0.978, s=said, size=11, color=GREY, ha="right", **head)
    fit(figure, title, 0.93 * figure.bbox.width - beside.get_window_extent().width)
    edges = {"left": 0.1, "right": 0.985, "top": 1 - 0.92 / height, "bottom": 0.55 / height}
    figure.subplots_adjust(wspace=0.1, hspace=0.5, **edges)
    grid = figure.add_gridspec(rows, COLUMNS)
    done = [t for t in trials if t.status == "done" and finite(t.score)]
    bottom, top = _limits(panels, done)
    for index, (parameter, found) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[index // COLUMNS, index % COLUMNS])
        _panel(axes, tuner.space.parameters[parameter], found, done)
        axes.set_ylim(bottom, top)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        # Otherwise matplotlib's own: short, too, with what all of them share above the axis.
        if max(abs(bottom), abs(top)) >= 1e4 and short_enough(axes.get_yticks()):
            axes.yaxis.set_major_formatter(lambda v, _: format_number(v).replace("-", "\N{MINUS SIGN}", 1))
        fit(figure, axes.title, 1.05 * axes.bbox.width)
        if index % COLUMNS:
            axes.tick_params(labelleft=False)
    label = plain(score_name) + (" (lower is better)" if tuner.goal == "minimize" else "")
    middle = (edges["top"] + edges["bottom"]) / 2
    named = figure.supylabel(label, size=12, color=INK, x=0.004, y=middle, va="center")
    fit(figure, named, (edges["top"] - edges["bottom"] + 0.3 / height) * figure.bbox.height)
    _make_room(figure, named)
    handles: list[Any] = [
        Line2D([], [], color=COLOURS[label], linewidth=2, marker="o", markersize=5,
               label=f"{label}: {format_cost(member.cost, plain(cost_name))}")
        for label, member in budgets
    ]  # fmt: skip
    handles.append(Patch(color=INK, alpha=0.12, linewidth=0, label="95 % interval"))
    ranges = [found for name, found in panels.items() if not tuner.space.parameters[name].values]
    if any((one.success < 0.5).any() for found in ranges for one in found):
        handles.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=":", label="most fail"))
    handles.append(Line2D([], [], linestyle="none", marker=".", color="#9ca3af", label="trials"))
    fit_legend(figure, figure, handles, loc="center left", bbox_to_anchor=(0.012, 1 - 0.53 / height))
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DPI, metadata={"Software": None})
    write_whole(Path(path), picture.getvalue())
    return Path(path)


def _make_room(figure: Figure, label: Any) -> None:
    """Moves the left edge of the panels so that long tick labels end short of the score's name."""
    canvas: Any = figure.canvas
    canvas.draw()
    renderer = canvas.get_renderer()
    first: Sequence[Any] = figure.axes[::COLUMNS]  # of each row
    left = min(axes.yaxis.get_tightbbox(renderer).x0 for axes in first)
    short = label.get_window_extent(renderer).x1 + 0.03 * DPI - left
    if short > 0:
        figure.subplots_adjust(left=figure.subplotpars.left + short / figure.bbox.width)


def _limits(panels: dict[str, list[Slice]], done: Sequence[Any]) -> tuple[float, float]:
    """Of the score axis, the same in all panels: all lines, and the middle nine tenths of the trials."""
    scores = [one.scores for found in panels.values() for one in found]
    scores.append(np.quantile([t.score for t in done], [0.05, 0.95]))
    low, high = float(np.concatenate(scores).min()), float(np.concatenate(scores).max())
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _panel(axes: Any, parameter: Parameter, found: Sequence[Slice], done: Sequence[Any]) -> None:
    style(axes)
    axes.set_title(plain(parameter.name), size=10, color=INK, pad=4)
    there = [t for t in done if parameter.name in t.params]
    places = [float(parameter.to_unit(t.params[parameter.name])) for t in there]
    axes.scatter(places, [t.score for t in there], s=5, color="#9ca3af", alpha=0.45, linewidths=0, zorder=2)
    for index, one in enumerate(found):
        colour = COLOURS[one.label]
        if parameter.values:
            # Three marks a category; of many closer together, or they would stand over the next name.
            beside = min(0.08, 0.6 / len(parameter.values)) * (index - (len(found) - 1) / 2)
            axes.errorbar(one.places + beside, one.scores, 1.96 * one.sds, fmt="_", color=colour, zorder=4)
            axes.plot(one.own[0] + beside, one.own[1], **_OWN, color=colour)
            continue
        spread = 1.96 * one.sds
        axes.fill_between(
            one.places, one.scores - spread, one.scores + spread, color=colour, alpha=0.12, linewidth=0
        )
        axes.plot(one.places, one.scores, color=colour, linewidth=1.0, linestyle=":", zorder=3)
        axes.plot(one.places, np.where(one.success >= 0.5, one.scores, np.nan), color=colour, linewidth=1.8)
        axes.plot(*one.own, **_OWN, color=colour)
    if not found:
        axes.text(
            0.5, 0.5, "in none of the settings", transform=axes.transAxes, ha="center", color=GREY, size=9
        )
    ticks = parameter.values or (parameter.min, *_middle(parameter), parameter.max)
    places = [float(parameter.to_unit(value)) for value in ticks]
    written = 12 if parameter.distribution == "logit" else 4  # digits: 0.99999 is not 1
    labels = [_shortened(scalar(v)) if parameter.values else format_number(v, written) for v in ticks]
    axes.set_xlim(-1.04, 1.04)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter(labels))
    axes.tick_params(labelsize=9)
    if parameter.values and len(labels) * (max(map(len, labels)) + 1) > 30:  # they would touch
        axes.tick_params(axis="x", labelsize=min(6.5, 88 / len(labels)), rotation=40, pad=1)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    if not parameter.values:  # inside the panel, clear of its neighbour's
        sides = ("left", *["center"] * (len(ticks) - 2), "right")
        for label, side in zip(axes.get_xticklabels(), sides, strict=True):
            label.set_ha(side)


def _shortened(text: str) -> str:
    """A category's name, which has little room."""
    return plain(shortened(drawable(text), 11))


def _middle(parameter: Parameter) -> list[float]:
    """A short number near the middle of the range as the models see it; none where only the ends are left."""
    value = float(parameter.from_unit(np.zeros(1))[0])
    whole = [value] if parameter.kind == "int" and value < 1e4 else []
    logit = parameter.distribution == "logit"
    # Two digits, or as many as it takes to stay between the ends.
    short = (1 - float(f"{1 - value:.{n}g}") if logit else float(f"{value:.{n}g}") for n in range(2, 17))
    return [middle for middle in (whole or short) if parameter.min < middle < parameter.max][:1]
