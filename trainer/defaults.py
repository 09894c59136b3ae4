"""Tuned settings of the bundled environments, laid over the defaults in settings.py.

Each says what it reaches; `python benchmarks/trainer.py` measures it.
"""

from __future__ import annotations

from typing import Any

GYMNASIUM = "gymnasium:"

# Small and quick; what each probe needs beside it stands with it.
_PROBE: dict[str, Any] = {
    "train.num_envs": 64,
    "train.horizon": 32,
    "train.minibatch_size": 1024,
    "train.optimizer": "muon",
    "train.learning_rate": 0.02,
    "train.updates": 4,  # two passes
    "train.gamma": 0.99,
    "train.gae_lambda": 0.9,
    "policy.hidden": 64,
}

_GAME: dict[str, Any] = {
    "train.horizon": 32,
    "train.minibatch_size": 4096,
    "train.optimizer": "muon",
    "train.learning_rate": 0.02,
    "train.updates": 4,
    "train.gamma": 0.99,
    "train.gae_lambda": 0.9,
}

DEFAULTS: dict[str, dict[str, Any]] = {
    # The probes: each solved by all of four seeds and more.
    "bandit": {**_PROBE, "train.total_timesteps": 40_000, "train.ent_coef": 0.03},
    "password": {**_PROBE, "train.total_timesteps": 150_000, "train.ent_coef": 0.01},
    "credit": {**_PROBE, "train.total_timesteps": 150_000, "train.ent_coef": 0.01},
    "stochastic": {
        **_PROBE,
        "train.total_timesteps": 200_000,
        "train.learning_rate": 0.005,
        "train.updates": 2,
        "train.gamma": 1.0,
        "train.gae_lambda": 1.0,
        "train.ent_coef": 0.0,
    },
    "multiagent": {
        **_PROBE,
        "train.total_timesteps": 200_000,
        "train.updates": 16,  # of its four agents each: two passes
        "train.gamma": 0.5,
        "train.ent_coef": 0.01,
    },
    # 1.0 from 57 of 60 seeds, 0.93 (a bit or two that a few strings lose) from the others, in 1.8 s; with a
    # constant learning rate and little entropy, half of the seeds end there.
    "memory": {
        **_PROBE,
        "train.total_timesteps": 300_000,
        "train.updates": 8,
        "train.learning_rate": 0.03,
        "train.anneal_lr": True,
        "train.gamma": 0.8,
        "train.gae_lambda": 0.5,
        "train.ent_coef": 0.1,
        "train.anneal_entropy": True,
        "policy.rnn": "mingru",
    },
    # 0.979 to 0.999 from five seeds, in 13 s of a slow core; found by `sweep run`, but for the steps.
    "squared": {
        "train.total_timesteps": 1_500_000,
        "train.eval_episodes": 400,
        "train.anneal_lr": True,
        "train.anneal_entropy": True,
        "train.num_envs": 256,
        "train.horizon": 16,
        "train.minibatch_size": 1024,
        "train.optimizer": "muon",
        "train.updates": 8,  # two passes
        "train.learning_rate": 0.052,
        "train.gamma": 0.59,
        "train.gae_lambda": 0.95,
        "train.ent_coef": 0.23,
    },
    # The games: what their READMEs call solved, on one core in seconds to half a minute.
    "pong": {
        **_GAME,
        "train.total_timesteps": 3_000_000,
        "train.num_envs": 256,
        "train.horizon": 64,
        "train.minibatch_size": 8192,
        "train.updates": 8,
        "train.gamma": 0.995,
        "train.gae_lambda": 0.95,
        "train.ent_coef": 0.001,
    },
    "freeway": {
        **_GAME,
        "train.total_timesteps": 4_000_000,
        "train.num_envs": 256,
        "train.horizon": 64,
        "train.updates": 16,
        "train.gamma": 0.98,
        "train.ent_coef": 0.01,
    },
    "connect4": {
        **_GAME,
        "train.total_timesteps": 6_000_000,
        "train.num_envs": 1024,
        "train.horizon": 16,
        "train.updates": 8,
        "train.ent_coef": 0.01,
        "train.eval_episodes": 400,  # a game is won or lost: 100 tell no more than 4 percent
    },
    "snake": {
        **_GAME,
        "train.total_timesteps": 3_000_000,
        "train.num_envs": 4,  # of 64 snakes each
        "train.gamma": 0.98,
        "train.ent_coef": 0.005,
    },
    "game2048": {**_GAME, "train.total_timesteps": 3_000_000, "train.num_envs": 256, "train.ent_coef": 0.005},
    # -152 to -171 from each of twelve seeds, in 2 to 4 s.
    "pendulum": {
        "train.total_timesteps": 2_000_000,
        "train.eval_episodes": 400,
        "train.anneal_lr": True,
        "train.num_envs": 256,
        "train.horizon": 32,
        "train.minibatch_size": 2048,
        "train.updates": 16,  # four passes
        "train.optimizer": "adam",
        "train.momentum": 0.9,
        "train.learning_rate": 0.004,
        "train.gamma": 0.96,
        "train.gae_lambda": 0.95,
        "train.clip_coef": 0.1,
        "train.ent_coef": 0.0,
        "train.vf_coef": 0.5,
        "train.vf_clip_coef": 100.0,
        "policy.hidden": 32,
        "policy.layers": 2,
    },
    # Gymnasium's, all of them: what serves many tasks, at a size that Python's steps allow. From two seeds
    # each CartPole-v1 reaches 484 and 500, LunarLander-v3 212 and 238, Acrobot-v1 -81 and -88, Pendulum-v1
    # -167 and -174, HalfCheetah-v5 1,170 and 2,560, Walker2d-v5 830 and 850, Hopper-v5 630 and 1,200, in 5 to
    # 45 s.
    GYMNASIUM: {
        "train.total_timesteps": 300_000,
        "train.num_envs": 16,
        "train.horizon": 128,
        "train.minibatch_size": 256,
        "train.updates": 64,  # eight passes: a step costs more than learning from it
        "train.optimizer": "adam",
        "train.momentum": 0.9,
        "train.learning_rate": 0.001,
        "train.gamma": 0.99,
        "train.gae_lambda": 0.95,
        "train.ent_coef": 0.001,
        "train.vf_coef": 2.0,
        "train.vf_clip_coef": 1e6,  # returns may have any size
        "train.reward_clip": 0.0,  # and so may rewards
        "train.normalize_observations": "unbounded",
        "policy.hidden": 64,
        "policy.layers": 2,
    },
    # Found by `sweep run examples/tetris.yaml`.
    "tetris": {
        **_GAME,
        "train.total_timesteps": 5_000_000,
        "train.num_envs": 512,
        "train.updates": 8,
        "train.learning_rate": 0.025,
        "train.gamma": 0.9,
        "train.gae_lambda": 0.6,
        "train.ent_coef": 0.007,
    },
    "wilds": {
        **_GAME,
        "train.total_timesteps": 4_000_000,
        "train.num_envs": 8,  # of 64 agents each
        "train.gamma": 0.98,
        "train.ent_coef": 0.005,
        "train.eval_episodes": 512,
    },
    # All of 500 steps in every episode from 184 of 200 seeds, 491 or more from the others.
    "cartpole": {
        "train.total_timesteps": 150_000,
        "train.num_envs": 64,
        "train.horizon": 32,
        "train.minibatch_size": 512,
        "train.updates": 8,  # two passes
        "train.optimizer": "adam",
        "train.momentum": 0.9,
        "train.learning_rate": 0.005,
        "train.gamma": 0.99,
        "train.gae_lambda": 0.98,
        "train.ent_coef": 0.01,
        "train.vf_coef": 0.5,
        "train.vf_clip_coef": 100.0,
        "train.average": 0.25,  # now and then the last policy drops the pole, their mean hardly ever does
    },
    # 833 to 860 of 864 points from each of eight seeds, in 5.5 s; found by a sweep of examples/breakout.yaml.
    "breakout": {
        "train.total_timesteps": 8_000_000,
        "train.anneal_lr": True,
        "train.num_envs": 256,
        "train.horizon": 64,
        "train.minibatch_size": 512,
        "train.updates": 16,  # half a pass
        "train.optimizer": "muon",
        "train.momentum": 0.95,
        "train.learning_rate": 0.023,
        "train.gamma": 0.9996,
        "train.gae_lambda": 0.94,
        "train.ent_coef": 0.003,
        "train.clip_coef": 0.22,
        "train.vf_coef": 4.0,
        "train.vf_clip_coef": 0.5,
        "train.max_grad_norm": 1.0,
        "train.prio_alpha": 0.45,
        "policy.hidden": 64,
    },
}


def tuned(env: str) -> dict[str, Any]:
    """The tuned settings of an environment, dotted names; empty where there are none."""
    return DEFAULTS.get(GYMNASIUM if env.startswith(GYMNASIUM) else env, {})
