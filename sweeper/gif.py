"""Pictures in text as an animated GIF: what `sweep play --gif` writes.

A picture is a grid of signs, each drawn once in a monospaced font and then copied to wherever it stands.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from sweeper.errors import ConfigError
from sweeper.files import write_whole

Array = np.ndarray[Any, Any]
FONT = "fonts/ttf/DejaVuSansMono.ttf"  # comes with matplotlib
WIDE, HIGH = 720, 840  # pixels that a picture fills as far as its signs allow
SMALLEST, LARGEST = 12, 32  # pixels of a sign's height
MARGIN = 12  # pixels around the picture
FILM_SECONDS = 10.0  # that a film lasts, where its pictures then stay neither too long nor too short
SHORTEST, LONGEST = 0.05, 0.5  # seconds that a picture stays
LAST = 1.5  # seconds more for the last one
BACKGROUND, INK = (22, 26, 36), (222, 226, 234)
YELLOW, ORANGE, GREEN, BLUE = (255, 205, 70), (240, 130, 70), (110, 210, 110), (80, 150, 235)
STONE, FAINT = (110, 125, 160), (84, 92, 112)
PALETTE = [INK, YELLOW, ORANGE, GREEN, BLUE, STONE, FAINT]
# What signs mean in most pictures; words, and numbers, are drawn in INK.
COLOURS = {
    **dict.fromkeys("@X=", YELLOW),  # oneself
    **dict.fromkeys("Oo", ORANGE),  # others, and what moves
    **dict.fromkeys("*$x^?", GREEN),  # food, treasures, targets
    "~": BLUE,  # water
    **dict.fromkeys("#<>", STONE),  # walls, bricks, cars
    **dict.fromkeys("._|:[]-+", FAINT),
}
SHADES = 8  # of each colour, from the background to itself
SOLID = "#~"  # fill their places


def check_path(path: Path) -> None:
    """Raises ConfigError where a GIF cannot, or should not, be written."""
    said = f"--gif {path}"
    if path.is_dir():
        raise ConfigError("", f"{said}: that is a folder", "name a file")
    if path.suffix.lower() != ".gif":
        raise ConfigError("", f"{said}: it writes GIFs only", f"call it {path.with_suffix('.gif').name}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError("", f"{said}: there is no folder {folder}", "make it first")
    if path.exists() and path.read_bytes()[:3] != b"GIF":
        raise ConfigError("", f"{said}: that file is there and is no GIF", "name another file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError("", f"{said}: it may not be written", "name another file")


def write(path: Path, pictures: Sequence[str]) -> float:
    """Write `pictures`, at least one, and give the seconds that they last. Raises OSError as files do."""
    grids = _grids(pictures)
    kinds, numbers = np.unique(grids, return_inverse=True)
    tiles = _tiles(kinds, *grids.shape[1:])
    frames = [_frame(tiles, grid) for grid in numbers.reshape(grids.shape)]
    stay = min(max(FILM_SECONDS / len(frames), SHORTEST), LONGEST)
    seconds = [stay] * (len(frames) - 1) + [stay + LAST]
    film = io.BytesIO()
    frames[0].save(
        film,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[round(1000 * second) for second in seconds],
        loop=0,
        optimize=False,  # the palette is ours
    )
    write_whole(path, film.getvalue())
    return sum(seconds)


def _grids(pictures: Sequence[str]) -> Array:
    """Signs [pictures, rows, columns]: code points, negative in words; all is filled up with spaces."""
    texts = [picture.expandtabs().splitlines() for picture in pictures]
    rows = max(1, *map(len, texts))
    columns = max([1, *(len(line) for lines in texts for line in lines)])
    grids = np.full((len(texts), rows, columns), ord(" "), np.int32)
    for grid, lines in zip(grids, texts, strict=True):
        for row, line in zip(grid, lines, strict=False):
            for part in re.finditer(r"\S+", line):
                sense = 1 if set(part[0]) <= set(COLOURS) else -1
                row[part.start() : part.end()] = [sense * ord(sign) for sign in part[0]]
    return grids


def _tiles(kinds: Array, rows: int, columns: int) -> Array:
    """Every sign drawn once, as large as there is room for: indices of the palette [kinds, height, width]."""
    height = min(max(min(HIGH // rows, 2 * WIDE // columns), SMALLEST), LARGEST)
    font = ImageFont.truetype(str(Path(get_data_path()) / FONT), height * 5 // 6)  # so that a line is as high
    width = round(font.getlength("M"))
    if rows * height > 1.7 * columns * width:  # a map of a sign a cell: nearer to square
        width = min(max(WIDE // columns, width), height)
    tiles = np.zeros((len(kinds), height, width), np.uint8)
    for tile, kind in zip(tiles, kinds, strict=True):
        sign, mask = chr(abs(kind)), Image.new("L", (width, height))
        if kind > 0 and sign in SOLID:
            mask.paste(255, (0, 0, width, height - 1))  # rows of bricks stay apart
        else:
            ImageDraw.Draw(mask).text((width / 2, height / 2), sign, fill=255, font=font, anchor="mm")
        colour = INK if kind < 0 else COLOURS.get(sign, INK)
        tile[...] = SHADES * PALETTE.index(colour) + np.asarray(mask).astype(int) * (SHADES - 1) // 255
    return tiles


def _frame(tiles: Array, grid: Array) -> Image.Image:
    """The picture whose signs have the numbers `grid` [rows, columns]."""
    signs = tiles[grid].swapaxes(1, 2)  # [rows, height, columns, width]
    pixels = signs.reshape(signs.shape[0] * signs.shape[1], -1)
    image = Image.fromarray(np.pad(pixels, MARGIN))
    shades = np.linspace(BACKGROUND, PALETTE, SHADES, axis=1)  # [colours, shades, 3]
    image.putpalette(shades.round().astype(np.uint8).tobytes())
    return image
