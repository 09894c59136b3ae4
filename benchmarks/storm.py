"""A sweep under fire: SIGKILL to driver, workers and trials at random moments, and what is left of it.

    python -P benchmarks/storm.py --kills 300

One sweep of a command that sleeps for a moment. A killed driver is started again at once. At the end: every
result that any reader ever saw in the database is there as it was, once; no trial ran again after its result
was seen; the database passes its check; the recorded history gives the recorded proposals; and after one more
start and stop no process of the storm is left.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from sweeper import control, loop, processes
from sweeper.history import ran
from sweeper.store import Store, TrialRow

CONFIG = """
name: storm
objective: {command: "{python} trial.py {lr} {steps}"}
cost: {name: cost}
budget: {trials: 100000}
workers: {count: 2}
parameters:
  lr: {distribution: log, min: 1e-4, max: 0.1}
  steps: {distribution: log, type: int, min: 10, max: 1000}
"""
TRIAL = """
import json, os, sys, time
lr, steps = float(sys.argv[1]), int(sys.argv[2])
trial = int(os.path.basename(os.environ["SWEEP_TRIAL_DIR"]))
with open("calls.txt", "a") as calls:
    calls.write(f"{time.time()} {trial}\\n")
for i in (1, 2, 3):
    print(json.dumps({"score": steps * (1 - abs(lr - 0.01)) * i / 3, "cost": steps * i / 3}), flush=True)
    time.sleep(SECONDS / 3)
"""
DRIVER = """
from sweeper import config, loop
loop.run(config.load("storm.yaml"), "run")
"""
KINDS = ("driver", "worker", "trial")


class Storm:
    """The sweep in `folder`, and what was seen of it."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.token = f"SWEEP_STORM={uuid.uuid4().hex}"
        self.seen: dict[int, TrialRow] = {}
        self.seen_at: dict[int, float] = {}
        self.problems: list[str] = []
        (folder / "storm.yaml").write_text(CONFIG)
        (folder / "trial.py").write_text(TRIAL.replace("SECONDS", str(seconds)))
        self.driver = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """A driver that goes on where the last one was."""
        name, _, value = self.token.partition("=")
        with (self.folder / "driver.log").open("ab") as log:
            command = [sys.executable, "-P", "-c", DRIVER]
            environment = {**os.environ, name: value}
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def look(self) -> None:
        """Remember what is acknowledged; it is never to change."""
        if not Store.exists(self.folder / "run"):
            return
        with Store.open(self.folder / "run", readonly=True) as store:
            for row in store.trials():
                if ran(row):
                    if self.seen.setdefault(row.number, row) != row:
                        self.problems.append(f"trial {row.number} changed: {self.seen[row.number]} -> {row}")
                    self.seen_at.setdefault(row.number, time.time())

    def kill(self, kind: str) -> bool:
        """SIGKILL to one process of this kind; False where there is none now."""
        if kind == "driver":
            self.driver.kill()
            self.driver.wait()
            time.sleep(self.random.uniform(0, 0.1))
            self.driver = self.start()
            return True
        below = processes.descendants(self.driver.pid)
        scripts = [pid for pid in below if (b"trial.py" in _arguments(pid)) == (kind == "trial")]
        if not scripts:
            return False
        processes.kill(self.random.choice(scripts))
        return True

    def halt(self) -> None:
        """Stop the driver; one that has just begun may not have heard the first word."""
        deadline = time.monotonic() + 60
        while self.driver.poll() is None and time.monotonic() < deadline:
            control.ask(self.folder / "run", "stop")
            try:
                self.driver.wait(3)
            except subprocess.TimeoutExpired:
                continue
        if self.driver.poll() is None:
            self.problems.append("the driver could not be stopped")
            self.driver.kill()
            self.driver.wait()

    def end(self) -> None:
        """Stop cleanly, start and stop once more, and see what is left."""
        self.look()
        self.halt()
        self.driver = self.start()
        self.halt()
        left = processes.kill_marked(self.token)
        if left:
            self.problems.append(f"{left} processes were left")
        self.look()
        with Store.open(self.folder / "run", readonly=True) as store:
            self.problems += loop.verify_history(store)
            tells = Counter(event.trial for event in store.history(("tell",)))
            self.problems += [f"trial {number} was told {n} times" for number, n in tells.items() if n > 1]
        with sqlite3.connect(self.folder / "run" / "run.db") as db:
            ((verdict,),) = db.execute("PRAGMA integrity_check").fetchall()
        db.close()
        if verdict != "ok":
            self.problems.append(f"integrity_check: {verdict}")
        for line in (self.folder / "calls.txt").read_text().splitlines():
            moment, trial = line.split()
            if float(moment) > self.seen_at.get(int(trial), float("inf")):
                self.problems.append(f"trial {trial} ran again after its result was seen")


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def storm(folder: Path, kills: int, seconds: float, seed: int) -> tuple[Storm, Counter[str]]:
    """So many kills on one sweep, whose trials take so many seconds; what they hit."""
    one, hit = Storm(folder, seconds, seed), Counter[str]()
    while not one.seen and one.driver.poll() is None:
        time.sleep(0.1)
        one.look()
    while hit.total() < kills:
        time.sleep(one.random.expovariate(1 / (2 * seconds)))
        one.look()
        if one.driver.poll() is not None:
            one.problems.append(f"the driver ended by itself: {(folder / 'driver.log').read_text()[-2000:]}")
            break
        kind = one.random.choices(KINDS, (1, 2, 2))[0]
        hit[kind] += one.kill(kind)
    one.end()
    return one, hit


def main() -> int:
    """The counts; 1 where anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one trial")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="storm-") as name:
        began = time.monotonic()
        one, hit = storm(Path(name), options.kills, options.seconds, options.seed)
        statuses = Counter(row.status for row in one.seen.values())
        runs = len((Path(name) / "calls.txt").read_text().splitlines())
    kinds = ", ".join(f"{hit[kind]} {kind}s" for kind in KINDS)
    print(f"{hit.total()} kills ({kinds}) in {time.monotonic() - began:.0f} s")
    print(f"{len(one.seen)} results seen: {dict(statuses)}; {runs} runs of trials")
    for problem in one.problems:
        print(f"PROBLEM: {problem}")
    print(
        "nothing lost, nothing twice, nothing left" if not one.problems else f"{len(one.problems)} problems"
    )
    return 1 if one.problems else 0


if __name__ == "__main__":
    sys.exit(main())
