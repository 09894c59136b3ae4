"""The `sweep` command. Every import that costs time waits until a command needs it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper import __version__
from sweeper.errors import ConfigError

if TYPE_CHECKING:
    from sweeper.config import SweepConfig
    from sweeper.proposer import Member, Sweeper
    from sweeper.store import Store, TrialRow

RUNS = Path("runs")
# Errors whose message is for people; they are looked up only where their module has been loaded.
FOR_PEOPLE = (
    ("sweeper.store", "StoreError"),
    ("sweeper.loop", "SweepError"),
    ("sweeper.executors", "ExecutorError"),
    ("sweeper.objectives", "ObjectiveError"),
    ("sweeper.slots", "SlotsError"),
    ("ocean.build", "BuildError"),
    ("trainer.gpu_vector", "EnvironmentFault"),
    ("builtins", "MemoryError"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `sweep`. Exit codes: 0 well, 1 failed, 2 the config or command line is wrong, 130 interrupted."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed (`>&-`)
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        stream = getattr(sys, name)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):  # a trial may print what no locale knows
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = cli.main(args=arguments, prog_name="sweep", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:  # `sweep export | head`: nobody reads on, and nobody needs to hear of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        return 2
    except Exception as error:
        if type(error).__name__ == "SettingsError" and type(error).__module__ == "trainer.settings":
            click.echo(f"error: {error}", err=True)
            return 2
        if not _for_people(error):
            raise
        from sweeper.logs import printable

        said = str(error)
        if isinstance(error, OSError) and error.strerror:
            place = "" if error.filename is None else f"{error.filename}: "
            said = place + error.strerror.lower()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                said += "; make room, and run it again"
        elif type(error).__name__ == "StoreDamaged":
            said += "; `sweep repair` mends it"
        click.echo(f"error: {printable(said)}", err=True)
        return 1


def _for_people(error: Exception) -> bool:
    known = [getattr(sys.modules.get(module), name, None) for module, name in FOR_PEOPLE]
    return isinstance(error, (OSError, *[kind for kind in known if kind is not None]))


class _InOrder(click.Group):
    """Lists its commands in the order of this file: the one you need first comes first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pareto-sweeper")
def cli() -> None:
    """Tells what score each amount of compute can buy, and the settings for it.

    Start with `sweep run CONFIG`, look in with `sweep status`, go on with the same `sweep run`.
    RUN is a run's name under runs/, or its folder; without one, the latest is meant.
    """


SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override, e.g. budget.trials=20 or lr=0.01.",
)
RUN = click.argument("run", required=False)


# ---------------------------------------------------------------- sweeping


@cli.command()
@click.argument("config", type=click.Path())
@SET
@click.option("--name", help="Another name for the run: a fresh start with the same config.")
def run(config: str, overrides: tuple[str, ...], name: str | None) -> int:
    """Start the sweep in CONFIG, or go on where it stopped."""
    import json

    from sweeper import objectives
    from sweeper.config import load
    from sweeper.progress import observer

    # Quoted: a name may look like a number, and is a text.
    named = [] if name is None else [f"name={json.dumps(name, ensure_ascii=False)}"]
    settings = load(config, [*overrides, *named])
    try:
        objectives.make(settings).check()
        _check_workers(settings)
    except ConfigError as error:
        raise settings.locate(error) from None
    from sweeper import loop

    folder = RUNS / settings.name
    click.echo(f"{settings.name}: everything goes to {folder}/; Ctrl-C stops, the same command goes on")
    with observer(settings, folder) as view:
        outcome = loop.run(settings, folder, view)
    return _conclude(settings, folder, outcome, config, overrides, name)


def _check_workers(config: SweepConfig) -> None:
    """No Ray, or more GPUs than there are here: ConfigError, before anything is written."""
    from importlib.util import find_spec

    from sweeper.executors import ExecutorError, resources

    if config.executor == "ray":
        if find_spec("ray") is None:
            raise ConfigError("executor", "ray is not installed", "pip install 'pareto-sweeper[ray]'")
        return
    if config.workers.gpus != "auto" or config.workers.gpus_per_trial is not None:
        try:
            resources(config.workers)
        except ExecutorError as error:
            key, _, message = str(error).partition(": ")
            auto = config.workers.gpus_per_trial == "auto"
            raise ConfigError(key, message, "write a number" if auto else "write fewer, or auto") from None


