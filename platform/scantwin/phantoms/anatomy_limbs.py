"""Limb bones, shoulder girdle, vessels of the limbs, and the fat between the muscles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scantwin.phantoms.anatomy_body import arm, arm_is_up, leg
from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame
from scantwin.phantoms.shapes import Array, Points, Shape, ellipsoid, tube

_OVER = ("muscle", "subcutaneous-fat", "visceral-fat", "cartilage", "cortical-bone", "skin")


def paint_limbs(canvas: Canvas, f: Frame) -> None:
    """Paints the bones of the limbs and the girdles."""
    for side in (1, -1):
        _girdle(canvas, f, side)
        _leg(canvas, f, side)
        _arm(canvas, f, side)


def paint_septa(canvas: Canvas, f: Frame) -> None:
    """Paints thin sheets of fat between the muscles (zeros of a random field), thicker with a higher BMI."""
    half = np.float32(0.45 + 0.03 * max(0.0, f.bmi - 22))

    def sheets(p: Points) -> Array:
        return np.asarray(16.0 * np.abs(p.noise("septa", 24.0, 4.0)) - half, np.float32)

    everything = Shape(canvas.low[::-1], canvas.high[::-1], sheets)
    canvas.paint("subcutaneous-fat", everything, only=("muscle",))


def long_bone(
    canvas: Canvas,
    line: NDArray[np.float64] | list[NDArray[np.float64]],
    radii: NDArray[np.float64],
    *,
    ends: str = "trabecular-bone",
) -> None:
    """Paints a bone along a line: cortex, yellow marrow in the shaft, the tissue `ends` near both ends."""
    path = np.asarray(line, float)
    whole = tube(path, radii)
    canvas.paint("cortical-bone", whole, only=_OVER)
    # The wall is a third of the radius in the shaft, thin at the ends.
    canvas.paint(
        "yellow-marrow", tube(path, radii - np.clip(0.36 * radii, 2.0, 5.0)), only=("cortical-bone",)
    )
    for end in (path[0], path[-1]):
        near = ellipsoid(end, np.full(3, 1.6 * float(radii.max())))
        canvas.paint(ends, near & whole.grown(-2.0), only=("yellow-marrow", "cortical-bone"))


def _girdle(canvas: Canvas, f: Frame, side: int) -> None:
    s = f.s * (0.92 if f.female else 1.0)
    joint = arm(f, side, up=arm_is_up(f, side)).points[0]
    lift = 0.012 if arm_is_up(f, side) else 0.0
    clavicle = [
        f.at(side * 22, -56, 0.816),
        f.at(side * 70, -60, 0.823 + lift / 2),
        joint + np.array([-side * 22, -6, 22]) * s,
    ]
    long_bone(canvas, clavicle, np.array([11, 6.5, 8]) * s)
    blade = ellipsoid(
        f.at(side * 100, 66, 0.776 + lift), np.array([50, 5.5, 82]) * s, (-6, side * 10, side * -34)
    )
    canvas.paint("cortical-bone", blade, only=("muscle", "subcutaneous-fat"))
    canvas.paint("red-marrow", blade.grown(-1.6), only=("cortical-bone",))
    ridge = [
        f.at(side * 62, 82, 0.798 + lift),
        f.at(side * 120, 74, 0.81 + lift),
        joint + np.array([-side * 4, 18, 27]) * s,
    ]
    canvas.paint("trabecular-bone", tube(ridge, np.array([4, 6, 8]) * s), only=("muscle", "subcutaneous-fat"))
    neck = [joint + np.array([-side * 26, 8, -4]) * s, f.at(side * 118, 52, 0.80 + lift)]
    canvas.paint(
        "trabecular-bone",
        tube(neck, np.array([14, 7]) * s),
        only=("muscle", "subcutaneous-fat", "cortical-bone"),
    )


def _arm(canvas: Canvas, f: Frame, side: int) -> None:
    limb = arm(f, side, up=arm_is_up(f, side))
    s = f.s * (0.9 if f.female else 1.0)
    shoulder, near, mid, elbow, _, wrist, knuckles, tips = limb.points
    up = (elbow - shoulder) / np.linalg.norm(elbow - shoulder)
    head = shoulder - 2 * up
    long_bone(
        canvas,
        np.array([head, head + 34 * s * up, near, mid, elbow]),
        np.array([23, 15, 12, 11, 14]) * s,
        ends="red-marrow",
    )
    canvas.paint(
        "cortical-bone",
        ellipsoid(elbow, np.array([27, 15, 15]) * s),
        only=("muscle", "yellow-marrow", "subcutaneous-fat"),
    )
    canvas.paint(
        "trabecular-bone",
        ellipsoid(elbow, np.array([24, 12, 12]) * s),
        only=("cortical-bone", "yellow-marrow", "red-marrow"),
    )
    fore = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    across = np.cross(fore, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    for k, radii in ((1, (9, 7, 10)), (-1, (12, 7, 6))):
        off = 10 * s * k * across
        long_bone(
            canvas,
            np.array([elbow + 0.6 * off, (elbow + wrist) / 2 + 1.2 * off, wrist + 0.9 * off]),
            np.array(radii) * s,
        )
    palm = (knuckles - wrist) / np.linalg.norm(knuckles - wrist)
    canvas.paint(
        "trabecular-bone",
        tube([wrist + 8 * s * palm, wrist + 24 * s * palm], 15 * s, flat=0.6),
        only=("muscle", "subcutaneous-fat"),
    )
    side_way = np.cross(palm, [0.0, 1.0, 0.0])
    side_way /= np.linalg.norm(side_way)
    for place in (-1.5, -0.5, 0.5, 1.5):
        finger = [
            wrist + 26 * s * palm + 5 * s * place * side_way,
            knuckles + 9 * s * place * side_way,
            tips + 6 * s * place * side_way,
        ]
        canvas.paint(
            "trabecular-bone",
            tube(finger, np.array([5, 5, 3]) * s),
            only=("muscle", "subcutaneous-fat", "skin"),
        )
    deep = [near + 16 * s * across, mid + 14 * s * across, elbow - np.array([0, 18 * s, 0])]
    canvas.paint("vessels", tube(deep, 3.5 * s), only=("muscle",))


def _leg(canvas: Canvas, f: Frame, side: int) -> None:
    limb = leg(f, side)
    s = f.s * (0.93 if f.female else 1.0)
    wide = 1.05 if f.female else 1.0
    hip = f.at(side * 88 * wide, 2, 0.5265)
    knee, calf, shin, ankle = limb.points[3], limb.points[4], limb.points[5], limb.points[6]
    trochanter = f.at(side * 124 * wide, 10, 0.508)
    canvas.paint("cortical-bone", ellipsoid(hip, np.full(3, 24.0) * s))
    canvas.paint("red-marrow", ellipsoid(hip, np.full(3, 22.0) * s))
    long_bone(
        canvas,
        np.array([hip, trochanter + np.array([-side * 12, 0, 0]) * s]),
        np.array([17, 17]) * s,
        ends="red-marrow",
    )
    end = knee + np.array([0, 4 * s, 14 * s])
    shaft = np.array(
        [
            trochanter,
            trochanter + np.array([-side * 10, -4, -60]) * s,
            0.5 * (trochanter + end) + np.array([0, -8 * s, 0]),
            end,
        ]
    )
    long_bone(canvas, shaft, np.array([18, 15, 14, 22]) * s)
    condyles = ellipsoid(end + np.array([0, 2, -6]) * s, np.array([40, 31, 24]) * s)
    plateau = ellipsoid(knee + np.array([0, 2, -30]) * s, np.array([37, 25, 20]) * s)
    for end_of_bone in (condyles, plateau):
        canvas.paint("cortical-bone", end_of_bone, only=_OVER)
        canvas.paint("trabecular-bone", end_of_bone.grown(-2.0 * s), only=("cortical-bone", "yellow-marrow"))
    patella = ellipsoid(knee + np.array([0, -37, 14]) * s, np.array([20, 9, 21]) * s)
    canvas.paint("cortical-bone", patella, only=_OVER)
    canvas.paint("trabecular-bone", patella.grown(-2.0), only=("cortical-bone",))
    tibia = np.array(
        [
            knee + np.array([0, 0, -24]) * s,
            calf + np.array([-side * 6, -14, 0]) * s,
            shin + np.array([-side * 3, -6, 0]) * s,
            ankle + np.array([-side * 4, 0, 8]) * s,
        ]
    )
    long_bone(canvas, tibia, np.array([24, 14, 11.5, 17]) * s)
    fibula = np.array(
        [
            knee + np.array([side * 30, 12, -42]) * s,
            calf + np.array([side * 22, 8, 0]) * s,
            shin + np.array([side * 14, 6, 0]) * s,
            ankle + np.array([side * 22, 4, -6]) * s,
        ]
    )
    long_bone(canvas, fibula, np.array([9, 6.5, 6, 9]) * s)
    heel = ankle + np.array([0, 22, -34]) * s
    canvas.paint(
        "trabecular-bone",
        tube([heel, ankle + np.array([0, -6, -14]) * s], np.array([20, 21]) * s),
        only=_OVER,
    )
    for k in (-1.0, 0.0, 1.0):
        toe = ankle + np.array([side * 52 + 16 * k, -128, -0.014 * f.height / s]) * s
        canvas.paint(
            "trabecular-bone",
            tube([ankle + np.array([10 * k, -28, -16]) * s, toe], np.array([11, 6]) * s),
            only=_OVER,
        )
