"""Skull, brain, face, mouth, glands, throat. Positions assumed; brain mass ICRP."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scantwin.phantoms.anatomy_body import HEAD_Y
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
)

_BONE_MM = 6.5
"""Thickness of the skull cap; assumed."""


def head_at(f: Frame, x: float, y: float, fraction: float) -> NDArray[np.float64]:
    """A point of the head: x, y from the head's middle for the reference man [mm]."""
    k = f.s * (0.965 if f.female else 1.0)
    return np.array([x * k, HEAD_Y * f.s + y * k, f.z(1.0) - (1.0 - fraction) * f.height])


def cranium(f: Frame) -> Shape:
    """The inside of the skull, sized for the brain and the fluid around it."""
    base = everywhere(
        lambda p: np.asarray(
            np.float32(f.z(0.926)) - p.z - np.float32(0.22) * (p.y - np.float32(HEAD_Y * f.s)), np.float32
        )
    )
    k0 = f.s * (0.965 if f.female else 1.0)
    # Fluid: about 9 % of the space (assumed).
    return sized(
        lambda k: ellipsoid(head_at(f, 0, 1, 0.9535), np.array([66, 82.5, 67]) * k0 * k) & base,
        organ_ml(f, "brain") * 1.09,
    )


def paint_head(canvas: Canvas, f: Frame) -> None:
    """Paints everything inside the head and the throat."""
    k = f.s * (0.965 if f.female else 1.0)
    inner = cranium(f)
    _face(canvas, f, k)
    canvas.paint("cortical-bone", inner.grown(_BONE_MM * k))
    canvas.paint("red-marrow", inner.grown(4.3 * k) - inner.grown(2.2 * k), only=("cortical-bone",))
    canvas.paint("csf", inner)
    _brain(canvas, f, k, inner)
    _eyes(canvas, f, k)
    _throat(canvas, f, k)


def _brain(canvas: Canvas, f: Frame, k: float, inner: Shape) -> None:
    brain = inner.grown(-1.5)
    cerebellum = ellipsoid(head_at(f, 0, 42, 0.925), np.array([54, 39, 29]) * k)

    def cortex(p: Points) -> Array:
        """Grey matter: under the surface and along the sulci (the zeros of a random field)."""
        depth = -brain.distance(p)
        sulcus = 8.5 * np.abs(p.noise("sulci", 15.0)) + np.maximum(depth - 28, 0)
        return np.asarray(np.minimum(depth - 4.8, sulcus - 5.6), np.float32)

    canvas.paint("white-matter", brain)
    canvas.paint("grey-matter", brain & everywhere(cortex))

    def clefts(p: Points) -> Array:
        depth = -brain.distance(p)
        sulcus = 8.5 * np.abs(p.noise("sulci", 15.0)) - 0.45 + np.maximum(depth - 14, 0)
        falx = np.abs(p.x) - 0.8 + np.maximum(np.float32(f.z(0.955)) - p.z, 0)
        return np.asarray(np.minimum(sulcus, falx), np.float32)

    canvas.paint("csf", brain & everywhere(clefts), only=("grey-matter", "white-matter"))
    for side in (1, -1):
        canvas.paint("deep-grey", ellipsoid(head_at(f, side * 11, 8, 0.9525), np.array([9, 15, 11]) * k))
        canvas.paint(
            "deep-grey",
            ellipsoid(head_at(f, side * 25, -8, 0.9535), np.array([7, 19, 11]) * k, (0, 0, side * -12)),
        )
        ventricle = [
            head_at(f, side * 9, -34, 0.957),
            head_at(f, side * 10, 5, 0.9635),
            head_at(f, side * 20, 38, 0.956),
        ]
        canvas.paint("csf", tube(ventricle, np.array([4, 5, 6]) * k))
    canvas.paint("csf", cerebellum.grown(1.5) & inner, only=("grey-matter", "white-matter"))
    canvas.paint("cerebellum", cerebellum & brain)
    stem = [head_at(f, 0, 9, 0.944), head_at(f, 0, 14, 0.925), head_at(f, 0, 20, 0.908)]
    canvas.paint(
        "csf", tube(stem, np.array([15.5, 15, 12]) * k) & inner, only=("grey-matter", "white-matter")
    )
    canvas.paint("brainstem", tube(stem, np.array([14, 13, 8]) * k))


