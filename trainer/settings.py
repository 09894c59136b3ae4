"""Every setting of the trainer, its default and its help. Imports no torch.

The dataclasses below are the only source: the command line, the sweep's config, `Settings.parse`
and the documentation read the defaults from the fields and the help from the text under them.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ocean
from trainer.defaults import GYMNASIUM, tuned


class SettingsError(ValueError):
    """A setting that the user can mend: `key` is its dotted name, `mend` what to do about it."""

    def __init__(self, key: str, message: str, mend: str = "") -> None:
        self.key, self.message, self.mend = key, message, mend
        super().__init__(key, message, mend)

    def __str__(self) -> str:
        text = f"{self.key}: {self.message}" if self.key else self.message
        return f"{text}; {self.mend}" if self.mend else text


_SMALLEST, _LARGEST = 1e-12, 1e38  # stand for "above zero" and "any size", which float32 must hold


def _bounded(
    default: Any, low: float = -_LARGEST, high: float = _LARGEST, choices: tuple[str, ...] = ()
) -> Any:
    """A dataclass field with its default and the closed range (or the words) that it may take."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices})


ANNEALED = ("anneal_lr", "anneal_entropy", "anneal_beta")  # schedules over total_timesteps
MOST_OUTPUTS = 256  # of a policy, for its actions
MOST_VALUES = 1024  # that an encoder tells apart in one number of an observation


@dataclass(frozen=True)
class TrainSettings:
    """How to train: one field a setting, its meaning under it."""

    total_timesteps: int = _bounded(3_000_000, 1, 1e15)
    """Environment steps to train for, summed over all agents; the last rollout is always whole."""

    num_envs: int = _bounded(1024, 1, 1_000_000)
    """Environments stepped together; agents are this times the agents of one environment."""

    horizon: int = _bounded(64, 1, 100_000)
    """Steps of one agent in a segment: the length of a rollout."""

    minibatch_size: int = _bounded(32_768, 1)
    """Steps in one update; a multiple of horizon, at most num_envs * agents * horizon."""

    updates: int = _bounded(2, 1, 1_000_000)
    """Updates after each rollout, each on one minibatch of sampled segments."""

    learning_rate: float = _bounded(0.01, _SMALLEST)
    """Step size of the optimiser; good values for muon are about ten times those for adam."""

    optimizer: str = _bounded("muon", choices=("muon", "adam"))
    """`muon` orthogonalises the steps of matrices (AdamW for the rest); `adam` is Adam for all."""

    momentum: float = _bounded(0.95, 0.0, 0.9999)
    """Momentum of muon and first beta of adam."""

    anneal_lr: bool = False
    """Let the learning rate fall linearly to zero over total_timesteps."""

    anneal_entropy: bool = False
    """Let the entropy bonus fall linearly to zero over total_timesteps."""

    average: float = _bounded(0.0, 0.0, 1.0)
    """Evaluate and keep the mean of the weights over about this last share of the steps so far; 0 is off."""

    gamma: float = _bounded(0.99, -1.0, 1.0)
    """Discount a step; negative where one policy plays two sides in turn and what follows is the other's."""

    gae_lambda: float = _bounded(0.9, 0.0, 1.0)
    """How far advantages look ahead: 0 one step, 1 to the end of the segment."""

    clip_coef: float = _bounded(0.2, _SMALLEST)
    """The policy's ratio is clipped to 1 +- this."""

    vf_clip_coef: float = _bounded(0.2, _SMALLEST)
    """A value may move this far from its old one in an update before its gradient is cut."""

    vf_coef: float = _bounded(1.0, 0.0)
    """Weight of the value loss."""

    ent_coef: float = _bounded(0.001, 0.0)
    """Weight of the entropy bonus; 0 is off."""

    max_grad_norm: float = _bounded(1.0, _SMALLEST)
    """Gradients longer than this are shortened to it."""

    rho_clip: float = _bounded(1.0, _SMALLEST)
    """Importance ratios are cut at this where they weigh the advantage's temporal difference."""

    c_clip: float = _bounded(1.0, _SMALLEST)
    """Importance ratios are cut at this where they carry the advantage backwards."""

    recompute_advantages: bool = False
    """Recompute advantages before each update (with its new ratios and values) or once a rollout."""

    replay_factor: float = _bounded(0.0, 0.0, 64.0)
    """Segments of earlier rollouts that are learned from beside the last one, as a multiple of it."""

    prio_alpha: float = _bounded(0.0, 0.0, 16.0)
    """Segments are drawn with weight (sum |advantage|)^this; 0 is uniform, 16 all but the largest alone."""

    prio_beta0: float = _bounded(1.0, 0.0, 1.0)
    """How far importance weights correct for the drawing: 0 not at all, 1 fully."""

    anneal_beta: bool = False
    """Let prio_beta0 rise linearly to 1 over total_timesteps."""

    normalize_advantages: bool = True
    """Shift and scale the advantages of each minibatch to mean 0 and deviation 1 (of normalised rewards, to
    less where they hardly differ: a solved task is not to be unlearned)."""

    reward_scale: float = _bounded(1.0, _SMALLEST)
    """Rewards are multiplied by this first, for environments that do not keep them near 1."""

    reward_clip: float = _bounded(1.0, 0.0)
    """Rewards are then clipped to +- this; 0 is off."""

    normalize_rewards: bool = True
    """Divide rewards by the deviation of their discounted sums so far, so that values have one size."""

    normalize_observations: str = _bounded("none", choices=("none", "unbounded", "all"))
    """Shift and scale observations of Gymnasium's by what they have been so far: none, the numbers for which
    the environment declares no range (or ends beyond 100), or all."""

    eval_episodes: int = _bounded(100, 1, 1_000_000)
    """Episodes of every evaluation, each played by an agent of its own (environments are whole)."""

    eval_max_steps: int = _bounded(50_000, 1, 1e15)
    """Steps after which an evaluation stops waiting; episodes still running are reported unfinished."""

    eval_greedy: bool = False
    """Evaluate the most probable action instead of drawing from the policy as training does."""

    curve_points: int = _bounded(1, 1, 10_000)
    """Evaluations along the run, the last at its end; each is a point (step, cost, score)."""

    curve_spacing: str = _bounded("linear", choices=("linear", "log"))
    """Are the evaluations evenly spread in steps or in their logarithm?"""

    threads: int = _bounded(1, 1, 1024)
    """Threads for the environments and for torch."""

    env_processes: int = _bounded(0, 0, 256)
    """Processes that share a Gymnasium environment's instances, where a step is slow; 0: stepped in turn."""

    precision: str = _bounded("float32", choices=("float32", "bfloat16"))
    """Of the factors in matrix products; their sums, and nearly all else, stay float32."""


