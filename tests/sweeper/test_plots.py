"""The picture is there, of one size, and shows something, whatever a sweep came to."""

import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from sweeper.plots import (
    _annotate,
    _colour_bar,
    _cost_limits,
    _draw_pulls,
    _draw_shorter,
    _draw_trials,
    _score_limits,
    fit,
    plot_pareto,
)
from sweeper.units import parse_number


@dataclass
class Trial:
    number: int
    status: str
    score: float | None
    cost: float | None


@dataclass
class Member:
    score: float
    cost: float
    trial: int | None
    score_sd: float | None = None
    params: tuple = ()
    shorter: bool = False


def pixels(path: Path) -> np.ndarray:
    """The PNG's pixels [height, width, 4]."""
    from matplotlib.image import imread

    return (imread(path) * 255).astype(np.uint8)


def size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])


def sweep(goal="maximize", count=40, scale=500.0, shift=0.0):
    generator = np.random.default_rng(0)
    trials, front = [], []
    for number in range(count):
        cost = 10 ** generator.uniform(0, 2.5)
        score = scale * np.log10(cost) / 2.5 * (1 - 0.3 * abs(generator.normal()))
        trials.append(Trial(number, "done", (score if goal == "maximize" else -score) + shift, cost))
    trials += [Trial(count, "failed", None, 3.0), Trial(count + 1, "stopped", None, 9.0)]
    trials += [Trial(count + 2, "failed", None, None), Trial(count + 3, "running", None, None)]
    sign = 1 if goal == "maximize" else -1
    for trial in sorted(trials[:count], key=lambda t: t.cost):
        if not front or sign * trial.score > sign * front[-1].score:
            front.append(Member(trial.score, trial.cost, trial.number, 0.02 * scale))
    return trials, front


