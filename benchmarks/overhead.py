"""What a trial of a command costs beyond the command itself.

    python -P benchmarks/overhead.py

A shell script that prints one line of JSON is run bare and as a trial, one worker, in turn; both medians.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from sweeper import config, executors

SCRIPT = """echo '{"score": 1, "cost": 1}'"""


def measure(trials: int) -> tuple[float, float]:
    """(seconds of the bare command, seconds from one result of a trial to the next), medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run.sh").write_text(SCRIPT)
        text = "objective: {command: 'sh run.sh {x}'}\nworkers: {count: 1}\nparameters: {x: {min: 0, max: 1}}"
        loaded = config.parse(f"name: overhead\n{text}\n", folder=folder)
        bare = []
        for _ in range(trials):
            began = time.perf_counter()
            subprocess.run(["sh", "run.sh", "0.5"], cwd=folder, capture_output=True, check=True)
            bare.append(time.perf_counter() - began)
        ends = []
        for _, result in executors.evaluate(loaded, [({"x": 0.5}, 0)] * (trials + 1), folder / "trials"):
            assert result.status == "done", result.message
            ends.append(time.perf_counter())
        gaps = [after - before for before, after in itertools.pairwise(ends)]
        return statistics.median(bare), statistics.median(gaps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    bare, trial = measure(parser.parse_args().trials)
    print(
        f"bare {1000 * bare:.1f} ms, as a trial {1000 * trial:.1f} ms, "
        f"overhead {1000 * (trial - bare):.1f} ms"
    )
