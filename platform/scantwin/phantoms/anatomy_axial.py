"""Spine, ribs, sternum and pelvis. Ribs and vertebrae repeat: each set is painted as one periodic shape."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.phantoms.anatomy_trunk import cavity, spine_y
from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame
from scantwin.phantoms.shapes import Array, Distance, Points, Shape, ellipsoid, everywhere, stack, tube

_LEVELS: Final = ((0.577, 0.0), (0.663, 5.0), (0.838, 17.0), (0.909, 24.0))
"""Height fraction and number of vertebrae below it: 5 lumbar, 12 thoracic, 7 cervical; assumed."""
_DISC: Final = 0.17
"""Share of a segment that is disc; assumed."""

# Vertebral bodies and canal: height fraction, half-width, half-depth, half-width of the canal [mm]; assumed.
_BODY: Final = np.array([
    (0.575, 26, 17.5, 11), (0.62, 24, 17, 10.5), (0.665, 21, 16, 9.5), (0.75, 16, 15, 9),
    (0.83, 13.5, 11.5, 9.5),
    (0.845, 13, 8.5, 10.5), (0.89, 11.5, 7.5, 11), (0.909, 11, 7, 11.5),
])  # fmt: skip


def paint_axial(canvas: Canvas, f: Frame) -> None:
    """Paints the spine, the ribs, the sternum and the pelvis."""
    _ribs(canvas, f)
    _sternum(canvas, f)
    _spine(canvas, f)
    _sacrum(canvas, f)
    for side in (1, -1):
        _hip_bone(canvas, f, side)
    canvas.paint("cartilage", ellipsoid(f.at(0, -55, 0.508), np.array([4, 8, 18]) * f.s))


def _column(f: Frame) -> tuple[NDArray[np.float64], ...]:
    """Along the spine [mm]: z, y of the bodies, half-widths, half-depths, canal half-widths."""
    u = np.linspace(0.575, 0.909, 60)
    wide, deep, canal = (
        np.interp(u, _BODY[:, 0], _BODY[:, k]) * f.s * (0.93 if f.female else 1) for k in (1, 2, 3)
    )
    return u * f.height, spine_y(f, u), wide, deep, canal


def _spine(canvas: Canvas, f: Frame) -> None:
    z, y, wide, deep, canal = _column(f)
    zero = np.zeros_like(z)
    rows = np.stack([z, zero, wide, y - deep, y + deep, np.full_like(z, 2.4), y], 1)
    back = y + deep + 0.75 * canal
    ring = stack(
        np.stack([z, zero, canal + 5 * f.s, back - canal - 1, back + canal + 5 * f.s, zero + 2.0, back], 1)
    )
    hole = stack(np.stack([z, zero, canal, back - 0.8 * canal, back + 0.8 * canal, zero + 2.0, back], 1))
    body = stack(rows)

    def segment(p: Points) -> tuple[Array, Array]:
        """Position in the segment, 0..1 from the middle of a disc to the next one's, and its height [mm]."""
        knots = np.array([k[0] for k in _LEVELS]) * f.height
        fine = np.linspace(knots[0], knots[-1], 2048)
        number = np.interp(fine, knots, [k[1] for k in _LEVELS])
        at = np.clip((p.z - knots[0]) / (fine[1] - fine[0]), 0, 2047).astype(np.int32)
        tall = np.interp(fine, knots, [31, 28, 19, 17]) * f.s
        return (number[at] % 1.0).astype(np.float32), tall[at].astype(np.float32)

    def outside_discs(p: Points) -> Array:
        place, tall = segment(p)
        return np.asarray((np.float32(_DISC / 2) - np.minimum(place, 1 - place)) * tall, np.float32)

    bone = body & everywhere(outside_discs)
    canvas.paint("disc", body, spare=("blood", "vessels"))
    canvas.paint("cortical-bone", bone, only=("disc",))
    canvas.paint("vertebral-marrow", bone.grown(-1.2), only=("disc", "cortical-bone"))
    y_at = stack_curve(z, back)

    def processes(p: Points) -> Array:
        """Spinous and transverse processes, one set per segment."""
        place, tall = segment(p)
        behind = p.y - y_at(p)
        lumbar = p.z < np.float32(f.z(0.67))
        neck = p.z > np.float32(f.z(0.845))
        droop = np.where(lumbar | neck, 0.15, 0.75) * behind / tall
        shifted = (place + droop) % 1.0
        half = np.abs(shifted - 0.5) * tall
        spinous = np.maximum(np.maximum(np.abs(p.x) - 3.5 * f.s, half - np.where(lumbar, 10, 5) * f.s), 0)
        length = np.where(lumbar, 42, np.where(neck, 30, 38)) * f.s
        spinous = np.maximum(spinous - 0.5, np.maximum(8 * f.s - behind, behind - length))
        across = np.where(lumbar, 42, np.where(neck, 27, 36)) * f.s
        wings = np.maximum(np.abs(p.x) - across, np.maximum(np.abs(behind + 2) - 5 * f.s, half - 5 * f.s))
        return np.asarray(np.minimum(spinous, wings), np.float32)

    room = stack(np.stack([z, zero, wide + 26 * f.s, y, back + 46 * f.s, zero + 2.0, back], 1))
    parts = (ring | (room & everywhere(processes))) - hole
    canvas.paint("cortical-bone", parts, spare=("disc", "vertebral-marrow", "lung", "kidney-cortex"))
    canvas.paint("vertebral-marrow", parts.grown(-2.0), only=("cortical-bone",))
    canvas.paint("csf", hole, spare=("disc", "vertebral-marrow"))
    cord = z > f.z(0.655)
    canvas.paint("spinal-cord", tube(np.stack([zero, back, z], 1)[cord], 5.2 * f.s))


