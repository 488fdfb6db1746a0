"""One page about one scan: a PDF file, and the same page as DICOM Encapsulated PDF in the patient's study.

The page is drawn with Pillow at 150 dpi as a single picture: that needs no further library, and a text editor
can change nothing in it. The page does not name the patient; the DICOM header does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from scantwin import NOTICE, __version__
from scantwin.files import whole_file
from scantwin.imaging.dicom_beside import beside, with_meta

DPI: Final = 150
A4: Final = (1240, 1754)
"""A4 at 150 dpi (210 x 297 mm) [pixels]."""
SERIES_NUMBER: Final = 9004
"""After the pictures (9003)."""

_EDGE: Final = 70
_INK: Final = (20, 20, 20)
_GREY: Final = (95, 95, 95)
_RED: Final = (176, 24, 24)
_PICTURES_HEIGHT: Final = 900
_FIXED_DATE: Final = time.struct_time((2000, 1, 1, 0, 0, 0, 5, 1, 0))
"""Pillow would write the current time; the same scan must give the same file."""


@dataclass(frozen=True)
class ScanPage:
    """What the page says."""

    model_version: str
    figures: Sequence[tuple[str, str]]
    """Name and value with its unit."""
    districts: Sequence[tuple[str, str]]
    """District and how much of it there is."""
    warnings: Sequence[str]
    pictures: Sequence[Path]
    """PNG files, in order; each already bears the notice."""
    remark: str = ""
    """Printed small above the foot, for example the rule behind lesion candidates."""


def draw_page(page: ScanPage) -> Image.Image:
    """The page as a picture, A4 at 150 dpi."""
    sheet = Image.new("RGB", A4, (255, 255, 255))
    y = _line(sheet, NOTICE, 50, size=30, colour=_RED)
    y = _line(sheet, "Synthetic PET of one CT", y + 8, size=40)
    y = _line(sheet, f"model {page.model_version}   scantwin {__version__}", y + 4, size=20, colour=_GREY)
    y = _paste(sheet, page.pictures, y + 16) + 24
    left = _table(sheet, "Figures", page.figures, _EDGE, y, 620)
    right = _table(sheet, "Districts", page.districts, 740, y, 430)
    y = max(left, right) + 20
    foot = A4[1] - 60
    low = foot - 60
    room = (low - 60 - y) // _line_height(18) + 1
    for part in _warning_lines(page.warnings, room) or ["No warnings."]:
        y = _line(sheet, part, y, size=18, colour=_RED if page.warnings else _GREY)
    for n, part in enumerate(_wrapped(page.remark, A4[0] - 2 * _EDGE, 16)[:2]):
        _line(sheet, part, low - 8 + 22 * n, size=16, colour=_GREY)
    _line(sheet, f"{NOTICE}. No tracer was given and no PET was taken.", foot, size=18, colour=_RED)
    return sheet


def write_pdf(page: ScanPage, path: Path) -> Path:
    """Writes the page as a PDF file."""
    with whole_file(path) as aside:
        draw_page(page).save(
            aside, format="PDF", resolution=DPI, quality=92, title=f"Synthetic PET - {NOTICE}",
            author="ScanTwin", producer=f"scantwin {__version__}", creationDate=_FIXED_DATE,
            modDate=_FIXED_DATE,
        )  # fmt: skip
    return path


def write_encapsulated_pdf(pdf: Path, path: Path, *, pet: Dataset) -> Path:
    """Writes the PDF file `pdf` as a DICOM Encapsulated PDF (PS3.3 A.45.1) in the study of `pet`'s series."""
    content = pdf.read_bytes()
    ds = beside(pet, EncapsulatedPDFStorage, "DOC", SERIES_NUMBER, "SYNTHETIC report", content)
    for keyword in ("BodyPartExamined", "Laterality"):  # not in this IOD
        if keyword in ds:
            delattr(ds, keyword)
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "NO"
    ds.AcquisitionDateTime = ""
    ds.DocumentTitle = f"Synthetic PET - {NOTICE}"
    ds.ConceptNameCodeSequence = []
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(content)
    ds.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    with whole_file(path) as aside:
        with_meta(ds).save_as(aside, enforce_file_format=True)
    return path


def _line(
    sheet: Image.Image, text: str, y: int, *, x: int = _EDGE, size: int, colour: tuple[int, int, int] = _INK
) -> int:
    """Writes one line at (x, y) [pixels], smaller if it is too wide; gives the y of the next line."""
    font = ImageFont.load_default(size=size)
    room = A4[0] - _EDGE - x
    if font.getlength(text) > room:
        font = ImageFont.load_default(size=max(10, size * room / font.getlength(text)))
    ImageDraw.Draw(sheet).text((x, y), text, fill=colour, font=font)
    return y + _line_height(size)


def _line_height(size: int) -> int:
    return round(1.35 * size)


def _warning_lines(warnings: Sequence[str], room: int) -> list[str]:
    """The warnings as at most `room` lines, the last of which says how many more there are, if there are."""
    lines: list[str] = []
    for number, text in enumerate(warnings, 1):
        parts = _wrapped(text, A4[0] - 2 * _EDGE, 18)
        if len(lines) + len(parts) + (number < len(warnings)) > room:
            return [*lines, f"And {len(warnings) - number + 1} more: see manifest.json."]
        lines += parts
    return lines


def _wrapped(text: str, width: int, size: int) -> list[str]:
    """`text` broken into lines of at most `width` [pixels]."""
    font = ImageFont.load_default(size=size)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _paste(sheet: Image.Image, pictures: Sequence[Path], y: int) -> int:
    """Pastes the pictures in one row or two, whichever shows them larger, at most `_PICTURES_HEIGHT` high."""
    opened = [Image.open(path).convert("RGB") for path in pictures]
    if not opened:
        return y
    rows, heights = max(
        (_layout([opened]), _layout([opened[:1], opened[1:]])),
        key=lambda made: sum(h * h * _aspect(row) for row, h in zip(*made, strict=True)),
    )
    for row, height in zip(rows, heights, strict=True):
        high = round(height)
        x = _EDGE
        for picture in row:
            wide = round(picture.width * high / picture.height)
            sheet.paste(picture.resize((wide, high), Image.Resampling.LANCZOS), (x, y))
            x += wide + 12
        y += high + 12
    return y


def _aspect(row: Sequence[Image.Image]) -> float:
    return sum(picture.width / picture.height for picture in row)


def _layout(rows: Sequence[list[Image.Image]]) -> tuple[list[list[Image.Image]], list[float]]:
    """The rows that are not empty and their heights [pixels]: as wide as the page unless that is too high."""
    full = [row for row in rows if row]
    heights = [(A4[0] - 2 * _EDGE - 12 * (len(row) - 1)) / _aspect(row) for row in full]
    shrink = min(1.0, _PICTURES_HEIGHT / sum(heights))
    return full, [height * shrink for height in heights]


def _table(sheet: Image.Image, title: str, rows: Sequence[tuple[str, str]], x: int, y: int, wide: int) -> int:
    y = _line(sheet, title, y, x=x, size=24)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=19)
    for name, value in rows:
        draw.text((x, y), name, fill=_GREY, font=font)
        draw.text((x + wide, y), value, fill=_INK, font=font, anchor="ra")
        y += 28
    return y
