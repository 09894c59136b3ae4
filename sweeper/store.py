"""The memory of a run: one SQLite file, one writer, any number of readers.

A run is a folder with `config.yaml`, `run.db`, `run.lock` and `trials/000012/...`. The database is in WAL
mode with synchronous=FULL: what a COMMIT returned for survives a power cut, and nothing else counts.

The schema is stable, query it as you like (times are Unix seconds, JSON columns are text):

- `meta` (key, value): name, id, created, version, config (the YAML text as given), settings (JSON: what
  the config came to, defaults and overrides in it), elapsed (seconds of all sessions, pauses left out),
  ended (why), folder (of the config), paused (there while the run is)
- `trials` (number, status, params, origin, score, cost, failure, message, started, seconds, attempts,
  worker, excluded): status is queued, running, done, failed, stopped or lost; params is JSON; origin the
  rule that proposed it; failure a name and message a line about it; seconds wall clock; attempts times
  started; excluded 1 where the user took the result out of the models and the front
- `points` (trial, idx, step, cost, score): the learning curves in the order reported
- `events` (id, time, kind, trial, data): all that happened, in order, never changed; data is JSON

Kinds of events: `ask` (data: the proposal's record), `tell` (score and cost, or points, or failure and
cost), `withdraw`, `observe` (params and a result), `exclude` and `include` are the proposer's history:
replayed in their order through a fresh proposer they give the recorded proposals. `enqueue` (data: params
that the user wants tried) and `dequeue` (the trial they became; data: the enqueue's id), `pause`, `resume`,
`start`, `end`, `lost`, `interrupted`, `config` (data: the settings from here on), `session` and `note` tell
the rest of the story.

`PRAGMA user_version` is the version of the schema. A database of an older one is read as it is, and brought
up to date, in one transaction, when it is next opened to be written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

APPLICATION_ID = 0x53574550  # "SWEP"
SCHEMA_VERSION = 2
STATUSES = ("queued", "running", "done", "failed", "stopped", "lost")
PROPOSER_KINDS = ("ask", "tell", "stop", "withdraw", "observe", "exclude", "include")

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trials (
    number INTEGER PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'stopped', 'lost')),
    params TEXT NOT NULL,
    origin TEXT NOT NULL DEFAULT '',
    score REAL, cost REAL,
    failure TEXT, message TEXT NOT NULL DEFAULT '',
    started REAL, seconds REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker INTEGER,
    excluded INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE points (
    trial INTEGER NOT NULL REFERENCES trials (number),
    idx INTEGER NOT NULL,
    step REAL, cost REAL NOT NULL, score REAL NOT NULL,
    PRIMARY KEY (trial, idx)
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    trial INTEGER REFERENCES trials (number),
    data TEXT NOT NULL DEFAULT '{}'
);
"""

_DISK = re.compile("disk is full|disk I/O error|readonly database|unable to open")  # SQLite's words
# What leads from each version of the schema to the next.
_MIGRATIONS = {1: "ALTER TABLE trials ADD COLUMN excluded INTEGER NOT NULL DEFAULT 0"}

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "glusterfs", "9p"}
_NETWORK_FILESYSTEMS |= {
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.rclone",
    "beegfs",
    "gpfs",
    "ncpfs",
}


class StoreError(RuntimeError):
    """A run's folder cannot be used; the message says why and what to do."""


class RunLocked(StoreError):
    """Another process is writing this run."""


class StoreDamaged(StoreError):
    """The database is torn; `sweeper.repair` makes another from the trials' folders."""


class Point(NamedTuple):
    """One place on a learning curve; `step` is None where the objective reported none."""

    step: float | None
    cost: float
    score: float


@dataclass(frozen=True)
class TrialRow:
    """One trial as the database holds it."""

    number: int
    status: str
    params: dict[str, Any]
    origin: str = ""
    score: float | None = None
    cost: float | None = None
    failure: str | None = None
    message: str = ""
    points: tuple[Point, ...] = ()
    started: float | None = None
    seconds: float | None = None
    attempts: int = 0
    worker: int | None = None
    excluded: bool = False


