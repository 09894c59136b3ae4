"""Side by side with PufferLib 3.0 on one core, in one run, in turns: training and bare environments.

    python -m benchmarks.pufferlib PATH_TO_ITS_PYTHON [ENV ...] [--rounds 5] [--seconds 1] [--only train,raw]

PATH_TO_ITS_PYTHON is the interpreter of an environment in which `import pufferlib.pufferl` works (its
source distribution on PyPI, built there with its own flags; heavyball below 2). Nothing of it is imported
here: this file runs once more under that interpreter, and the two answer each other by lines of JSON.

Both train PPO with Muon on one thread: 1,024 environments, horizon 64, minibatches of 32,768, one pass a
rollout, advantages computed anew for each minibatch, segments drawn by priority, one hidden layer of 128;
`memory` puts our minGRU of 128 beside its LSTM of 128. Its dashboard is switched off and its environments'
logs are gathered every 128 steps. Seconds are those in which the thread computed, so that a busy machine
slows neither; of several turns each side's fastest counts, and the spread of the ratio is printed beside.

The floor says how fast ours could be if matrix products (at the speed that this machine shows for one of
512 x 128 x 128 numbers) and the bare environment were all there is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ENVS = 1024
TRAINED = ("breakout", "cartpole", "pong", "squared")
FRAME_SKIP = {"breakout": 4, "pong": 8}  # its own configs'; bare environments are stepped tick by tick
BARE = ("squared", "cartpole", "pong", "snake", "breakout")
# 1,024 snakes on 16 maps of 64 x 64 cells, each of at most 48 cells: our map, from its own settings.
SNAKES = {
    "num_envs": 16,
    "width": 64,
    "height": 64,
    "num_snakes": 64,
    "num_food": 128,
    "max_snake_length": 48,
}
TRAIN = {
    "num_envs": ENVS,
    "horizon": 64,
    "minibatch_size": 32_768,
    "updates": 2,
    "optimizer": "muon",
    "prio_alpha": 0.8,
    "prio_beta0": 0.2,
    "recompute_advantages": True,
    "eval_episodes": 1,
}


def bare_rate(step: Any, actions: list[np.ndarray], agents: int, seconds: float) -> float:
    """Agent steps a second of processor time: `step` takes each of the drawn actions in turn."""
    steps, begin, end = 0, time.thread_time(), 0.0
    while end < begin + seconds:
        for action in actions:
            step(action)
        steps += len(actions) * agents
        end = time.thread_time()
    return steps / (end - begin)


class Ours:
    """Our side."""

    def __init__(self) -> None:
        import torch

        import ocean
        from trainer import train
        from trainer.settings import Settings

        torch.set_num_threads(1)
        self.torch, self.ocean, self.train, self.settings = torch, ocean, train, Settings
        self.rollouts: dict[str, int] = {}

    def trained(self, env: str, memory: bool, precision: str, seconds: float) -> dict[str, Any]:
        """Steps a second of training, with the shares of what it was spent on."""
        values: dict[str, Any] = {f"train.{name}": value for name, value in TRAIN.items()}
        values |= {"policy.hidden": 128, "policy.rnn": "mingru" if memory else "none"}
        values["train.precision"] = precision
        if env in FRAME_SKIP:
            values["env.frame_skip"] = FRAME_SKIP[env]
        key, per_rollout = f"{env} {memory} {precision}", ENVS * TRAIN["horizon"]
        rollouts = self.rollouts.get(key, 1)
        values["train.total_timesteps"] = rollouts * per_rollout
        result = self.train(self.settings.parse(env, values))
        self.rollouts[key] = max(1, round(seconds * result.steps_per_second / per_rollout))
        return {"rate": result.steps_per_second, "profile": result.profile}

    def bare(self, env: str, seconds: float, frame_skip: int = 1) -> dict[str, Any]:
        """Steps a second of the environments alone, with random actions."""
        skip = {"frame_skip": frame_skip} if env in FRAME_SKIP else {}
        vector = self.ocean.Vector(env, SNAKES["num_envs"] if env == "snake" else ENVS, settings=skip)
        rows = vector.num_agents
        drawn = np.random.default_rng(0).integers(0, vector.spec.action_sizes[0], (64, rows))
        obs = np.empty((rows, *vector.spec.obs_shape), vector.spec.obs_dtype)
        rewards, (terminals, truncations) = np.empty(rows, np.float32), np.empty((2, rows), np.uint8)
        vector.reset(obs)
        actions = list(drawn.astype(np.int32))
        rate = bare_rate(
            lambda action: vector.step(action, obs, rewards, terminals, truncations), actions, rows, seconds
        )
        vector.close()
        return {"rate": rate}

    def products(self, precision: str) -> dict[str, Any]:
        """Floating-point operations a second of matrix products of the size that training uses."""
        torch = self.torch
        if precision == "bfloat16":
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        a, b, out = torch.randn(512, 128), torch.randn(128, 128), torch.empty(512, 128)
        best = float("inf")
        for _ in range(20):
            begin = time.thread_time()
            for _ in range(100):
                torch.mm(a, b, out=out)
            best = min(best, time.thread_time() - begin)
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        return {"rate": 100 * 2 * 512 * 128 * 128 / best}

    def bfloat16(self) -> dict[str, Any]:
        """Whether products in bfloat16 are to be had here."""
        from trainer.training import has_bfloat16

        return {"rate": float(has_bfloat16())}


class Theirs:
    """PufferLib's side, by its own classes: nothing of ours can be imported where it runs."""

    def __init__(self) -> None:
        import warnings

        import torch

        sys.argv = sys.argv[:1]  # its config reads the command line
        warnings.filterwarnings("ignore")
        from pufferlib import pufferl

        torch.set_num_threads(1)
        pufferl.PuffeRL.print_dashboard = lambda *_, **__: None
        self.pufferl = pufferl
        self.trainers: dict[str, Any] = {}

    def _trainer(self, env: str, memory: bool) -> Any:
        config = self.pufferl.load_config(f"puffer_{env}")
        config["vec"] = {"backend": "Serial", "num_envs": 1, "seed": 42}
        config["env"]["num_envs"] = ENVS
        if env in FRAME_SKIP:
            config["env"]["frameskip"] = FRAME_SKIP[env]
        if env == "cartpole":
            config["env"]["report_interval"] = 128  # its default, 1, gathers the logs in every step
        config["policy"], config["rnn"] = {"hidden_size": 128}, {"input_size": 128, "hidden_size": 128}
        if not memory:
            config["rnn_name"] = None
        config["train"] |= {
            "device": "cpu",
            "total_timesteps": 10**9,
            "checkpoint_interval": 10**9,
            "batch_size": "auto",
            "bptt_horizon": TRAIN["horizon"],
            "minibatch_size": TRAIN["minibatch_size"],
            "update_epochs": 1,
            "optimizer": "muon",
            "prio_alpha": TRAIN["prio_alpha"],
            "prio_beta0": TRAIN["prio_beta0"],
            "use_rnn": memory,
        }
        vector = self.pufferl.load_env(f"puffer_{env}", config)
        policy = self.pufferl.load_policy(config, vector)
        trainer = self.pufferl.PuffeRL({**config["train"], "env": env}, vector, policy)
        trainer.utilization.stop()  # a thread that watches the processor's load
        return trainer

    def trained(self, env: str, memory: bool, precision: str, seconds: float) -> dict[str, Any]:
        key = f"{env} {memory}"
        if key not in self.trainers:
            self.trainers[key] = self._trainer(env, memory)
        trainer = self.trainers[key]
        steps, begin, end = trainer.global_step, time.thread_time(), 0.0
        while end < begin + seconds:
            trainer.evaluate()
            trainer.train()
            end = time.thread_time()
        return {"rate": (trainer.global_step - steps) / (end - begin)}

    def bare(self, env: str, seconds: float) -> dict[str, Any]:
        from importlib import import_module

        from pufferlib.ocean import env_creator

        given = dict(SNAKES) if env == "snake" else {"num_envs": ENVS}
        if env in FRAME_SKIP:
            given["frameskip"] = 1
        made = env_creator(f"puffer_{env}")(**given)
        made.reset(seed=0)
        drawn = np.random.default_rng(0).integers(0, made.single_action_space.n, (64, made.num_agents))
        actions = list(drawn.astype(made.actions.dtype).reshape(64, *made.actions.shape))
        binding = import_module(f"pufferlib.ocean.{env}.binding")

        def step(action: np.ndarray) -> None:
            made.actions[:] = action
            binding.vec_step(made.c_envs)  # its C alone, without what its Python face adds to a step

        return {"rate": bare_rate(step, actions, made.num_agents, seconds)}


