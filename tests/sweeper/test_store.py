"""The store: what COMMIT returned for is there, one writer, readers anywhere, foreign files left alone."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper import config
from sweeper.store import APPLICATION_ID, SCHEMA_VERSION, Point, RunLocked, Store, StoreDamaged, StoreError

TEXT = "name: r\nobjective: {synthetic: log}\nparameters: {lr: {min: 0, max: 1}}\n"


def create(folder: Path) -> Store:
    return Store.create(folder, config.parse(TEXT))


def test_a_run_is_there_when_opened_again(tmp_path: Path) -> None:
    with create(tmp_path / "r") as store:
        store.add_trial(1, {"lr": 0.1, "mode": "fast", "on": True}, "design", {"number": 1, "params": {}})
        store.start_trial(1, worker=0)
        store.end_trial(1, "done", score=1.5, cost=0.1 + 0.2, points=[Point(None, 0.1 + 0.2, 1.5)], seconds=2)
    with Store.open(tmp_path / "r") as store:
        row = store.trial(1)
        assert (row.status, row.score, row.cost, row.attempts) == ("done", 1.5, 0.1 + 0.2, 1)
        assert row.params == {"lr": 0.1, "mode": "fast", "on": True}
        assert row.points == (Point(None, 0.1 + 0.2, 1.5),)
        assert store.config_text() == TEXT
        assert store.settings()["parameters"] == {"lr": {"min": 0, "max": 1}}
        assert store.counts() == {**dict.fromkeys(store.counts(), 0), "done": 1}
        assert [event.kind for event in store.history(())] == ["config", "ask", "start", "end"]


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with create(tmp_path / "r") as store:

        def twice() -> None:
            with store.transaction():
                store.add_trial(1, {})
                store.add_trial(1, {})

        with pytest.raises(sqlite3.IntegrityError):
            twice()
        assert store.trials() == []
        assert store.history() == []
        with pytest.raises(ValueError):
            store.add_trial(1, {"lr": float("nan")})
        with pytest.raises(sqlite3.IntegrityError):
            store.start_trial(7, worker=0)
        assert store.trials() == []


def test_a_disk_that_is_full_from_the_start_is_said(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from sweeper import config
from sweeper.store import Store, StoreError
made = config.parse({TEXT!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    Store.create(Path({str(tmp_path)!r}) / "r", made)
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert "run.db cannot be written: " in done.stdout, done.stderr
    assert "make room" in done.stdout
    assert not list((tmp_path / "r").glob("run.db*"))


def test_a_message_that_is_no_text_is_kept_as_far_as_it_is(tmp_path: Path) -> None:
    """An error that names a file whose name is not UTF-8, as Python has it."""
    with create(tmp_path / "r") as store:
        store.add_trial(1, {})
        store.start_trial(1, worker=0)
        store.end_trial(1, "failed", failure="crash", message="no such file: m\udcfcller.csv")
        assert store.trial(1).message == "no such file: m?ller.csv"


def test_another_attempt_discards_the_points_of_the_last(tmp_path: Path) -> None:
    with create(tmp_path / "r") as store:
        store.add_trial(1, {})
        store.start_trial(1, 0)
        store.add_points(1, [Point(1, 1, 1), Point(2, 2, 2)])
        store.requeue_trial(1, "interrupted")
        assert (store.trial(1).status, store.trial(1).points) == ("queued", ())
        store.start_trial(1, 0)
        store.add_points(1, [Point(1, 1, 5)])
        assert (store.trial(1).attempts, store.trial(1).points) == (2, (Point(1, 1, 5),))


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    with create(tmp_path / "r"):
        with pytest.raises(RunLocked, match=f"process {os.getpid()} on "):
            Store.open(tmp_path / "r")
        with pytest.raises(StoreError):
            create(tmp_path / "r")
    Store.open(tmp_path / "r").close()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = """
import sys
from sweeper import config, store
held = store.Store.create(sys.argv[1], config.parse(sys.argv[2]))
held.add_trial(1, {"lr": 0.5})
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "r"), TEXT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunLocked, match=str(holder.pid)):
            Store.open(tmp_path / "r")
        holder.send_signal(signal.SIGKILL)
    with Store.open(tmp_path / "r") as store:
        assert store.trial(1).params == {"lr": 0.5}


def test_readers_follow_a_live_writer(tmp_path: Path) -> None:
    with create(tmp_path / "r") as store, Store.open(tmp_path / "r", readonly=True) as reader:
        store.add_trial(1, {})
        assert reader.counts()["queued"] == 1
        store.start_trial(1, 0)
        assert reader.trial(1).status == "running"
        with pytest.raises(sqlite3.OperationalError):
            reader.add_trial(2, {})


@pytest.fixture
def sealed() -> Iterator[Path]:
    """A folder outside pytest's private one, which other users can reach but not write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed: WAL left"])
def test_readers_need_no_writable_folder(sealed: Path, killed: bool) -> None:
    run = sealed / "r"
    with create(run) as store:
        store.add_trial(1, {"lr": 0.25})
        if killed:  # what a killed writer leaves: the trial is in the WAL only
            for name in ("run.db", "run.db-wal"):
                (sealed / name).write_bytes((run / name).read_bytes())
    if killed:
        for name in ("run.db", "run.db-wal"):
            (sealed / name).replace(run / name)
    run.chmod(0o555)
    before = sorted(path.name for path in run.iterdir())
    code = """
import os, sys
from sweeper.store import Store
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
with Store.open(sys.argv[1], readonly=True) as store:
    print(store.trial(1).params["lr"], store.counts()["queued"])
