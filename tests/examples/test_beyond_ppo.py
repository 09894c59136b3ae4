"""Examples that replace parts of the trainer: off they are the trainer, on they do what they say."""

import contextlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import ocean
from trainer import train
from trainer.buffer import Buffer
from trainer.network import make
from trainer.policy import Policy
from trainer.rollout import Rollout, Seconds
from trainer.settings import PolicySettings, Settings, SettingsError, TrainSettings

SMALL = {"total_timesteps": 2_048, "num_envs": 32, "horizon": 32, "minibatch_size": 512, "eval_episodes": 8}
CPU = torch.device("cpu")


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "on"), [("gold", {"gold": 1.0}), ("lookahead", {"steps": 1, "rollouts": 2})]
)
def test_off_it_is_the_trainer_and_on_it_repeats_itself(name: str, on: dict[str, Any]) -> None:
    play = example(name).play
    plain = train(Settings.parse("cartpole", {f"train.{key}": value for key, value in SMALL.items()}), seed=3)
    assert play(seed=3, **SMALL)["score"] == plain.score
    first = play(seed=3, **on, **SMALL)
    assert first["score"] == play(seed=3, **on, **SMALL)["score"] != plain.score
    assert first["step"] == plain.steps


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gold --optimizer=adam", '"step": 2048'),
        ("gold --total-timesteps 4096", "error: --total-timesteps: write --name=value"),
        ("gold --lr=1", "error: lr: no such setting; did you mean 'train.learning_rate'?"),
        ("gold --gold 1 --rnn=mingru", "error: gold: 1, with rnn: mingru; use 0 or more, and rnn: none"),
        ("gold --gold -1", "error: gold: -1, with rnn: none; use"),
        ("lookahead --steps -1", "error: steps: -1 of them, 8 rollouts; use 1 or more"),
        ("lookahead --steps 1 --rollouts 0", "error: steps: 1 of them, 0 rollouts; use 1 or more"),
        (
            "lookahead --steps 1 --env tetris",
            "error: steps: look-ahead knows no forbidden actions; use steps 0",
        ),
    ],
)
def test_what_is_asked_of_them_is_done_or_said(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *asked = words.split()
    small = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    monkeypatch.setattr(sys, "argv", [name, *asked, *small])
    with contextlib.ExitStack() as stack:
        if "error" in said:
            stack.enter_context(pytest.raises(SystemExit, match="2"))
        example(name).main()
    assert said in "".join(capsys.readouterr())


def test_gold_knows_no_rewards_but_learns_cartpole() -> None:
    settings = {"total_timesteps": 200_000, "horizon": 128, "minibatch_size": 2048}
    assert example("gold").play(seed=0, gold=0.5, **settings)["score"] > 100  # random: 22


def test_gold_keeps_the_best_and_the_newest_of_equals() -> None:
    gold = example("gold")
    policy = Policy(1, (2,), PolicySettings(hidden=16), torch.Generator().manual_seed(0))
    train_settings = TrainSettings(num_envs=4, horizon=2, minibatch_size=8, updates=1)
    updater = gold.Gold(
        policy, make(policy, torch.float32, CPU), train_settings, torch.Generator(), times=0.5
    )
    buffer = Buffer.make(2, 4, (1,), torch.float32, 1, CPU)
    buffer.obs[0, :, 0] = torch.arange(4.0)
    buffer.rewards[1] = torch.tensor([0.0, 3.0, 1.0, 2.0])
    buffer.terminals[0, 1] = 1  # its reward comes after the end: worth less to the step before
    updater._keep(buffer)
    assert updater.kept[0][0, :, 0].tolist() == [3.0, 1.0]
    buffer.obs[0, :, 0] += 10
    updater._keep(buffer)
    assert updater.kept[0][0, :, 0].tolist() == [13.0, 3.0]


def test_the_model_learns_to_foretell() -> None:
    """Cart-pole's reward is always 1; its next units follow from those before."""
    lookahead = example("lookahead")
    policy = Policy(4, (2,), PolicySettings(hidden=32), torch.Generator().manual_seed(0))
    network = lookahead.Imagining(policy, torch.float32, CPU, steps=1, rollouts=2, gamma=0.99)
    env = ocean.Vector("cartpole", 32, seed=1)
    settings = TrainSettings(num_envs=32, horizon=32, minibatch_size=1024, normalize_rewards=False)
    buffer = Rollout(env, network, settings, torch.Generator().manual_seed(2), CPU).collect(Seconds())
    hidden = policy.unroll(buffer.obs, buffer.states[0])[0].detach()
    goes_on = (buffer.terminals | buffer.truncations) == 0

    def errors() -> tuple[float, float]:
        with torch.no_grad():
            told, reward, _ = network.foretell(hidden[:-1].flatten(0, 1), buffer.actions.flatten().long())
        off = (told - hidden[1:].flatten(0, 1)).square().mean(1)
        return float(off[goes_on.flatten()].mean()), float((reward - 1).square().mean())

    before = errors()
    for _ in range(50):
        network.learn(buffer)
    assert all(late < 0.1 * early for late, early in zip(errors(), before, strict=True))


def test_look_ahead_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(SettingsError, match="use steps 0"):
        example("lookahead").play(env="multiagent", steps=1, rnn="mingru", total_timesteps=1000)
