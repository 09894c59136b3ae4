"""Checkpoints: continuing equals never having stopped; files are whole and harmless."""

from __future__ import annotations

import contextlib
import math
import pickle
import random
from pathlib import Path

import pytest
import torch

import ocean
from trainer import checkpoint, train
from trainer.play import Game
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
        "cartpole", {**BASE, **{Settings.resolve(name, "cartpole"): value for name, value in changes.items()}}
    )


def stop_after(rollouts: int) -> object:
    left = iter(range(rollouts))
    return lambda: next(left, None) is None


EVERYTHING = {
    "rnn": "mingru",
    "hidden": 32,
    "replay_factor": 0.7,
    "value_bins": 11,
    "value_limit": 40.0,
    "average": 0.4,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "muon", "prio_alpha": 0.5, "anneal_lr": True},
        {"rnn": "lstm", "hidden": 32, "horizon": 16},
        {"replay_factor": 2.5, "prio_alpha": 0.5},
        EVERYTHING,
    ],
)
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


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_extending_a_finished_run_equals_the_longer_one(tmp_path: Path, changes: dict) -> None:
    file = tmp_path / "run.pt"
    short = train(settings(total_timesteps=8 * 512, curve_points=1, **changes), checkpoint=file)
    longer = settings(curve_points=1, **changes)
    extended = train(longer, checkpoint=file)
    straight = train(longer)
    assert torch.equal(extended.policy.flat, straight.policy.flat)
    assert extended.points[-1].score == straight.score
    assert extended.points[0] == short.points[0]
    assert len(extended.points) == 2
    assert extended.seconds > short.seconds  # all of it: what the extension cost is the difference


def test_a_run_that_was_stopped_may_be_ended_early(tmp_path: Path) -> None:
    file, heard = tmp_path / "run.pt", list[tuple[float, ...]]()
    stopped = train(settings(curve_points=1), should_stop=stop_after(3), checkpoint=file)
    assert math.isnan(stopped.score)
    short = settings(curve_points=1, total_timesteps=512)  # fewer than were taken
    result = train(short, report=lambda *point: heard.append(point), checkpoint=file)
    assert result.steps == stopped.steps > 512
    assert heard == [(result.steps, result.seconds, result.score)]
    assert train(short, report=lambda *point: heard.append(point), checkpoint=file).score == result.score
    assert len(heard) == 1


def test_a_checkpoint_is_no_larger_than_what_continuing_needs(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=512), checkpoint=file)
    state = checkpoint.load(file)
    tensors = [state["policy"], state["weights"], state["optimizer"]["mean"], state["optimizer"]["square"]]
    needed = sum(tensor.numel() * 4 for tensor in tensors) + state["environments"].numel()
    assert file.stat().st_size < needed + 40_000  # generators and torch's own


@pytest.mark.parametrize("changes", [{"learning_rate": 0.1}, {"hidden": 64}])
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, changes: dict) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=512), checkpoint=file)
    with pytest.raises(SettingsError, match=next(iter(changes))):
        train(settings(**changes), checkpoint=file)
    with pytest.raises(SettingsError, match="seed"):
        train(settings(), seed=1, checkpoint=file)


def test_a_default_that_is_said_is_no_other_setting(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=512), checkpoint=file)
    assert train(settings(**{"env.gravity": 9.8}), checkpoint=file).steps == 8192
    with pytest.raises(SettingsError, match=r"env\.gravity: the checkpoint was made with 9\.8, not 5\.0"):
        train(settings(**{"env.gravity": 5.0}), checkpoint=file)


def test_a_run_may_go_on_judged_and_watched_by_other_settings(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=512), checkpoint=file)
    shorter = settings(**{"eval_env.max_steps": 3})
    assert train(shorter, checkpoint=file).score == 3
    game = Game("cartpole", checkpoint=file)
    assert [game.step().truncation for _ in range(3)] == [False, False, True]


def test_a_finished_run_is_judged_anew_by_other_settings(tmp_path: Path) -> None:
    file, heard = tmp_path / "run.pt", list[float]()
    done = train(settings(), seed=2, checkpoint=file)
    short = Settings.parse("cartpole", {**BASE, "eval_env.max_steps": 5})
    for again in (short, short, settings()):
        result = train(again, seed=2, report=lambda *point: heard.append(point[2]), checkpoint=file)
        assert result.score == (5 if again is short else done.score)
        assert [point.step for point in result.points] == [point.step for point in done.points]
    assert heard == [5, done.score]  # where nothing is new, nothing is judged
    assert torch.equal(result.policy.flat, done.policy.flat)


def test_schedules_bind_a_run_to_its_length(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(settings(total_timesteps=512, anneal_lr=True), checkpoint=file)
    with pytest.raises(SettingsError, match=r"512, not 8192, by which train\.anneal_lr goes"):
        train(settings(anneal_lr=True), checkpoint=file)


def test_a_damaged_file_and_a_foreign_one_are_refused(tmp_path: Path) -> None:
    whole, file = tmp_path / "run.pt", tmp_path / "damaged.pt"
    train(settings(total_timesteps=512), checkpoint=whole)
    rng, data = random.Random(0), whole.read_bytes()
    for place in rng.sample(range(len(data) - 200), 30):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        with contextlib.suppress(SettingsError):  # some bytes mean nothing
            assert str(checkpoint.load(file)) == str(checkpoint.load(whole))
    torch.save({"env": "cartpole"}, file)
    for use in (lambda: train(settings(), checkpoint=file), lambda: Game("cartpole", checkpoint=file)):
        with pytest.raises(SettingsError, match=r"damaged\.pt is none"):
            use()


def test_a_checkpoint_of_another_header_is_refused(tmp_path: Path) -> None:
    header, file = ocean.write_skeleton("maze", tmp_path) / "maze.h", tmp_path / "run.pt"
    small = Settings.parse(str(header), {**BASE, "train.total_timesteps": 512})
    train(small, checkpoint=file)
    text = header.read_text()
    header.write_text(text + "// edited\n")
    with pytest.raises(SettingsError, match=r"checkpoint: not a state of 16 environments of this maze\.h"):
        train(small, checkpoint=file)
    header.write_text(text.replace("OBS_SHAPE 2", "OBS_SHAPE 3"))
    with pytest.raises(SettingsError, match="checkpoint: its network does not fit maze as it is now"):
        train(small, checkpoint=file)


def test_a_folder_that_is_not_there_is_said_before_training(tmp_path: Path) -> None:
    def trained(*_: float) -> None:
        raise AssertionError

    with pytest.raises(SettingsError, match=r"no such folder; make it first"):
        train(settings(total_timesteps=512), report=trained, checkpoint=tmp_path / "none" / "run.pt")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    state = dict.fromkeys(checkpoint.HELD, 1)
    checkpoint.save(file, state)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        checkpoint.save(file, {"steps": lambda: None})
    assert checkpoint.load(file) == state
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_loading_runs_no_code(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"steps": Harmful()}, tmp_path / "run.pt")
    with pytest.raises(SettingsError, match=r"run.pt is damaged, or none"):
        checkpoint.load(tmp_path / "run.pt")
    assert not (tmp_path / "touched").exists()
