"""The space: round trips, rounding, conditionals, constraints, and messages that mend."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import ConfigError
from sweeper.space import Space

MIXED = {
    "lr": {"distribution": "log", "min": 1e-5, "max": 0.1, "start": 0.003},
    "gamma": {"distribution": "logit", "min": 0.8, "max": 0.9999},
    "batch": {"distribution": "pow2", "min": 512, "max": 32768},
    "layers": {"distribution": "linear", "type": "int", "min": 1, "max": 5},
    "steps": {"distribution": "log", "type": "int", "min": 1e5, "max": 3e7},
    "momentum": {"min": 0.5, "max": 0.99},
    "rnn": {"values": ["none", "mingru", "lstm"]},
    "norm": {"values": [True, False]},
    "hidden": {"distribution": "pow2", "min": 32, "max": 512, "when": {"rnn": ["mingru", "lstm"]}},
}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=9, max_size=9))
def test_params_survive_the_round_trip(numbers: list[float]) -> None:
    space = Space(MIXED)
    params = space.to_params(np.array(numbers))
    space.check(params)
    unit = space.to_unit(params)
    assert np.all(np.abs(unit) <= 1)
    assert space.to_params(unit) == params
    assert json.loads(json.dumps(params)) == params


@settings(max_examples=50, deadline=None)
@given(st.floats(-1, 1), st.sampled_from(["linear", "log", "logit"]))
def test_rounding_loses_nothing_that_matters(number: float, distribution: str) -> None:
    space = Space({"x": {"distribution": distribution, "min": 0.1, "max": 0.9}})
    assert space.to_unit(space.to_params(np.array([number])))[0] == pytest.approx(number, abs=1e-4)


def test_what_the_model_sees_is_what_runs() -> None:
    space = Space(MIXED)
    units = np.random.default_rng(0).uniform(-1, 1, (200, space.dim))
    snapped = space.snap(units)
    for unit, rounded in zip(units, snapped, strict=True):
        np.testing.assert_allclose(space.to_unit(space.to_params(unit)), rounded, atol=1e-4)


def test_kinds_and_ends_of_ranges() -> None:
    space = Space(MIXED)
    low, high = space.to_params(np.full(9, -1.0)), space.to_params(np.full(9, 1.0))
    assert low == {"lr": 1e-5, "gamma": 0.8, "batch": 512, "layers": 1, "steps": 100_000, "momentum": 0.5,
                   "rnn": "none", "norm": True}  # fmt: skip
    assert high["gamma"] == 0.9999
    assert (high["steps"], high["norm"], high["hidden"]) == (30_000_000, False, 512)
    assert all(type(value) in (int, float, str, bool) for value in high.values())


def test_start_is_declared_or_the_middle() -> None:
    start = Space(MIXED).start()
    assert start["lr"] == 0.003
    assert start["batch"] == 4096
    assert start["rnn"] == "none"
    assert "hidden" not in start


def test_inactive_parameters_are_absent_and_neutral() -> None:
    space = Space(MIXED)
    params = {**space.start(), "rnn": "lstm", "hidden": 512}
    space.check(params)
    assert space.to_unit(params)[-1] == 1
    with pytest.raises(ValueError, match="hidden: missing"):
        space.check({k: v for k, v in params.items() if k != "hidden"})
    with pytest.raises(ValueError, match=r"hidden.*inactive"):
        space.check({**params, "rnn": "none"})
    assert space.to_unit({**params, "rnn": "none"})[-1] == 0


def test_conditional_on_a_fixed_value() -> None:
    declared = {"lr": {"min": 0, "max": 1}, "hidden": {"min": 0, "max": 1, "when": {"rnn": "lstm"}}}
    assert "hidden" in Space(declared, fixed={"rnn": "lstm"}).start()
    assert "hidden" not in Space(declared, fixed={"rnn": "none"}).start()


def test_categories_are_equally_far_from_each_other() -> None:
    space = Space({"rnn": MIXED["rnn"], "x": {"min": 0, "max": 1}})
    units = [space.to_unit({"rnn": name, "x": 0.5}) for name in MIXED["rnn"]["values"]]
    rows = space.features(np.stack(units))
    gaps = [np.linalg.norm(rows[i] - rows[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert gaps[0] == gaps[1] == gaps[2] > 0


def test_constraints_see_swept_and_fixed_values() -> None:
    space = Space(
        {"mb": MIXED["batch"], "envs": {"distribution": "pow2", "min": 16, "max": 4096}},
        ["mb <= envs * train.horizon"],
        {"train.horizon": 64},
    )
    assert space.satisfied({"mb": 1024, "envs": 16})
    assert not space.satisfied({"mb": 2048, "envs": 16})
    drawn = space.sample(200, np.random.default_rng(0))
    assert len(drawn) == 200
    assert all(p["mb"] <= p["envs"] * 64 for p in map(space.to_params, drawn))
    with pytest.raises(ValueError, match="breaks the constraint"):
        space.check({"mb": 2048, "envs": 16})


def test_given_params_are_judged_as_they_stand() -> None:
    """A range that has become wider rounds more coarsely: `x` would now run as 0.9277 or as 0.93."""
    for widest in (1, 20, 100, 1000):
        space = Space({"x": {"min": 0, "max": widest}, "y": {"min": 0, "max": 1}}, ["x <= y"])
        for value in np.random.default_rng(0).random(50):
            same = {"x": float(f"{value:.5g}"), "y": float(f"{value:.5g}")}
            assert space.satisfied(same)
            space.check(same)
        assert not space.satisfied({"x": 0.50001, "y": 0.5})


def test_a_constraint_on_what_is_inactive_does_not_bind_what_is_given() -> None:
    layers = {
        "layers": {"min": 1, "max": 3, "type": "int"},
        "width": {"min": 1, "max": 9, "when": {"layers": 2}},
    }
    space = Space(layers, ["width < layers * limit"], {"limit": 2})
    space.check({"layers": 1})
    space.check({"layers": 2, "width": 3.5})
    with pytest.raises(ValueError, match=r"width=4.5: breaks the constraint"):
        space.check({"layers": 2, "width": 4.5})


@pytest.mark.parametrize("distribution", ["linear", "log"])
def test_a_whole_number_beyond_64_bits_is_a_number(distribution):
    large = {"distribution": distribution, "min": 1e15, "max": 1e24, "start": 10**20}
    space = Space({"flops": large})
    assert space.start()["flops"] == pytest.approx(1e20, rel=1e-3)
    space.check({"flops": 10**21})
    assert space.to_unit({"flops": 10**21}) == space.to_unit({"flops": 1e21})


def test_numpys_true_is_true_and_not_1() -> None:
    space = Space({"flag": {"values": [1, True, False]}})
    assert [space.parameters["flag"].index(value) for value in (np.True_, np.int64(1), np.False_)] == [
        1,
        0,
        2,
    ]
    space.check({"flag": np.True_})


def test_a_start_may_be_the_category_null() -> None:
    assert Space({"a": {"values": ["adam", None, 3], "start": None}}).start() == {"a": None}
    assert Space({"a": {"values": ["adam", None, 3]}}).start() == {"a": "adam"}
    assert Space({"a": {"values": ["adam", 3], "start": None}}).start() == {"a": "adam"}


def test_start_moves_where_only_the_default_breaks_a_constraint() -> None:
    space = Space({"a": {"min": 0, "max": 1, "start": 0.9}, "b": {"min": 0, "max": 1}}, ["b > a"])
    assert space.start()["a"] == 0.9
    assert space.satisfied(space.start())


BAD_PARAMETERS = [
    ({"min": 2, "max": 1}, "x.min", "above max"),
    ({"min": 1, "max": 1}, "x.min", "nothing to choose"),
    ({"distribution": "log", "min": 0, "max": 1}, "x.min", "logarithm"),
    ({"distribution": "logit", "min": 0.5, "max": 1}, "x.max", "log odds"),
    ({"distribution": "pow2", "min": 500, "max": 1024}, "x.min", "use 256 or 512"),
    ({"min": 0, "max": 1, "start": 2}, "x.start", "outside 0 to 1"),
    ({"min": 0, "max": 9, "type": "int", "start": 1.5}, "x.start", "whole number"),
    ({"min": 0, "max": 1, "strat": 1}, "x.strat", "did you mean 'start'"),
    ({"distribution": "logg", "min": 1, "max": 2}, "x.distribution", "did you mean 'log'"),
    ({"max": 1}, "x.min", "missing"),
    ({"min": "a", "max": 1}, "x.min", "not a finite number"),
    ({"min": 0, "max": float("inf")}, "x.max", "not a finite number"),
    ({"min": True, "max": 2}, "x.min", "not a finite number"),
    ({"values": ["a"]}, "x.values", "fixed"),
    ({"values": ["a", "a"]}, "x.values", "twice"),
    ({"values": [1, float("inf")]}, "x.values", "'inf'"),
    ({"values": [float("nan"), 1]}, "x.values", "not a finite number"),
    ({"values": ["lstm", "gru"], "start": "lst"}, "x.start", "did you mean 'lstm'"),
    ({"values": [1, 2], "min": 1}, "x.min", "no meaning"),
    ({"min": 0, "max": 1, "when": {"rnn": []}}, "x.when.rnn", "never holds"),
    ({"min": 0, "max": 1, "when": {"rnn": 1}}, "x.when.rnn", "neither swept nor fixed"),
    ({"min": 0, "max": 1, "when": {"x": 1}}, "x.when", "depends on itself"),
    ("log", "x", "not a mapping"),
]


@pytest.mark.parametrize(("declared", "key", "says"), BAD_PARAMETERS)
def test_messages_name_the_key_and_the_mend(declared: object, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Space({"x": declared})  # type: ignore[dict-item]
    assert caught.value.key == f"parameters.{key}"
    assert says in str(caught.value)


def test_fixed_and_swept_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fixed\.x"):
        Space({"x": {"min": 0, "max": 1}}, fixed={"x": 1})


def test_check_suggests_the_nearest_name() -> None:
    space = Space({"learning_rate": {"min": 0, "max": 1}})
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        space.check({"learning_rat": 0.5})
    with pytest.raises(ValueError, match=r"learning_rate: 3 lies outside"):
        space.check({"learning_rate": 3})
