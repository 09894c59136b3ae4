"""Training from end to end: it learns, it repeats itself, it fails by name, it is judged fairly."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ocean
from trainer import checkpoint, train
from trainer import network as networks
from trainer.buffer import Buffer
from trainer.evaluate import evaluate
from trainer.gpu_vector import EnvironmentFault
from trainer.network import FusedNetwork
from trainer.policy import Policy
from trainer.settings import PolicySettings, Settings, SettingsError
from trainer.training import average_weight, curve_steps, has_bfloat16
from trainer.update import Updater, UpdateStats

SMALL = {
    "train.total_timesteps": 20_000,
    "train.num_envs": 16,
    "train.horizon": 32,
    "train.minibatch_size": 128,
    "train.updates": 4,
    "train.eval_episodes": 20,
}


def small(env: str = "cartpole", **changes: object) -> Settings:
    return Settings.parse(
        env, {**SMALL, **{Settings.resolve(name, env): value for name, value in changes.items()}}
    )


@pytest.mark.skipif(not has_bfloat16(), reason="torch has no bfloat16 on this processor")
def test_bfloat16_rounds_products_and_repeats_itself() -> None:
    def trained(precision: str) -> torch.Tensor:
        return train(small(precision=precision, layers=2, hidden=128)).policy.flat

    rounded, exact = trained("bfloat16"), trained("float32")
    assert torch.equal(rounded, trained("bfloat16"))
    assert not torch.equal(rounded, exact)
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"  # the user's setting is restored


def test_bfloat16_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.training.has_bfloat16", lambda: False)
    with pytest.raises(SettingsError, match="use float32"):
        train(small(precision="bfloat16"))


def test_evaluation_may_have_settings_of_its_own() -> None:
    plain = train(small())
    settings = Settings.parse("cartpole", {**SMALL, "eval_env.max_steps": 7})
    assert settings.evaluated == {"max_steps": 7}
    short = train(settings)
    assert short.score == 7
    assert plain.score > 7
    assert torch.equal(plain.policy.flat, short.policy.flat)  # training knows nothing of it


@pytest.mark.parametrize("seed", [0, 1])
def test_cartpole_is_solved_by_its_defaults(seed: int) -> None:
    result = train(Settings.parse("cartpole"), seed=seed)
    assert result.failure is None
    assert result.score >= 475
    assert result.unfinished == 0


def test_breakout_is_learned_by_its_defaults() -> None:
    assert train(Settings.parse("breakout"), seed=0).score > 700  # 833 to 860 from each of eight seeds


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "muon", "prio_alpha": 0.7, "recompute_advantages": True, "layers": 2},
        {"anneal_lr": True, "anneal_entropy": True, "anneal_beta": True, "prio_beta0": 0.4},
        {"rnn": "mingru", "hidden": 32, "value_bins": 21},
        {"rnn": "lstm", "hidden": 32, "replay_factor": 0.5},
    ],
)
@pytest.mark.parametrize("env", ["cartpole", "breakout"])
def test_one_seed_is_one_result(env: str, changes: dict) -> None:
    shorter = {"max_steps": 100} if env == "cartpole" else {"max_ticks": 480}  # truncations there are
    settings = small(env, curve_points=4, **shorter, **changes)
    runs = [train(settings, seed=3) for _ in range(2)]
    curves = [[(point.step, point.score) for point in run.points] for run in runs]
    assert curves[0] == curves[1]
    assert torch.equal(runs[0].policy.flat, runs[1].policy.flat)
    assert not torch.equal(runs[0].policy.flat, train(settings, seed=4).policy.flat)


def test_both_forms_of_the_network_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch form, which a GPU runs, from rollout to evaluation."""
    settings = small(total_timesteps=3 * 512, updates=2, learning_rate=0.001)
    fused = train(settings)
    monkeypatch.setattr(networks, "make", lambda policy, *_: networks.TorchNetwork(policy))
    plain = train(settings)
    assert plain.score == pytest.approx(fused.score, rel=0.2)
    torch.testing.assert_close(plain.policy.flat, fused.policy.flat, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_policy_handed_out_is_the_mean_of_the_weights_of_late(tmp_path: Path, share: float) -> None:
    settings, file, seen = small(average=share, curve_points=3), tmp_path / "run.pt", []

    class Watching(Updater):
        def update(self, *arguments: Any) -> UpdateStats:
            stats = super().update(*arguments)
            seen.append(self.policy.flat.clone())
            return stats

    kept = train(settings, checkpoint=file, updater=Watching).policy.flat
    count = torch.arange(1.0, len(seen) + 1)
    power = 2 / share - 2
    # In closed form: each counts as the product of its own weight and of what all later ones leave.
    rising = torch.exp(torch.lgamma(count + power) - torch.lgamma(count))
    mean = ((rising / rising.sum())[:, None] * torch.stack(seen)).sum(0)
    torch.testing.assert_close(kept, mean, atol=1e-5, rtol=1e-4)
    state = checkpoint.load(file)
    assert torch.equal(state["policy"], kept)
    assert torch.equal(state["weights"], train(small(average=0.0, curve_points=3)).policy.flat)


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_the_average_is_as_old_as_the_plain_mean_over_its_share(share: float) -> None:
    age = 0.0
    for rollouts in range(1, 2001):
        age = (age + 1) * (1 - average_weight(share, rollouts))
    assert age / 2000 == pytest.approx(share / 2, rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cartpole_is_learned_on_a_gpu() -> None:
    settings = Settings.parse("cartpole", {"train.total_timesteps": 100_000})
    assert train(settings, device="cuda").score > 150


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(SettingsError, match="no CUDA device"):
        train(small(), device="cuda")


def test_evaluations_and_the_global_generators_do_not_disturb_training() -> None:
    alone = train(small(), seed=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    watched = train(small(curve_points=7), seed=5, progress=lambda status: None)
    assert torch.equal(alone.policy.flat, watched.policy.flat)
    assert torch.equal(before, torch.get_rng_state())
    assert alone.score == watched.score


def test_points_are_reported_as_they_come() -> None:
    heard: list[tuple[int, float, float]] = []
    result = train(small(curve_points=5), report=lambda *point: heard.append(point))
    assert heard == result.points
    assert [point.step for point in result.points] == curve_steps(small(curve_points=5).train, 512)
    assert [point.cost for point in result.points] == sorted(point.cost for point in result.points)
    assert result.points[-1] == (result.steps, pytest.approx(result.seconds), result.score)
    assert sum(result.profile.values()) == pytest.approx(1.0)
    assert set(result.profile) == {"env", "policy", "advantage", "update"}


def test_curves_are_spread_evenly_and_end_with_the_run() -> None:
    settings = small(total_timesteps=512 * 100, curve_points=5)
    assert curve_steps(settings.train, 512) == [512 * n for n in (20, 40, 60, 80, 100)]
    settings = small(total_timesteps=512 * 100, curve_points=3, curve_spacing="log")
    assert curve_steps(settings.train, 512) == [512 * n for n in (5, 22, 100)]
    assert curve_steps(small(total_timesteps=1, curve_points=9).train, 512) == [512]


def test_a_run_can_be_stopped() -> None:
    result = train(small(), should_stop=lambda: True)
    assert result.steps == 512
    assert result.points == []
    assert math.isnan(result.score)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_an_absurd_learning_rate_ends_by_name(optimizer: str) -> None:
    settings = small(learning_rate=1e3, optimizer=optimizer, curve_points=20)
    result = train(settings)
    assert result.failure in ("diverged", "entropy_collapse", "kl_explosion")
    assert result.steps < settings.train.total_timesteps
    assert len(result.points) < 20


def test_numbers_that_overflow_are_named_diverged() -> None:
    result = train(small(learning_rate=1e30, optimizer="adam"))
    assert result.failure == "diverged"


@pytest.mark.parametrize(
    ("env", "there", "instead", "named"),
    [
        ("cartpole", "obs[3] = env->theta_dot;", "obs[3] = env->steps == 7 ? NAN : env->theta_dot;", True),
        ("cartpole", "rewards[0] = 1.0f;", "rewards[0] = env->steps == 7 ? NAN : 1.0f;", True),
        ("pendulum", "obs[2] = env->speed", "obs[2] = env->steps == 7 ? INFINITY : env->speed", True),
        # An environment that makes of an action that is none what it must is not to blame for it.
        (
            "pendulum",
            "    action = action > MAX_ACTION",
            "    if (isnan(action)) action = NAN; else action = action > MAX_ACTION",
            False,
        ),
    ],
)
def test_an_environment_that_gives_no_number_is_named(
    tmp_path: Path, env: str, there: str, instead: str, named: bool
) -> None:
    text = ocean.find(env).read_text()
    assert there in text
    (tmp_path / "odd.h").write_text(text.replace(there, instead))
    settings = small(str(tmp_path / "odd.h"), **({} if named else {"learning_rate": 1e38, "updates": 1}))
    if named:
        with pytest.raises(EnvironmentFault, match=r"odd: environment \d+ gave .* none at step 6; mend it"):
            train(settings)
    else:
        assert train(settings).failure == "diverged"


def test_too_little_memory_is_said_with_the_settings_that_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    monkeypatch.setattr(Buffer, "make", full)
    message = r"with 16 agents for 32 steps .*, \d+ units a layer: use fewer train\.num_envs.* a smaller "
    message += r"policy\.hidden .* allocate 4611686018427387904 bytes"
    with pytest.raises(MemoryError, match=message):
        train(small())


def test_the_users_thread_count_is_restored() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        train(small(total_timesteps=512))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def make_network(env: str) -> FusedNetwork:
    spec = ocean.spec(env)
    settings = PolicySettings(action_gain=1.0)
    return FusedNetwork(
        Policy(math.prod(spec.obs_shape), spec.action_sizes, settings, torch.Generator().manual_seed(0))
    )


def test_an_evaluation_scores_the_first_episode_of_every_environment() -> None:
    """Against a plain loop over single environments' rewards: in cartpole the score is the return."""
    settings = small(eval_episodes=40, eval_greedy=True)
    network = make_network("cartpole")
    outcome = evaluate(network, settings, seed=8, device=torch.device("cpu"))

    from trainer.evaluate import EVALUATION_STREAM

    streams = np.random.SeedSequence([EVALUATION_STREAM, 8]).generate_state(2, np.uint64)
    env = ocean.Vector("cartpole", 40, int(streams[1]))
    obs, rewards = np.zeros((40, 4), np.float32), np.zeros(40, np.float32)
    terminals, truncations = np.zeros(40, np.uint8), np.zeros(40, np.uint8)
    alive, lengths = np.ones(40, bool), np.zeros(40)
    env.reset(obs)
    while alive.any():
        with torch.no_grad():
            actions = network.policy.act(torch.from_numpy(obs), None)[0].numpy()
        env.step(actions, obs, rewards, terminals, truncations)
        lengths += alive * rewards
        alive &= (terminals | truncations) == 0
    assert outcome.score == pytest.approx(lengths.mean())
    assert (outcome.episodes, outcome.unfinished) == (40, 0)
    assert lengths.min() < lengths.max() / 2  # some ended twice or more while others went on


def test_episodes_that_do_not_end_are_reported() -> None:
    network = make_network("cartpole")
    outcome = evaluate(network, small(eval_episodes=30, eval_max_steps=12), 0, torch.device("cpu"))
    assert outcome.episodes + outcome.unfinished == 30
    assert outcome.unfinished > 0
    never = evaluate(network, small(eval_episodes=30, eval_max_steps=3), 0, torch.device("cpu"))
    assert math.isnan(never.score)
    assert never.unfinished == 30


def test_an_evaluation_is_the_same_whenever_it_is_asked() -> None:
    network = make_network("cartpole")
    first, second = (evaluate(network, small(), 1, torch.device("cpu")) for _ in range(2))
    assert first == second
    assert first != evaluate(network, small(), 2, torch.device("cpu"))


def test_minibatches_that_do_not_fit_are_refused_before_anything_runs() -> None:
    with pytest.raises(SettingsError, match="minibatch_size"):
        small(minibatch_size=130)


def test_no_warning_reaches_the_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(small(total_timesteps=1024))
