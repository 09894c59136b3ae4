"""What a sweep found, in words a person can use: numbers, three budgets, settings to paste. Torch-free."""

from __future__ import annotations

import json
import keyword
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sweeper.config import SweepConfig
from sweeper.history import ran
from sweeper.logs import last_lines, printable
from sweeper.objectives import UNENDED, is_path, trial_seed
from sweeper.progress import front_head, front_rows
from sweeper.units import digits, format_bytes, format_cost, format_number, format_seconds
from sweeper.yaml12 import write_yaml

if TYPE_CHECKING:
    from sweeper.loop import Outcome
    from sweeper.store import Store, TrialRow


class FrontMember(Protocol):
    """What is read of a member of the front (`sweeper.proposer.Member` is one)."""

    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def score(self) -> float: ...
    @property
    def cost(self) -> float: ...
    @property
    def trial(self) -> int | None: ...
    @property
    def shorter(self) -> bool: ...
    @property
    def score_sd(self) -> float | None: ...
    @property
    def success(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


M = TypeVar("M", bound=FrontMember)
RELIABLE = 0.95  # chance of success from which nothing is said of it
EDGE = 0.9  # of a range's [-1, 1]: the outer twentieth


def three_budgets(front: Sequence[M], goal: str = "maximize") -> list[tuple[str, M]]:
    """`cheap`, `middle` and `best` of a front (cheapest first), fewer where the front is shorter.

    Best: the dearest member. Cheap: the cheapest that goes half of the way from the worst score on the front
    to the best (the cheapest of all is seldom of use). Middle: between the two on the log of the cost.
    """
    if not front:
        return []
    sign = -1.0 if goal == "minimize" else 1.0
    members = sorted(front, key=lambda m: (m.cost, -sign * m.score))
    best = members[-1]
    half = (sign * members[0].score + sign * best.score) / 2
    cheap = next(m for m in members if sign * m.score >= half)
    if cheap is best and len(members) > 1:
        cheap = members[0]
    chosen = [("best", best)]
    if cheap is not best:
        chosen.insert(0, ("cheap", cheap))
        between = members[members.index(cheap) + 1 : -1]
        if between:
            target = (math.log(max(cheap.cost, 1e-300)) + math.log(max(best.cost, 1e-300))) / 2
            middle = min(between, key=lambda m: abs(math.log(max(m.cost, 1e-300)) - target))
            chosen.insert(1, ("middle", middle))
    return chosen


def settings(config: SweepConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """All values of one trial: what the config fixes, and what the sweep chose."""
    return {**config.fixed, **params}


def settings_yaml(config: SweepConfig, params: Mapping[str, Any]) -> str:
    """A `fixed:` block for a config, holding every value of the trial."""
    return write_yaml({"fixed": settings(config, params)}, flow=False)


def scalar(value: Any) -> str:
    """One value as YAML text that reads back as the same value and type: `0.003`, `lstm`, `'1e5'`."""
    return write_yaml([value], flow=True).strip()[1:-1]


def command_line(config: SweepConfig, params: Mapping[str, Any], seed: int = 0) -> str:
    """A line for the shell that runs this trial again, alone; empty where the objective has none."""
    objective = config.objective
    values = settings(config, params)
    if objective.kind == "train":
        words = ["sweep", "train", _environment(config)]
        for name, value in values.items():
            words += ["--set", f"{name}={scalar(value)}"]
        return shlex.join([*words, "--seed", str(seed)])
    if objective.kind == "command":
        from sweeper.objectives import fill_command

        return _in_folder(config.folder, fill_command(config, values, seed))
    if objective.kind == "function":
        module, _, function = objective.target.rpartition(":")
        folder = config.folder
        if module.endswith(".py"):  # a file: the folder it lies in is where it is imported from
            folder, module = folder / Path(module).expanduser().parent, Path(module).stem
        code = f"from {module} import {function.partition('.')[0]}; print({function}({_arguments(values)}))"
        return _in_folder(folder, f"SWEEP_SEED={seed} {shlex.join([sys.executable, '-c', code])}")
    return ""


def _arguments(values: Mapping[str, Any]) -> str:
    """Values as a call's arguments in Python, with double quotes: the line stands in single ones."""
    # Not JSON's escapes: what it writes as two (an emoji) are two characters in Python.
    texts = {
        name: json.dumps(v, ensure_ascii=False) if isinstance(v, str) else repr(v)
        for name, v in values.items()
    }
    if all(name.isidentifier() and not keyword.iskeyword(name) for name in texts):
        return ", ".join(f"{name}={text}" for name, text in texts.items())
    return "**{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"


def _in_folder(folder: Path, line: str) -> str:
    """The line as it works from the current folder: trials run in the config's."""
    path = os.path.relpath(folder)
    return line if path == "." else f"(cd {shlex.quote(path)} && {line})"


def _environment(config: SweepConfig) -> str:
    """The environment as `sweep train` in the current folder finds it: names stay, paths are rewritten."""
    target = config.objective.target
    path = config.folder / Path(target).expanduser()
    if not (is_path(target) and path.exists()):
        return target
    relative = os.path.relpath(path)
    return relative if "/" in relative else f"./{relative}"  # without a slash it would be a name


# ---------------------------------------------------------------- texts


def config_summary(config: SweepConfig) -> str:
    """How a config is understood: what `sweep check` prints."""
    objective, metric, cost, budget, workers = (
        config.objective, config.metric, config.cost, config.budget, config.workers,
    )  # fmt: skip
    target = f"{objective.kind} {objective.target}"
    scale = "" if metric.scale == "linear" else f", {metric.scale} scale"
    scale += f" up to {format_number(metric.max)}" if metric.max is not None else ""
    scale += f", mean of the last {metric.last} reports" if metric.last > 1 else ""
    limit = f", at most {format_cost(cost.limit, cost.name)} a trial" if cost.limit else ""
    ends = [f"{budget.trials} trials"] if budget.trials else []
    ends += [f"{format_cost(budget.cost, cost.name)} of cost"] if budget.cost else []
    ends += [f"{format_seconds(budget.time)} on the clock"] if budget.time else []
    seeds = f", {config.objective.seeds} seeds a trial" if config.objective.seeds > 1 else ""
    most = [format_seconds(workers.timeout)] if workers.timeout else []
    most += [f"{workers.timeout_factor:g} x its predicted cost"] if workers.timeout_factor else []
    most += [format_bytes(workers.memory)] if workers.memory else []
    wanted = workers.gpus_per_trial
    share = f" ({wanted if wanted == 'auto' else f'{wanted:g}'} a trial)" if wanted else ""
    share += f", a trial at most {', '.join(most)}" if most else ""
    rows = [
        ("objective", target + seeds + (f", fidelity {config.fidelity}" if config.fidelity else "")),
        ("metric", f"{metric.name}, {metric.goal}{scale}"),
        ("cost", f"{cost.name}{limit}"),
        ("budget", " or ".join(ends) + (", whichever ends first" if len(ends) > 1 else "")),
        ("workers", f"{workers.count}, GPUs {workers.gpus}{share}"),
        ("seed", str(config.seed)),
    ]
    lines = [f"{config.name} ({config.file})"]
    lines += [f"  {name:<10} {text}" for name, text in rows]
    for name, value in config.fixed.items():
        lines.append(f"  {'fixed':<10} {name} = {scalar(value)}")
    space = config.space()
    many = f"{space.dim} parameter{'s' * (space.dim > 1)}"
    lines.append(f"{many} and the first trial (steps, epochs and the like: at most 45 % up, unset: lowest)")
    start = space.start()
    table = [["", "", "range", "start"]]
    for name, p in space.parameters.items():
        if p.kind == "categorical":
            span, kind = ", ".join(scalar(value) for value in p.values), "one of"
        else:
            kind = p.distribution + (" int" if p.kind == "int" else "")
            span = f"{_bound(p.min)} to {_bound(p.max)}"
        when = "".join(f" when {k} is {' or '.join(map(scalar, v))}" for k, v in (p.when or {}).items())
        table.append([name, kind, span, (scalar(start[name]) if name in start else "-") + when])
    lines += _aligned(table)
    lines += [f"  constraint {text}" for text in config.constraints]
    return "\n".join(lines)


def _bound(value: float) -> str:
    return f"{value:.10g}"


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of cells as lines with columns under each other, indented by two."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def front_lines(
    config: SweepConfig, front: Sequence[tuple[float, float, int | None]], rows: int = 20
) -> list[str]:
    """The front of (cost, score, trial) as a table of at most `rows` members, cheapest first."""
    return _aligned([front_head(config), *front_rows(front, config, rows)], right=(0, 1, 2))


def member_summary(config: SweepConfig, member: FrontMember, label: str = "") -> str:
    """One setting on the front: what it reaches on average and, with 90 %, in a single trial; its values as
    YAML; the command that runs it."""
    known = 1e-12 * max(abs(member.score), 1e-300)  # what is left where all scores are equal is rounding
    doubt = 1.96 * (member.score_sd or 0.0)
    sure = f" ± {format_number(doubt)}" if doubt > known else ""
    price = format_cost(member.cost, config.cost.name)
    places = digits(member.score - doubt, member.score + doubt) if sure else 4
    head = f"{config.metric.name} {format_number(member.score, places)}{sure} for {price}"
    where = "on the curve of " if member.shorter else ""
    trial = f" ({where}trial {member.trial})" if member.trial is not None else ""
    text = f"{label}: {head}{trial}" if label else f"{head}{trial}"
    if config.objective.seeds > 1:  # and the command below is one training
        text += f", the mean of {config.objective.seeds} trainings"
    if member.high - member.low > known:
        places = digits(member.low, member.high)
        low, high = format_number(member.low, places), format_number(member.high, places)
        text += f", single trials {low} to {high}"
    if member.success < RELIABLE:
        text += f"; 1 trial in {max(2, round(1 / (1 - member.success)))} there fails or collapses"
    text += "\n" + settings_yaml(config, member.params).rstrip()
    seed = config.seed if member.trial is None else trial_seed(config.seed, member.trial)
    line = command_line(config, member.params, seed)
    return f"{text}\n{line}" if line else text


def edges(config: SweepConfig, front: Sequence[FrontMember]) -> list[str]:
    """Which parameters stand at the same end of their range in all that three budgets would buy."""
    members = [member for _, member in three_budgets(front, config.metric.goal)]
    found = []
    for name, p in config.space().parameters.items():
        if len(members) < 2 or p.kind == "categorical" or any(name not in m.params for m in members):
            continue
        units = [float(p.to_unit(m.params[name])) for m in members]
        if min(units) >= EDGE or max(units) <= -EDGE:
            end, bound = ("max", p.max) if units[0] > 0 else ("min", p.min)
            found.append(f"{name} (its {end} is {_bound(bound)})")
    return found


def run_summary(
    config: SweepConfig,
    trials: Sequence[TrialRow],
    front: Sequence[FrontMember],
    outcome: Outcome,
    picture: Path,
    again: Sequence[str],
    accidents: Sequence[int] = (),
) -> str:
    """What `sweep run` says at its end. `again`: the words of the command; `accidents`: numbers of trials."""
    lines = ["", f"{config.name}: {_counts(trials)} in {format_seconds(outcome.elapsed)}"]
    if front:
        lines += ["", "front: what each cost buys"]
        lines += front_lines(config, [(m.cost, m.score, m.trial) for m in front])
        for label, member in three_budgets(front, config.metric.goal):
            lines += ["", member_summary(config, member, label)]
    lines += ["", f"picture    {picture}"]
    near = edges(config, front)
    if near:
        lines.append(f"at an edge {', '.join(near)}: better may lie beyond")
    if accidents:
        which = ", ".join(map(str, accidents[:8])) + (", ..." if len(accidents) > 8 else "")
        lines.append(f"accidents  {len(accidents)} scores far worse than all others say: trials {which}")
    scores = [trial.score for trial in trials if trial.status == "done" and trial.score is not None]
    if len(scores) > 1 and min(scores) == max(scores):
        same = f"no signal  all {len(scores)} scores are {format_number(scores[0])}"
        lines.append(f"{same}: do the trials read their params, and run for long enough?")
    sign, top = (-1.0 if config.metric.goal == "minimize" else 1.0), config.metric.max
    if top is not None and (beyond := sum(sign * score > sign * top for score in scores)):
        known = (
            f"beyond max {beyond} of {len(scores)} scores are better than {format_number(top)}, metric.max"
        )
        lines.append(f"{known}: they count as equal; start anew with a max that none reaches")
    if beside := _other_steps(config, trials):
        lines.append(beside)
    if outcome.ms_per_proposal is not None:
        idle = (
            f", workers idle {100 * outcome.idle_share:.1f} % of the time"
            if outcome.idle_share is not None
            else ""
        )
        lines.append(f"proposals  {outcome.ms_per_proposal:.0f} ms each (median){idle}")
    if outcome.reason in ("interrupted", "disk"):
        lines.append(f"resume     {shlex.join(again)}")
    elif outcome.reason == "trials" and config.budget.trials:
        lines.append(
            f"go on      {shlex.join([*again, '--set', f'budget.trials={2 * config.budget.trials}'])}"
        )
    elif outcome.reason in ("cost", "time"):
        lines.append(f"go on      {shlex.join(again)} with a larger budget.{outcome.reason}")
    if sum(trial.status == "done" and not trial.excluded for trial in trials) >= 3:  # it refuses fewer
        lines.append(f"explain    sweep plot parameters {config.name}")
    if front:
        lines.append(f"verify     sweep verify {config.name}")
    return "\n".join(lines)


def _other_steps(config: SweepConfig, trials: Sequence[TrialRow]) -> str:
    """A line on curves whose steps are not those of the fidelity; or nothing.

    The trainer may exceed it: a whole batch ends it.
    """
    name = config.fidelity
    if name is None or config.objective.kind == "train":
        return ""
    for trial in trials:
        steps = [point.step for point in trial.points if point.step is not None]
        length = trial.params.get(name, math.inf)
        if trial.status != "done" or not steps:
            continue
        which, most = f"steps      trial {trial.number}", max(steps)
        if most > 2 * length:
            said = f"{which} reports step {format_number(most)}, with {name} {length}"
            return f"{said}: each counts as one of {name}; report those and start anew, or drop fidelity"
        if steps == list(range(len(steps))) and len(steps) == length:  # the last one's is length - 1
            said = f"{which} counts its {length} {name} from 0"
            return f"{said}: its curve is taken to be one ahead; count from 1 and start anew"
    return ""


def _counts(trials: Sequence[TrialRow], live: bool = True) -> str:
    counts: dict[str, int] = {}
    for trial in trials:
        status = "interrupted" if trial.status == "running" and not live else trial.status
        if status == "stopped" and not ran(trial):  # the budget was spent before it started
            status = "withdrawn"
        counts[status] = counts.get(status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trials yet"


def status_summary(store: Store, config: SweepConfig, live: bool) -> str:
    """How a run stands, from its database alone: counts, spending, the observed front, failures."""
    from sweeper import pareto

    trials = store.trials(points=False)
    meta = store.meta()
    elapsed, paused = float(meta.get("elapsed") or 0), ", paused" if meta.get("paused") else ""
    spent = config.objective.seeds * sum(trial.cost or 0.0 for trial in trials if ran(trial))
    budget = config.budget
    of = (
        f" of {format_seconds(budget.time)}" if budget.time else "",
        f" of {format_cost(budget.cost, config.cost.name)}" if budget.cost else "",
    )
    total = f" of {budget.trials}" if budget.trials else ""
    ended = sum(map(ran, trials))
    lines = [
        f"{config.name}: {'running' if live else 'not running'}{paused} ({store.folder})",
        f"  trials   {ended}{total}: {_counts(trials, live)}",
        f"  time     {format_seconds(elapsed)}{of[0]}",
        f"  spent    {format_cost(spent, config.cost.name)}{of[1]}",
    ]
    if excluded := [trial.number for trial in trials if trial.excluded]:
        lines.append(f"  excluded {', '.join(map(str, excluded))}")
    counted = [t for t in trials if t.status == "done" and not t.excluded]
    done = [t for t in counted if t.score is not None and t.cost is not None]
    if done:
        best = pareto.front([t.cost for t in done], [t.score for t in done], config.metric.goal)
        curves = " and counts the curves" if config.fidelity else ""
        lines.append(f"front as observed (`sweep best` removes luck{curves})")
        lines += front_lines(
            config, [(done[i].cost or 0.0, done[i].score or 0.0, done[i].number) for i in best]
        )
    failed = [t for t in trials if t.status == "failed"]
    if failed:
        kinds: dict[str, int] = {}
        for trial in failed:
            kinds[trial.failure or "failed"] = kinds.get(trial.failure or "failed", 0) + 1
        lines.append("failures: " + ", ".join(f"{n} {printable(kind)}" for kind, n in kinds.items()))
        lines.append(
            f"  last, trial {failed[-1].number}: {printable(failed[-1].message).strip()}".rstrip(": ")
        )
        lines += [
            f"    | {line}" for line in last_lines(store.trial_folder(failed[-1].number) / "log.txt", 5)
        ]
    return "\n".join(lines)


MISHAPS = {
    "diverged": "a number that is none; try a lower learning_rate, and observations and rewards near 1",
    "kl_explosion": "the policy left the one that acted far behind; try a lower learning_rate, fewer updates",
    "entropy_collapse": "the policy tries nothing else any more; try a higher ent_coef, lower learning_rate",
}


def training_summary(result: Any) -> str:
    """What `sweep train` says at its end; `result` is a `trainer.Result`."""
    rows = [
        ("score", format_number(result.score) if result.score is not None else "none"),
        *([("left out", f"{result.unfinished} episodes {UNENDED}")] if result.unfinished else []),
        ("steps", f"{result.steps:,}"),
        ("seconds", f"{result.seconds:.2f}"),
        ("steps/s", format_number(result.steps_per_second)),
        ("time in", ", ".join(f"{part} {100 * share:.0f} %" for part, share in result.profile.items())),
    ]
    if result.failure:
        what = MISHAPS.get(result.failure)
        rows.append(("failed", f"{result.failure}: {what}" if what else str(result.failure)))
    return "\n".join(f"{name:<8} {text}" for name, text in rows)


def environment_summary(
    spec: Any, speed: tuple[int, int, float], done: Sequence[str], left_out: Sequence[str]
) -> str:
    """What `sweep env check` says of a sound environment: an `ocean.Spec`, what `ocean.contract.speed` gave,
    the checks that were done and those that this machine cannot do."""
    steps, episodes, steps_per_second = speed
    actions = (
        " x ".join(map(str, spec.action_sizes)) + " choices"
        if spec.action_dim is None
        else "floats, " + "; ".join(f"{format_number(a)} to {format_number(b)}" for a, b in spec.action_range)
    )
    shape = ", ".join(map(str, spec.obs_shape))
    low, high = (format_number(end) for end in spec.obs_range)
    rows = [
        ("sound", f"{spec.name}: {', '.join(done)}"),
        *([("left out", ", ".join(left_out))] if left_out else []),
        ("observes", f"{spec.obs_dtype} [{shape}], {low} to {high}"),
        ("acts", actions + (", some forbidden at times" if spec.masked else "")),
        ("agents", str(spec.agents_per_env)),
        ("played", f"{steps:,} steps, {episodes:,} episodes"),
        ("steps/s", format_number(steps_per_second)),
    ]
    return "\n".join(f"{name:<9} {text}" for name, text in rows)
