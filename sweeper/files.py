"""Files that are always whole."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`, which holds the old or the new, also where the disk is full.

    Raises OSError with the file's name.
    """
    if path.exists() and not path.is_file():  # a device, a pipe
        path.write_bytes(content)
        return
    target = path.resolve()  # of a link, the file that it leads to
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(target)
    except OSError as error:
        if draft.exists():
            draft.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None