TRIALS, FRONT = sweep()
CASES = {
    "many": (*sweep(), {}),
    "minimise": (*sweep("minimize"), {"goal": "minimize"}),
    "negative": (*sweep(shift=-2000.0), {"cost_name": "steps"}),
    "tiny numbers": (*sweep(scale=1e-9), {}),
    "huge numbers": (*sweep(scale=1e12), {}),
    "one": ([Trial(1, "done", 0.5, 12.0)], [Member(0.5, 12.0, 1, 0.1)], {}),
    "one at zero": ([Trial(1, "done", 0.0, 1.0)], [Member(0.0, 1.0, 1)], {}),
    "on curves": (sweep()[0], [replace(m, shorter=True) for m in sweep()[1]], {}),
    "on a curve of before": ([Trial(1, "done", 0.5, 12.0)], [Member(0.5, 6.0, None, 0.1, shorter=True)], {}),
    "none": ([], [], {}),
    "all failed": ([Trial(n, "failed", None, n + 1.0) for n in range(9)], [], {}),
    "failed, costs unknown": ([Trial(n, "failed", None, None) for n in range(3)], [], {}),
    "all costs equal": ([Trial(n, "done", n / 9, 5.0) for n in range(9)], [Member(8 / 9, 5.0, 8)], {}),
    "all scores equal": ([Trial(n, "done", 1.0, n + 1.0) for n in range(9)], [Member(1.0, 1.0, 0)], {}),
    "no front": ([Trial(n, "done", n / 9, n + 1.0) for n in range(9)], [], {}),
    "outlier": ([*sweep()[0], Trial(99, "done", -1e9, 5.0)], sweep()[1], {}),
    "not finite": ([Trial(1, "done", float("nan"), 5.0), Trial(2, "done", 1.0, 0.0)], [], {}),
    "long names": (
        *([*TRIALS, Trial(98, "done", -1e9, 5.0), Trial(99, "done", 1e9, 5.0)], FRONT),
        {"name": "halfcheetah " * 5, "score_name": "validation accuracy " * 3, "cost_name": "simulated " * 3},
    ),
    "odd names": (*sweep(), {"name": "a$b_{c}%\n", "score_name": "x_$1$", "elapsed": 1e6}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_sweep_has_a_picture(case, tmp_path):
    trials, front, options = CASES[case]
    path = plot_pareto(tmp_path / "pareto.png", trials, front, **options)
    assert size(path) == (1440, 900)
    image = pixels(path)
    assert (image[..., :3].std(axis=(0, 1)) > 5).all()  # not blank
    edges = np.concatenate(
        [image[:6].reshape(-1, 4), image[:, :6].reshape(-1, 4), image[:, -6:].reshape(-1, 4)]
    )
    assert (edges[:, :3] > 250).all()  # nothing runs out of the picture


@pytest.mark.parametrize(
    ("low", "high"), [(1e6, 1.0104e6), (-1e6, -1.001e6), (0.0, 1.0), (2e4, 9e5), (0, 3e-9)]
)
def test_the_labels_of_the_scores_say_where_their_lines_are(low, high):
    axes = Figure().subplots()
    done = [Trial(1, "done", low, 1.0), Trial(2, "done", high, 2.0)]
    _score_limits(axes, done, [], "maximize", False)
    for place, label in zip(axes.get_yticks(), axes.yaxis.get_major_formatter().seq, strict=True):
        assert parse_number(label.replace("\N{MINUS SIGN}", "-")) == pytest.approx(place, rel=1e-6, abs=1e-15)


def test_a_text_is_made_as_short_as_its_room():
    figure = Figure(figsize=(8, 5), dpi=100)
    FigureCanvasAgg(figure)
    for room in (700, 300, 60):
        text = figure.text(0.1, 0.1, r"half_cheetah\$" * 4, size=16)
        fit(figure, text, room)
        assert text.get_window_extent().width <= room
        assert (text.get_text() == r"half_cheetah\$" * 4) == (room > 400)
        assert text.get_text().startswith(r"half_cheetah\$"[: room // 20])


def test_the_same_sweep_gives_the_same_pixels(tmp_path):
    trials, front, _ = CASES["many"]
    first = plot_pareto(tmp_path / "a.png", trials, front).read_bytes()
    assert plot_pareto(tmp_path / "b.png", trials, front).read_bytes() == first
    assert zlib.crc32(first) != zlib.crc32(plot_pareto(tmp_path / "c.png", trials[5:], front).read_bytes())


def test_a_member_on_a_curve_is_marked_and_its_trials_end_is_not() -> None:
    trials, members = (
        [Trial(1, "done", 1.0, 9.0), Trial(2, "done", 0.5, 3.0)],
        [Member(0.4, 2.0, 1, shorter=True)],
    )
    axes = Figure().add_subplot()
    (said,) = _draw_shorter(axes, members, _colour_bar(axes.figure, [1, 2]))
    (mark,) = axes.get_lines()
    assert (mark.get_marker(), said.get_label()) == ("D", "on a trial's curve")
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([2.0], [0.4])
    _draw_pulls(axes, members, trials, 0.0, 1.0)
    assert len(axes.get_lines()) == 1


def test_one_hopeless_score_does_not_flatten_the_front(tmp_path):
    trials, front = sweep()
    plain = pixels(plot_pareto(tmp_path / "a.png", trials, front))
    crashed = pixels(plot_pareto(tmp_path / "b.png", [*trials, Trial(99, "done", -1e9, 5.0)], front))

    def height(image):  # of the ink of the front's line, in rows
        rows = np.flatnonzero((image[150:740, 200:1200, :3] < 50).all(axis=2).any(axis=1))
        return rows.max() - rows.min()

    assert height(crashed) > 0.8 * height(plain)


@pytest.mark.parametrize(("goal", "beyond", "marker"), [("maximize", -1e9, "v"), ("minimize", 1e9, "^")])
def test_the_legend_shows_the_mark_of_what_lies_beyond_the_axis(goal, beyond, marker):
    trials, front = sweep(goal)
    done = [*(t for t in trials if t.status == "done"), Trial(99, "done", beyond, 5.0)]
    axes = Figure().add_subplot()
    limits = _score_limits(axes, done, front, goal, strip=False)
    (said,) = _draw_trials(axes, done, set(), ScalarMappable(), *limits)
    assert [said.get_marker()] == [line.get_marker() for line in axes.get_lines()] == [marker]


def test_labels_of_a_steep_front_at_the_cheap_end_stay_off_the_ticks() -> None:
    front = [(605, 3.2), (630, 1), (655, 0.2), (710, -0.7), (826, -1.148), (838, -4.526), (1078, -5.045)]
    members = [Member(score, cost, number) for number, (cost, score) in enumerate(front)]
    done = [Trial(number, "done", score, cost) for number, (cost, score) in enumerate(front)]
    done += [Trial(10 + i, "done", 3.0 * i, 1800.0 * (i + 1)) for i in range(8)]
    figure = Figure(figsize=(7.2, 4.5), dpi=200)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.105, 0.135, 0.775, 0.69))
    _cost_limits(axes, [trial.cost for trial in done], "seconds")
    _score_limits(axes, done, members, "minimize", strip=False)
    _annotate(figure, axes, done, members, "minimize", "seconds")
    figure.canvas.draw()
    labels = [text.get_window_extent() for text in axes.texts]
    assert len(labels) == 3
    assert min(label.x0 for label in labels) > axes.get_window_extent().x0