@dataclass(frozen=True)
class Event:
    """One line of a run's history."""

    id: int
    time: float
    kind: str
    trial: int | None
    data: dict[str, Any] = field(default_factory=dict)


def _dumps(value: Any) -> str:
    """JSON that any reader understands: no NaN, keys in the order given."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class Lock:
    """The right to write a run, held by the kernel for this process: it cannot outlive it."""

    def __init__(self, folder: Path, patience: float = 0.0) -> None:
        self.path = folder / "run.lock"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    holder = os.pread(self._fd, 4096, 0).decode("utf-8", "replace")
                    os.close(self._fd)
                    raise RunLocked(f"{folder} is in use: {_describe_holder(holder)}") from error
                time.sleep(0.02)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        text = _dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": started})
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _describe_holder(text: str) -> str:
    try:
        holder = json.loads(text)
        pid, host, started = holder["pid"], holder["host"], holder["started"]
    except (ValueError, KeyError, TypeError):
        return "another process is writing it"
    return (
        f"process {pid} on {host} has been writing it since {started}; "
        "watch it with `sweep status`, or end it with `sweep stop` and start again"
    )


def _refuse_network(folder: Path) -> None:
    """SQLite's WAL and flock both need a local disk; say so before anything is lost."""
    if not MOUNTS.exists():
        return
    target, best, kind = os.fsencode(folder.resolve()), b"", ""
    for line in MOUNTS.read_bytes().splitlines():  # of any encoding, spaces and the like as \040
        left, _, right = line.partition(b" - ")
        point = left.split()[4].decode("unicode_escape").encode("latin-1")
        inside = target == point or target.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0].decode()
    if kind in _NETWORK_FILESYSTEMS:
        raise StoreError(
            f"{folder} lies on a network file system ({kind}), where a database can be torn; "
            "start from a folder on a local disk"
        )