def stack_curve(z: NDArray[np.float64], values: NDArray[np.float64]) -> Distance:
    """A function of points that gives `values` at their z."""
    fine = np.linspace(z[0], z[-1], 1024)
    table = np.interp(fine, z, values).astype(np.float32)
    step = np.float32(fine[1] - fine[0])
    return lambda p: np.asarray(
        table[np.clip((p.z - np.float32(z[0])) / step, 0, 1023).astype(np.int32)], np.float32
    )


def _ribs(canvas: Canvas, f: Frame) -> None:
    inside, outside = cavity(f, -0.5), cavity(f, -9.0 * f.s)
    first, pitch = f.z(0.8385), f.z(0.0152)

    def cage(p: Points) -> tuple[Array, Array]:
        """Distance to the nearest rib [mm], and the angle of the point round from the spine, 0..pi."""
        round_ = np.arctan2(np.abs(p.x), p.y + np.float32(4 * f.s))
        turn = (1 - np.cos(round_)) / 2
        # Ribs slope down towards the front, the lower ones more; the first slopes least.
        depth = np.clip((first - p.z) / (11 * pitch), 0, 1)
        drop = (45 + 62 * depth) * f.s * turn**1.2
        number = (first - (p.z + drop)) / pitch
        nearest = np.clip(np.rint(number), 0, 11)
        between = np.abs(number - nearest) * pitch
        end = np.interp(nearest, (0, 6, 7, 8, 9, 10, 11), (3.2, 3.2, 2.75, 2.55, 2.35, 1.6, 1.05))
        beyond = (round_ - end) * 100 * f.s
        return np.asarray(np.maximum(between - 6.0 * f.s, beyond), np.float32), np.asarray(round_, np.float32)

    ribs = (outside - inside) & everywhere(lambda p: cage(p)[0])
    # Bone ends where the rib turns forwards; cartilage continues to the sternum.
    front = everywhere(lambda p: np.asarray((cage(p)[1] - np.float32(2.15)) * 100, np.float32))
    only = ("muscle", "visceral-fat", "lung", "subcutaneous-fat")
    canvas.paint("cartilage", ribs, only=only)
    canvas.paint("cortical-bone", ribs & front, only=(*only, "cartilage"))
    canvas.paint("red-marrow", ribs.grown(-2.2 * f.s) & front, only=("cortical-bone",))


def _sternum(canvas: Canvas, f: Frame) -> None:
    s = f.s
    line = [
        f.at(0, -52, 0.813),
        f.at(0, -70, 0.793),
        f.at(0, -85, 0.765),
        f.at(0, -96, 0.735),
        f.at(0, -98, 0.722),
    ]
    slab = tube(line, np.array([24, 20, 16, 17, 9]) * s, flat=0.38)
    canvas.paint("cortical-bone", slab)
    canvas.paint("red-marrow", slab.grown(-1.6 * s))


def _sacrum(canvas: Canvas, f: Frame) -> None:
    s = f.s
    rows = np.array([
        (0.508, 8, 94, 102), (0.522, 18, 84, 102), (0.54, 36, 72, 104), (0.558, 50, 56, 98),
        (0.572, 54, 42, 84),
        (0.578, 50, 40, 76),
    ])  # fmt: skip
    rows[:, 1:] *= s
    middle = (rows[:, 2] + rows[:, 3]) / 2
    wedge = stack(
        np.stack(
            [rows[:, 0] * f.height, 0 * middle, rows[:, 1], rows[:, 2], rows[:, 3], 0 * middle + 2.2, middle],
            1,
        )
    )
    canvas.paint("cortical-bone", wedge)
    canvas.paint("vertebral-marrow", wedge.grown(-1.8 * s))


def _hip_bone(canvas: Canvas, f: Frame, side: int) -> None:
    s = f.s
    wide = 1.05 if f.female else 1.0
    back, front = np.array([44.0 * wide, 88.0]) * s, np.array([124.0 * wide, -42.0]) * s
    along = (front - back) / np.linalg.norm(front - back)
    length = float(np.linalg.norm(front - back))
    normal = np.array([-along[1], along[0]])  # outwards: to the side and back
    if normal[0] < 0:
        normal = -normal

    def wing(p: Points) -> Array:
        """The iliac wing: a bent plate with an arched crest."""
        x, y = np.float32(side) * p.x - np.float32(back[0]), p.y - np.float32(back[1])
        t = (x * along[0] + y * along[1]) / length
        bulge = 16 * s * np.sin(np.pi * np.clip(t, 0, 1)) + 0.42 * (p.z - f.z(0.565))
        off = x * normal[0] + y * normal[1] - bulge
        crest = f.z(0.583) + 34 * s * np.sin(np.pi * np.clip(0.08 + 0.86 * t, 0, 1))
        floor = f.z(0.528) + 52 * s * np.abs(t - 0.55) ** 1.0
        thick = (4.5 + 3.5 * np.clip(np.abs(p.z - crest) / (20 * s) < 0.5, 0, 1)) * s
        ends = np.maximum(-t, t - 1) * length
        return np.asarray(
            np.maximum(np.maximum(np.abs(off) - thick, np.maximum(p.z - crest, floor - p.z)), ends),
            np.float32,
        )

    low = np.array([min(side * 20, side * 190), -90, f.z(0.52) / s]) * s
    high = np.array([max(side * 20, side * 190), 120, f.z(0.612) / s]) * s
    plate = Shape(low, high, wing)
    joint = f.at(side * 88 * wide, 2, 0.5265)
    socket = ellipsoid(joint + np.array([-side * 5, 0, 5]) * s, np.array([33, 32, 33]) * s)
    arms = (
        tube(
            [f.at(side * 82, 20, 0.525), f.at(side * 64, 44, 0.497), f.at(side * 56, 40, 0.483)],
            np.array([17, 15, 14]) * s,
        )
        | tube(
            [f.at(side * 74, -16, 0.527), f.at(side * 40, -50, 0.519), f.at(side * 9, -56, 0.51)],
            np.array([13, 8.5, 10]) * s,
        )
        | tube(
            [f.at(side * 54, 34, 0.482), f.at(side * 30, -20, 0.489), f.at(side * 9, -52, 0.503)],
            np.array([9, 7, 8]) * s,
        )
    )
    bone = plate | socket | arms
    spare = ("bladder", "bladder-wall", "vertebral-marrow")
    canvas.paint("cortical-bone", bone, spare=spare)
    canvas.paint("red-marrow", bone.grown(-2.0 * s), only=("cortical-bone",))
    canvas.paint("cartilage", ellipsoid(joint, np.full(3, 26.5) * s))
