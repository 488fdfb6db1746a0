"""Liver, spleen, kidneys, pancreas, stomach, bowel, pelvis. Positions MIRD, masses ICRP, the rest assumed."""

from __future__ import annotations

import numpy as np

from scantwin.phantoms.anatomy_thorax import mirrored
from scantwin.phantoms.anatomy_trunk import cavity, diaphragm, spine_y
from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame
from scantwin.phantoms.masses import organ_ml
from scantwin.phantoms.shapes import (
    Array,
    Points,
    Shape,
    ellipsoid,
    ellipsoid_of,
    everywhere,
    half_space,
    sized,
    tube,
    volume_ml,
)  # fmt: skip

_SOFT = ("visceral-fat", "small-bowel", "colon-wall", "colon-content", "bowel-gas", "muscle")

_AHEAD_OF_LIVER = (
    "kidney-cortex", "kidney-pelvis", "blood", "vessels", "spleen", "pancreas", "stomach-wall",
    "stomach-content",
    "bowel-gas", "adrenal",
)  # fmt: skip


def below_diaphragm(f: Frame) -> Shape:
    """The belly: inside its wall, below the domes of the diaphragm."""
    dome = diaphragm(f)
    return cavity(f, 2.5) & everywhere(lambda p: np.asarray(3.0 - dome.distance(p), np.float32))


def paint_abdomen(canvas: Canvas, f: Frame) -> None:
    """Paints the belly and the pelvis over the visceral fat."""
    belly = below_diaphragm(f)
    s = f.s
    for side in (1, -1):
        psoas = [
            f.at(side * 34, 44, 0.65),
            f.at(side * 44, 34, 0.60),
            f.at(side * 62, 12, 0.55),
            f.at(side * 84, -14, 0.51),
        ]
        canvas.paint(
            "muscle", tube(psoas, np.array([11, 20, 21, 14]) * s * np.sqrt(f.lean)), only=("visceral-fat",)
        )
    _small_bowel(canvas, f, belly)
    _colon(canvas, f)
    _stomach(canvas, f, belly)
    pancreas = [
        f.at(-34, -4, 0.644),
        f.at(-24, -10, 0.66),
        f.at(8, -8, 0.667),
        f.at(46, 14, 0.675),
        f.at(72, 34, 0.684),
    ]
    canvas.paint(
        "pancreas",
        sized(
            lambda k: tube(pancreas, np.array([14, 13, 10, 9, 7]) * s * k).rough(2.0), organ_ml(f, "pancreas")
        ),
        only=("visceral-fat", "small-bowel", "stomach-wall"),
    )
    spleen = sized(
        lambda k: ellipsoid(f.at(92, 44, 0.684), np.array([21, 34, 52]) * s * k, (8, -14, -24)) & belly,
        organ_ml(f, "spleen"),
    )
    canvas.paint("spleen", spleen)
    _kidneys(canvas, f)
    _liver(canvas, f, belly)
    _pelvis(canvas, f)


def _liver(canvas: Canvas, f: Frame, belly: Shape) -> None:
    s = f.s
    wob = f.wobble("liver", 4)
    right_kidney = ellipsoid(f.at(-62, 44, 0.638), np.array([36, 34, 58]) * s)

    def make(k: float) -> Shape:
        right = ellipsoid(
            f.at(-72, 2, 0.684), np.array([72, 92, 74 * (1 + 0.08 * wob[0])]) * s * k, (0, 12, 0)
        )
        front = ellipsoid(f.at(-40, -32, 0.682), np.array([62, 56, 62]) * s * k, (0, 25, 0))
        left = ellipsoid(
            f.at(12, -48, 0.697), np.array([78, 34, 28 * (1 + 0.15 * wob[1])]) * s * k, (0, -8, 0)
        )
        return ((right | front | left) & belly) - right_kidney

    # A tenth more, because vessels and neighbours take that much out of it.
    liver = sized(make, organ_ml(f, "liver") * 1.1)
    canvas.paint("liver", liver.rough(1.5, 30.0), spare=_AHEAD_OF_LIVER)

    def branches(p: Points) -> Array:
        a, b = p.noise("portal-a", 42.0), p.noise("portal-b", 42.0)
        return np.asarray(30.0 * np.sqrt(a * a + b * b) - 3.2, np.float32)

    canvas.paint("vessels", liver.grown(-6) & everywhere(branches), only=("liver",))
    canvas.paint(
        "vessels",
        tube([f.at(-4, -14, 0.652), f.at(-30, -16, 0.672), f.at(-56, -10, 0.685)], 7 * s),
        only=("liver", "visceral-fat"),
    )
    gall = ellipsoid_of(organ_ml(f, "gallbladder"), f.at(-52, -52, 0.648), (17, 19, 34), (25, 15, 0))
    canvas.paint("gallbladder", gall)


def _kidneys(canvas: Canvas, f: Frame) -> None:
    s = f.s
    for side in (1, -1):
        wob = f.wobble(f"kidney{side}", 3)
        z = (0.652 if side > 0 else 0.643) + 0.004 * wob[0]
        centre = f.at(side * (60 + 2 * wob[1]), 0, z) + np.array([0, spine_y(f, z) - 8 * s, 0])
        turn = (-8.0, side * 14.0, side * 35.0)
        # A tenth is hilum, which is fat and urine.
        bean = ellipsoid_of(organ_ml(f, "kidneys") / 2 * 1.1, centre, (27, 24, 56), turn)
        hilum = centre + np.array([-side * 15, -12, 0]) * s
        canvas.paint("kidney-cortex", bean, spare=("cortical-bone",))
        canvas.paint(
            "visceral-fat", ellipsoid(hilum, np.array([12, 11, 24]) * s, turn), only=("kidney-cortex",)
        )
        pelvis = ellipsoid(hilum + np.array([side * 2, 2, 0]), np.array([8, 7, 17]) * s, turn)
        canvas.paint("kidney-pelvis", pelvis, only=("kidney-cortex", "visceral-fat"))
        if wob[2] > 0.3:  # a stretch of ureter that happened to hold urine
            low, high = sorted(np.interp(f.wobble(f"ureter{side}", 2), (-1.5, 1.5), (0.54, 0.63)))
            span = np.linspace(low, max(high, low + 0.02), 4)
            line = np.stack(
                [np.full(4, side * 38 * s), spine_y(f, span) - 30 * s - (0.6 - span) * 200, span * f.height],
                1,
            )
            canvas.paint("kidney-pelvis", tube(line, 2.8 * s), only=_SOFT)
        gland = tube(
            [centre + np.array([-side * 26, -14, 50]) * s, centre + np.array([-side * 12, -10, 66]) * s],
            5.5 * s,
        )
        grow = np.cbrt(organ_ml(f, "adrenals") / 2 / volume_ml(gland, 1.5))
        canvas.paint("adrenal", gland.scaled(float(grow)), only=("visceral-fat",))


def _stomach(canvas: Canvas, f: Frame, belly: Shape) -> None:
    s = f.s
    wob = f.wobble("stomach", 3)
    line = [
        f.at(64, 22, 0.70), f.at(76, 4, 0.684), f.at(74, -28, 0.66), f.at(44, -58, 0.642 - 0.006 * wob[0]),
        f.at(4, -52, 0.648),
    ]  # fmt: skip
    whole = sized(
        lambda k: tube(line, np.array([34, 34, 27, 21, 14]) * s * k) & belly, organ_ml(f, "stomach")
    )
    canvas.paint("stomach-wall", whole.rough(1.5), only=_SOFT)
    inner = whole.grown(-6.0 * s)
    canvas.paint("stomach-content", inner, only=("stomach-wall",))
    bubble = half_space(1, (-38 - 8 * wob[1]) * s, above=False)
    canvas.paint("bowel-gas", inner & bubble, only=("stomach-content",))
    duodenum = [
        f.at(-6, -50, 0.648),
        f.at(-42, -30, 0.65),
        f.at(-44, -10, 0.625),
        f.at(-10, -4, 0.615),
        f.at(24, -14, 0.63),
    ]
    canvas.paint("small-bowel", tube(duodenum, 12 * s), only=("visceral-fat",))


def _small_bowel(canvas: Canvas, f: Frame, belly: Shape) -> None:
    """Paints loops where a random field is high; mesentery and fat lie between them."""
    s = f.s
    wob = f.wobble("small-bowel", 3)

    def make(k: float) -> Shape:
        room = ellipsoid(f.at(4 + 6 * wob[0], -32 - 0.4 * f.visceral, 0.585), np.array([86, 50, 88]) * s * k)
        low = ellipsoid(f.at(-10, -10, 0.548), np.array([56, 42, 40]) * s * k)
        return (room | low) & belly

    # The field leaves two thirds of the room filled.
    room = sized(make, organ_ml(f, "small-bowel") * 1.55)
    loops = everywhere(lambda p: np.asarray(-14.0 * (p.noise("loops", 22.0) + 0.42), np.float32))
    canvas.paint("small-bowel", room & loops, only=("visceral-fat",))
    gas = everywhere(lambda p: np.asarray(-14.0 * (p.noise("loops", 22.0) - 1.9), np.float32))
    canvas.paint("bowel-gas", room & gas & half_space(1, -30 * s, above=False), only=("small-bowel",))


