"""What is installed finds its C and CUDA sources: a wheel's contents, imported from where it is unpacked."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOOK = """
import ocean, sweeper, trainer, trainer.gpu
assert {"breakout", "cartpole", "squared"} <= set(ocean.names())
assert (trainer.gpu.SOURCES / "advantage.cu").is_file()
print(ocean.__file__, sweeper.__file__, trainer.__file__, trainer.gpu.SOURCES, sep="\\n")
"""


def imported_from(folder: Path, cwd: Path) -> list[Path]:
    """Where a fresh Python, started in `cwd` with `folder` first on its path, finds everything."""
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{LOOK}"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.split()]


def test_a_wheel_carries_every_source(tmp_path: Path) -> None:
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    junk = shutil.ignore_patterns("__pycache__")
    for name in ("sweeper", "trainer", "ocean", "cuda"):
        shutil.copytree(ROOT / name, source / name, ignore=junk)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)

    folders = {"cuda": "trainer/cuda", "ocean": "ocean", "trainer": "trainer", "sweeper": "sweeper"}
    for name, inside in folders.items():
        for path in (source / name).rglob("*"):
            if path.is_file():
                assert (unpacked / inside / path.relative_to(source / name)).is_file(), path
    assert not (unpacked / "cuda").exists()  # it would shadow NVIDIA's package
    assert all(unpacked in path.parents for path in imported_from(unpacked, tmp_path))


def test_a_users_files_shadow_nothing(tmp_path: Path) -> None:
    for name in ("trainer.py", "ocean.py"):
        (tmp_path / name).write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "cuda").mkdir()
    assert all(tmp_path not in path.parents for path in imported_from(ROOT, tmp_path))
