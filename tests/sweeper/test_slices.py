"""What is said of each parameter is what the models expect, and its picture shows it whatever the space."""

import struct
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sweeper import Sweeper
from sweeper.plots import DPI, fit, plain
from sweeper.slices import COLOURS, COLUMNS, WIDTH, Slice, _panel, _shortened, plot_parameters, slices
from sweeper.space import Space

SPACE = {
    "steps": {"distribution": "log", "type": "int", "min": 10, "max": 1000},
    "rate": {"distribution": "log", "min": 1e-4, "max": 1.0},
    "idle": {"min": 0.0, "max": 1.0},
    "kind": {"values": ["a", "b"]},
    "depth": {"distribution": "pow2", "min": 1, "max": 16, "when": {"kind": "b"}},
}


@dataclass
class Trial:
    number: int
    params: dict
    status: str
    score: float | None = None
    cost: float | None = None


@dataclass
class Swept:
    tuner: Sweeper
    trials: list[Trial] = field(default_factory=list)


def score(params) -> float:
    """The rate matters most, what is called idle not at all."""
    good = np.exp(-((np.log10(params["rate"]) + 2) ** 2)) * np.log10(params["steps"]) / 3
    return 100 * good * (0.7 if params["kind"] == "a" else 1.0)


def sweep(goal="maximize", count=30, space=SPACE, constraints=(), function=score) -> Swept:
    swept = Swept(Sweeper(space, goal=goal, seed=1, constraints=constraints))
    for _ in range(count):
        trial = swept.tuner.ask()
        if trial.params.get("rate", 0) > 0.1:
            swept.tuner.tell(trial, failure="diverged", cost=1.0)
            swept.trials.append(Trial(trial.number, trial.params, "failed"))
            continue
        value = function(trial.params) * (1 if goal == "maximize" else -1)
        cost = trial.params.get("steps", 100) / 10
        swept.tuner.tell(trial, score=value, cost=cost)
        swept.trials.append(Trial(trial.number, trial.params, "done", value, cost))
    return swept


@pytest.fixture(scope="module")
def swept() -> Swept:
    return sweep()


def test_predictions_are_those_of_the_front(swept):
    front = swept.tuner.front()
    best = max(t.score for t in swept.trials if t.score is not None)
    for member, expected in zip(front, swept.tuner.predict([m.params for m in front]), strict=True):
        assert expected.trial is None
        assert expected.params == member.params
        assert min(expected.score, best) == pytest.approx(member.score)
        assert (expected.cost, expected.score_sd, expected.success) == pytest.approx(
            (member.cost, member.score_sd, member.success)
        )


def test_predictions_hold_where_nothing_was_tried(swept):
    unseen = [{"steps": 300, "rate": r, "idle": 0.1, "kind": "a"} for r in (0.002, 0.01, 0.05)]
    for member in swept.tuner.predict(unseen):
        assert abs(member.score - score(member.params)) < max(3 * member.score_sd, 5)
        assert member.cost == pytest.approx(30, rel=0.2)


def test_predict_says_what_it_cannot_tell(swept):
    with pytest.raises(ValueError, match="rate"):
        swept.tuner.predict([{"steps": 300, "rate": 2.0, "idle": 0.1, "kind": "a"}])
    with pytest.raises(ValueError, match="fewer than three"):
        Sweeper(SPACE).predict([])


def test_what_moves_the_score_comes_first(swept):
    found = slices(swept.tuner, swept.tuner.front())
    assert sorted(found) == sorted(SPACE)
    names = [name for name in found if name != "steps"]
    assert names[0] == "rate"
    assert names.index("idle") > names.index("kind")
    for name, budgets in found.items():
        assert len(budgets) == 3 or name == "depth"  # which only the settings of kind b have
        for one in budgets:
            assert (np.diff(one.places) > 0).all()
            assert abs(one.places).max() <= 1
            assert one.scores[np.searchsorted(one.places, one.own[0])] == one.own[1]
    best = found["rate"][-1]
    assert abs(best.places[np.argmax(best.scores)]) < 0.2  # 1e-2 is the middle of the range
    assert best.success[-1] < best.success.max()  # beyond a rate of 0.1 trials fail