def _conclude(
    config: SweepConfig, folder: Path, outcome: Any, path: str, overrides: Iterable[str], name: str | None
) -> int:
    """The end of a run in words: why it ended, front, settings for three budgets, picture, how to go on."""
    from sweeper.summary import run_summary

    again = ["sweep", "run", path]
    for override in overrides:
        replaced = outcome.reason == "trials" and override.startswith("budget.trials=")
        again += [] if replaced else ["--set", override]
    again += ["--name", name] if name else []
    with _open(folder) as store:
        sweeper = _rebuild(store, config)
        picture = _draw(store, config, sweeper, folder / "pareto.png")
        trials = store.trials(points=config.fidelity is not None)
        front, accidents = sweeper.front(), sweeper.accidents()
        click.echo(run_summary(config, trials, front, outcome, picture, again, accidents))
    if outcome.reason == "interrupted":
        return 130
    return 1 if outcome.reason in ("failed", "disk") else 0


@cli.command()
@click.argument("config", type=click.Path())
@SET
def check(config: str, overrides: tuple[str, ...]) -> None:
    """Say how CONFIG is understood, or what is wrong in it.

    Nothing is run and nothing is written.
    """
    from sweeper import objectives, warm
    from sweeper.config import load
    from sweeper.summary import config_summary

    settings = load(config, overrides)
    try:
        objectives.make(settings).check()
    except ConfigError as error:
        raise settings.locate(error) from None
    if settings.warm_start:
        warm.results(settings)
    click.echo(config_summary(settings))
    click.echo("ok")


# ---------------------------------------------------------------- looking


@cli.command("import")
@click.argument("file", type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="A file [default: standard output].")
def import_(file: str, output: str | None) -> None:
    """Turn the FILE of another tool, a W&B sweep's YAML, into a config."""
    from sweeper.config import read_text
    from sweeper.files import write_whole
    from sweeper.importing import from_wandb

    text = from_wandb(read_text(file), file)
    if output is None:
        click.echo(text, nl=False)
    elif Path(output).exists():
        raise ConfigError("", f"-o {output}: is there already", "name another file, or remove it")
    else:
        write_whole(Path(output), text.encode())
        click.echo(f"{output} is written: read its comments, then `sweep check {shlex.quote(output)}`")


@cli.command()
@RUN
def status(run: str | None) -> None:
    """How a run stands: trials, observed front, failures."""
    from sweeper.summary import status_summary

    folder = _folder(run)
    with _open(folder) as store:
        click.echo(status_summary(store, _config(store), _is_live(folder)))


@cli.command()
@RUN
@click.option("--cost", help="The best that costs no more, e.g. 30s (default: whatever it costs).")
@click.option(
    "--format", "form", type=click.Choice(["text", "yaml", "json"]), default="text", show_default=True
)
def best(run: str | None, cost: str | None, form: str) -> None:
    """The best setting of a run, for a cost."""
    import json

    from sweeper.summary import member_summary, settings, settings_yaml

    folder = _folder(run)
    with _open(folder) as store:
        config = _config(store)
        member = _member(_rebuild(store, config).front(), config, cost)
    if form == "yaml":
        click.echo(settings_yaml(config, member.params), nl=False)
    elif form == "json":
        names = ("score", "cost", "trial", "shorter", "score_sd", "success", "low", "high")
        row = {name: getattr(member, name) for name in names}
        click.echo(json.dumps({**row, "params": settings(config, member.params)}, indent=1))
    else:
        click.echo(member_summary(config, member))


# ---------------------------------------------------------------- steering


@cli.command()
@RUN
@click.option("--finish", is_flag=True, help="Let the trials that run come to their end first.")
def stop(run: str | None, finish: bool) -> None:
    """Stop a run; `sweep run` goes on later.

    Trials that run are ended, and run again then.
    """
    import time

    folder = _folder(run)
    _ask(folder, "finish" if finish else "stop")
    while not finish and _is_live(folder):
        time.sleep(0.05)


