"""The order in which a body is painted: each organ lies in what was painted before it."""

from __future__ import annotations

import numpy as np

from scantwin.phantoms.anatomy_abdomen import paint_abdomen
from scantwin.phantoms.anatomy_axial import paint_axial
from scantwin.phantoms.anatomy_head import paint_head
from scantwin.phantoms.anatomy_limbs import paint_limbs, paint_septa
from scantwin.phantoms.anatomy_thorax import paint_thorax
from scantwin.phantoms.anatomy_trunk import cavity, spine_y
from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame
from scantwin.phantoms.shapes import ellipsoid, tube


def paint_organs(canvas: Canvas, f: Frame) -> None:
    """Paints every organ over the muscle and fat of the outline."""
    paint_septa(canvas, f)
    canvas.paint("visceral-fat", cavity(f))
    paint_thorax(canvas, f)
    paint_axial(canvas, f)
    paint_abdomen(canvas, f)
    paint_limbs(canvas, f)
    paint_head(canvas, f)


def paint_brown_fat(canvas: Canvas, f: Frame) -> None:
    """Paints active brown fat: above the clavicles and beside the upper spine (BF)."""
    for side in (1, -1):
        neck = [f.at(side * 38, 4, 0.858), f.at(side * 62, -10, 0.838), f.at(side * 104, -12, 0.826)]
        canvas.paint("brown-fat", tube(neck, 9 * f.s).rough(4.0), only=("muscle", "subcutaneous-fat"))
        for k in range(6):
            z = 0.82 - 0.0152 * k
            spot = f.at(side * 27, 0, z) + np.array([0, spine_y(f, z) + 6 * f.s, 0])
            canvas.paint(
                "brown-fat",
                ellipsoid(spot, np.full(3, 7.0) * f.s),
                spare=("cortical-bone", "vertebral-marrow"),
            )