def test_params_that_break_a_constraint_are_no_part_of_a_slice():
    tuner = sweep(constraints=["steps * rate <= 10"]).tuner
    for one in slices(tuner, tuner.front())["rate"]:
        rate = 10 ** (2 * one.places - 2)
        assert (rate > 1e-3).any()
        assert rate.max() <= 1.001
    assert any(one.places.max() < 0.9 for one in slices(tuner, tuner.front())["rate"])


ONE = {"x": {"min": 0.0, "max": 1.0}}
MANY = {f"p{i}": {"min": 0.0, "max": 1.0} for i in range(11)}
LONG = {
    f"train.a_name_as_long_as_they_come_{name}": parameter
    for name, parameter in {
        "x": ONE["x"],
        "layers": {"values": [2**i for i in range(7, 14)]},
        "backbone": {"values": ["mobilenet_v2", "mobilenet_v3", "a$b$c$d$e$f$g"]},
        "optimizer": {"values": ["adam", "muon", "sgd", "rmsprop", "adagrad", "lamb", "adafactor"]},
    }.items()
}
CASES = {
    "mixed": {},
    "long names": {"space": LONG, "function": lambda p: -1e5 * p["train.a_name_as_long_as_they_come_x"]},
    "minimise": {"goal": "minimize"},
    "three trials": {"count": 3, "space": ONE, "function": lambda p: p["x"]},
    "one parameter": {"space": ONE, "function": lambda p: p["x"]},
    "many": {"space": MANY, "function": lambda p: p["p3"]},
    "all scores equal": {"space": ONE, "function": lambda p: 0.0},
    "huge": {"space": ONE, "function": lambda p: 1e12 * p["x"]},
}


def test_of_many_categories_marks_and_names_stay_at_their_own():
    figure = Figure(figsize=(WIDTH, 3), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(figure.add_gridspec(1, COLUMNS, wspace=0.1, left=0.1, right=0.985)[0, 0])
    names = [f"option{number:02d}" for number in range(20)]
    places = -1 + (2 * np.arange(20) + 1) / 20
    zeros = np.zeros(20)
    found = [Slice(label, places, zeros, zeros, zeros + 1, (places[3], 0.0)) for label in COLOURS]
    _panel(axes, Space({"kind": {"values": names}}).parameters["kind"], found, [])
    for line in axes.lines:
        for at in np.ravel(line.get_xdata()):
            assert np.abs(places - at).min() < 0.7 / 20  # a place is 2 / 20 wide
    renderer = figure.canvas.get_renderer()
    figure.canvas.draw()
    labels = [label for label in axes.get_xticklabels() if label.get_text()]
    assert len(labels) == 20
    high = labels[0].get_fontsize() * DPI / 72
    ends = [label.get_window_extent(renderer).x1 for label in labels]
    assert np.diff(ends).mean() * np.sin(np.radians(40)) > 0.95 * high


def test_long_names_are_told_apart_by_their_titles():
    figure = Figure(figsize=(WIDTH, 3), dpi=DPI)
    FigureCanvasAgg(figure)
    shown = []
    for end in ("one", "two"):
        title = figure.text(0, 0, plain(f"network_encoder_self_attention_layer_norm_epsilon_of_the_{end}"))
        fit(figure, title, 400)
        assert title.get_window_extent().width <= 400
        shown.append(title.get_text())
    assert shown[0] != shown[1]
    assert plain("a" * 100 + "1") != plain("a" * 100 + "2")
    assert plain("a" * 60) == "a" * 60


@pytest.mark.parametrize("chance", [0.2, 0.8])
def test_the_legend_says_what_a_dotted_line_is(chance, swept, tmp_path, monkeypatch):
    def changed(*given) -> dict[str, list[Slice]]:
        ends = {name: [replace(one, success=one.success * 0 + chance) for one in s] for name, s in found}
        return {name: ends[name] for name in ("rate", "steps")}

    found, told = slices(swept.tuner, swept.tuner.front()).items(), []
    monkeypatch.setattr("sweeper.slices.slices", changed)
    monkeypatch.setattr("sweeper.slices.fit_legend", lambda f, p, handles, **w: told.extend(handles))
    plot_parameters(tmp_path / "p.png", swept.tuner, swept.trials)
    assert ("most fail" in [handle.get_label() for handle in told]) == (chance < 0.5)


def test_letters_that_the_font_lacks_are_told_apart(tmp_path, recwarn):
    names = ["\u65e5\u672c", "\u65e5\u4e2d", "\u00e4\u00f6\u00fc"]
    swept = sweep(
        count=4, space={"kind": {"values": names}, "x": {"min": 0, "max": 1}}, function=lambda p: 1.0
    )
    plot_parameters(tmp_path / "p.png", swept.tuner, swept.trials, name=names[0])
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert [_shortened(name) for name in names] == ["\\u65e\u2026u672c", "\\u65e\u2026u4e2d", names[2]]


def test_categories_are_told_apart_by_their_labels():
    assert [_shortened(name) for name in ("unbounded", "mobilenet_v2", "mobilenet_v3", "a$b$c$d$e$f$g")] == [
        "unbounded", "mobil…et_v2", "mobil…et_v3", r"a\$b\$c…e\$f\$g",
    ]  # fmt: skip


@pytest.mark.parametrize(("shift", "slope"), [(1e6, 9900), (-1e4, -17), (0.0, 1.0)])
def test_scores_far_from_zero_are_told_apart_clear_of_their_name(shift, slope, tmp_path, monkeypatch):
    pictures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: pictures.append(figure))
    space = {"x": {"min": 0.0, "max": 1.0}}
    swept = sweep(count=8, space=space, function=lambda params: shift + slope * params["x"])
    plot_parameters(tmp_path / "p.png", swept.tuner, swept.trials, score_name="score")
    (figure,) = pictures
    figure.canvas.draw()
    (axes,) = figure.axes
    labels = [text for text in axes.get_yticklabels() if text.get_text()]
    assert len({text.get_text() for text in labels}) == len(labels) >= 3
    beginning = min(text.get_window_extent().x0 for text in labels)
    assert figure._supylabel.get_window_extent().x1 < beginning


