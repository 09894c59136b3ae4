"""`python -m benchmarks.proposer run | table | plot | pack | checks | ablations`: see README.md here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.proposer import run as running
from benchmarks.proposer.proposers import PROPOSERS, MissingPeer
from benchmarks.proposer.tasks import TASKS


def _names(text: str, known: list[str], what: str) -> list[str]:
    """A comma-separated list, `all`, or for tasks `open` and `held-out`."""
    if text == "all":
        return known
    if text in ("open", "held-out") and what == "task":
        return [name for name in known if TASKS[name].held_out == (text == "held-out")]
    names = text.split(",")
    for name in names:
        if name not in known:
            raise SystemExit(f"no such {what} as {name!r}: {', '.join(known)}")
    return names


def _seeds(text: str) -> list[int]:
    """`0-19`, `3`, `1,5-7`."""
    seeds: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        seeds += range(int(low), int(high or low) + 1)
    return seeds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proposer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run sweeps that are not in the folder yet")
    run.add_argument("--proposers", default="ours,random", help="names, or all")
    run.add_argument("--tasks", default="all", help="names, all, open or held-out")
    run.add_argument("--seeds", default="0-19", help="like 0-19 or 1,5-7")
    run.add_argument("--trials", type=int, default=100)
    run.add_argument(
        "--enough", type=int, help="trials after which a sweep ends once the large cost is spent"
    )
    run.add_argument("--minutes", type=float, help="begin no sweep after so many")
    run.add_argument("--out", type=Path, default=running.RESULTS)
    for name, help_text in (("table", "write RESULTS.md"), ("plot", "draw the pictures")):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("folders", type=Path, nargs="*", default=[running.RESULTS],
                             help="of results; a proposer's are of the last that has any")  # fmt: skip
        command.add_argument("--out", type=Path, help="a folder; default: the last of the results' folders")
        command.add_argument("--tasks", default="all")
    pack = commands.add_parser("pack", help="sort the files and pack the large ones")
    pack.add_argument("folder", type=Path, nargs="?", default=running.RESULTS)
    checks = commands.add_parser("checks", help="stalls, waste, failures, workers, calibration of ours")
    checks.add_argument("--only", default="all", help="names from CHECKS in checks.py")
    ablations = commands.add_parser("ablations", help="ours with each ingredient taken out")
    for command, tasks in ((checks, "all"), (ablations, "open")):
        command.add_argument("--tasks", default=tasks, help="of calibration or ablations: names, all, open")
        command.add_argument("--seeds", default="0-19" if command is checks else "0-4")
        command.add_argument("--trials", type=int, default=100)
    chosen = parser.parse_args(arguments)
    if chosen.command == "pack":
        for path in running.pack(chosen.folder):
            print(path, path.stat().st_size)
        return 0
    tasks = _names(chosen.tasks, list(TASKS), "task")
    if chosen.command == "run":
        import torch

        torch.set_num_threads(1)
        names = _names(chosen.proposers, list(PROPOSERS), "proposer")
        try:
            running.run(
                names, tasks, _seeds(chosen.seeds), chosen.trials, chosen.out, chosen.enough, chosen.minutes,
                lambda line: print(line, flush=True),
            )  # fmt: skip
        except MissingPeer as error:
            print(error, file=sys.stderr)
            return 2
        return 0
    if chosen.command in ("checks", "ablations"):
        import torch

        torch.set_num_threads(1)
        from benchmarks.proposer import ablations as ablating
        from benchmarks.proposer import checks as checking

        def echo(line: str) -> None:
            print(line, flush=True)

        if chosen.command == "ablations":
            ablating.table([n for n in tasks if not TASKS[n].pool], _seeds(chosen.seeds), chosen.trials, echo)
        else:
            only = _names(chosen.only, list(checking.CHECKS), "check")
            checking.run(only, tasks, _seeds(chosen.seeds), chosen.trials, echo)
        return 0
    from benchmarks.proposer import report

    out = chosen.out or chosen.folders[-1]
    out.mkdir(parents=True, exist_ok=True)
    made = report.plot if chosen.command == "plot" else report.table
    for path in made(chosen.folders, tasks, out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
