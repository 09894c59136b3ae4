"""Whole-numbered observations, one-hot or embedded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer import train
from trainer.optimizer import Optimizer
from trainer.policy import Policy
from trainer.settings import PolicySettings, Settings, SettingsError, TrainSettings

# Which of two numbers are odd? Their sizes say little of it.
ODD = """
#define OBS_TYPE int8_t
#define OBS_SHAPE 2
#define OBS_RANGE -30, 33
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 2, 2
#define RANDOM_SCORE 0.2, 0.3
#define SOLVED_SCORE 0.95
#define SETTINGS(X)
#include "ocean.h"
typedef struct { double score; double n; } Log;
typedef struct { Rng rng; Log log; int32_t numbers[2]; } Env;
OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    for (int i = 0; i < 2; i++) {
        env->numbers[i] = rng_below(&env->rng, 64) - 30;
        io->obs[i] = (Obs)env->numbers[i];
    }
}
OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    int right = io->actions[0] == (env->numbers[0] & 1) && io->actions[1] == (env->numbers[1] & 1);
    io->rewards[0] = (float)right;
    io->terminals[0] = 1;
    io->truncations[0] = 0;
    io->final_obs[0] = io->final_obs[1] = 0;
    env->log.score += right;
    env->log.n += 1;
    env_reset(env, settings, io);
}
"""


def odd(folder: Path, **policy: object) -> Settings:
    header = folder / "odd.h"
    header.write_text(ODD)
    return Settings.parse(
        str(header),
        {
            "train.total_timesteps": 48_000,
            "train.num_envs": 64,
            "train.horizon": 16,
            "train.minibatch_size": 512,
            "train.updates": 4,
            "train.learning_rate": 0.02,
            "train.ent_coef": 0.01,
            "train.eval_episodes": 400,
            "policy.hidden": 64,
            **{f"policy.{name}": value for name, value in policy.items()},
        },
    )


@pytest.mark.parametrize("encoder", ["onehot", "embedding"])
def test_values_are_told_apart(tmp_path: Path, encoder: str) -> None:
    assert train(odd(tmp_path, encoder=encoder), seed=0).score > 0.95


def test_numbers_alone_do_not_tell_them_apart(tmp_path: Path) -> None:
    assert train(odd(tmp_path), seed=0).score < 0.6


def make_policy(encoder: str) -> Policy:
    settings = PolicySettings(hidden=16, encoder=encoder, embedding=3)
    return Policy(2, (2,), settings, torch.Generator().manual_seed(0), obs_range=(-1, 2))


def test_one_hot_is_one_where_the_value_is() -> None:
    policy = make_policy("onehot")
    encoded = policy.encode(torch.tensor([[-1, 2], [0, 1]], dtype=torch.int8))
    assert encoded.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0, 1, 0]]
    # What lies outside of the declared range is taken for its nearer end.
    assert torch.equal(policy.encode(torch.tensor([[-9, 9]])), encoded[:1])


def test_an_embedding_is_learned_by_adam_and_is_one_for_all_places() -> None:
    policy = make_policy("embedding")
    assert policy.table is not None
    encoded = policy.encode(torch.tensor([[1, 1]]))
    assert torch.equal(encoded[0, :3], encoded[0, 3:])
    assert torch.equal(encoded[0, :3], policy.table[2])
    matrices = Optimizer(policy, TrainSettings(optimizer="muon")).matrices
    assert [shape[1:3] for shape in matrices] == [(6, 16), (2, 16), (1, 16)]


def test_what_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"policy\.encoder: cartpole observes float32"):
        Settings.parse("cartpole", {"policy.encoder": "onehot"})
    settings = odd(tmp_path, encoder="embedding")
    Path(settings.env).write_text(ODD.replace("OBS_RANGE -30, 33", "OBS_RANGE -INFINITY, 33"))
    with pytest.raises(SettingsError, match="-inf to 33: more than 1024"):
        train(settings)
