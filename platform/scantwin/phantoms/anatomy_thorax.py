"""Lungs, airways, heart, great vessels, oesophagus, thyroid, breasts. Positions assumed, masses ICRP."""

from __future__ import annotations

import numpy as np

from scantwin.phantoms.anatomy_body import breast
from scantwin.phantoms.anatomy_trunk import cavity, diaphragm, spine_y
from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame
from scantwin.phantoms.masses import organ_ml
from scantwin.phantoms.shapes import Array, Points, Shape, ellipsoid, ellipsoid_of, everywhere, sized, tube

_HEART = (24.0, -30.0, 0.7545)
_AXIS = np.array([0.62, -0.52, -0.58])
"""Direction from the base of the heart to its apex (x, y, z)."""


def heart(f: Frame) -> Shape:
    """The heart with its blood, without the great vessels."""
    wob = f.wobble("heart", 3)
    centre = f.at(*_HEART) + 4 * wob
    return sized(
        lambda k: ellipsoid(centre, np.array([50, 46, 66]) * f.s * k, along=_AXIS),
        0.86 * organ_ml(f, "heart"),
    )


def paint_thorax(canvas: Canvas, f: Frame) -> None:
    """Paints the chest inside the ribs; the trunk must already be painted."""
    dome = diaphragm(f)
    whole_heart = heart(f)
    s = f.s
    lungs = cavity(f, 2.0) & dome
    # Heart, spine, vessels, and thin sheets of fat in front and behind keep the two lungs apart.
    spine = np.linspace(0.66, 0.845, 14)
    column = tube(np.stack([0 * spine, spine_y(f, spine) + 4 * s, spine * f.height], 1), 27 * s)
    upper = tube([f.at(2, 6, 0.845), f.at(0, -6, 0.81), f.at(2, 4, 0.775)], np.array([26, 34, 33]) * s)
    sheet = everywhere(lambda p: np.asarray(np.abs(p.x - np.float32(4 * s)) - np.float32(7 * s), np.float32))
    middle = whole_heart.grown(4 * s) | column | upper | (cavity(f) & sheet)
    canvas.paint("lung", lungs - middle, only=("visceral-fat",))
    shell = everywhere(lambda p: np.asarray(np.abs(dome.distance(p) - 1.5) - 1.5, np.float32))
    canvas.paint("muscle", cavity(f) & shell, only=("visceral-fat",))
    _lung_vessels(canvas, f, lungs)
    _airways(canvas, f)
    line = [f.at(0, 17, 0.862), f.at(4, 27, 0.80), f.at(7, 34, 0.74), f.at(14, 22, 0.705), f.at(22, 2, 0.695)]
    canvas.paint("oesophagus", tube(line, 7.5 * s), only=("visceral-fat", "muscle", "lung"))
    _heart(canvas, f, whole_heart)
    _vessels(canvas, f)
    # A twelfth of the thyroid is the isthmus.
    lobes = ellipsoid_of(organ_ml(f, "thyroid") * 0.46, f.at(18, -12, 0.858), (9, 10, 24), (0, 8, 0))
    canvas.paint("thyroid", lobes)
    canvas.paint("thyroid", mirrored(lobes))
    canvas.paint("thyroid", tube([f.at(-14, -24, 0.853), f.at(14, -24, 0.853)], 3.5 * s))
    if f.female:
        for side in (1, -1):
            outer = breast(f, side)
            canvas.paint("breast-fat", outer.grown(-3.0), only=("subcutaneous-fat",))
            gland = outer.scaled(0.8).rough(6.0, 18.0)
            canvas.paint("breast", gland, only=("breast-fat",))


def mirrored(shape: Shape) -> Shape:
    """The shape mirrored to the other side of the body."""
    low, high = shape.low.copy(), shape.high.copy()
    low[0], high[0] = -shape.high[0], -shape.low[0]
    return Shape(low, high, lambda p: shape.distance(Points(-p.x, p.y, p.z, p.noise)))


def _lung_vessels(canvas: Canvas, f: Frame, lungs: Shape) -> None:
    """Paints vessels along the lines where two random fields vanish together, thicker towards the hilum."""

    def distance(p: Points) -> Array:
        a, b = p.noise("vessel-a", 30.0), p.noise("vessel-b", 30.0)
        away = np.sqrt((np.abs(p.x) - 40 * f.s) ** 2 + (p.y - 10 * f.s) ** 2 + (p.z - f.z(0.775)) ** 2)
        radius = np.clip(4.2 - away / 32.0, 0.9, 4.2) * f.s
        # 24 mm: the length that one SD of these fields corresponds to near their zeros.
        return np.asarray(24.0 * np.sqrt(a * a + b * b) - radius, np.float32)

    canvas.paint("lung-vessels", lungs & everywhere(distance), only=("lung",))


