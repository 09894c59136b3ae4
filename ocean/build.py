"""Compile on first use: C sources become a loaded library, kept for the next process.

`library` is the whole face. A library is found again by the hash of everything that can change it:
the text of the sources and of the headers they include, the flags, the compiler and the processor.
Editing a header and running again is therefore the whole development loop, and a library that was
built for another processor is never loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a Unix: builds are then only guarded by the atomic rename
    fcntl = None  # type: ignore[assignment]

# Values never depend on these flags, only speed does. Left out on purpose: -ffast-math and fused
# multiply-adds (-ffp-contract=fast), with which a result depends on where in a vector it was computed.
FLAGS = (
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-pthread",
    "-Werror=implicit-function-declaration",  # a forgotten function: an error here, not when loading
)
NO_COMPILER = "no C compiler found: install gcc or clang, or set CC"
COMPILE_SECONDS = 300
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
LIBRARY = re.compile(r"[0-9a-f]{32}\.(so|sha256)")  # named by the key, see _key

_loaded: dict[str, ctypes.CDLL] = {}


class BuildError(RuntimeError):
    """No compiler, or sources that do not compile. The message says which and what to do."""


def library(
    sources: Sequence[str | Path],
    flags: Sequence[str] = (),
    defines: Mapping[str, object] | None = None,
    include: Sequence[str | Path] = (),
    folders: Sequence[str | Path] = (),
) -> ctypes.CDLL:
    """Compile `sources` into one shared library (or find it in the cache) and load it.

    `flags` are added to FLAGS, `defines` become -Dname=value, each header of `include` is read before
    every source, `folders` are searched for headers. Raises BuildError where there is no compiler or
    the sources do not compile, FileNotFoundError for a source that is not there.
    """
    command = compiler()
    paths = [Path(source) for source in sources]
    headers = [Path(header).absolute() for header in include]
    search = [Path(folder) for folder in folders]
    options = [*flags, *(f"-D{name}={value}" for name, value in (defines or {}).items())]
    key = _key(command, options, texts([*headers, *paths], search))
    inputs: list[str] = []
    for folder in search:
        inputs += ["-I", str(folder)]
    for header in headers:
        inputs += ["-include", str(header)]
    inputs += [str(path) for path in paths]
    return find_or_build(key, lambda output: _compile(command, options, inputs, output))


def compiler() -> list[str]:
    """The C compiler's command: CC where it is set, else the first of cc, gcc and clang."""
    chosen = os.environ.get("CC", "").strip()
    if chosen:
        try:
            words = shlex.split(chosen)
        except ValueError as error:
            raise BuildError(f"CC is set to {chosen!r}, which is no command ({error}): mend it") from None
        found = shutil.which(words[0])
        if found is None:
            raise BuildError(f"CC is set to {chosen!r}, which is not found: install it, or unset CC")
        return [found, *words[1:]]
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found is not None:
            return [found]
    raise BuildError(NO_COMPILER)


def check_compiler() -> None:
    """Raise BuildError, with the mend, where no C compiler is found. Compiles nothing."""
    compiler()


def cache_folder() -> Path:
    """The folder of compiled libraries: mode 0700, owned by the user.

    $XDG_CACHE_HOME/pareto-sweeper, or ~/.cache/pareto-sweeper. Where that cannot be had (a read-only
    home, a folder that belongs to somebody else) a private one among the temporary files.
    """
    choices: list[Path] = []
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(cache_home):
        choices.append(Path(cache_home) / "pareto-sweeper")
    else:
        with contextlib.suppress(RuntimeError):  # no home at all
            choices.append(Path.home() / ".cache" / "pareto-sweeper")
    choices.append(Path(tempfile.gettempdir()) / f"pareto-sweeper-{os.getuid()}")
    for folder in choices:
        if _make_private(folder):
            return folder
    return _private_temporary_folder()


