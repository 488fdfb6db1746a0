"""What is written into pictures: side marks, captions, scale bars, the notice of synthetic images, panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scantwin import NOTICE

Palette = Literal["inverse-grey", "hot", "spread"]
"""Inverse grey for PET, black-red-yellow-white for the fused picture, purple-orange for the deviation."""

_POINTS: Final[dict[Palette, list[tuple[int, int, int]]]] = {
    "inverse-grey": [(255, 255, 255), (0, 0, 0)],
    "hot": [(0, 0, 0), (170, 0, 0), (255, 85, 0), (255, 200, 0), (255, 255, 255)],
    # matplotlib's `magma` in five points: lightness rises evenly, also for the colour-blind.
    "spread": [(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)],
}
_DARK: Final = (16, 16, 16)
_LIGHT: Final = (235, 235, 235)
_WARNING: Final = (255, 70, 50)
_GAP: Final = 8
_LEAST_NOTICE: Final = 9.0
"""Smallest font size of the notice [pixels]: anything smaller cannot be read."""


def colours(palette: Palette) -> NDArray[np.uint8]:
    """The 256 colours of a palette (256, RGB)."""
    points = np.array(_POINTS[palette], float)
    where = np.linspace(0, 1, len(points))
    steps = np.linspace(0, 1, 256)
    return np.stack([np.interp(steps, where, points[:, c]) for c in range(3)], 1).round().astype(np.uint8)


def write(
    image: Image.Image,
    text: str,
    at: tuple[float, float],
    *,
    size: float = 14,
    anchor: str = "la",
    colour: tuple[int, int, int] = _LIGHT,
    rim: bool = True,
) -> None:
    """Writes `text` at (x, y) [pixels]; the dark rim keeps it legible on any background."""
    draw = ImageDraw.Draw(image)
    draw.text(
        at,
        text,
        fill=colour,
        font=ImageFont.load_default(size=size),
        anchor=anchor,
        stroke_width=max(1, round(size / 9)) if rim else 0,
        stroke_fill=_DARK,
    )


def fitted_size(text: str, width: int, *, largest: float = 18, smallest: float = 8) -> float:
    """The font size [pixels] at which `text` fits into `width` [pixels]."""
    wide = ImageFont.load_default(size=largest).getlength(text)
    return float(np.clip(largest * width / max(wide, 1), smallest, largest))


def mark_sides(image: Image.Image, left: str, right: str) -> None:
    """Marks what lies on the left and on the right of the picture: R and L, or A and P."""
    size = float(np.clip(image.height / 24, 11, 22))
    y = image.height * 0.04
    for text, x, anchor in ((left, 6.0, "la"), (right, image.width - 6.0, "ra")):
        ground = image.crop((round(max(x - size, 0)), round(y), round(x + size), round(y + size)))
        light = float(np.asarray(ground.convert("L")).mean()) > 128
        write(image, text, (x, y), size=size, anchor=anchor, colour=_DARK if light else _LIGHT, rim=not light)


def with_notice(image: Image.Image) -> Image.Image:
    """The picture with the notice of synthetic images below it, so that nothing is covered."""
    band = notice_band(image.width)
    both = Image.new("RGB", (band.width, image.height + band.height), _DARK)
    both.paste(image, ((band.width - image.width) // 2, 0))
    both.paste(band, (0, image.height))
    return both


def notice_band(width: int) -> Image.Image:
    """The notice of synthetic images on a dark band, `width` [pixels] wide, or as wide as its longest word.

    It is complete at any width: where one line would be too small to read, it takes several.
    """
    words = NOTICE.split()
    font = ImageFont.load_default(size=_LEAST_NOTICE)
    wide = max(width, round(max(map(font.getlength, words))) + _GAP)
    lines = [NOTICE]
    if font.getlength(NOTICE) > wide - _GAP:
        lines = [words[0]]
        for word in words[1:]:
            longer = f"{lines[-1]} {word}"
            lines = [*lines[:-1], longer] if font.getlength(longer) <= wide - _GAP else [*lines, word]
    size = min(fitted_size(line, wide - _GAP, smallest=_LEAST_NOTICE) for line in lines)
    height = round(1.5 * size)
    band = Image.new("RGB", (wide, height * len(lines)), _DARK)
    for number, line in enumerate(lines):
        middle = (wide / 2, (number + 0.5) * height)
        write(band, line, middle, size=size, anchor="mm", colour=_WARNING, rim=False)
    return band


def scale_bar(height: int, top: float, palette: Palette, label: str) -> Image.Image:
    """A colour bar of the palette, from 0 at the bottom up to `top`, with its numbers and the `label`."""
    text = max(11.0, min(15.0, height / 30))
    image = Image.new("RGB", (round(14 + 6 + 2.6 * text), height), _DARK)
    head = round(2.2 * text)
    foot = max(head, round(height - text))  # for a flat picture the bar runs past the edge, unseen
    ramp = colours(palette)[np.linspace(255, 0, max(foot - head, 1)).astype(int)]
    image.paste(Image.fromarray(np.repeat(ramp[:, None], 14, axis=1)), (0, head))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, head, 13, foot), outline=_LIGHT)
    for value in round_ticks(top):
        y = foot - value / top * (foot - head)
        draw.line((10, y, 17, y), fill=_LIGHT)
        write(image, f"{value:g}", (20, y), size=text, anchor="lm")
    write(image, label, (0, 2), size=min(text, fitted_size(label, image.width - 4, largest=text)))
    return image


def round_ticks(top: float) -> list[float]:
    """Three to six round numbers from 0 up to `top` or just below it."""
    ten = 10.0 ** math.floor(math.log10(top))
    step = next(m * ten for m in (0.2, 0.25, 0.5, 1.0, 2.0) if top / (m * ten) < 5.5)
    return [round(k * step, 12) for k in range(math.floor(top / step + 1e-9) + 1)]


def panel(
    rows: Sequence[Sequence[Image.Image]],
    *,
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    title: str = "",
) -> Image.Image:
    """Pictures in rows on a dark background, with a title, column headings and row names if given."""
    text = 15
    side = max((int(ImageFont.load_default(size=text).getlength(n)) + 2 * _GAP for n in names), default=0)
    count = max(len(row) for row in rows)
    widths = [max((row[k].width for row in rows if k < len(row)), default=0) for k in range(count)]
    heights = [max(picture.height for picture in row) for row in rows]
    head = (text + _GAP + 6 if title else 0) + (text + _GAP if columns else 0)
    size = (side + sum(widths) + _GAP * (count + 1), head + sum(heights) + _GAP * (len(rows) + 1))
    image = Image.new("RGB", size, _DARK)
    if title:
        write(image, title, (_GAP, 4), size=fitted_size(title, size[0] - 2 * _GAP, largest=text + 3))
    for k, heading in enumerate(columns):
        x = side + _GAP * (k + 1) + sum(widths[:k])
        write(image, heading, (x, head - 4), size=fitted_size(heading, widths[k], largest=text), anchor="ls")
    y = head + _GAP
    for r, row in enumerate(rows):
        if r < len(names):
            write(image, names[r], (_GAP, y + heights[r] / 2), size=text, anchor="lm")
        x = side + _GAP
        for k, picture in enumerate(row):
            image.paste(picture, (x, y))
            x += widths[k] + _GAP
        y += heights[r] + _GAP
    return image