@cli.command()
@RUN
def pause(run: str | None) -> None:
    """Start no more trials until `sweep resume`.

    Trials that run go on. The pause outlives the process: `sweep run` waits, too.
    """
    _ask(_folder(run), "pause")


@cli.command()
@RUN
def resume(run: str | None) -> None:
    """End a pause."""
    _ask(_folder(run), "resume")


@cli.command()
@RUN
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="A parameter, e.g. lr=0.01.")
@click.option("--like", type=click.IntRange(min=1), metavar="TRIAL", help="All else as in this trial.")
def enqueue(run: str | None, values: tuple[str, ...], like: int | None) -> None:
    """Have params tried next.

    What is not set is as in the trial that --like names, or at its start value.
    """
    from sweeper.control import completed

    folder, given = _folder(run), _settings(values)
    with _open(folder) as store:
        space = _config(store).space()
        try:
            params = space.start() if like is None else store.trial(like).params
            params = completed(space, params, given)
        except KeyError:
            raise click.UsageError(f"--like {like}: there is no such trial") from None
        except ValueError as error:
            raise click.UsageError(f"--set {error}") from None
    _ask(folder, "enqueue", {"params": params})


@cli.command()
@click.argument("trial", type=click.IntRange(min=1))
@RUN
@click.option("--undo", is_flag=True, help="Have it count again.")
def exclude(trial: int, run: str | None, undo: bool) -> None:
    """Leave TRIAL's result out of the models and the front.

    It stays in the database. Its cost stays spent.
    """
    _ask(_folder(run), "include" if undo else "exclude", {"trial": trial})


def _ask(folder: Path, kind: str, data: dict[str, Any] | None = None) -> None:
    from sweeper import control

    try:
        click.echo(control.ask(folder, kind, data))
    except control.Refused as refusal:
        raise click.UsageError(str(refusal)) from None


@cli.command()
@RUN
def repair(run: str | None) -> None:
    """Check a run's database, and mend it from the trials' own folders.

    A torn database is kept beside the new one. Trials whose results are gone run again.
    """
    from sweeper.repair import catch_up, own_config, remembered
    from sweeper.repair import repair as write_anew
    from sweeper.store import Store, StoreDamaged

    folder = _folder(run)
    try:
        with Store.open(folder) as store:
            click.echo(catch_up(store) or f"{store.folder / 'run.db'} is whole: {_counted(store)}")
    except StoreDamaged as damage:
        click.echo(damage)
        origin = remembered(folder).get("folder", folder)  # the file there is a copy
        store, said = write_anew(folder, own_config(folder, origin))
        with store:
            click.echo(f"{said}: {_counted(store)}")


def _counted(store: Store) -> str:
    return ", ".join(f"{count} {status}" for status, count in store.counts().items() if count) or "no trials"


@cli.group()
def plot() -> None:
    """Pictures of a run."""


PNG = click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="The PNG [default: in the run's folder]."
)


@plot.command("pareto")
@RUN
@PNG
def plot_pareto(run: str | None, output: str | None) -> None:
    """Score over cost with the front, as a PNG."""
    path = _png(run, output, "pareto.png")
    with _open(_folder(run)) as store:
        config = _config(store)
        click.echo(_draw(store, config, _rebuild(store, config), path))


@plot.command("parameters")
@RUN
@PNG
def plot_parameters(run: str | None, output: str | None) -> None:
    """What changing one parameter alone does to the score, at three budgets, as a PNG."""
    from sweeper.slices import plot_parameters as draw

    path = _png(run, output, "parameters.png")
    with _open(_folder(run)) as store:
        config = _config(store)
        tuner, trials = _rebuild(store, config), _shown(store)
        if sum(trial.status == "done" for trial in trials) < 3:
            raise click.ClickException("fewer than three trials are done: nothing is known of the parameters")
        names = {"name": config.name, "score_name": config.metric.name, "cost_name": config.cost.name}
        click.echo(draw(path, tuner, trials, **names))