@dataclass(frozen=True)
class PolicySettings:
    """The network: one field a setting, its meaning under it."""

    hidden: int = _bounded(128, 16, 65_536)
    """Units of each hidden layer; a multiple of 16, the lanes of the kernels."""

    layers: int = _bounded(1, 1, 8)
    """Hidden layers."""

    rnn: str = _bounded("none", choices=("none", "mingru", "lstm"))
    """A recurrent layer above them, for tasks that need memory; it looks back one horizon in training."""

    value_bins: int = _bounded(0, 0, 256)
    """0: the value is one number. Else the mean of a histogram of as many bins (HL-Gauss; about 50)."""

    value_limit: float = _bounded(10.0, _SMALLEST)
    """The bins divide +- this, which returns should not leave; without bins it means nothing."""

    encoder: str = _bounded("none", choices=("none", "onehot", "embedding"))
    """Whole-numbered observations are read as numbers, one-hot, or as a learned vector for each value."""

    embedding: int = _bounded(8, 1, 256)
    """Length of these vectors; without `encoder: embedding` it means nothing."""

    action_sd: float = _bounded(1.0, _SMALLEST)
    """Deviation that continuous actions begin with, in halves of their range; it is learned then."""

    action_gain: float = _bounded(0.01, 0.0)
    """Gain of the action head's orthogonal initialisation: small is a nearly uniform first policy."""


_SECTIONS: dict[str, type] = {"train": TrainSettings, "policy": PolicySettings}
_ENV_SECTIONS = ("env", "eval_env")  # the environment's own settings: always, and in evaluation alone