def answer(side: Any) -> None:
    """Answer each line of JSON [method, arguments] by a line of JSON, until there are no more.

    Whatever else the side prints goes to standard error.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(getattr(side, method)(*arguments)), file=out, flush=True)


class Side:
    """One of the two, in a process of its own."""

    def __init__(self, python: str, name: str) -> None:
        root = Path(__file__).resolve().parents[1]
        path = {"PYTHONPATH": str(root)} if name == "ours" else {}
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **path}
        self.process = subprocess.Popen(
            [python, "-P", str(Path(__file__).resolve()), "--side", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, method: str, *arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended while it ran {method} {arguments}; see above")
        given: dict[str, Any] = json.loads(line)
        return given

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def in_turns(turns: dict[str, Any], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """What each of the turns gave, round by round; a first round warms up and does not count."""
    given: dict[str, list[dict[str, Any]]] = {name: [] for name in turns}
    for turn in range(rounds + 1):
        for name, call in turns.items():
            outcome = call()
            if turn:
                given[name].append(outcome)
    return given


def best(outcomes: list[dict[str, Any]]) -> float:
    return max(outcome["rate"] for outcome in outcomes)


def spread(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """The ratio of the fastest turns, and the lowest and highest of those made beside each other."""
    ratios = [a["rate"] / b["rate"] for a, b in zip(ours, theirs, strict=True)]
    return f"**{best(ours) / best(theirs):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})"


def thousands(rate: float) -> str:
    return f"{rate / 1e3:,.0f}k"


def operations(env: str, memory: bool) -> float:
    """Floating-point operations of the matrix products of one step: acting once, learning once.

    A layer n x m costs 2 n m to act, as much again in the update, as much for its weights' gradient, and
    (but for the first layer) as much for that of what is below it.
    """
    inputs = {"breakout": 118, "cartpole": 4, "pong": 8, "squared": 121}[env]
    outputs = {"breakout": 4, "cartpole": 3, "pong": 4, "squared": 6}[env]
    return 2 * 128 * (3 * inputs + 4 * outputs + (4 * 3 * 128 if memory else 0))


def training(ours: Side, theirs: Side, envs: list[str], rounds: int, seconds: float) -> None:
    precisions = ["float32", "bfloat16"] if ours("bfloat16")["rate"] else ["float32"]
    speed = {precision: ours("products", precision)["rate"] for precision in precisions}
    for precision, rate in speed.items():
        print(f"Matrix products in {precision}: {rate / 1e9:.0f} Gflop/s.\n")
    print("| training | PufferLib | ours | times | its floor | env, policy, advantage, update |")
    print("|---|---|---|---|---|---|")
    for memory in (False, True):
        for env in envs:
            turns: dict[str, Any] = {
                precision: lambda p=precision: ours("trained", env, memory, p, seconds)  # noqa: B023
                for precision in precisions
            }
            turns["theirs"] = lambda: theirs("trained", env, memory, "", seconds)  # noqa: B023
            turns["bare"] = lambda: ours("bare", env, seconds / 5, FRAME_SKIP.get(env, 1))  # noqa: B023
            given = in_turns(turns, rounds)
            for precision in precisions:
                mine, name = given[precision], f"{env}, minGRU / LSTM" if memory else env
                floor = 1 / (operations(env, memory) / speed[precision] + 1 / best(given["bare"]))
                profile = max(mine, key=lambda outcome: outcome["rate"])["profile"]
                shares = ", ".join(f"{share:.0%}" for share in profile.values())
                print(
                    f"| {name}{' (bfloat16)' if precision != 'float32' else ''} "
                    f"| {thousands(best(given['theirs']))} | {thousands(best(mine))} "
                    f"| {spread(mine, given['theirs'])} | {thousands(floor)} | {shares} |",
                    flush=True,
                )


def bare(ours: Side, theirs: Side, envs: list[str], rounds: int, seconds: float) -> None:
    print("\n| bare environment | PufferLib | ours | times |")
    print("|---|---|---|---|")
    for env in envs:
        sides = {"ours": ours, "theirs": theirs}
        turns = {
            name: lambda side=side: side("bare", env, seconds)  # noqa: B023
            for name, side in sides.items()
        }
        given = in_turns(turns, rounds)
        rates = [f"{best(given[name]) / 1e6:.1f}M" for name in ("theirs", "ours")]
        print(f"| {env} | {' | '.join(rates)} | {spread(given['ours'], given['theirs'])} |", flush=True)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{facts.get('model name', platform.machine())} ({', '.join(known)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("python", nargs="?", help="the interpreter that can import pufferlib.pufferl")
    parser.add_argument("envs", nargs="*", help="environments (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one side's turn")
    parser.add_argument("--only", default="train,raw", choices=["train", "raw", "train,raw"])
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        answer(Ours() if arguments.side == "ours" else Theirs())
        return
    if not arguments.python:
        parser.error("name the interpreter of an environment with pufferlib 3.0 in it")
    for env in arguments.envs:
        if env not in (*TRAINED, *BARE):
            parser.error(f"{env}: there is {', '.join(dict.fromkeys((*TRAINED, *BARE)))}")
    probe = [
        arguments.python,
        "-P",
        "-c",
        "import pufferlib.pufferl, pufferlib; print(pufferlib.__version__)",
    ]
    try:
        asked = subprocess.run(probe, capture_output=True, text=True)
    except OSError as error:
        parser.error(f"{arguments.python} is no interpreter: {error.strerror}")
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1]
        parser.error(f"{arguments.python} cannot import pufferlib.pufferl: {last}")
    version = asked.stdout.split()[-1]
    print(f"{time.strftime('%Y-%m-%d')}, PufferLib {version}, {processor()}, one core.")
    print(f"The machine's load when this began: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")
    given = ["PATH_TO_ITS_PYTHON" if word == arguments.python else word for word in sys.argv[1:]]
    print(f"\n    python -m benchmarks.pufferlib {' '.join(given)}\n")
    ours, theirs = Side(sys.executable, "ours"), Side(arguments.python, "theirs")
    if "train" in arguments.only:
        chosen = [env for env in TRAINED if env in (arguments.envs or TRAINED)]
        training(ours, theirs, chosen, arguments.rounds, arguments.seconds)
    if "raw" in arguments.only:
        chosen = [env for env in BARE if env in (arguments.envs or BARE)]
        bare(ours, theirs, chosen, arguments.rounds, arguments.seconds)
    ours.close()
    theirs.close()


if __name__ == "__main__":
    main()