def _png(run: str | None, output: str | None, default: str) -> Path:
    if output is not None and Path(output).suffix.lower() != ".png":
        raise ConfigError("", f"-o {output}: it writes PNGs only", f"call it {Path(output).stem}.png")
    return _writable("-o", output) if output else _folder(run) / default


def _writable(option: str, path: str) -> Path:
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise ConfigError("", f"{option} {path}: there is no such folder", "make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError("", f"{option} {path}: it may not be written", "name another file")
    return Path(path)


@cli.command()
@RUN
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="A file [default: standard output].")
def export(run: str | None, form: str, output: str | None) -> None:
    """All trials of a run with their params."""
    from sweeper.export import as_csv, as_json
    from sweeper.files import write_whole

    path = _writable("-o", output) if output else None
    with _open(_folder(run)) as store:
        text = (as_csv if form == "csv" else as_json)(store.trials())
    if path is not None:
        write_whole(path, text.encode())
    else:
        click.echo(text, nl=False)


@cli.command()
@RUN
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(2, 1000), help="Fresh seeds.")
@click.option("--cost", help="Verify the best that costs no more, e.g. 30s (default: whatever it costs).")
@click.option("--front", "whole", is_flag=True, help="Verify every setting on the front, cheapest first.")
def verify(run: str | None, seeds: int, cost: str | None, whole: bool) -> int:
    """Run the best setting again with fresh seeds.

    Says each score, their mean, and its interval.
    """
    from sweeper.verify import verify as run_again

    folder = _folder(run)
    with _open(folder) as store:
        config = _config(store)
        front = _rebuild(store, config).front()
        members = front if whole and front else [_member(front, config, cost)]
    return max(run_again(config, member, seeds, click.echo) for member in members)


# ---------------------------------------------------------------- without a run


@cli.command()
@click.argument("environment")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, e.g. learning_rate=0.01."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--threads", default=None, type=click.IntRange(min=1), help="Threads for environments and torch."
)
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="A file to keep it in, and go on from.")
def train(
    environment: str, settings: tuple[str, ...], seed: int, threads: int | None, checkpoint: str | None
) -> int:
    """Train one agent in ENVIRONMENT, without a sweep.

    ENVIRONMENT is a bundled name, the path of a header or of its folder, or gymnasium:NAME. With a
    checkpoint Ctrl-C ends it after the rollout that it is at, and the same command goes on.
    """
    from sweeper import objectives
    from sweeper.progress import TrainingLine
    from sweeper.summary import training_summary

    values = _settings(settings)
    if threads is not None:
        values["threads"] = threads
    if checkpoint is not None:
        _writable("--checkpoint", checkpoint)
    chosen = _environment(environment)
    if checkpoint is None:
        with TrainingLine() as line:
            result, stopped = objectives.train_once(chosen, values, seed, line), False
    else:
        with TrainingLine() as line, _interrupted() as interrupted:
            result = objectives.train_once(chosen, values, seed, line, checkpoint, interrupted)
            stopped = interrupted()
    click.echo(training_summary(result))
    if stopped:
        click.echo("interrupted: the same command goes on", err=True)
        return 130
    return 1 if result.failure else 0


