"""The picture of a sweep: score over cost, every trial in the order of its number, and the front.

Drawn without a display and without pyplot's globals, so it may be called from anywhere.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import IdentityTransform

from sweeper.files import write_whole
from sweeper.summary import FrontMember, three_budgets
from sweeper.units import digits, format_cost, format_number, format_seconds, parse_number

INK, GREY, FAINT = "#1f2430", "#6b7280", "#e5e7eb"
SIZE = (7.2, 4.5)  # inches; 1440 x 900 pixels
DPI = 200
STRIP = 0.075  # the share of the height at the bottom where trials without a score are marked


class PlottedTrial(Protocol):
    """What is read of a trial (`sweeper.store.TrialRow` is one)."""

    @property
    def number(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def cost(self) -> float | None: ...


def plot_pareto(
    path: str | Path,
    trials: Sequence[PlottedTrial],
    front: Sequence[FrontMember],
    *,
    name: str = "sweep",
    goal: str = "maximize",
    score_name: str = "score",
    cost_name: str = "seconds",
    elapsed: float | None = None,
) -> Path:
    """Writes the picture of a sweep as a PNG of 1440 x 900 pixels and returns its path.

    `front` is the posterior front (its `score_sd`, where known, becomes a 95 % band), `elapsed` the seconds
    that the sweep took. Any number of trials will do, none among them; the same input gives the same pixels.
    """
    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.105, 0.135, 0.775, 0.69))
    style(axes)
    done = [t for t in trials if t.status == "done" and finite(t.score) and _positive(t.cost)]
    rest = [t for t in trials if t.status in ("failed", "stopped") or (t.status == "done" and t not in done)]
    members = sorted((m for m in front if finite(m.score) and _positive(m.cost)), key=lambda m: m.cost)

    costs = [t.cost for t in done] + [m.cost for m in members]
    low, high = _cost_limits(axes, costs or [t.cost for t in rest if _positive(t.cost)], cost_name)
    axes.set_xlabel(f"cost ({plain(cost_name)}, log scale)", labelpad=5)
    axes.set_ylabel(plain(score_name) + (" (lower is better)" if goal == "minimize" else ""), labelpad=6)
    _title(figure, name, trials, done, elapsed)

    legend: list[Any] = []
    if done:
        bottom, top = _score_limits(axes, done, members, goal, bool(rest))
        colours = _colour_bar(figure, [t.number for t in trials])
        legend += _draw_trials(axes, done, {m.trial for m in members if not m.shorter}, colours, bottom, top)
        legend += _draw_shorter(axes, [m for m in members if m.shorter], colours)
    else:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(NullLocator())
        said = "every trial has failed so far" if rest else "no result to show yet"
        axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color=GREY, size=13)
    if members and done:
        legend = _draw_front(axes, members, high) + legend
        _draw_pulls(axes, members, done, bottom, top)
    legend += _draw_unscored(axes, rest, low, high)
    _make_room(figure, axes)
    if legend:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.012, 1.0), "borderaxespad": 0.1}
        fit_legend(figure, axes, legend, **place)
    fit(figure, axes.yaxis.label, 1.2 * axes.bbox.height)
    if members and done:
        _annotate(figure, axes, done, members, goal, cost_name)
    path, picture = Path(path), io.BytesIO()
    figure.savefig(picture, dpi=DPI, metadata={"Software": None})
    write_whole(path, picture.getvalue())
    return path


def plain(name: str) -> str:
    """A user's name as it is: no control characters, and no dollar starts a formula."""
    return shortened(drawable("".join(c for c in name if c.isprintable())), 60).replace("$", r"\$")


def drawable(text: str) -> str:
    """The text; letters that the font lacks as escapes, for it draws one and the same box for all of them."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known else c.encode("ascii", "backslashreplace").decode() for c in text)


def shortened(text: str, length: int) -> str:
    """The text; of a longer one its beginning and its end, by which such names differ."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - end :]}"


def fit(figure: Figure, text: Any, room: float) -> None:
    """Makes a text smaller, then shorter, until it is no longer than `room` pixels."""
    canvas: Any = figure.canvas

    def wide() -> bool:
        return max(text.get_window_extent(canvas.get_renderer()).size) > room

    least = 0.6 * text.get_size()
    while wide() and text.get_size() > least:
        text.set_size(text.get_size() - 0.5)
    whole = text.get_text().replace(r"\$", "$")
    for length in range(len(whole) - 1, 0, -1):
        if not wide():
            return
        text.set_text(shortened(whole, length).replace("$", r"\$"))


