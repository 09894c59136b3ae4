"""What holds for all tests."""

import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

# A shell's background jobs ignore Ctrl-C, and so would all that tests start there to send them one.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests run beside each other: torch's threads, which wait for one that has no core, took ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def slots_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sweeps of tests wait neither for those of tests beside them nor for any other on this machine."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def fork_server_that_lives() -> None:
    """Tests that supervise a command in this process end all its children: a fork server of an earlier test
    too, which multiprocessing would go on looking for."""
    server = forkserver._forkserver
    try:
        os.kill(server._forkserver_pid or os.getpid(), 0)
    except ProcessLookupError:
        server._forkserver_pid = None