@contextlib.contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed, within; pressed again, it interrupts as ever."""
    import signal

    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        signal.signal(number, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGINT, before)


@cli.command()
@click.argument("environment")
@click.option(
    "--checkpoint", type=click.Path(exists=True, dir_okay=False), help="Play the policy of this file."
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps [default: until the episode ends].")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--gif", type=click.Path(), help="Write an animated picture instead, of 40 to 300 steps.")
def play(environment: str, checkpoint: str | None, steps: int | None, seed: int, gif: str | None) -> int:
    """Watch ENVIRONMENT played, at random or by a policy.

    The policy is one that `sweep train ENVIRONMENT --checkpoint FILE` has kept. Piped, it is plain lines. A
    GIF that is there is replaced, another file is left alone.
    """
    from sweeper import objectives
    from sweeper.play import film, show

    game = objectives.game(_environment(environment), seed, checkpoint)
    interrupted = film(game, steps, Path(gif), sys.stdout) if gif else show(game, steps, sys.stdout)
    return 130 if interrupted else 0


@cli.group(cls=_InOrder)
def env() -> None:
    """Environments of your own: begin one, check one."""


@env.command("check")
@click.argument("environment")
def env_check(environment: str) -> int:
    """Hold ENVIRONMENT to the contract that the bundled ones keep.

    ENVIRONMENT is a header, its folder, or a bundled name. It is compiled and run, with the compiler's
    sanitizers as well, for some seconds. Exit code 1: it is broken; 2: there is none, or it does not compile.
    """
    import ocean
    from ocean.contract import MENDS, ContractError, outcomes, speed
    from sweeper import objectives
    from sweeper.logs import printable
    from sweeper.summary import environment_summary

    if objectives.is_gymnasium(environment):
        said = f"{environment} is Gymnasium's, and no header to check"
        raise ConfigError("", said, "gymnasium.utils.env_checker.check_env looks at those")
    path = _environment(environment)
    done: list[str] = []
    left_out: list[str] = []
    try:
        spec = ocean.spec(path)
        for name, error in outcomes(path):
            if isinstance(error, ContractError):
                click.echo(printable(f"{spec.name} is broken: {name}: {error}"), err=True)
                click.echo(f"  hint: {MENDS[name]}; then check again", err=True)
                return 1
            if error is None:
                done.append(name)
            else:
                left_out.append(f"{name} ({error})")
    except (ValueError, ocean.BuildError) as error:
        raise ConfigError("", printable(str(error))) from None
    click.echo(environment_summary(spec, speed(path), done, left_out))
    return 0


@env.command("new")
@click.argument("name")
@click.option(
    "--folder", default=".", type=click.Path(file_okay=False), help="Where NAME/ is made [default: here]."
)
def env_new(name: str, folder: str) -> None:
    """Write a small environment that works, NAME/NAME.h, to change into yours."""
    import ocean

    try:
        made = ocean.write_skeleton(name, folder)
    except ValueError as error:
        raise ConfigError("", str(error)) from None
    except FileExistsError as error:
        raise ConfigError("", f"{error.filename} is there already", "choose another name") from None
    except OSError as error:
        said = f"{error.filename}: {str(error.strerror).lower()}"
        raise ConfigError("", said, "choose a --folder that you may write into") from None
    shown = str(made) if made.is_absolute() else f"./{made}"
    click.echo(f"{shown}/{name}.h is yours to change. Then:")
    for command in ("env check", "play", "train"):
        click.echo(f"  sweep {command} {shlex.quote(shown)}")


def _environment(text: str) -> str:
    """A bundled or Gymnasium's name as it is, else the absolute path of a header: its own or its folder's."""
    import ocean
    from sweeper import objectives

    if text in ocean.names() or objectives.is_gymnasium(text):
        return text
    try:  # a folder here needs no slash
        return str(ocean.find(os.path.abspath(text) if os.path.isdir(text) else text))
    except ValueError as error:
        raise ConfigError("", str(error)) from None


def _settings(pairs: Iterable[str]) -> dict[str, Any]:
    """`key=value` texts as a mapping; values are read as YAML reads them."""
    from sweeper.yaml12 import read_yaml

    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError("", f"--set '{pair}' is not key=value", "write e.g. --set learning_rate=0.01")
        try:
            values[key.strip()] = read_yaml(text)
        except ConfigError as error:
            raise ConfigError(f"--set {pair}", error.message, error.mend) from None
    return values


@cli.command()
def doctor() -> None:
    """Say what this machine has (compilers, GPU, torch), and what will run where."""
    from sweeper import objectives
    from sweeper.logs import printable

    for name, text in objectives.found():
        click.echo(printable(f"{name:<12}{text}"))


@cli.group()
def bench() -> None:
    """Measure the proposer itself."""


@bench.command("synthetic")
@click.argument("tasks", nargs=-1)
@click.option("--seeds", default=10, show_default=True, type=click.IntRange(1, 1000), help="Sweeps a task.")
@click.option(
    "--trials", default=80, show_default=True, type=click.IntRange(4, 10_000), help="Trials a sweep."
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes [default: one a core].")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False), help="A folder for pictures and results.json."
)
def synthetic(
    tasks: tuple[str, ...], seeds: int, trials: int, workers: int | None, output: str | None
) -> None:
    """Sweep TASKS whose true front is known (default: all).

    Beside each: random search, and what a chooser that knows the task could do.
    """
    from sweeper.bench import run_bench

    run_bench(tasks or None, seeds, trials, workers, output, click.echo)


# ---------------------------------------------------------------- runs on disk


def _folder(run: str | None) -> Path:
    """The folder of a run given by name or folder; of the latest where none is given."""
    if run is not None:
        for folder in (RUNS / run, Path(run)):
            if (folder / "run.db").exists():
                return folder
        import difflib

        names = [path.parent.name for path in RUNS.glob("*/run.db")]
        close = difflib.get_close_matches(run, names, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(sorted(names)) or 'none'}"
        raise click.UsageError(f"no run called '{run}' under {RUNS}/; {hint}")
    found = {path.parent: _touched(path.parent) for path in RUNS.glob("*/run.db")}
    if not found:
        raise click.UsageError(f"no runs under {RUNS}/ here; start one with `sweep run CONFIG`")
    return max(found, key=lambda folder: found[folder])


def _touched(folder: Path) -> float:
    return max(path.stat().st_mtime for name in ("run.db", "run.db-wal") if (path := folder / name).exists())


def _is_live(folder: Path) -> bool:
    """Whether some process holds the run's lock."""
    import fcntl

    try:
        with (folder / "run.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open(folder: Path) -> Store:
    from sweeper.store import Store

    return Store.open(folder, readonly=True)


def _config(store: Store) -> SweepConfig:
    from sweeper.config import restore

    folder, file = store.meta().get("folder", "."), str(store.folder / "config.yaml")
    return restore(store.settings(), folder=folder, source=store.config_text(), file=file)


def _rebuild(store: Store, config: SweepConfig) -> Sweeper:
    from sweeper.loop import rebuild

    return rebuild(store)


def _member(front: Sequence[Member], config: SweepConfig, cost: str | None) -> Member:
    """The best of the front, or the best that costs no more than `cost` (text with the cost's unit)."""
    if not front:
        raise click.ClickException("no trial has a result that counts (see `sweep status`): there is no best")
    if cost is None:
        return front[-1]
    from sweeper.units import format_cost

    limit = parse_cost(cost, config)
    shown = format_cost(limit, config.cost.name)  # what is typed was read off a table, rounded
    affordable = [m for m in front if m.cost <= limit or format_cost(m.cost, config.cost.name) == shown]
    if not affordable:
        cheapest = format_cost(front[0].cost, config.cost.name)
        raise click.ClickException(f"nothing on the front costs that little; the cheapest costs {cheapest}")
    return affordable[-1]


def parse_cost(text: str, config: SweepConfig) -> float:
    """A cost as typed: a duration where the cost is in seconds, a number otherwise."""
    from sweeper.units import parse_duration, parse_number

    try:
        cost = parse_duration(text) if config.cost.name == "seconds" else parse_number(text)
        if not cost > 0:
            raise ValueError
        return cost
    except ValueError as error:
        name = config.cost.name
        said = str(error) if name == "seconds" else f"'{text}' is not a number of {name} above 0"
        raise click.BadParameter(said, param_hint="--cost") from None


def _shown(store: Store) -> list[TrialRow]:
    return [trial for trial in store.trials(points=False) if not trial.excluded]


def _draw(store: Store, config: SweepConfig, sweeper: Sweeper, path: Path) -> Path:
    from sweeper.plots import plot_pareto as draw

    elapsed = store.meta().get("elapsed")
    return draw(
        path,
        _shown(store),
        sweeper.front(),
        name=config.name,
        goal=config.metric.goal,
        score_name=config.metric.name,
        cost_name=config.cost.name,
        elapsed=float(elapsed) if elapsed else None,
    )


if __name__ == "__main__":
    main()
