"""The order in which a body is painted: what comes later lies in what came before."""

from __future__ import annotations

from scantwin.phantoms.anatomy_abdomen import paint_abdomen
from scantwin.phantoms.anatomy_axial import paint_axial
from scantwin.phantoms.anatomy_head import paint_head
from scantwin.phantoms.anatomy_limbs import paint_limbs, paint_septa
from scantwin.phantoms.anatomy_thorax import paint_thorax
from scantwin.phantoms.anatomy_trunk import cavity
from scantwin.phantoms.canvas import Canvas
from scantwin.phantoms.frame import Frame


def paint_organs(canvas: Canvas, f: Frame) -> None:
    """Paints every organ over the muscle and fat of the outline."""
    paint_septa(canvas, f)
    canvas.paint("visceral-fat", cavity(f))
    paint_thorax(canvas, f)
    paint_axial(canvas, f)
    paint_abdomen(canvas, f)
    paint_limbs(canvas, f)
    paint_head(canvas, f)
