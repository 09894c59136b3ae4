"""Compile on first use: what is built again and what is not, and what is said where it fails."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ocean import build
from ocean.header import FOLDER

ROOT = FOLDER.parent


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a compiler that writes down each of its calls in calls.txt."""
    real = build.compiler()[0]
    wrapper = tmp_path / "counting-cc"
    wrapper.write_text(f'#!/bin/sh\necho call >> "{tmp_path}/calls.txt"\nexec "{real}" "$@"\n')
    wrapper.chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("CC", str(wrapper))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(build, "_loaded", {})
    build._private_temporary_folder.cache_clear()
    return tmp_path / "home" / "pareto-sweeper"


def calls(cache: Path) -> int:
    file = cache.parent.parent / "calls.txt"
    return len(file.read_text().splitlines()) if file.exists() else 0


def source(folder: Path, text: str = "int answer(void) { return 42; }\n", name: str = "answer.c") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_second_process_finds_what_the_first_built(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = source(tmp_path)
    assert build.library([file]).answer() == 42
    assert build.library([file]).answer() == 42
    monkeypatch.setattr(build, "_loaded", {})  # as in another process
    assert build.library([file]).answer() == 42
    assert calls(cache) == 1


def test_whatever_changes_the_result_builds_anew(cache: Path, tmp_path: Path) -> None:
    source(tmp_path, "#define PART 1\n", "deep.h")
    source(tmp_path, '#include "deep.h"\n', "part.h")
    file = source(tmp_path, '#include "part.h"\nint answer(void) { return PART + EXTRA; }\n')
    assert build.library([file], defines={"EXTRA": 0}).answer() == 1
    assert build.library([file], defines={"EXTRA": 5}).answer() == 6
    assert build.library([file], flags=["-O1"], defines={"EXTRA": 0}).answer() == 1
    source(tmp_path, "#define PART 2\n", "deep.h")
    assert build.library([file], defines={"EXTRA": 0}).answer() == 2
    assert calls(cache) == 4


def test_the_cache_is_the_users_alone(cache: Path, tmp_path: Path) -> None:
    build.library([source(tmp_path)])
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert {file.suffix for file in cache.iterdir()} == {".so", ".sha256", ".lock"}  # no leavings


def test_libraries_in_a_cache_that_was_open_to_others_are_not_trusted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.library([source(tmp_path)])
    (cache / "notes.txt").write_text("not ours to delete")
    cache.chmod(0o777)
    monkeypatch.setattr(build, "_loaded", {})
    assert build.library([source(tmp_path)]).answer() == 42
    assert calls(cache) == 2
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert (cache / "notes.txt").exists()


def test_a_link_in_the_caches_place_is_not_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    cache.symlink_to(tmp_path / "elsewhere")
    assert build.library([source(tmp_path)]).answer() == 42
    assert build.cache_folder().is_relative_to(tmp_path / "temporary")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o755


def test_a_cache_of_another_user_is_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(mode=0o700)
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    folder = build.cache_folder()
    assert folder != cache
    assert folder.is_relative_to(tmp_path / "temporary")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_written_is_no_hindrance(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A plain file where a folder should be: unlike permissions, this stops root as well.
    (tmp_path / "wall").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "wall"))
    assert build.library([source(tmp_path)]).answer() == 42
    assert build.cache_folder().is_relative_to(tmp_path / "temporary")
    assert stat.S_IMODE(build.cache_folder().stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["torn", "zeroed", "no checksum"])
def test_a_damaged_library_is_built_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    file = source(tmp_path, f"int answer(void) {{ return {len(damage)}; }}\n")
    build.library([file])
    (built,) = cache.glob("*.so")
    good = built.read_bytes()
    built.unlink()  # never in place: this process has it mapped
    built.write_bytes(good[: len(good) // 2] if damage == "torn" else bytes(len(good)))
    if damage == "no checksum":
        built.write_bytes(good)
        built.with_suffix(".sha256").unlink()
    monkeypatch.setattr(build, "_loaded", {})
    assert build.library([file]).answer() == len(damage)
    assert calls(cache) == 2
    ctypes.CDLL(str(built))


def test_parallel_processes_build_once_and_all_load_it(cache: Path, tmp_path: Path) -> None:
    file = source(tmp_path)
    script = f"from ocean import build; assert build.library([{str(file)!r}]).answer() == 42"
    processes = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(5)]
    assert [process.wait() for process in processes] == [0] * 5
    assert calls(cache) == 1


def test_a_header_that_does_not_compile_shows_the_compilers_first_error(cache: Path, tmp_path: Path) -> None:
    header = source(tmp_path, "int good;\nint bad\nfloat worse;\n", "mine.h")
    with pytest.raises(build.BuildError) as caught:
        build.library([source(tmp_path)], include=[header])
    message = str(caught.value)
    assert message.startswith(f"{header}:")
    assert "error: " in message
    assert "\n" not in message
    # Nothing of the failure is kept: mending the header is enough.
    source(tmp_path, "int good;\nint bad;\n", "mine.h")
    assert build.library([source(tmp_path)], include=[header]).answer() == 42


def test_a_missing_compiler_is_said_with_its_mend(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    with pytest.raises(build.BuildError, match="CC is set to 'no-such-compiler -m64', which is not found"):
        build.check_compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match="no C compiler found: install gcc or clang, or set CC"):
        build.library([source(tmp_path)])


def test_cc_may_carry_arguments(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", os.environ["CC"] + " -DANSWER=7")
    assert build.library([source(tmp_path, "int answer(void) { return ANSWER; }\n")]).answer() == 7


def test_a_compiler_without_native_flags_still_builds(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = tmp_path / "picky-cc"
    picky.write_text(
        '#!/bin/sh\ncase "$*" in *-march=native*) echo "error: -march=native is unknown" >&2; exit 1;; esac\n'
        f'exec "{os.environ["CC"]}" "$@"\n'
    )
    picky.chmod(0o755)
    monkeypatch.setenv("CC", str(picky))
    assert build.library([source(tmp_path)]).answer() == 42


def test_a_missing_source_is_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.c"):
        build.library([tmp_path / "nowhere.c"])


def test_a_full_disk_is_said_and_not_the_linker_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_loaded", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = tmp_path / "full"
    compiler.write_text(
        "#!/bin/sh\necho 'ld: final link failed: No space left on device' >&2\n"
        "echo 'collect2: error: ld returned 1 exit status' >&2\nexit 1\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(build.BuildError, match=r"pareto-sweeper: no space left on the device; make room"):
        build.library([FOLDER / "vector.c"], include=[FOLDER / "squared" / "squared.h"], folders=[FOLDER])


def test_a_compiler_that_makes_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_loaded", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = tmp_path / "lazy"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(build.BuildError, match=r"lazy made no library: set CC to a C compiler"):
        build.library([FOLDER / "vector.c"], include=[FOLDER / "squared" / "squared.h"], folders=[FOLDER])