"""
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    run.chmod(0o755)
    assert done.stdout == "0.25 1\n", done.stderr
    assert sorted(path.name for path in run.iterdir()) == before


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    path = folder / "run.db"

    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE recipes (name)")
    foreign.close()
    refused(folder, "not a run's database")

    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    refused(folder, "newer")

    path.write_bytes(b"not a database at all, but a text that is long enough" * 100)
    refused(folder, "cannot be read")


def refused(folder: Path, why: str) -> None:
    before = (folder / "run.db").read_bytes()
    for readonly in (True, False):
        with pytest.raises(StoreError, match=why):
            Store.open(folder, readonly=readonly)
    with pytest.raises(StoreError, match="already holds a run"):
        create(folder)
    assert (folder / "run.db").read_bytes() == before


def test_a_damaged_database_is_not_written(tmp_path: Path) -> None:
    with create(tmp_path / "r") as store:
        for number in range(1, 200):
            store.add_trial(number, {"lr": 0.5, "text": "x" * 100})
    path = tmp_path / "r" / "run.db"
    torn = bytearray(path.read_bytes())
    torn[5000:30000] = os.urandom(25000)
    path.write_bytes(torn)
    with pytest.raises(StoreError, match=r"damaged|cannot be read"):
        Store.open(tmp_path / "r")
    assert path.read_bytes() == torn


def test_a_reader_who_meets_the_damage_on_the_way_says_so(tmp_path: Path) -> None:
    with create(tmp_path / "r") as store:
        for number in range(1, 200):
            store.add_trial(number, {"lr": 0.5, "text": "x" * 100})
    with (tmp_path / "r" / "run.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20_000)
    for read in (Store.meta, Store.trials, Store.history):
        with (
            pytest.raises(StoreDamaged, match=r"run\.db is damaged: .*malformed"),
            Store.open(tmp_path / "r", readonly=True) as store,
        ):
            read(store)


def test_a_disk_without_room_to_open_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "r").close()

    def full(path: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")  # what SQLite says where the WAL has no room

    with monkeypatch.context() as patched:
        patched.setattr("sweeper.store._connect", full)
        with pytest.raises(StoreError, match=r"run\.db cannot be written: disk I/O error; make room"):
            Store.open(tmp_path / "r")
    Store.open(tmp_path / "r").close()


def test_a_network_disk_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists():
        pytest.skip("only Linux tells what a folder lies on")
    kinds = {line.partition(" - ")[2].split()[0] for line in mounts.read_text().splitlines()}
    monkeypatch.setattr("sweeper.store._NETWORK_FILESYSTEMS", kinds)
    with pytest.raises(StoreError, match="network file system"):
        create(tmp_path / "r")
    assert not Store.exists(tmp_path / "r")


@pytest.mark.parametrize("name", ["plain", "with space", "donn\xe9es", "\udce9"])
def test_a_network_disk_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    point = os.fsencode(tmp_path.resolve() / name)
    lines = [b"22 1 0:1 / / rw - ext4 /dev/sda rw", b"23 1 0:2 / %s rw - nfs4 host:/ rw"]
    (tmp_path / "mountinfo").write_bytes(b"\n".join(lines) % point.replace(b" ", rb"\040"))
    monkeypatch.setattr("sweeper.store.MOUNTS", tmp_path / "mountinfo")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)"):
        create(Path(os.fsdecode(point)) / "r")
    create(tmp_path / "r").close()


def test_there_is_no_run_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run in"):
        Store.open(tmp_path)
    assert not Store.exists(tmp_path)


# What version 1 of the schema was; it is never edited.
VERSION_1 = """
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
    worker INTEGER
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
INSERT INTO meta VALUES ('name', 'r'), ('elapsed', '3.5');
INSERT INTO trials VALUES (1, 'done', '{"lr":0.5}', 'start', 2.0, 1.5, NULL, '', 1.0, 1.5, 1, 0);
INSERT INTO points VALUES (1, 0, NULL, 1.5, 2.0);
INSERT INTO events VALUES (1, 1.0, 'ask', 1, '{}'), (2, 2.0, 'tell', 1, '{"score":2.0,"cost":1.5}');
PRAGMA user_version = 1;
"""


def version(folder: Path) -> int:
    with sqlite3.connect(folder / "run.db") as db:
        number: int = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return number


def test_an_older_database_is_read_as_it_is_and_brought_up_to_date_to_be_written(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "run.db") as old:
        old.executescript(f"{VERSION_1}PRAGMA application_id = {APPLICATION_ID};")
    old.close()
    with Store.open(tmp_path, readonly=True) as store:
        before, history = store.trials(), store.history()
        assert (before[0].score, before[0].points, before[0].excluded) == (
            2.0,
            (Point(None, 1.5, 2.0),),
            False,
        )
    assert version(tmp_path) == 1
    with Store.open(tmp_path) as store:
        assert store.trials() == before
        assert store.history() == history
        store.exclude_trial(1, True)
    assert version(tmp_path) == SCHEMA_VERSION
    with Store.open(tmp_path) as store:  # once is enough
        assert store.trial(1).excluded


def test_a_migrated_database_has_the_schema_of_a_new_one(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "run.db") as old:
        old.executescript(f"{VERSION_1}PRAGMA application_id = {APPLICATION_ID};")
    old.close()
    Store.open(tmp_path).close()
    create(tmp_path / "new").close()
    columns = []
    for folder in (tmp_path, tmp_path / "new"):
        with sqlite3.connect(folder / "run.db") as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
            columns.append({name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in tables})
        db.close()
    assert columns[0] == columns[1]