def _make_private(folder: Path) -> bool:
    """Whether `folder` is now ours alone and can be written; it is made where it is missing.

    Whoever can write into this folder can run code as us: a folder of another user is refused, and so
    is a link, which may lead anywhere. Libraries in a folder that was open to others are thrown away.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.chmod(folder, 0o700)
            if stat.S_IMODE(folder.lstat().st_mode) & 0o077:
                return False  # a file system without permissions
            for file in folder.iterdir():
                if LIBRARY.fullmatch(file.name):
                    file.unlink()
        return os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False


@functools.lru_cache(maxsize=1)
def _private_temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="pareto-sweeper-"))


def texts(files: Sequence[Path], search: Sequence[Path]) -> list[bytes]:
    """The texts of `files` and, each once, of the headers they include between quotes, and so on.

    A header that is not found is left to the compiler to complain about.
    """
    found: list[bytes] = []
    waiting = list(files)
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop(0)
        if file in seen:
            continue
        seen.add(file)
        text = file.read_bytes()
        found.append(text)
        for name in INCLUDE.findall(text.decode("utf-8", "replace")):
            for folder in (file.parent, *search):
                if (folder / name).is_file():
                    waiting.append(folder / name)
                    break
    return found


def _key(command: Sequence[str], options: Sequence[str], texts: Sequence[bytes]) -> str:
    # The compiler is known by its file: asking it for its version would cost every start a process.
    program = os.stat(command[0])
    digest = hashlib.sha256()
    for part in (
        os.path.realpath(command[0]),
        str(program.st_size),
        str(program.st_mtime_ns),
        *command[1:],
        *FLAGS,
        *options,
        _processor(),
    ):
        digest.update(part.encode() + b"\0")
    for text in texts:
        digest.update(str(len(text)).encode() + b"\0" + text)
    return digest.hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    """What -march=native depends on. The first processor stands for all of them."""
    lines = [platform.machine()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    break
                if line.startswith(("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")):
                    lines.append(line.strip())
    except OSError:  # not Linux
        lines.append(platform.processor())
    return "\n".join(lines)


def find_or_build(key: str, compile_to: Callable[[Path], None]) -> ctypes.CDLL:
    """The library that is kept under `key`, or what `compile_to` writes into the file that it is given.

    Of processes that want the same one at once, one builds it. Raises BuildError as `compile_to` does, and
    where the library cannot be loaded.
    """
    if key not in _loaded:
        _loaded[key] = _find_or_build(key, compile_to)
    return _loaded[key]


def _find_or_build(key: str, compile_to: Callable[[Path], None]) -> ctypes.CDLL:
    folder = cache_folder()
    file = folder / f"{key}.so"
    loaded = _load(file)
    if loaded is not None:
        return loaded
    with _locked(folder / f"{key}.lock"):
        loaded = _load(file)  # another process may have built it while this one waited
        if loaded is not None:
            return loaded
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as workplace:
            built = Path(workplace) / "library.so"
            compile_to(built)
            # Two files, so that a torn library is never loaded: the checksum comes last.
            checksum = Path(workplace) / "checksum"
            checksum.write_text(hashlib.sha256(built.read_bytes()).hexdigest())
            os.replace(built, file)
            os.replace(checksum, _checksum_file(file))
        try:
            return ctypes.CDLL(str(file))
        except OSError as error:  # a missing symbol, or a folder that is mounted noexec
            raise BuildError(f"built, but it cannot be loaded: {error}") from error


def _checksum_file(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _load(file: Path) -> ctypes.CDLL | None:
    """The library in `file`, or None where it is missing, torn, or not for this system."""
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != _checksum_file(file).read_text():
            return None
        return ctypes.CDLL(str(file))
    except (OSError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the kernel's lock on `file`: it is gone with its process, however that ends."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is not None:
            # A file system without locks: two builds at once, and the last rename wins.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _compile(command: list[str], options: list[str], inputs: list[str], output: Path) -> None:
    flags = list(FLAGS)
    result = run([*command, *flags, *options, *inputs, "-o", str(output), "-lm"])
    if result.returncode and "-march=" in result.stderr:  # a compiler that knows no native processor
        flags.remove("-march=native")
        result = run([*command, *flags, *options, *inputs, "-o", str(output), "-lm"])
    if os.strerror(errno.ENOSPC) in result.stderr:
        raise BuildError(
            f"{output.parent.parent}: no space left on the device; make room, or set XDG_CACHE_HOME"
        )
    if result.returncode:
        raise BuildError(_first_error(result.stderr) or f"{command[0]} failed with {result.returncode}")
    if not output.exists():
        raise BuildError(f"{command[0]} made no library: set CC to a C compiler")


def run(command: list[str], mend: str = "set CC to a C compiler") -> subprocess.CompletedProcess[str]:
    """Run a compiler to its end. Raises BuildError where it does not come to one, with the `mend`."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=COMPILE_SECONDS,
            env={**os.environ, "LC_ALL": "C"},  # the messages are searched for the word "error"
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {COMPILE_SECONDS} seconds: stopped") from error
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run ({error.strerror}): {mend}") from error


def _first_error(messages: str) -> str:
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    for line in lines:
        if "error:" in line or "undefined reference" in line:
            return line
    return lines[0] if lines else ""