@dataclass(frozen=True)
class Settings:
    """The settings of one training run: which environment, how to train, which network."""

    env: str
    train: TrainSettings = field(default_factory=TrainSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    env_settings: Mapping[str, Any] = field(default_factory=dict)
    eval_env_settings: Mapping[str, Any] = field(default_factory=dict)
    """`eval_env.NAME`: what takes the place of `env.NAME` wherever the policy is judged or watched."""

    @property
    def evaluated(self) -> dict[str, Any]:
        """The environment's settings in evaluation."""
        return {**self.env_settings, **self.eval_env_settings}

    @staticmethod
    def parse(env: str, mapping: Mapping[str, Any] | None = None) -> Settings:
        """Settings for `env` from dotted names, over that environment's tuned defaults.

        Raises SettingsError for an unknown environment or name, a wrong type, a value out of its
        range and for settings that do not fit together.
        """
        from trainer import environments

        environments.names(env)  # an unknown environment is said first
        values: dict[str, dict[str, Any]] = {name: {} for name in (*_SECTIONS, *_ENV_SECTIONS)}
        for key, value in {**tuned(env), **(mapping or {})}.items():
            section, _, name = key.partition(".")
            if section in _SECTIONS and name in _fields(section):
                values[section][name] = _field_value(key, value, _fields(section)[name])
            elif section in _ENV_SECTIONS and environments.accepts(env, name):
                values[section][name] = _env_value(key, value, env)
            else:
                raise SettingsError(key, "no such setting", _nearest(key, env))
        train, policy = TrainSettings(**values["train"]), PolicySettings(**values["policy"])
        settings = Settings(env, train, policy, values["env"], values["eval_env"])
        settings.check(agents_per_env=environments.agents_per_env(env))
        if not environments.is_gymnasium(env):  # whose spaces are known when it is made
            check_serves(ocean.spec(env), settings.policy)
        return settings

    def check(self, agents_per_env: int = 1) -> None:
        """Raises SettingsError where settings do not fit together, naming the mend."""
        train, buffer = self.train, self.train.num_envs * agents_per_env * self.train.horizon
        if train.minibatch_size % train.horizon:
            below = max(train.horizon, train.minibatch_size // train.horizon * train.horizon)
            raise SettingsError(
                "train.minibatch_size",
                f"{train.minibatch_size} is no multiple of train.horizon ({train.horizon})",
                f"use {below}, or a horizon that divides it",
            )
        if train.minibatch_size > buffer:
            raise SettingsError(
                "train.minibatch_size",
                f"{train.minibatch_size} is more than a rollout: num_envs * agents * horizon = {buffer}",
                f"use {buffer} or less, or more train.num_envs",
            )
        if train.env_processes and not self.env.startswith(GYMNASIUM):
            said = f"{self.env} is written in C, and stepped by threads"
            raise SettingsError("train.env_processes", said, "leave it at 0 and use train.threads")
        if train.normalize_observations != "none" and not self.env.startswith(GYMNASIUM):
            said = f"{self.env} is written in C, where its observations are scaled"
            raise SettingsError("train.normalize_observations", said, "leave it at none")
        if self.policy.hidden % 16:
            raise SettingsError(
                "policy.hidden",
                f"{self.policy.hidden} is no multiple of 16",
                f"use {math.ceil(self.policy.hidden / 16) * 16}",
            )

    def to_mapping(self) -> dict[str, Any]:
        """Dotted names to values, for `parse` to read back."""
        parts: dict[str, Mapping[str, Any]] = {"train": vars(self.train), "policy": vars(self.policy)}
        parts |= {"env": self.env_settings, "eval_env": self.eval_env_settings}
        return {f"{section}.{name}": value for section, part in parts.items() for name, value in part.items()}

    @staticmethod
    def names() -> list[str]:
        """The dotted names of all settings of `train` and `policy`, in order."""
        return [f"{section}.{name}" for section in _SECTIONS for name in _fields(section)]

    @staticmethod
    def resolve(name: str, env: str | None = None) -> str:
        """The dotted name for a short one (`learning_rate`); raises SettingsError if there is none."""
        from trainer import environments

        names = _all_names(env)
        section, _, key = name.partition(".")
        if name in names or (env and section in _ENV_SECTIONS and environments.accepts(env, key)):
            return name
        matches = [dotted for dotted in names if dotted.partition(".")[2] == name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise SettingsError(name, "means more than one setting", f"say which: {', '.join(matches)}")
        raise SettingsError(name, "no such setting", _nearest(name, env))

    @staticmethod
    def value(name: str, env: str, value: Any) -> Any:
        """`value` as the setting with this dotted name takes it; SettingsError for a wrong type or range."""
        section, _, key = name.partition(".")
        if section in _ENV_SECTIONS:
            return _env_value(name, value, env)
        return _field_value(name, value, _fields(section)[key])

    @staticmethod
    def default(name: str, env: str) -> Any:
        """The default of a dotted name for this environment; None for what only its own code knows."""
        from trainer import environments

        section, _, key = name.partition(".")
        if section in _ENV_SECTIONS:
            declared = environments.setting(env, key)
            return None if declared is None else declared.default
        return tuned(env).get(name, _fields(section)[key].default)

    @staticmethod
    def help(name: str) -> str:
        """The one-line help of a dotted name of `train` or `policy`."""
        section, _, key = name.partition(".")
        return _docs(section)[key]


def check_serves(spec: ocean.Spec, policy: PolicySettings) -> None:
    """Raises SettingsError for an environment whose actions or observations such a policy cannot serve."""
    numbers = sum(spec.action_sizes) if spec.action_dim is None else spec.action_dim
    if numbers > MOST_OUTPUTS:
        kind = "choices" if spec.action_dim is None else "floats in an action"
        raise SettingsError("env", f"{spec.name} has {numbers} {kind}", f"{MOST_OUTPUTS} are the most")
    low, high = spec.obs_range
    if policy.encoder == "none":
        return
    if spec.obs_dtype.kind not in "iu":
        said = f"{spec.name} observes {spec.obs_dtype}, no whole numbers"
        raise SettingsError("policy.encoder", said, "use none")
    if not high - low < MOST_VALUES:
        said = f"{spec.name} observes {low:g} to {high:g}: more than {MOST_VALUES} values"
        raise SettingsError("policy.encoder", said, "use none")


def _fields(section: str) -> dict[str, dataclasses.Field[Any]]:
    return {item.name: item for item in dataclasses.fields(_SECTIONS[section])}


@functools.cache
def _docs(section: str) -> dict[str, str]:
    """Field name to the text that stands under it in the source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(_SECTIONS[section]))).body
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for above, below in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(above, ast.AnnAssign)
            and isinstance(above.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docs[above.target.id] = str(below.value.value)
    return docs


def _all_names(env: str | None) -> list[str]:
    """Dotted names of all settings. Raises SettingsError for an unknown environment."""
    from trainer import environments

    return Settings.names() + [f"env.{name}" for name in (environments.names(env) if env else [])]


def _nearest(key: str, env: str | None) -> str:
    names, last = _all_names(env), key.rpartition(".")[2]
    if key.startswith("eval_env."):
        names = [f"eval_{name}" for name in names if name.startswith("env.")]
    short = {name.partition(".")[2]: name for name in names}
    near = [name for name in short if "".join(word[:1] for word in name.split("_")) == last]  # lr
    near = near or [name.partition(".")[2] for name in difflib.get_close_matches(key, names, 1, cutoff=0.5)]
    near = near or difflib.get_close_matches(last, short, 1)  # perhaps only the section is missing or wrong
    return f"did you mean '{short[near[0]]}'?" if near else f"there is {', '.join(names)}"


def _field_value(key: str, value: Any, spec: dataclasses.Field[Any]) -> Any:
    low, high = spec.metadata.get("low", -math.inf), spec.metadata.get("high", math.inf)
    return _typed(key, value, str(spec.type), low, high, spec.metadata.get("choices", ()))


def _env_value(key: str, value: Any, env: str) -> Any:
    """As the header declares it; Gymnasium's environments take what they are given."""
    from trainer import environments

    declared = environments.setting(env, key.partition(".")[2])
    if declared is None:
        return value
    return _typed(key, value, declared.kind, declared.low, declared.high, ())


def _typed(key: str, value: Any, kind: str, low: float, high: float, choices: tuple[str, ...]) -> Any:
    """`value` as `kind`, in range; numbers such as 1e6 are taken for whole ones where they are."""
    if kind == "str":
        if isinstance(value, str) and value in choices:
            return value
        raise SettingsError(key, f"{value!r} is not one of its words", f"use one of {', '.join(choices)}")
    if kind == "bool":
        if isinstance(value, bool):
            return value
        raise SettingsError(key, f"{value!r} is not true or false", "write true or false")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        # numpy's scalars know how to become Python's
        value = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SettingsError(key, f"{value!r} is not a number", f"its default is of type {kind}")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        finite = False
    if not finite:
        raise SettingsError(key, f"{value!r} is not finite", "give a finite number")
    if kind == "int":
        if value != int(value):
            nearest = int(min(max(round(value), low), high))
            raise SettingsError(key, f"{value!r} is not a whole number", f"use {nearest}")
        value = int(value)
    else:
        value = float(value)
    if not low <= value <= high:
        shown_low = "above 0" if low == _SMALLEST else f"at least {low:g}"
        bounds = [shown_low] if low > -math.inf else []
        bounds += [f"at most {high:g}"] if high < math.inf else []
        raise SettingsError(key, f"{value!r} is out of range", f"it must be {' and '.join(bounds)}")
    return value