def _airways(canvas: Canvas, f: Frame) -> None:
    s = f.s
    trachea = [f.at(0, -4, 0.872), f.at(0, 6, 0.83), f.at(1, 18, 0.805), f.at(1, 22, 0.789)]
    canvas.paint("cartilage", tube(trachea, 10.5 * s), only=("visceral-fat", "muscle"))
    canvas.paint("airway", tube(trachea, 8.5 * s))
    for side in (1, -1):
        line = [f.at(1, 22, 0.789), f.at(side * 30, 22, 0.776), f.at(side * 52, 18, 0.765)]
        canvas.paint("muscle", tube(line, np.array([9, 8.5, 6]) * s), only=("lung",))
        canvas.paint("airway", tube(line, np.array([7.5, 6.5, 4]) * s))


def _heart(canvas: Canvas, f: Frame, whole: Shape) -> None:
    s = f.s
    canvas.paint("heart-wall", whole)
    canvas.paint("blood", whole.grown(-3.0 * s))
    centre = f.at(*_HEART) + 4 * f.wobble("heart", 3) + np.array([17, -3, -2]) * s
    size = np.cbrt(organ_ml(f, "heart") / 792)  # 792 ml: the reference man's
    wall = ellipsoid(centre, np.array([34, 33, 45]) * size, along=_AXIS) & whole.grown(1.0)
    canvas.paint("myocardium", wall)
    hollow = ellipsoid(centre - _AXIS * 7 * size, np.array([23, 22, 37]) * size, along=_AXIS)
    canvas.paint("blood", hollow)


def _vessels(canvas: Canvas, f: Frame) -> None:
    s = f.s
    free = ("visceral-fat", "muscle", "lung", "lung-vessels", "oesophagus")
    down = np.linspace(0.80, 0.607, 16)
    left = np.interp(down, (0.607, 0.69, 0.80), (4, 12, 21)) * s
    before_spine = np.interp(down, (0.607, 0.70, 0.80), (34, 31, 24)) * s
    descending = np.stack([left, spine_y(f, down) - before_spine, down * f.height], 1)
    arch = [
        f.at(2, -24, 0.772),
        f.at(-16, -34, 0.787),
        f.at(-12, -30, 0.802),
        f.at(6, -6, 0.814),
        f.at(18, 18, 0.811),
    ]
    # Aortas vary in width by 5 % (assumed).
    wide = s * (1.0 + 0.05 * float(f.wobble("aorta", 1)[0]))
    canvas.paint("blood", tube(arch, np.array([14, 15, 14.5, 13, 12.5]) * wide), only=(*free, "heart-wall"))
    canvas.paint("blood", tube(descending, np.linspace(12.0, 9.0, 16) * wide), only=free)
    canvas.paint(
        "blood",
        tube([f.at(-24, -20, 0.815), f.at(-27, -16, 0.79), f.at(-26, -14, 0.768)], 9.5 * s),
        only=free,
    )
    cava = np.linspace(0.60, 0.735, 10)
    line = np.stack([np.full(10, -17 * s), spine_y(f, cava) - 34 * s, cava * f.height], 1)
    canvas.paint("vessels", tube(line, 10 * s), only=free)
    trunk = [f.at(12, -38, 0.772), f.at(10, -22, 0.788)]
    canvas.paint("blood", tube(trunk, 14 * s), only=free)
    for side in (1, -1):
        branch = [f.at(8, -16, 0.787), f.at(side * 38, 2, 0.78), f.at(side * 58, 8, 0.772)]
        canvas.paint(
            "blood",
            tube(branch, np.array([11, 9, 6]) * s),
            only=free,
        )  # fmt: skip
        neck = [f.at(side * 10, -16, 0.812), f.at(side * 26, -2, 0.845), f.at(side * 27, 2, 0.905)]
        canvas.paint("vessels", tube(neck, np.array([6, 4.5, 3.5]) * s), only=free)
        jugular = [f.at(side * 16, -24, 0.815), f.at(side * 35, -4, 0.848), f.at(side * 36, 8, 0.905)]
        canvas.paint("vessels", tube(jugular, np.array([7, 6, 4.5]) * s), only=free)
