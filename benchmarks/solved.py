"""Seconds until cart-pole is solved, beside Stable-Baselines3; judged by Gymnasium's own CartPole-v1.

    python -P benchmarks/solved.py [--seeds 5] [--peer PATH/bin/python]

Ours trains in our cart-pole with its defaults, theirs in Gymnasium's with the settings that their zoo
has tuned for it. Both are evaluated about every twentieth of their longest training, 100 episodes each
time; solved is the first mean of 475 or more. There theirs stops, while ours trains on to its end, so that
its final score is that of the whole training. Seconds are processor seconds of training alone, on one
thread: what the clock says where the processor has nothing else to do.
Ours is judged in our own environment while it trains, theirs in Gymnasium's. Then both are played anew,
100 episodes in Gymnasium's: ours from its exported weights by plain numpy, nothing of ours beside. All
evaluations take the most probable actions, as is the peer's way.

--peer is the Python of an environment of its own that holds stable_baselines3; the two take turns, seed
by seed. solved.md has the figures of a run. Needs gymnasium: pip install "pareto-sweeper[gymnasium]".
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

EPISODES, GOAL, CHECKS = 100, 475.0, 20
STEPS = 100_000  # of the peer, which its tuned schedules are made for


def ours(seed: int) -> dict[str, float]:
    """Train, export, and play the exported weights in Gymnasium's environment."""
    from trainer import train
    from trainer.settings import Settings

    settings = Settings.parse(
        "cartpole",
        {"train.curve_points": CHECKS, "train.eval_episodes": EPISODES, "train.eval_greedy": True},
    )
    result = train(settings, seed=seed)
    solved = next((point.cost for point in result.points if point.score >= GOAL), float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.npz"
        parts = ("weight", "bias", "head", "head_bias")
        policy = result.policy
        tensors = (policy.weights[0], policy.biases[0], policy.action_head, policy.head_bias)
        np.savez(file, **{part: tensor.detach().numpy() for part, tensor in zip(parts, tensors, strict=True)})
        score = play(file, seed)
    return {"solved": solved, "seconds": result.seconds, "score": score}


def play(file: Path, seed: int) -> float:
    """Mean return of exported weights over 100 episodes of Gymnasium's CartPole-v1."""
    import gymnasium

    policy, env = np.load(file), gymnasium.make("CartPole-v1")
    weight, bias, head, head_bias = (policy[part] for part in ("weight", "bias", "head", "head_bias"))
    total = 0.0
    for episode in range(EPISODES):
        obs, _ = env.reset(seed=1000 * seed + episode)
        over = False
        while not over:
            logits = head @ np.maximum(obs @ weight + bias, 0) + head_bias[: len(head)]
            obs, reward, terminal, truncated, _ = env.step(int(logits.argmax()))
            total += float(reward)
            over = terminal or truncated
    return total / EPISODES


def theirs(seed: int) -> dict[str, float]:
    """Run by the peer's Python: PPO with the zoo's settings for CartPole-v1."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)
    judge = make_vec_env("CartPole-v1", n_envs=20, seed=seed + 10_000)

    class Check(BaseCallback):
        """Evaluates after an update, about twenty times; its own seconds are not counted."""

        begun, idle, reached, checked = time.thread_time(), 0.0, float("inf"), 0

        def _on_rollout_start(self) -> None:
            if self.num_timesteps < (self.checked + 1) * STEPS / CHECKS:
                return
            self.checked += 1
            start = time.thread_time()
            mean, _ = evaluate_policy(self.model, judge, n_eval_episodes=EPISODES)
            if mean >= GOAL:
                self.reached = start - self.begun - self.idle
            self.idle += time.thread_time() - start

        def _on_step(self) -> bool:
            return self.reached == float("inf")

    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=8, seed=seed),
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda left: 0.001 * left,
        clip_range=lambda left: 0.2 * left,
        seed=seed,
        device="cpu",
    )
    check = Check()
    check.begun = time.thread_time()
    model.learn(STEPS, callback=check)
    judge.seed(seed + 20_000)
    score, _ = evaluate_policy(model, judge, n_eval_episodes=EPISODES)
    seconds = min(check.reached, time.thread_time() - check.begun - check.idle)
    return {"solved": check.reached, "seconds": seconds, "score": float(score)}


def ask(peer: str, seed: int) -> dict[str, float]:
    """`theirs` in the peer's own process."""
    command = [peer, str(Path(__file__).resolve()), "--one", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr}")
    outcome: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def told(name: str, outcomes: list[dict[str, float]]) -> str:
    solved, seconds, scores = (
        f"{statistics.median(column):.{digits}f} ({min(column):.{digits}f} to {max(column):.{digits}f})"
        for key, digits in (("solved", 2), ("seconds", 2), ("score", 1))
        for column in [[outcome[key] for outcome in outcomes]]
    )
    return f"| {name} | {solved} | {seconds} | {scores} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer", help="the Python of an environment that holds stable_baselines3")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(theirs(arguments.one)))
        return
    ours(0)  # compile, warm up
    results: dict[str, list[dict[str, float]]] = {"ours": []}
    for seed in range(arguments.seeds):
        results["ours"].append(ours(seed))
        if arguments.peer:
            results.setdefault("stable-baselines3", []).append(ask(arguments.peer, seed))
        print(seed, {name: outcomes[-1] for name, outcomes in results.items()}, flush=True)
    print(f"| median (range) of {arguments.seeds} seeds | solved, s | trained, s | score in Gymnasium's |")
    print("|---|---|---|---|")
    for name, outcomes in results.items():
        print(told(name, outcomes))
    if arguments.peer:
        for key, words in (("solved", "is solved"), ("seconds", "has ended, at the score above,")):
            one, other = (statistics.median(o[key] for o in outcomes) for outcomes in results.values())
            print(f"ours {words} {other / one:.0f} times sooner")


if __name__ == "__main__":
    main()