def _face(canvas: Canvas, f: Frame, k: float) -> None:
    canvas.paint("trabecular-bone", ellipsoid(head_at(f, 0, -58, 0.912), np.array([38, 28, 30]) * k))
    canvas.paint("trabecular-bone", ellipsoid(head_at(f, 0, -20, 0.921), np.array([34, 30, 14]) * k))
    canvas.paint("airway", ellipsoid(head_at(f, 0, -16, 0.925), np.array([14, 12, 9]) * k))  # sphenoid sinus
    canvas.paint(
        "soft-palate", ellipsoid(head_at(f, 0, -56, 0.914), np.array([15, 33, 20]) * k)
    )  # nasal mucosa
    for side in (1, -1):
        canvas.paint("airway", ellipsoid(head_at(f, side * 5.5, -56, 0.913), np.array([4, 30, 17]) * k))
        canvas.paint("airway", ellipsoid(head_at(f, side * 25, -58, 0.916), np.array([11, 15, 15]) * k))
        zygoma = [
            head_at(f, side * 62, -20, 0.921),
            head_at(f, side * 57, -48, 0.92),
            head_at(f, side * 40, -74, 0.919),
        ]
        canvas.paint("cortical-bone", tube(zygoma, 4.5 * k))
        canvas.paint(
            "trabecular-bone", ellipsoid(head_at(f, side * 52, 20, 0.917), np.array([12, 16, 17]) * k)
        )
        canvas.paint("airway", ellipsoid(head_at(f, side * 53, 20, 0.915), np.array([6, 9, 10]) * k))
        jaw = [
            head_at(f, side * 50, -8, 0.914), head_at(f, side * 46, -16, 0.887),
            head_at(f, side * 34, -56, 0.8785),
            head_at(f, 0, -81, 0.876),
        ]  # fmt: skip
        canvas.paint("cortical-bone", tube(jaw, np.array([6, 8, 7.5, 9]) * k))
        canvas.paint("red-marrow", tube(jaw, np.array([3, 5, 4, 5]) * k))
        for z, tooth in ((0.888, 4.5), (0.8945, 4.5)):
            row = [head_at(f, side * 24, -44, z), head_at(f, side * 18, -70, z), head_at(f, 0, -80, z)]
            canvas.paint("teeth", tube(row, tooth * k))


def _eyes(canvas: Canvas, f: Frame, k: float) -> None:
    for side in (1, -1):
        cone = ellipsoid(head_at(f, side * 29, -62, 0.933), np.array([17, 25, 16]) * k, (0, 0, side * 20))
        canvas.paint("cortical-bone", cone.grown(2.5 * k), spare=("grey-matter", "white-matter", "csf"))
        canvas.paint("orbital-fat", cone)
        muscle = tube(
            [head_at(f, side * 22, -38, 0.932), head_at(f, side * 30, -70, 0.933)], np.array([4, 14]) * k
        )
        canvas.paint("muscle", muscle - muscle.grown(-2.5 * k), only=("orbital-fat",))
        canvas.paint("eye", ellipsoid(head_at(f, side * 31, -78, 0.933), np.full(3, 12.0) * k))


def _throat(canvas: Canvas, f: Frame, k: float) -> None:
    paint = canvas.paint
    paint("tongue", ellipsoid(head_at(f, 0, -50, 0.8885), np.array([20, 30, 17]) * k))
    paint("soft-palate", ellipsoid(head_at(f, 0, -26, 0.902), np.array([15, 13, 5]) * k))
    throat = [
        head_at(f, 0, -14, 0.917),
        head_at(f, 0, -14, 0.90),
        head_at(f, 0, -14, 0.885),
        f.at(0, -8, 0.872),
    ]
    paint("airway", tube(throat, np.array([9, 7, 7, 7]) * k))
    for side in (1, -1):
        paint(
            "tonsils",
            ellipsoid(head_at(f, side * 17, -20, 0.894), np.array([6.5, 8, 11]) * k),
            spare=("airway",),
        )
        paint(
            "tonsils",
            ellipsoid(head_at(f, side * 7, -25, 0.8835), np.array([7, 6, 6]) * k),
            spare=("airway",),
        )
        place = head_at(f, side * 54, 0, 0.902)
        gland = ellipsoid_of(organ_ml(f, "parotids") / 2, place, (11, 17, 23))
        paint("parotid", gland, only=("muscle", "subcutaneous-fat"))
        place = head_at(f, side * 27, -36, 0.8765)
        gland = ellipsoid_of(organ_ml(f, "submandibulars") / 2, place, (10, 15, 11))
        paint("submandibular", gland, only=("muscle", "subcutaneous-fat"))
        paint(
            "sublingual",
            ellipsoid(head_at(f, side * 13, -56, 0.881), np.array([5, 13, 6]) * k),
            only=("muscle", "tongue"),
        )
    ring = tube([f.at(0, -17, 0.884), f.at(0, -15, 0.868)], np.array([17, 15]) * f.s)
    paint("larynx", ring)
    paint("cartilage", ring - ring.grown(-2.5 * f.s) - half_space(1, -6 * f.s, above=True))
    paint(
        "airway",
        tube([f.at(0, -14, 0.886), f.at(0, -14, 0.876), f.at(0, -10, 0.866)], np.array([8, 4.5, 8]) * f.s),
    )
