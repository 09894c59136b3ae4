"""A first environment of one's own: a folder with a header that works and its README."""

from __future__ import annotations

import shutil
from pathlib import Path

from ocean.header import FOLDER, names

README = """\
# NAME

An agent on a line of cells walks to the treasure at one end; at the other end is a pit.

**Observation**: float [2]: its place (-1 left end, 1 right end); where the treasure lies (-1 or 1).

**Action**: 2 choices: 0 left, 1 right.

**Reward**: 1 for the treasure, -1 for the pit, else 0.

**Episode**: terminal at either end; truncated after `max_steps`.

| setting | kind | default | range | meaning |
|---|---|---|---|---|
| `reach` | int | 5 | 1 to 50 | cells from the middle to either end |
| `max_steps` | int | 200 | 1 to 10000 | steps after which the episode is cut short |

**Score**: 1 for an episode that found the treasure, else 0.
- Random: 0.4 to 0.6
- Solved: 0.95 (the best is 1)
"""


def write_skeleton(name: str, folder: str | Path = ".") -> Path:
    """Write `folder`/`name` with `name`.h and README.md; gives the new folder.

    Raises ValueError for a name that is no C identifier or that is taken, FileExistsError where there is
    such a folder or file, OSError where it cannot be written.
    """
    if not (name.isascii() and name.isidentifier() and len(name) <= 64):
        raise ValueError(f"{name!r} is no C identifier: use letters, digits and _, no digit first")
    if name in (*names(), "ocean"):
        raise ValueError(f"{name!r} is the name of a bundled environment or header: choose another")
    made = Path(folder) / name
    made.parent.mkdir(parents=True, exist_ok=True)
    made.mkdir()
    header = (FOLDER / "skeleton.h").read_text(encoding="utf-8")
    header = header.replace("NAME_ENV_H", f"{name.upper()}_ENV_H").replace("NAME:", f"{name}:")
    try:
        (made / f"{name}.h").write_text(header, encoding="utf-8")
        (made / "README.md").write_text(README.replace("NAME", name), encoding="utf-8")
    except OSError as error:  # a full disk: the next attempt is to find the name free
        shutil.rmtree(made)
        raise OSError(error.errno, error.strerror, str(made)) from None
    return made