def fit_legend(figure: Figure, place: Any, handles: Sequence[Any], **where: Any) -> None:
    """One row of a legend, in letters so small that it ends within the picture."""
    canvas: Any = figure.canvas
    for size in (9.5, 8.5, 7.5, 6.5, 5.5):
        legend = place.legend(
            handles=handles, ncols=len(handles), frameon=False, fontsize=size, labelcolor=GREY,
            handletextpad=0.5, columnspacing=1.4, handlelength=1.5, **where,
        )  # fmt: skip
        if legend.get_window_extent(canvas.get_renderer()).x1 <= figure.bbox.width or size == 5.5:
            return
        legend.remove()


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def style(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9ca3af")
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=11, length=3, color="#9ca3af")
    axes.xaxis.label.set(color=INK, size=12)
    axes.yaxis.label.set(color=INK, size=12)


def _title(
    figure: Figure, name: str, trials: Sequence[Any], done: Sequence[Any], elapsed: float | None
) -> None:
    title = figure.text(0.022, 0.945, plain(name), size=16, weight="bold", color=INK, va="center")
    parts = [
        f"{len(done)} of {len(trials)} trials done" if len(done) < len(trials) else f"{len(done)} trials"
    ]
    if len(trials) == 1:
        parts = ["1 trial"]
    if elapsed is not None and math.isfinite(elapsed):
        parts.append(format_seconds(elapsed))
    beside = figure.text(0.978, 0.945, "  ·  ".join(parts), size=11, color=GREY, ha="right", va="center")
    fit(figure, title, 0.93 * figure.bbox.width - beside.get_window_extent().width)


# ---------------------------------------------------------------- axes


_TIME_TICKS = [
    *((ms / 1000, f"{ms} ms") for ms in (1, 3, 10, 30)),
    *((s, f"{s:g} s") for s in (0.1, 0.3, 1, 3, 10, 30)),
    *((60 * m, f"{m} min") for m in (1, 3, 10, 30)),
    *((3600 * h, f"{h} h") for h in (1, 3, 10)),
    *((86400 * d, f"{d} d") for d in (1, 3, 10, 30, 100)),
]


def _cost_limits(axes: Any, costs: Sequence[float | None], cost_name: str) -> tuple[float, float]:
    """Sets a log axis around the costs with few, plainly written ticks; gives its limits."""
    known = [c for c in costs if c is not None] or [1.0, 100.0]
    low, high = min(known), max(known)
    margin = max(0.06 * math.log(high / low), 0.02) if high > low * 1.02 else math.log(2)
    low, high = low * math.exp(-margin), high * math.exp(margin)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ladder = list(_TIME_TICKS) if cost_name == "seconds" else []
    inside = [tick for tick in ladder if low <= tick[0] <= high]
    if len(inside) < 3:  # a short range, or another unit: 1-2-5, or every digit, or plain steps
        for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
            exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            values = [d * 10.0**e for e in exponents for d in digits if low <= d * 10.0**e <= high]
            inside = [(v, _tick(v, cost_name)) for v in values]
            if len(inside) >= 3:
                break
        else:
            values = [float(v) for v in MaxNLocator(4).tick_values(low, high) if low <= v <= high]
            inside = [(v, _tick(v, cost_name)) for v in values]
    inside = _spaced(inside, low, high)
    axes.xaxis.set_major_locator(FixedLocator([value for value, _ in inside]))
    axes.xaxis.set_major_formatter(FixedFormatter([label for _, label in inside]))
    axes.xaxis.set_minor_locator(NullLocator())
    return low, high


