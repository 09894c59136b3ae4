"""What holds for all tests."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell's background jobs ignore Ctrl-C, and so would all that tests start there to send them one.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def slots_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sweeps of tests wait neither for those of tests beside them nor for any other on this machine."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder
