"""The organs, first coarse cut."""

from __future__ import annotations

import numpy as np

from scantwin.phantoms.anatomy_body import HEAD_Y, arm, arm_is_up, leg
from scantwin.phantoms.anatomy_trunk import cavity, diaphragm, spine_y
from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame
from scantwin.phantoms.shapes import ellipsoid, everywhere, half_space, tube


def paint_organs(canvas: Canvas, f: Frame) -> None:
    """Paints the organs over fat and muscle."""
    s, paint = f.s, canvas.paint
    ax = np.array
    inside = cavity(f)
    paint("visceral-fat", inside)
    dome = diaphragm(f)
    chest = inside & dome
    paint(
        "lung",
        cavity(f, 3.0) & dome & everywhere(lambda p: np.asarray(24 * s - np.abs(p.x), np.float32)),
        only=("visceral-fat",),
    )
    below = everywhere(lambda p: -dome.distance(p))
    paint(
        "muscle",
        chest & everywhere(lambda p: dome.distance(p) + np.float32(-3)) - chest,
        only=("visceral-fat",),
    )
    paint("blood", ellipsoid(f.at(22, -34, 0.757), ax([58, 46, 52]) * s, (20, 30, 30)))
    paint("myocardium", ellipsoid(f.at(38, -44, 0.748), ax([36, 32, 44]) * s, (20, 40, 30)))
    paint("blood", ellipsoid(f.at(38, -44, 0.75), ax([25, 21, 34]) * s, (20, 40, 30)))
    zz = np.linspace(0.60, 0.79, 12)
    y = spine_y(f, zz) - 30 * s
    paint("blood", tube(np.stack([np.full(12, 14 * s), y, zz * f.height], 1), 11 * s))
    paint("liver", ellipsoid(f.at(-66, -8, 0.678), ax([78, 84, 80]) * s) & inside & below)
    paint("liver", ellipsoid(f.at(5, -40, 0.69), ax([85, 42, 34]) * s) & inside & below)
    paint("spleen", ellipsoid(f.at(92, 38, 0.682), ax([24, 36, 52]) * s, (0, 0, -20)) & inside & below)
    paint(
        "stomach-wall",
        tube(
            [f.at(66, 0, 0.70), f.at(70, -25, 0.67), f.at(30, -50, 0.64), f.at(-5, -45, 0.645)],
            ax([38, 34, 24, 15]) * s,
        )
        & inside
        & below,
        only=("visceral-fat",),
    )
    for side in (1, -1):
        k = ellipsoid(
            f.at(side * 62, 36, 0.648 + 0.005 * side), ax([30, 26, 55]) * s, (0, side * 12, side * 25)
        )
        paint("kidney-cortex", k)
        paint("kidney-pelvis", ellipsoid(f.at(side * 52, 32, 0.648 + 0.005 * side), ax([10, 9, 22]) * s))
    bowel = ellipsoid(f.at(0, -28, 0.585), ax([85, 48, 75]) * s) & inside
    paint("small-bowel", bowel.rough(6.0), only=("visceral-fat",))
    loop = [
        f.at(-92, -5, 0.565),
        f.at(-95, 5, 0.63),
        f.at(-60, -50, 0.628),
        f.at(0, -66, 0.61),
        f.at(70, -50, 0.645),
        f.at(97, 15, 0.65),
        f.at(98, 10, 0.57),
        f.at(60, -10, 0.545),
        f.at(10, 30, 0.54),
        f.at(0, 50, 0.51),
    ]
    paint("colon-wall", tube(loop, 22 * s), only=("visceral-fat", "small-bowel", "muscle"))
    paint("colon-content", tube(loop, 16 * s), only=("colon-wall",))
    paint("bladder-wall", ellipsoid(f.at(0, -36, 0.522), ax([45, 36, 33]) * s))
    paint("bladder", ellipsoid(f.at(0, -36, 0.522), ax([42, 33, 30]) * s))
    zz = np.linspace(0.51, 0.905, 60)
    radius = np.interp(zz, (0.51, 0.55, 0.6, 0.7, 0.8, 0.85, 0.905), (10, 26, 25, 20, 15, 11, 10)) * s
    line = np.stack([0 * zz, spine_y(f, zz), zz * f.height], 1)
    paint("cortical-bone", tube(line, radius))
    paint("vertebral-marrow", tube(line, radius - 2.0))
    cord = line[zz > 0.62] + ax([0, 26 * s, 0])
    paint("trabecular-bone", tube(cord + ax([0, 6 * s, 0]), 15 * s))
    paint("spinal-cord", tube(cord, 7 * s))
    for i in range(12):
        z0 = 0.83 - 0.0135 * i
        ring = (inside.grown(7.0) - inside) & everywhere(
            lambda p, z0=z0: np.asarray(
                np.abs(p.z - np.float32(f.z(z0)) - np.float32(0.45) * p.y) - 6, np.float32
            )
        )
        paint("red-marrow", ring)
    for side in (1, -1):
        paint(
            "trabecular-bone",
            (
                ellipsoid(f.at(side * 84, 40, 0.565), ax([60, 70, 75]) * s)
                - ellipsoid(f.at(side * 78, 28, 0.575), ax([58, 70, 76]) * s)
            )
            & half_space(2, f.z(0.52), above=True),
        )
        g = leg(f, side).points
        bone = tube(
            [g[0], g[0] + ax([side * 40 * s, 0, -0.02 * f.height]), g[2], g[3]], ax([23, 20, 14, 24]) * s
        )
        paint("cortical-bone", bone)
        paint("yellow-marrow", bone.grown(-6 * s))
        shin = tube([g[3] - ax([0, 0, 20 * s]), g[4] - ax([0, 15 * s, 0]), g[-1]], ax([26, 13, 16]) * s)
        paint("cortical-bone", shin)
        paint("yellow-marrow", shin.grown(-5 * s))
        a = arm(f, side, up=arm_is_up(f, side)).points
        up = tube([a[0], a[2], a[3]], ax([22, 11, 15]) * s)
        paint("cortical-bone", up)
        paint("yellow-marrow", up.grown(-4.5 * s))
        paint("cortical-bone", tube([a[3], a[5]], ax([11, 9]) * s))
    k = s * (0.965 if f.female else 1.0)
    skull = ellipsoid(f.at(0, HEAD_Y - 2, 0.9555), ax([69, 87, 70]) * k)
    paint("cortical-bone", skull)
    paint("csf", skull.grown(-6.5))
    brain = skull.grown(-8.5)
    paint("grey-matter", brain)
    paint("white-matter", skull.grown(-24).rough(5.0))
    paint("cerebellum", ellipsoid(f.at(0, HEAD_Y + 45, 0.922), ax([46, 28, 22]) * k))
    paint("airway", tube([f.at(0, 0, 0.87), f.at(0, 12, 0.81), f.at(0, 25, 0.785)], 9 * s))
