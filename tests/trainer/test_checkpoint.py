"""Checkpoints: continuing equals never having stopped; files are whole and harmless."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from trainer import checkpoint, train
from trainer.settings import Settings, SettingsError

BASE = {
    "train.total_timesteps": 16 * 512,
    "train.num_envs": 16,
    "train.horizon": 32,
    "train.minibatch_size": 128,
    "train.updates": 4,
    "train.eval_episodes": 10,
    "train.curve_points": 4,
}


def settings(**changes: object) -> Settings:
    return Settings.parse(
        "cartpole", {**BASE, **{Settings.resolve(name): value for name, value in changes.items()}}
    )


def stop_after(rollouts: int) -> object:
    left = iter(range(rollouts))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("changes", [{}, {"optimizer": "muon", "prio_alpha": 0.5, "anneal_lr": True}])
def test_continuing_equals_never_having_stopped(tmp_path: Path, changes: dict) -> None:
    file, wanted = tmp_path / "run.pt", settings(**changes)
    straight = train(wanted, seed=2)
    heard: list[int] = []
    for rollouts in (2, 5):
        part = train(wanted, 2, lambda step, *_: heard.append(step), None, stop_after(rollouts), "cpu", file)
        assert part.steps < straight.steps
    result = train(wanted, seed=2, report=lambda step, *_: heard.append(step), checkpoint=file)
    assert [(point.step, point.score) for point in result.points] == [
        (point.step, point.score) for point in straight.points
    ]
    assert torch.equal(result.policy.flat, straight.policy.flat)
    assert heard == [point.step for point in straight.points]
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_finished_run_can_be_extended(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=8 * 512, curve_points=1), checkpoint=file)
    extended = train(settings(curve_points=1), checkpoint=file)
    assert extended.points[-1].score == train(settings(curve_points=1)).score
    assert len(extended.points) == 2


@pytest.mark.parametrize("changes", [{"learning_rate": 0.1}, {"hidden": 64}])
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, changes: dict) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=512), checkpoint=file)
    with pytest.raises(SettingsError, match=next(iter(changes))):
        train(settings(**changes), checkpoint=file)
    with pytest.raises(SettingsError, match="seed"):
        train(settings(), seed=1, checkpoint=file)


def test_schedules_bind_a_run_to_its_length(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=512, anneal_lr=True), checkpoint=file)
    with pytest.raises(SettingsError, match="total_timesteps"):
        train(settings(anneal_lr=True), checkpoint=file)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    checkpoint.save(file, {"steps": 1})
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        checkpoint.save(file, {"steps": lambda: None})
    assert checkpoint.load(file) == {"steps": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_loading_runs_no_code(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"steps": Harmful()}, tmp_path / "run.pt")
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load(tmp_path / "run.pt")
    assert not (tmp_path / "touched").exists()