class Store:
    """A run's database. Made by `create` or `open`; close it, or use it in a `with` statement."""

    def __init__(self, folder: Path, db: sqlite3.Connection, lock: Lock | None, scratch: str | None = None):
        self.folder = folder
        self.readonly = lock is None
        self._db, self._lock, self._scratch = db, lock, scratch
        self._depth = 0

    # Opening and closing

    @classmethod
    def exists(cls, folder: str | Path) -> bool:
        """Whether `folder` holds a run."""
        return (Path(folder) / "run.db").exists()

    @classmethod
    def create(cls, folder: str | Path, config: Any) -> Store:
        """Start a new run in `folder` (made if need be) and hold its lock.

        `config` is a SweepConfig: its name, source text and settings are kept. Raises StoreError where a
        run is already there, or where the disk is not a local one; RunLocked where somebody holds it.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_network(folder)
        lock = Lock(folder)
        try:
            if cls.exists(folder):
                raise StoreError(f"{folder} already holds a run; open it, or choose another name")
            _new_database(folder, config)
            (folder / "trials").mkdir(exist_ok=True)
            (folder / "config.yaml").write_text(config.source, encoding="utf-8")
            return cls(folder, _connect(folder / "run.db"), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: str | Path, readonly: bool = False, patience: float = 0.0) -> Store:
        """Open the run in `folder`, to write it (which takes its lock) or only to read.

        `patience`: seconds to wait for the lock, for whoever holds it but for a moment. Reading never waits
        for the writer and works in a folder that cannot be written. Raises StoreError where there is no run,
        or where `run.db` is something else or from a newer version; it is left as it is. RunLocked: somebody
        else is writing.
        """
        folder = Path(folder)
        path = folder / "run.db"
        if not path.exists():
            raise StoreError(f"there is no run in {folder} (no run.db)")
        if path.stat().st_size == 0:
            raise StoreDamaged(f"{path} is damaged: it is empty")
        if readonly:
            db, scratch = _connect_readonly(path)
            return cls(folder, db, None, scratch)
        _refuse_network(folder)
        lock = Lock(folder, patience)
        try:
            _connect_readonly_check(path)
            db = _connect(path)
            _migrate(db)
            return cls(folder, db, lock)
        except BaseException as error:
            lock.release()
            if isinstance(error, sqlite3.Error) and _DISK.search(str(error)):
                raise StoreError(f"{path} cannot be written: {error}; make room for it") from error
            raise

    def close(self) -> None:
        """Close the database and let go of the lock; may be called twice."""
        self._db.close()
        if self._lock is not None:
            self._lock.release()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        # A reader finds out on the way: it does not look through the whole file first.
        if isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error):
            raise StoreDamaged(f"{self.folder / 'run.db'} is damaged: {error}") from error

    # Reading

    def meta(self) -> dict[str, str]:
        """All of the meta table."""
        return {row["key"]: row["value"] for row in self._db.execute("SELECT key, value FROM meta")}

    def settings(self) -> dict[str, Any]:
        """The config as validated, defaults and overrides in it (JSON-able)."""
        settings: dict[str, Any] = json.loads(self.meta()["settings"])
        return settings

    def config_text(self) -> str:
        """The YAML text as it was given last."""
        return self.meta()["config"]

    def trials(self, status: str | None = None, points: bool = True) -> list[TrialRow]:
        """Trials by number; those of one status only, or without their points (faster), if wanted."""
        with self.snapshot():
            curves: dict[int, list[Point]] = {}
            if points:
                for row in self._db.execute(
                    "SELECT trial, step, cost, score FROM points ORDER BY trial, idx"
                ):
                    curves.setdefault(row["trial"], []).append(Point(row["step"], row["cost"], row["score"]))
            where, values = ("WHERE status = ?", (status,)) if status else ("", ())
            rows = self._db.execute(f"SELECT * FROM trials {where} ORDER BY number", values).fetchall()
        return [_trial_row(row, tuple(curves.get(row["number"], ()))) for row in rows]

    def trial(self, number: int) -> TrialRow:
        """One trial with its points; KeyError if there is none."""
        there = abs(number) < 1 << 63  # what SQLite can hold
        row = there and self._db.execute("SELECT * FROM trials WHERE number = ?", (number,)).fetchone()
        if not row:
            raise KeyError(f"no trial {number}")
        points = self._db.execute(
            "SELECT step, cost, score FROM points WHERE trial = ? ORDER BY idx", (number,)
        )
        return _trial_row(row, tuple(Point(*point) for point in points))

    def counts(self) -> dict[str, int]:
        """Number of trials in each status, all statuses named."""
        counts = dict.fromkeys(STATUSES, 0)
        counts.update(self._db.execute("SELECT status, count(*) FROM trials GROUP BY status").fetchall())
        return counts

    def history(self, kinds: Sequence[str] = PROPOSER_KINDS) -> list[Event]:
        """Events of these kinds in their order; by default the proposer's history. `()` gives all."""
        marks = ",".join("?" * len(kinds))
        where = f"WHERE kind IN ({marks})" if kinds else ""
        rows = self._db.execute(f"SELECT * FROM events {where} ORDER BY id", tuple(kinds))
        return [Event(r["id"], r["time"], r["kind"], r["trial"], json.loads(r["data"])) for r in rows]

    def trial_folder(self, number: int) -> Path:
        """Where trial `number` keeps params.json, reports.jsonl and log.txt."""
        return self.folder / "trials" / f"{number:06d}"

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads of one moment, whatever the writer does meanwhile."""
        if self._depth or not self.readonly:
            yield
            return
        self._db.execute("BEGIN")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._db.execute("COMMIT")

    # Writing: each call is one transaction; inside `transaction()` all calls together are one.

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the writes inside, or none. When the block ends they are on the disk."""
        if self._depth:
            yield
            return
        self._depth += 1
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not self.readonly and isinstance(error, sqlite3.Error) and _DISK.search(str(error)):
                raise StoreError(
                    f"{self.folder / 'run.db'} cannot be written: {error}; all that was recorded before is "
                    "safe, the same command goes on when there is room"
                ) from error
            raise
        finally:
            self._depth -= 1

    def set_meta(self, **values: str) -> None:
        """Set rows of the meta table."""
        with self.transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def add_event(self, kind: str, trial: int | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Append to the history."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO events (time, kind, trial, data) VALUES (?, ?, ?, ?)",
                (time.time(), kind, trial, _dumps(data or {})),
            )

    def add_trial(
        self,
        number: int,
        params: Mapping[str, Any],
        origin: str = "",
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """A new proposal: a queued trial, and the ask with the proposer's record of it."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO trials (number, status, params, origin) VALUES (?, 'queued', ?, ?)",
                (number, _dumps(params), origin),
            )
            self.add_event("ask", number, record)

    def start_trial(self, number: int, worker: int) -> None:
        """The trial runs from now; points of an earlier attempt are discarded."""
        with self.transaction():
            self._db.execute("DELETE FROM points WHERE trial = ?", (number,))
            self._db.execute(
                "UPDATE trials SET status = 'running', started = ?, attempts = attempts + 1, worker = ?,"
                " score = NULL, cost = NULL, failure = NULL, message = '', seconds = NULL WHERE number = ?",
                (time.time(), worker, number),
            )
            self.add_event("start", number, {"worker": worker})

    def add_points(self, number: int, points: Iterable[Point]) -> None:
        """Points of a running trial, as they come."""
        with self.transaction():
            (first,) = self._db.execute(
                "SELECT coalesce(max(idx) + 1, 0) FROM points WHERE trial = ?", (number,)
            ).fetchone()
            rows = [(number, first + i, p.step, p.cost, p.score) for i, p in enumerate(points)]
            self._db.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?)", rows)

    def end_trial(
        self,
        number: int,
        status: str,
        *,
        score: float | None = None,
        cost: float | None = None,
        failure: str | None = None,
        message: str = "",
        points: Sequence[Point] | None = None,
        seconds: float | None = None,
    ) -> None:
        """The trial is over (done, failed, stopped or lost); `points`, if given, replace those so far."""
        # A file's name in an error may hold bytes that are no text, and SQLite would not take them.
        message = message.encode("utf-8", "replace").decode()
        with self.transaction():
            if points is not None:
                self._db.execute("DELETE FROM points WHERE trial = ?", (number,))
                self.add_points(number, points)
            self._db.execute(
                "UPDATE trials SET status = ?, score = ?, cost = ?, failure = ?, message = ?, seconds = ?"
                " WHERE number = ?",
                (status, score, cost, failure, message, seconds, number),
            )
            self.add_event("end", number, {"status": status, "failure": failure})

    def requeue_trial(self, number: int, kind: str, data: Mapping[str, Any] | None = None) -> None:
        """The attempt did not count (`kind`: lost or interrupted): back into the queue without its points."""
        with self.transaction():
            self._db.execute("DELETE FROM points WHERE trial = ?", (number,))
            self._db.execute(
                "UPDATE trials SET status = 'queued', started = NULL, worker = NULL WHERE number = ?",
                (number,),
            )
            self.add_event(kind, number, data)

    def exclude_trial(self, number: int, excluded: bool) -> None:
        """Whether the trial's result is left out of the models and the front. The event that tells the
        proposer is the caller's to add, when the proposer is told."""
        with self.transaction():
            self._db.execute("UPDATE trials SET excluded = ? WHERE number = ?", (excluded, number))

    def change_config(self, config: Any, changed: bool = True) -> None:
        """Another version of the run's config holds from now on; not `changed`: only its text is another.

        The settings then stay as they are: the proposals hang on the order of the parameters, too.
        """
        with self.transaction():
            self.set_meta(name=config.name, config=config.source)
            if changed:
                settings = settings_of(config)
                self.set_meta(settings=_dumps(settings))
                self.add_event("config", None, settings)
        (self.folder / "config.yaml").write_text(config.source, encoding="utf-8")


def settings_of(config: Any) -> dict[str, Any]:
    """What a SweepConfig came to, as the store keeps it."""
    settings: dict[str, Any] = config.model_dump(mode="json", exclude={"source", "folder"})
    return settings


def _trial_row(row: sqlite3.Row, points: tuple[Point, ...]) -> TrialRow:
    values = dict(row)
    values["params"] = json.loads(values["params"])
    values["excluded"] = bool(values.get("excluded"))  # an older database, read as it is, has no such column
    return TrialRow(points=points, **values)


def _new_database(folder: Path, config: Any) -> None:
    """Complete or not there at all: written under another name, then renamed."""
    from sweeper import __version__

    draft = folder / f"run.db.{uuid.uuid4().hex}"
    settings = settings_of(config)
    try:
        db = _connect(draft)
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        meta = {
            "name": config.name,
            "id": uuid.uuid4().hex,
            "created": repr(time.time()),
            "version": __version__,
            "config": config.source,
            "settings": _dumps(settings),
            "elapsed": "0.0",
        }
        db.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        db.execute(
            "INSERT INTO events (time, kind, data) VALUES (?, 'config', ?)", (time.time(), _dumps(settings))
        )
        db.execute("COMMIT")
        db.close()
        os.replace(draft, folder / "run.db")
    except BaseException as error:
        for leftover in folder.glob(draft.name + "*"):
            leftover.unlink()
        if isinstance(error, sqlite3.Error) and _DISK.search(str(error)):
            raise StoreError(f"{folder / 'run.db'} cannot be written: {error}; make room for it") from error
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _migrate(db: sqlite3.Connection) -> None:
    """Bring an older database to this schema: all of the way, or it stays as it is."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for older in range(version, SCHEMA_VERSION):
            db.execute(_MIGRATIONS[older])
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _open_uri(path: Path, options: str) -> sqlite3.Connection:
    """A read-only connection that has proved itself by reading."""
    db = sqlite3.connect(f"{path.resolve().as_uri()}?{options}", uri=True, isolation_level=None, timeout=10)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _connect_readonly(path: Path) -> tuple[sqlite3.Connection, str | None]:
    """A reader's connection, and the scratch folder to remove afterwards if one was needed.

    A WAL database wants its `-shm` file made beside it. Where the folder cannot be written: without a WAL
    the file is complete in itself (immutable); with one, left by a killed writer, both are copied.
    """
    scratch = None
    try:
        try:
            db = _open_uri(path, "mode=ro")
        except sqlite3.OperationalError:
            wal = path.with_name(path.name + "-wal")
            if not wal.exists() or wal.stat().st_size == 0:
                db = _open_uri(path, "mode=ro&immutable=1")
            else:
                scratch = tempfile.mkdtemp(prefix="sweep-read-")
                shutil.copyfile(path, Path(scratch) / path.name)
                shutil.copyfile(wal, Path(scratch) / wal.name)
                db = _open_uri(Path(scratch) / path.name, "mode=rw")
        try:
            _check_identity(db, path)
        except BaseException:
            db.close()
            raise
    except BaseException as error:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        # A power cut may leave nothing of a file's beginning; where trials lie beside it, it was a run's.
        torn = "not a database" in str(error) and (path.parent / "trials").is_dir()
        if isinstance(error, sqlite3.DatabaseError) and ("malformed" in str(error) or torn):
            raise StoreDamaged(f"{path} is damaged: {error}") from error
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{path} cannot be read as a run's database: {error}") from error
        raise
    return db, scratch


def _connect_readonly_check(path: Path) -> None:
    """Refuse a foreign, newer or torn database before opening it to write, which could change it."""
    db, scratch = _connect_readonly(path)
    try:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreDamaged(f"{path} is damaged: {verdict}")
    except sqlite3.DatabaseError as error:
        raise StoreDamaged(f"{path} is damaged: {error}") from error
    finally:
        db.close()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _check_identity(db: sqlite3.Connection, path: Path) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is not a run's database (another program made it); it was left as it is")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer sweep (schema {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade pareto-sweeper to use it"
        )
