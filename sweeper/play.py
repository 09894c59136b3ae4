"""`sweep play`: one environment before your eyes, as plain lines where nobody watches, or as a GIF."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sweeper.errors import ConfigError
from sweeper.logs import printable
from sweeper.units import format_bytes, format_number, format_seconds

if TYPE_CHECKING:
    from trainer.play import Game, Move

FRAME_SECONDS = 0.05  # that a picture stays on a terminal
MOST_STEPS = 10_000  # where no number of steps was asked for
FILM_STEPS = 40, 300  # of a film, at least and at most, where no number was asked for
FILM_MOST = 500  # all pictures are in memory together, the largest as more than 1 MB each
HOME, CLEAR_BELOW = "\x1b[H", "\x1b[J"


def show(game: Game, steps: int | None, stream: TextIO) -> bool:
    """Play `steps` steps, or to the end of the first agent's episode, and say what came of it.

    Gives whether it was interrupted (Ctrl-C), which ends it as the last step does.
    """
    rendered, terminal, rewards, done, said = game.spec.rendered, stream.isatty(), 0.0, 0, ""
    interrupted = False
    _introduce(game, stream)
    if not rendered:
        stream.write(f"it has no {_drawing(game)[0]}: there is no picture\n")
    elif terminal:
        stream.write("\x1b[2J")
    try:
        while done < (steps or MOST_STEPS):
            if rendered:
                _draw(game, stream, terminal, said)
            move = game.step()
            done += 1
            rewards += move.reward
            said = _told(done, move)
            if not (terminal and rendered):
                stream.write(said + "\n")
            if steps is None and (move.terminal or move.truncation):
                break
    except KeyboardInterrupt:
        interrupted = True
    if terminal and rendered:
        stream.write(said + "\n")
    _sum_up(game, rewards, done, stream)
    return interrupted


def film(game: Game, steps: int | None, path: Path, stream: TextIO) -> bool:
    """Play as `show` does, write the pictures into a GIF instead, and say what came of it.

    Without `steps` an episode that is soon over is followed by others, and one that lasts is left. Ctrl-C
    ends it as the last step does. Raises ConfigError for an environment without pictures, and where the
    file cannot be written.
    """
    from sweeper import gif

    if not game.spec.rendered:
        lacks, model = _drawing(game)
        said = f"--gif: {game.spec.name} has no {lacks}: there is no picture"
        raise ConfigError("", said, f"write one: {model} has the model")
    if steps and steps > FILM_MOST:
        raise ConfigError("", f"--steps {steps}: a GIF holds at most {FILM_MOST:,} steps", "give fewer")
    gif.check_path(path)
    _introduce(game, stream)
    seen, rewards, done, interrupted = _picture(game), 0.0, 0, False
    pictures = [seen]
    least, most = (steps, steps) if steps else FILM_STEPS
    try:
        while done < most:
            move = game.step()
            done += 1
            rewards += move.reward
            # Where an episode ended, what is seen now is the next one's: the last picture gets the words.
            ended = move.terminal or move.truncation
            seen = seen if ended else _picture(game)
            pictures.append(f"{seen}\n\n" + _told(done, move).replace("; ", "\n"))
            if ended and done >= least:
                break
            if ended:
                seen = _picture(game)
                pictures.append(seen)
    except KeyboardInterrupt:
        interrupted = True
    seconds = gif.write(path, pictures)
    _sum_up(game, rewards, done, stream)
    size = format_bytes(path.stat().st_size)
    stream.write(f"wrote {path}: {len(pictures)} pictures, {format_seconds(seconds)}, {size}\n")
    return interrupted


def _drawing(game: Game) -> tuple[str, str]:
    """What draws an environment as text, and where that can be seen."""
    if game.spec.name.startswith("gymnasium:"):
        return "render mode 'ansi'", "Gymnasium's FrozenLake-v1"
    return "env_render", "`ocean/squared/squared.h`"


def _introduce(game: Game, stream: TextIO) -> None:
    spec = game.spec
    agents = f", {spec.agents_per_env} agents, of which the first is told of" * (spec.agents_per_env > 1)
    shape = ", ".join(map(str, spec.obs_shape))
    stream.write(f"{spec.name}: observations {spec.obs_dtype} [{shape}]{agents}\n")


def _sum_up(game: Game, rewards: float, done: int, stream: TextIO) -> None:
    log = game.env.log()
    stream.write(f"rewards {format_number(rewards)} in {done:,} steps\n")
    if log["n"]:
        many = "" if log["n"] == 1 else f", the mean of {log['n']:,.0f} episodes"
        stream.write(f"score {format_number(log['score'])}{many}\n")
    else:
        stream.write("score none: no episode ended\n")
    stream.flush()


def _picture(game: Game) -> str:
    return printable(game.env.render()).rstrip("\n")


def _draw(game: Game, stream: TextIO, terminal: bool, said: str) -> None:
    """The picture; on a terminal over the last one, cut to what there is room for."""
    lines = _picture(game).splitlines()
    if not terminal:
        stream.write("\n".join(lines) + "\n")
        return
    columns, rows = shutil.get_terminal_size()
    shown = [line[: columns - 1].ljust(columns - 1) for line in lines[: max(0, rows - 2)]]
    cut = "" if len(shown) == len(lines) else f"  (the window is too low: {len(lines) + 2} lines)"
    stream.write(HOME + "\n".join([*shown, (said + cut)[: columns - 1]]) + CLEAR_BELOW + "\n")
    stream.flush()
    time.sleep(FRAME_SECONDS)


def _told(step: int, move: Move) -> str:
    action = " ".join(f"{number:g}" for number in move.action)
    end = "; the episode ended" * move.terminal + "; the episode was cut short" * move.truncation
    return f"step {step}: action {action}, reward {move.reward:g}{end}"