def _spaced(ticks: list[tuple[float, str]], low: float, high: float) -> list[tuple[float, str]]:
    """The ticks whose labels do not touch; of two neighbours the one that starts a unit (`1 min`) stays."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if kept and math.log(tick[0] / kept[-1][0]) < 0.085 * math.log(high / low):
            if not tick[1].startswith("1 "):
                continue
            kept.pop()
        kept.append(tick)
    return kept


def _tick(value: float, cost_name: str) -> str:
    if cost_name != "seconds":
        return format_number(value)
    return f"{1000 * value:.6g} ms" if value < 0.1 else f"{value:.6g} s"


def _score_limits(
    axes: Any, done: Sequence[Any], members: Sequence[Any], goal: str, strip: bool
) -> tuple[float, float]:
    """Sets the score axis to hold the front and most trials; gives the limits within which trials are drawn.

    A few hopeless scores must not squeeze the front flat: those far beyond the front and the middle half
    are marked at the edge instead.
    """
    scores = np.array([t.score for t in done], dtype=float)
    front = np.array([m.score for m in members] or scores, dtype=float)
    quarter, three = np.quantile(scores, [0.25, 0.75])
    reach = 1.5 * max(three - quarter, np.ptp(front))
    slack = [min(1.96 * m.score_sd, 0.05 * np.ptp(front)) if finite(m.score_sd) else 0.0 for m in members]
    slack = slack if members else [0.0] * len(front)
    core = np.concatenate([front - slack, front + slack, [quarter, three]])
    bottom, top = float(core.min()), float(core.max())
    near = scores[(scores >= bottom - reach) & (scores <= top + reach)]
    bottom, top = min(bottom, float(near.min(initial=bottom))), max(top, float(near.max(initial=top)))
    if not top - bottom > 1e-9 * max(abs(top), abs(bottom), 1e-9):
        span = 0.5 * abs(top) or 0.5
        bottom, top = bottom - span, top + span
    height = top - bottom
    above, below = (0.05, 0.16) if goal == "minimize" else (0.16, 0.05)  # room for the labels past the front
    floor, ceiling = bottom - below * height, top + above * height
    if strip:
        floor -= (ceiling - floor) * STRIP / (1 - STRIP)
    axes.set_ylim(floor, ceiling)
    ticks = np.array(MaxNLocator(6).tick_values(floor, ceiling))
    ticks[np.abs(ticks) < 1e-9 * (ceiling - floor)] = 0.0
    shown = format_number if short_enough(ticks) else "{:.12g}".format
    axes.yaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.yaxis.set_major_formatter(
        FixedFormatter([shown(tick).replace("-", "\N{MINUS SIGN}", 1) for tick in ticks])
    )
    return bottom, top


def short_enough(ticks: np.ndarray) -> bool:
    """Whether four digits say where the ticks lie; far from zero and close together they would round them."""
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=1.0)
    return all(abs(parse_number(format_number(tick)) - tick) < 0.01 * step for tick in ticks)


def _make_room(figure: Figure, axes: Any) -> None:
    """Moves the left edge of the axes so that long tick labels stay in the picture."""
    canvas: Any = figure.canvas
    canvas.draw()
    width = SIZE[0] * DPI
    left = axes.yaxis.get_tightbbox(canvas.get_renderer()).x0 / width
    x, y, w, h = axes.get_position().bounds
    move = min(max(0.022 - left, -0.03), 0.2)
    axes.set_position((x + move, y, w - move, h))


def _colour_bar(figure: Figure, numbers: Sequence[int]) -> ScalarMappable:
    """Viridis without its lightest end, which vanishes on white; the bar says which trial a colour is."""
    from matplotlib import colormaps

    shades = LinearSegmentedColormap.from_list("order", colormaps["viridis"](np.linspace(0.0, 0.93, 256)))
    first, last = min(numbers), max(numbers)
    colours = ScalarMappable(Normalize(first, last if last > first else first + 1), shades)
    if last > first:
        bar = figure.colorbar(colours, cax=figure.add_axes((0.905, 0.135, 0.018, 0.69)))
        bar.set_label("trial", color=INK, size=12, labelpad=2)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        bar.ax.tick_params(colors=INK, labelsize=10, length=0, pad=4)
    return colours


# ---------------------------------------------------------------- marks


def _draw_trials(
    axes: Any, done: Sequence[Any], on_front: set[Any], colours: ScalarMappable, bottom: float, top: float
) -> list[Any]:
    kinds: list[Any] = []
    dense = min(1.0, (150 / len(done)) ** 0.5)
    for chosen in (False, True):
        group = [t for t in done if (t.number in on_front) is chosen and bottom <= t.score <= top]
        if group:
            axes.scatter(
                [t.cost for t in group],
                [t.score for t in group],
                c=colours.to_rgba(np.array([t.number for t in group], dtype=float)),
                s=58 if chosen else 15 + 19 * dense,
                alpha=1.0 if chosen else (0.28 + 0.17 * dense if on_front else 0.85),
                edgecolors="white" if chosen else "none",
                linewidths=0.9,
                zorder=5 if chosen else 3,
            )
    outside = [t for t in done if not bottom <= t.score <= top]
    for t in outside:
        down = t.score < bottom
        axes.plot(
            t.cost,
            bottom if down else top,
            marker="v" if down else "^",
            color=colours.to_rgba(np.array([float(t.number)]))[0],
            alpha=0.7,
            markersize=6.5,
            markeredgewidth=0,
            zorder=3,
            linestyle="none",
        )
    if outside:
        mark = "v" if outside[0].score < bottom else "^"
        kinds.append(_marker(mark, f"{len(outside)} beyond the axis", size=5))
    return kinds


def _draw_shorter(axes: Any, members: Sequence[Any], colours: ScalarMappable) -> list[Any]:
    """Members that lie on a trial's curve, in that trial's colour."""
    for m in members:
        colour = GREY if m.trial is None else colours.to_rgba(np.array([float(m.trial)]))[0]
        axes.plot(
            m.cost, m.score, marker="D", color=colour, markersize=6, markeredgecolor="white",
            markeredgewidth=0.9, zorder=5, linestyle="none",
        )  # fmt: skip
    return [_marker("D", "on a trial's curve")] if members else []


def _marker(marker: str, label: str, size: float = 5.5) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, color="#9ca3af", markersize=size, label=label)


def _draw_front(axes: Any, members: Sequence[Any], high: float) -> list[Any]:
    """The staircase: at each cost the best score that costs no more; level to the right of its end."""
    costs = np.array([m.cost for m in members] + [high])
    scores = np.array([m.score for m in members])
    steps = np.append(scores, scores[-1])
    axes.step(costs, steps, where="post", color=INK, linewidth=2.0, zorder=4, solid_joinstyle="miter")
    kinds: list[Any] = [Line2D([], [], color=INK, linewidth=2.0, label="front (denoised)")]
    sds = [m.score_sd for m in members]
    if all(finite(sd) for sd in sds) and any(sd > 0 for sd in sds):
        spread = 1.96 * np.append(np.array(sds), sds[-1])
        axes.fill_between(
            costs, steps - spread, steps + spread, step="post", color=INK, alpha=0.09, linewidth=0, zorder=2
        )
        kinds.append(Patch(color=INK, alpha=0.12, linewidth=0, label="95 % interval"))
    return kinds


def _draw_pulls(axes: Any, members: Sequence[Any], done: Sequence[Any], bottom: float, top: float) -> None:
    """A thin line from each trial on the front to where the model, knowing its neighbours, puts it."""
    observed = {t.number: t for t in done if bottom <= t.score <= top}
    for m in members:
        if m.trial in observed and not m.shorter:
            t = observed[m.trial]
            axes.plot([t.cost, m.cost], [t.score, m.score], color=GREY, alpha=0.7, linewidth=0.9, zorder=3.5)


def _draw_unscored(axes: Any, rest: Sequence[Any], low: float, high: float) -> list[Any]:
    """Trials without a score, small along the bottom; those whose cost nobody knows at the left edge."""
    kinds: list[Any] = []
    marks = {"failed": ("x", 4.5, 1.0), "stopped": ("|", 6.0, 1.2)}
    for status, (marker, size, width) in marks.items():
        group = [t for t in rest if (t.status == "stopped") is (status == "stopped")]
        if group:
            costs = [
                min(max(t.cost, low), high) if _positive(t.cost) else low * (high / low) ** 0.008
                for t in group
            ]
            axes.plot(
                costs,
                [STRIP * 0.42] * len(costs),
                transform=axes.get_xaxis_transform(),
                linestyle="none",
                marker=marker,
                markersize=size,
                markeredgewidth=width,
                color="#9ca3af",
                alpha=0.8,
                clip_on=False,
                zorder=3,
            )
            kinds.append(_marker(marker, f"{len(group)} {status}", size))
    return kinds


# ---------------------------------------------------------------- the three budgets


def _annotate(
    figure: Figure, axes: Any, done: Sequence[Any], members: Sequence[Any], goal: str, cost_name: str
) -> None:
    """Names the three budgets at the front: each label goes where it covers least."""
    canvas: Any = figure.canvas
    canvas.draw()
    renderer = canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    scale = DPI / 72  # pixels a point
    trials = axes.transData.transform([(t.cost, t.score) for t in done])
    on_front = {m.trial for m in members if not m.shorter}
    stars = trials[[t.number in on_front for t in done]]
    line = _staircase_pixels(axes, members)
    taken: list[tuple[float, float, float, float]] = []
    up = -1.0 if goal == "minimize" else 1.0
    scores = [member.score for member in members]
    places = digits(min(scores), max(scores), 100)  # as in the table
    for label, member in reversed(three_budgets(members, goal)):
        said = f"{label}: {format_number(member.score, places)}\n{format_cost(member.cost, plain(cost_name))}"
        text = axes.text(
            0, 0, said,
            size=10.5, color=INK, linespacing=1.25, zorder=7, ha="left", va="bottom",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "#d1d5db"},
        )  # fmt: skip
        box = text.get_window_extent(renderer)
        width, height = box.width + 13 * scale, box.height + 13 * scale
        x, y = axes.transData.transform((member.cost, member.score))
        choices = []
        for right in (
            -1.0,
            -0.75,
            -0.5,
            -0.25,
            0.0,
        ):  # how far left of the point the label reaches, in widths
            for gap in (6.0, 12.0, 20.0, 34.0, 50.0, 75.0):
                for side in (up, -up):
                    centre = (x + (right + 0.5) * width, y + side * (gap * scale + height / 2))
                    choices.append((centre, 0.6 * gap + (0 if side == up else 25) + 12 * abs(right + 0.75)))
        for gap in (12.0, 22.0):
            for side in (-1.0, 1.0):
                centre = (x + side * (gap * scale + width / 2), y + up * 0.2 * height)
                choices.append((centre, 0.6 * gap + 14))

        def penalty(choice: tuple[tuple[float, float], float], w: float = width, h: float = height) -> float:
            (cx, cy), base = choice
            left, right, low, high = cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2
            covered = _inside(trials, left, right, low, high) + 9 * _inside(stars, left, right, low, high)
            crossed = _inside(line, left, right, low, high)
            overlap = sum(left < r and right > lo and low < t and high > b for lo, r, b, t in taken)
            floor = frame.y0 + STRIP * frame.height
            outside = max(0, frame.x0 - left) + max(0, right - frame.x1)
            outside += max(0, floor - low) + max(0, high - frame.y1)
            return base + 6 * covered + 3.0 * crossed + 1e5 * overlap + 10 * outside

        cx, cy = min(choices, key=penalty)[0]
        taken.append((cx - width / 2, cx + width / 2, cy - height / 2, cy + height / 2))
        text.set(transform=None, ha="center", va="center")
        text.set_position((cx, cy))
        away = math.hypot(cx - x, cy - y)
        ring = (
            5.8 * scale / away if away else 0.0
        )  # the leader starts at the ring's edge, ends under the label
        leader = Line2D(
            [x + ring * (cx - x), cx], [y + ring * (cy - y), cy], color=INK, linewidth=0.9, zorder=6.5
        )
        leader.set_transform(IdentityTransform())
        axes.add_line(leader)
        axes.scatter(
            [member.cost], [member.score], s=105, facecolors="none", edgecolors=INK, linewidths=1.4, zorder=6
        )


def _staircase_pixels(axes: Any, members: Sequence[Any]) -> np.ndarray:
    """Points every few pixels along the drawn front, in pixels: [n, 2]."""
    corners: list[tuple[float, float]] = []
    for before, after in itertools.pairwise(members):
        corners += [(before.cost, before.score), (after.cost, before.score)]
    corners.append((members[-1].cost, members[-1].score))
    corners.append((axes.get_xlim()[1], members[-1].score))
    pixels = axes.transData.transform(corners)
    pieces = [pixels[-1:]]
    for a, b in itertools.pairwise(pixels):
        count = 1 + int(np.abs(b - a).sum() // 12)
        pieces.append(a + (b - a) * np.linspace(0, 1, count, endpoint=False)[:, None])
    return np.concatenate(pieces)


def _inside(points: np.ndarray, left: float, right: float, low: float, high: float) -> int:
    x, y = points[:, 0], points[:, 1]
    return int(((x > left) & (x < right) & (y > low) & (y < high)).sum())