@pytest.mark.parametrize(
    ("parameter", "shown"),
    [
        ({"type": "int", "min": 1, "max": 2}, ["1", "2"]),
        ({"distribution": "pow2", "min": 512, "max": 1024}, ["512", "1024"]),
        ({"min": 0.994, "max": 0.999}, ["0.994", "0.997", "0.999"]),
        ({"distribution": "logit", "min": 0.8, "max": 0.99999}, ["0.8", "0.9984", "0.99999"]),
        ({"distribution": "log", "min": 1e-5, "max": 0.1}, ["1e-05", "0.001", "0.1"]),
    ],
)
def test_the_ends_of_a_range_and_what_lies_between_are_told_apart(parameter, shown):
    axes = Figure().add_subplot()
    _panel(axes, Space({"x": parameter}).parameters["x"], [], [])
    assert [text.get_text() for text in axes.get_xticklabels()] == shown
    places = axes.get_xticks()
    assert (np.diff(places) > 0).all()
    assert abs(places).max() <= 1


@pytest.mark.parametrize("case", CASES)
def test_every_sweep_has_a_picture(case, tmp_path):
    swept = sweep(**CASES[case])
    path = plot_parameters(tmp_path / "p.png", swept.tuner, swept.trials, name="a$b", score_name="x_$1$")
    width, _ = struct.unpack(">II", path.read_bytes()[16:24])
    assert width == 1440
    from matplotlib.image import imread

    image = (imread(path) * 255).astype(np.uint8)
    assert (image[..., :3].std(axis=(0, 1)) > 5).all()  # not blank
    edges = [image[:6].reshape(-1, 4), image[-6:].reshape(-1, 4)]
    edges += [image[:, :6].reshape(-1, 4), image[:, -6:].reshape(-1, 4)]
    assert (np.concatenate(edges)[:, :3] > 250).all()  # nothing runs out of the picture
    again = plot_parameters(tmp_path / "q.png", swept.tuner, swept.trials, name="a$b", score_name="x_$1$")
    assert again.read_bytes() == path.read_bytes()
