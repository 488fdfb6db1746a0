"""Pictures of the report: projections and slices side by side, curves and scatter plots. PIL only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from benchmarks.evidence.findings import Picture, Workshop
from benchmarks.evidence.measuring import Measurer, Scan
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from scantwin.imaging.picture_marks import panel, scale_bar
from scantwin.imaging.pictures import (
    PET_TOP,
    best_coronal_mm,
    mip_image,
    pet_slice_image,
    save_png,
    slice_frame,
)

_COLOURS: Final = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (90, 90, 90), (230, 159, 0))
"""Okabe and Ito's, told apart by the colour-blind."""
_INK, _PAPER, _RULE = (30, 30, 30), (255, 255, 255), (205, 205, 205)
_SIZE = (560, 400)
_MARGIN = (66, 36, 150, 50)  # left, top, right (the legend), bottom


def projections(
    workshop: Workshop, measurer: Measurer, file: str, who: dict[str, list[Scan]], title: str
) -> Picture:
    """Projections of the held-out patient with the most lesions: the true PET, then each model's."""
    number = most_lesions(measurer)
    study = measurer.studies[number]
    assert study.suv is not None
    true = study.grid.with_array(study.suv, "SUV")
    images = [mip_image(true, synthetic=False)]
    images += [mip_image(study.grid.with_array(scans[number].pet, "SUV")) for scans in who.values()]
    bar = scale_bar(images[0].height, PET_TOP, "inverse-grey", "SUV")
    picture = panel([[*images, bar]], columns=("phantom's PET", *who, ""), title=f"{title}: {study.name}")
    save_png(picture, workshop.pictures / file)
    return Picture(file, f"{title}: projections of held-out patient {study.name}, SUV 0-{PET_TOP:g}.")


def slices(
    workshop: Workshop, measurer: Measurer, file: str, who: dict[str, list[Scan]], title: str
) -> Picture:
    """Coronal slices through the lesions of the same patient."""
    number = most_lesions(measurer)
    study = measurer.studies[number]
    assert study.suv is not None and study.lesions is not None
    place = study.grid.with_array
    hu, true = place(study.hu, "HU"), place(study.suv, "SUV")
    frame = slice_frame(hu, "coronal", best_coronal_mm(hu, place(study.lesions, "label")))
    images = [pet_slice_image(true, frame=frame, synthetic=False)]
    images += [pet_slice_image(place(scans[number].pet, "SUV"), frame=frame) for scans in who.values()]
    bar = scale_bar(images[0].height, PET_TOP, "inverse-grey", "SUV")
    picture = panel([[*images, bar]], columns=("phantom's PET", *who, ""), title=f"{title}: {study.name}")
    save_png(picture, workshop.pictures / file)
    return Picture(file, f"{title}: coronal slices through lesions of held-out patient {study.name}.")


def most_lesions(measurer: Measurer) -> int:
    """Place of the held-out patient with the most lesions."""
    marked = [s.pet_lesions for s in measurer.studies]
    touching = ndimage.generate_binary_structure(3, 2)  # a lesion is 18-connected, as where it is measured
    counts = [0 if one is None else ndimage.label(one, touching)[1] for one in marked]
    return int(np.argmax(counts))


Points = Sequence[tuple[float, float]]


def curves(
    workshop: Workshop, file: str, lines: Mapping[str, Points], *, x: str, y: str, caption: str,
    ticks: Sequence[float] | None = None, joined: bool = True, level: Sequence[float] = (),
) -> Picture:  # fmt: skip
    """Lines (or points, with `joined` False) by name; `level` draws horizontal dashed lines.

    With `ticks` the x axis is logarithmic and marked there.
    """
    scale = np.log10 if ticks else np.asarray
    every = np.array([p for points in lines.values() for p in points], float).reshape(-1, 2)
    every = every[np.isfinite(every).all(1)]
    if not len(every):
        every = np.array([[1.0, 0.0], [2.0, 1.0]])
    across = scale(every[:, 0])
    values = np.concatenate([every[:, 1], np.asarray(level, float)])
    box = _Box(_range(across), _range(values))
    image = Image.new("RGB", _SIZE, _PAPER)
    draw = ImageDraw.Draw(image)
    box.frame(draw, x, y, [(float(scale(t)), f"{t:g}") for t in ticks] if ticks else None)
    for height in level:
        box.dashes(draw, height)
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        at = [box.at(float(scale(a)), b) for a, b in points if np.isfinite(a) and np.isfinite(b)]
        if joined and len(at) > 1:
            draw.line(at, fill=colour, width=2)
        for px, py in at:
            draw.ellipse((px - 3, py - 3, px + 3, py + 3), fill=colour)
        _text(draw, (_SIZE[0] - _MARGIN[2] + 12, _MARGIN[1] + 18 * number), name, colour)
    save_png(image, workshop.pictures / file)
    return Picture(file, caption)


class _Box:
    """The plotting area and its scales."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across, self.up = across, up
        left, top, right, bottom = _MARGIN
        self.x0, self.y0, self.x1, self.y1 = left, top, _SIZE[0] - right, _SIZE[1] - bottom

    def at(self, a: float, b: float) -> tuple[float, float]:
        """Pixel of a point."""
        (al, ah), (bl, bh) = self.across, self.up
        return (
            self.x0 + (a - al) / (ah - al) * (self.x1 - self.x0),
            self.y1 - (b - bl) / (bh - bl) * (self.y1 - self.y0),
        )

    def frame(self, draw: ImageDraw.ImageDraw, x: str, y: str, ticks: list[tuple[float, str]] | None) -> None:
        """Rules, numbers and the names of the axes."""
        for value in np.linspace(*self.up, 5):
            _, py = self.at(self.across[0], float(value))
            draw.line((self.x0, py, self.x1, py), fill=_RULE)
            _text(draw, (self.x0 - 8, py), f"{value:.3g}", _INK, "rm")
        for value, label in ticks or [(float(v), f"{v:.3g}") for v in np.linspace(*self.across, 5)]:
            px, _ = self.at(value, self.up[0])
            _text(draw, (px, self.y1 + 8), label, _INK, "ma")
        draw.rectangle((self.x0, self.y0, self.x1, self.y1), outline=_INK)
        _text(draw, ((self.x0 + self.x1) / 2, self.y1 + 28), x, _INK, "ma")
        _text(draw, (8, 8), y, _INK)

    def dashes(self, draw: ImageDraw.ImageDraw, height: float) -> None:
        """A dashed line across at `height`."""
        _, py = self.at(self.across[0], height)
        for start in range(self.x0, self.x1, 12):
            draw.line((start, py, min(start + 7, self.x1), py), fill=_INK)


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: tuple[int, int, int],
    anchor: str = "la",
) -> None:  # fmt: skip
    draw.text(at, text, fill=colour, font=ImageFont.load_default(size=13), anchor=anchor)


def _range(values: np.ndarray) -> tuple[float, float]:
    """A little wider than the values."""
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room