def _colon(canvas: Canvas, f: Frame) -> None:
    s = f.s
    w = f.wobble("colon", 8)
    sag = 0.618 - 0.016 * abs(w[0])
    out = 0.3 * f.visceral
    line = [
        f.at(-82, -8, 0.556), f.at(-92 - out, 4, 0.60), f.at(-90 - out, 8, 0.636), f.at(-74, -44, 0.632),
        f.at(-40, -70 - out, sag), f.at(0, -76 - out, sag - 0.004 * w[1]), f.at(44, -68 - out, sag + 0.01),
        f.at(82, -36, 0.652), f.at(98, 14, 0.668), f.at(100 + out, 16, 0.63), f.at(98 + out, 6, 0.585),
        f.at(88, -6, 0.558),
        f.at(58 + 8 * w[2], -18, 0.543), f.at(20 + 10 * w[3], -6 + 8 * w[4], 0.552), f.at(-4, 22, 0.545),
        f.at(0, 52, 0.532),
        f.at(0, 58, 0.512), f.at(0, 44, 0.492),
    ]  # fmt: skip
    radii = np.array([27, 25, 24, 22, 21, 21, 20, 21, 19, 18, 17, 16, 15, 16, 17, 20, 19, 11]) * s
    wide = tube(line, radii * (1 + 0.08 * w[5])).rough(3.0, 16.0)
    canvas.paint("colon-wall", wide & cavity(f, 0.5), only=("visceral-fat", "small-bowel", "bowel-gas"))
    inner = wide.grown(-3.2 * s)
    canvas.paint("colon-content", inner & cavity(f, 2.0), only=("colon-wall",))
    # Gas rises to the front and collects in pockets.
    pockets = everywhere(
        lambda p: np.asarray(-16.0 * (p.noise("gas", 34.0) - 0.55 - (p.y + 40) / 90), np.float32)
    )
    canvas.paint("bowel-gas", inner.grown(-1.0) & pockets, only=("colon-content",))


def _pelvis(canvas: Canvas, f: Frame) -> None:
    s = f.s
    fill = float(np.clip(170 * np.exp(0.55 * f.wobble("bladder", 1)[0]), 60, 480))  # [ml]; assumed
    floor = f.z(0.505)
    size = np.cbrt(fill / (4 / 3 * np.pi * 1.15 * 0.95 * 0.9) * 1000)
    axes = np.array([1.15, 0.95, 0.9]) * size
    centre = np.array([3 * f.wobble("bladder", 2)[1], -44 * s + 0.25 * size, floor + axes[2]])
    if f.female:
        above = f.at(4, 10, 0.535) + np.array([0, 0, 0.3 * size])
        canvas.paint(
            "uterus", ellipsoid_of(organ_ml(f, "uterus"), above, (25, 20, 38), (50, 0, 0)), only=_SOFT
        )
        ovary = ellipsoid_of(organ_ml(f, "ovaries") / 2, f.at(44, 12, 0.55), (9, 8, 15))
        canvas.paint("ovary", ovary, only=_SOFT)
        canvas.paint("ovary", mirrored(ovary), only=_SOFT)
    else:
        canvas.paint("prostate", ellipsoid(f.at(0, -22, 0.496), np.array([23, 17, 17]) * s))
        for side in (1, -1):
            gland = ellipsoid(f.at(side * 15, -66, 0.452), np.array([11, 14, 20]) * s)
            canvas.paint("testis", gland)
    whole = ellipsoid(centre, axes + 3.5)
    canvas.paint("bladder-wall", whole, spare=("prostate",))
    canvas.paint("bladder", ellipsoid(centre, axes))
    for side in (1, -1):
        iliac = [
            f.at(4, 6, 0.607), f.at(side * 34, 10, 0.572), f.at(side * 58, -12, 0.54),
            f.at(side * 72, -46, 0.505),
            f.at(side * 74, -42, 0.46), f.at(side * 78, -18, 0.38),
        ]  # fmt: skip
        canvas.paint(
            "vessels",
            tube(iliac, np.array([7.5, 6.5, 6, 5.5, 5, 4]) * s),
            only=("visceral-fat", "muscle", "subcutaneous-fat"),
        )
        vein = [point + np.array([-side * 4, 11, 0]) * s for point in iliac]
        canvas.paint(
            "vessels",
            tube(vein, np.array([8, 7.5, 7, 6.5, 5.5, 4]) * s),
            only=("visceral-fat", "muscle", "subcutaneous-fat"),
        )
