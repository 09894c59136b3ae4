"""Declarations are read from the text of a header; what is wrong with one is said."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ocean
from ocean.header import FOLDER, parse

SQUARED = (FOLDER / "squared" / "squared.h").read_text()


def test_a_declaration_is_read_whole() -> None:
    spec = ocean.spec("squared")
    assert spec.name == "squared"
    assert spec.obs_shape == (11, 11)
    assert spec.obs_dtype == np.dtype(np.int8)
    assert spec.action_sizes == (5,)
    assert spec.action_dim is None
    assert spec.log_fields == ("score", "episode_return", "episode_length")
    assert list(spec.settings) == ["max_steps", "fall_penalty"]
    setting = spec.settings["max_steps"]
    assert (setting.kind, setting.default, setting.low, setting.high) == ("int", 33, 1, 10000)
    assert isinstance(setting.default, int)
    assert setting.help == "steps after which the episode is cut short"


def test_reading_needs_no_compiler_and_little_else() -> None:
    script = (
        "import os, sys; os.environ['PATH'] = ''; os.environ.pop('CC', None); import ocean;"
        "[ocean.settings(name) for name in ocean.names()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=FOLDER.parent)


def test_an_environment_of_ones_own_is_its_header_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.h").write_text(SQUARED)
    for path in (tmp_path / "mine", tmp_path / "mine" / "mine.h", f"{tmp_path}/mine/"):
        assert ocean.spec(path).path == tmp_path / "mine" / "mine.h"
    with pytest.raises(ValueError, match="no environment header at"):
        ocean.spec(tmp_path)


def test_names_of_numbers_comments_and_texts_in_parts_are_understood() -> None:
    text = SQUARED.replace("OBS_SHAPE 11, 11 ", "EDGE (11)\n#define OBS_SHAPE EDGE, EDGE /* a, b */ ")
    text = text.replace("1.0, 0.0, 1.0", "1.0f, 0.f, EDGE")
    text = text.replace('"punishment for leaving the grid"', '"a // no comment, (really) " "X(\\"1\\")"')
    spec = parse(text, Path("mine.h"))
    assert spec.obs_shape == (11, 11)
    assert spec.settings["fall_penalty"].high == 11
    assert spec.settings["fall_penalty"].help == 'a // no comment, (really) X("1")'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("OBS_TYPE int8_t", "OBS_TYPE double", "OBS_TYPE must be one of"),
        ("#define OBS_SHAPE", "#define SHAPE", "no line '#define OBS_SHAPE ...'"),
        ("OBS_SHAPE 11, 11", "OBS_SHAPE 11, wide", "numbers were expected"),
        ("OBS_SHAPE 11, 11", "OBS_SHAPE 11, 0", "whole numbers from 1"),
        ("OBS_RANGE -1, 1", "OBS_RANGE 1", "2 numbers were expected"),
        ("#define ACTION_SIZES 5", "", "define one of ACTION_SIZES"),
        ("33, 1, 10000", "33, 50, 10000", "max_steps: its default lies outside"),
        ("X(int, max_steps", "X(long, max_steps", "max_steps: the kind is int or float"),
        ("33, 1, 10000", "33.5, 1, 10000", "max_steps: the numbers of an int are whole"),
        ("33, 1, 10000", "33, 1, INFINITY", "max_steps: the numbers of an int are whole and fit 32 bits"),
        ("33, 1, 10000", "33, 1, 1e10", "max_steps: the numbers of an int are whole and fit 32 bits"),
        ("33, 1, 10000,", "33, 1,", "SETTINGS: cannot read 'X(int, max_steps"),
        ("X(float, fall_penalty", "X(float, max_steps", "max_steps is there twice"),
        ("double n; ", "", "the count 'n' last"),
        ("double score; ", "float score; ", "'float score' is not a double"),
        ("double score; ", "double score, parts[40]; ", "'double score, parts[40]' is not a double"),
    ],
)
def test_a_garbled_declaration_is_named(old: str, new: str, message: str) -> None:
    assert old in SQUARED
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(SQUARED.replace(old, new), Path("mine.h"))
