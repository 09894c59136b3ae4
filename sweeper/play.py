"""`sweep play`: one environment before your eyes, or as plain lines where nobody watches."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, TextIO

from sweeper.logs import printable
from sweeper.units import format_number

if TYPE_CHECKING:
    from trainer.play import Game, Move

FRAME_SECONDS = 0.05  # that a picture stays on a terminal
MOST_STEPS = 10_000  # where no number of steps was asked for
HOME, CLEAR_BELOW = "\x1b[H", "\x1b[J"


def show(game: Game, steps: int | None, stream: TextIO) -> bool:
    """Play `steps` steps, or to the end of the first agent's episode, and say what came of it.

    Gives whether it was interrupted (Ctrl-C), which ends it as the last step does.
    """
    spec, terminal, rewards, done, said = game.spec, stream.isatty(), 0.0, 0, ""
    interrupted = False
    agents = f", {spec.agents_per_env} agents, of which the first is told of" * (spec.agents_per_env > 1)
    shape = ", ".join(map(str, spec.obs_shape))
    stream.write(f"{spec.name}: observations {spec.obs_dtype} [{shape}]{agents}\n")
    if not spec.rendered:
        stream.write("it has no env_render: there is no picture\n")
    elif terminal:
        stream.write("\x1b[2J")
    try:
        while done < (steps or MOST_STEPS):
            if spec.rendered:
                _draw(game, stream, terminal, said)
            move = game.step()
            done += 1
            rewards += move.reward
            said = _told(done, move)
            if not (terminal and spec.rendered):
                stream.write(said + "\n")
            if steps is None and (move.terminal or move.truncation):
                break
    except KeyboardInterrupt:
        interrupted = True
    if terminal and spec.rendered:
        stream.write(said + "\n")
    log = game.env.log()
    stream.write(f"rewards {format_number(rewards)} in {done:,} steps\n")
    if log["n"]:
        many = "" if log["n"] == 1 else f", the mean of {log['n']:,.0f} episodes"
        stream.write(f"score {format_number(log['score'])}{many}\n")
    else:
        stream.write("score none: no episode ended\n")
    stream.flush()
    return interrupted


def _draw(game: Game, stream: TextIO, terminal: bool, said: str) -> None:
    """The picture; on a terminal over the last one, cut to what there is room for."""
    lines = printable(game.env.render()).splitlines()
    if not terminal:
        stream.write("\n".join(lines) + "\n")
        return
    columns, rows = shutil.get_terminal_size()
    shown = [line[: columns - 1].ljust(columns - 1) for line in lines[: rows - 2]]
    cut = "" if len(shown) == len(lines) else f"  (the window is too low: {len(lines) + 2} lines)"
    stream.write(HOME + "\n".join([*shown, (said + cut)[: columns - 1]]) + CLEAR_BELOW + "\n")
    stream.flush()
    time.sleep(FRAME_SECONDS)


def _told(step: int, move: Move) -> str:
    action = " ".join(f"{number:g}" for number in move.action)
    end = "; the episode ended" * move.terminal + "; the episode was cut short" * move.truncation
    return f"step {step}: action {action}, reward {move.reward:g}{end}"
