"""Settings: what is refused, and what the message tells the user to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer.settings import Settings, SettingsError


def refused(mapping: dict, env: str = "cartpole") -> SettingsError:
    with pytest.raises(SettingsError) as error:
        Settings.parse(env, mapping)
    return error.value


def test_defaults_of_every_bundled_environment_are_valid() -> None:
    import ocean

    for env in ocean.names():
        settings = Settings.parse(env)
        assert Settings.parse(env, settings.to_mapping()) == settings


def test_values_land_where_their_names_say() -> None:
    settings = Settings.parse("cartpole", {"train.gamma": 0.9, "policy.hidden": 64, "env.gravity": 12})
    assert settings.train.gamma == 0.9
    assert settings.policy.hidden == 64
    assert settings.env_settings == {"gravity": 12.0}


def test_evaluation_overrides_the_environments_settings() -> None:
    changes = {"env.gravity": 12, "env.tau": 0.01, "eval_env.gravity": 9}
    settings = Settings.parse("cartpole", changes)
    assert settings.env_settings == {"gravity": 12.0, "tau": 0.01}
    assert settings.evaluated == {"gravity": 9.0, "tau": 0.01}
    assert Settings.parse("cartpole", settings.to_mapping()) == settings
    assert Settings.resolve("eval_env.gravity", "cartpole") == "eval_env.gravity"


def test_whole_numbers_may_be_written_as_floats() -> None:
    steps = Settings.parse("cartpole", {"train.total_timesteps": 1e6}).train.total_timesteps
    assert steps == 1_000_000
    assert isinstance(steps, int)
    assert "whole" in str(refused({"train.total_timesteps": 1.5}))


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("train.learning_rat", "train.learning_rate"),
        ("learning_rate", "train.learning_rate"),
        ("policy.hiden", "policy.hidden"),
        ("env.gravitation", "env.gravity"),
        ("eval_env.gravitation", "eval_env.gravity"),
        ("trian.gamma", "train.gamma"),
        ("lr", "train.learning_rate"),
        ("train.lr", "train.learning_rate"),
        ("qqqqq", "train.threads"),  # all there is
    ],
)
def test_an_unknown_name_suggests_the_nearest(key: str, suggestion: str) -> None:
    error = refused({key: 1})
    assert error.key == key
    assert suggestion in error.mend


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"train.learning_rate": "fast"}, "not a number"),
        ({"train.learning_rate": float("nan")}, "finite"),
        ({"train.learning_rate": 0}, "above 0"),
        ({"train.learning_rate": 10**400}, "finite"),
        ({"train.learning_rate": np.ones(2)}, "not a number"),
        ({"train.optimizer": np.ones(2)}, "muon, adam"),
        ({"train.reward_clip": 1e300}, "at most 1e+38"),  # float32 ends soon after
        ({"train.curve_points": 1e9}, "at most 10000"),
        ({"train.gamma": 1.5}, "at most 1"),
        ({"train.num_envs": True}, "not a number"),
        ({"train.anneal_lr": "False"}, "true or false"),
        ({"train.optimizer": "sgd"}, "muon, adam"),
        ({"env.gravity": -1}, "at least 0.1"),
        ({"eval_env.gravity": -1}, "at least 0.1"),
        ({"policy.hidden": 100}, "use 112"),
        ({"train.updates": 0.5}, "use 1"),
        ({"train.minibatch_size": 100, "train.horizon": 64}, "use 64"),
        ({"train.minibatch_size": 8192, "train.num_envs": 64, "train.horizon": 32}, "use 2048 or less"),
    ],
)
def test_a_bad_value_is_refused_with_the_mend(mapping: dict, words: str) -> None:
    error = refused(mapping)
    assert error.key in mapping
    assert words in str(error)


def test_an_unknown_environment_is_refused() -> None:
    error = refused({}, env="cartpool")
    assert "cartpool" in str(error)
    assert "cartpole" in str(error)


def test_a_garbled_header_is_told_its_own_mistake_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.h").write_text("#define OBS_TYPE double\n")
    assert str(refused({}, env=f"{tmp_path}/mine.h")).endswith("one of int8_t, uint8_t, int32_t, float")


def test_short_names_are_resolved() -> None:
    assert Settings.resolve("gamma") == "train.gamma"
    assert Settings.resolve("gravity", "cartpole") == "env.gravity"
    assert Settings.resolve("policy.hidden") == "policy.hidden"
    with pytest.raises(SettingsError, match=r"train\.gamma"):
        Settings.resolve("gama")


def test_every_setting_has_help() -> None:
    assert all(len(Settings.help(name)) > 10 for name in Settings.names())


def test_defaults_depend_on_the_environment() -> None:
    assert Settings.default("train.optimizer", "cartpole") == "adam"
    assert Settings.default("env.gravity", "cartpole") == pytest.approx(9.8)


def test_settings_import_no_torch() -> None:
    code = "import sys; from trainer.settings import Settings; Settings.parse('cartpole');"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_gymnasium_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.adapter import _registered

    _registered.cache_clear()
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(SettingsError, match=r'not installed; pip install "pareto-sweeper\[gymnasium\]"'):
        Settings.parse("gymnasium:CartPole-v1")
