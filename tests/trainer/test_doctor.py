"""`sweep doctor`: what will run where follows from what was found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeper.cli import main
from trainer.doctor import Found, report

ALL = Found(
    "/usr/bin/cc (gcc 12)",
    "/usr/bin/nvcc (release 13.0)",
    ("GPU 0: NVIDIA H200",),
    "2.13.0+cu130",
    "13.0",
    "NVIDIA H200",
    (9, 0),
    None,
)
CPU_BUILD = {"torch": "2.13.0+cpu", "built_for": None, "usable": None, "capability": None}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, "runs on the GPU, environments as well; environments of snake"),
        ({"nvcc": None}, "environments on the processor: for all on the GPU, install nvcc"),
        ({"capability": (7, 0)}, "environments on the processor: no kernels for sm_70"),
        (CPU_BUILD, "on the processor: this torch knows no GPU, install one that is built for CUDA"),
        ({**CPU_BUILD, "cards": ()}, "runs on the processor: there is no GPU"),
        (
            {"usable": None, "capability": None, "trouble": "The driver is too old (found version 12000)."},
            "runs on the processor: torch finds no GPU (The driver is too old",
        ),
        ({"compiler": None}, "cannot run: no C compiler found: install gcc or clang, or set CC"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_runs_where(changes: dict, where: str) -> None:
    assert where in dict(report(replace(ALL, **changes)))["training"]


def test_a_compiler_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, said in (
        ("nosuch", "which is not found"),
        ("gcc '", "is no command (No closing quotation)"),
    ):
        monkeypatch.setenv("CC", command)
        with pytest.raises(SystemExit):
            main(["doctor"])
        assert f"none: CC is set to {command!r}, which" in (out := capsys.readouterr().out)
        assert said in out


def test_the_command_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["doctor"])
    assert leaving.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12].rstrip() for line in lines] == [
        *("C compiler", "nvcc", "GPU", "torch", "proposer", "training")
    ]
    assert all(line[12:].strip() for line in lines)
