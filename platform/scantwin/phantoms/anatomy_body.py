"""The body's outline (trunk, neck, head and limbs, lean and with the fat rind), limb lines and districts."""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.phantoms.canvas import Canvas, Grid
from scantwin.phantoms.frame import ARM_START_MM, HEAD_FLOOR, LEG_TOP, Frame
from scantwin.phantoms.masses import organ_ml
from scantwin.phantoms.shapes import Array, Points, Shape, ellipsoid, smooth_union, stack, tube

# Lean trunk of the reference man: height fraction, half-width, front, back [mm], exponent. Based on a trunk
# of 20 x 10 cm half-axes and 70 cm height (MIRD), with common body breadths; assumed.
_TRUNK: Final = np.array([
    (0.462, 143, 60, 80, 2.2), (0.485, 156, 78, 104, 2.4), (0.51, 160, 86, 106, 2.4),
    (0.54, 156, 90, 98, 2.4),
    (0.57, 150, 92, 88, 2.4), (0.60, 142, 92, 80, 2.4), (0.63, 137, 93, 78, 2.4), (0.67, 141, 98, 83, 2.4),
    (0.71, 149, 105, 90, 2.4), (0.75, 156, 108, 95, 2.4), (0.78, 163, 100, 96, 2.5), (0.80, 170, 86, 92, 2.6),
    (0.815, 168, 70, 84, 2.5), (0.828, 132, 58, 74, 2.2), (0.84, 88, 52, 68, 2.0), (0.853, 64, 48, 64, 2.0),
    (0.87, 57, 46, 62, 2.0), (0.90, 56, 44, 64, 2.0),
])  # fmt: skip
_TRUNK_FEMALE: Final = np.interp(
    _TRUNK[:, 0], (0.46, 0.50, 0.54, 0.60, 0.64, 0.70, 0.76, 0.82, 0.86, 0.9),
    (1.03, 1.04, 1.02, 0.93, 0.90, 0.91, 0.92, 0.90, 0.85, 0.86),
)  # fmt: skip

# Fat rind: height fraction; side, front, back [mm] for a man, then for a woman, of about BMI 25; assumed.
_RIND: Final = np.array([
    (0.462, 13, 11, 18, 17, 13, 22), (0.49, 19, 16, 26, 25, 20, 34), (0.53, 22, 22, 26, 28, 26, 34),
    (0.57, 22, 25, 20, 24, 28, 24), (0.60, 20, 26, 16, 20, 27, 19), (0.65, 16, 22, 13, 16, 21, 15),
    (0.70, 12, 15, 11, 12, 14, 12), (0.75, 10, 10, 10, 11, 11, 11), (0.80, 9, 8, 10, 10, 9, 11),
    (0.83, 7, 7, 10, 8, 7, 10), (0.853, 5, 5, 7, 6, 6, 7), (0.90, 4, 4, 5, 4, 4, 5),
])  # fmt: skip

# Skull cap and face, lean: height fraction, half-width, front, back; the top of the neck joins them. Assumed.
_HEAD: Final = np.array([
    (0.866, 38, 70, 0, 2.3), (0.876, 50, 82, 24, 2.3), (0.889, 58, 88, 60, 2.3), (0.903, 64, 90, 76, 2.3),
    (0.917, 69, 91, 88, 2.2), (0.935, 73, 95, 95, 2.1), (0.953, 74, 96, 97, 2.1), (0.968, 70, 90, 91, 2.1),
    (0.981, 59, 73, 75, 2.1), (0.991, 41, 49, 51, 2.1), (0.9965, 25, 29, 30, 2.1), (0.9995, 7, 8, 8, 2.1),
])  # fmt: skip
HEAD_Y: Final = 12.0
"""y of the middle of the head [mm], a little behind the trunk's: supine, the neck runs towards the table."""


@dataclass(frozen=True, eq=False)
class Limb:
    """A limb along a line: points (n, xyz) [mm], lean radii [mm] and the fat around them [mm]."""

    side: int
    """+1 the patient's left, -1 right."""
    points: NDArray[np.float64]
    lean: NDArray[np.float64]
    rind: NDArray[np.float64]

    def shape(self, grow: float = 0.0, *, fat: bool = True) -> Shape:
        """The limb with or without its fat, grown by `grow` mm."""
        return tube(self.points, self.lean + (self.rind if fat else 0.0) + grow)

    def volume_ml(self, *, fat: bool) -> float:
        """Volume as truncated cones [ml]."""
        r = self.lean + (self.rind if fat else 0.0)
        length = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        return float(np.sum(length * np.pi / 3 * (r[:-1] ** 2 + r[:-1] * r[1:] + r[1:] ** 2)) / 1000)


def trunk_rows(f: Frame, *, fat: bool) -> NDArray[np.float64]:
    """Rows of the trunk and neck for `shapes.stack`."""
    t = _TRUNK.copy()
    if f.female:
        t[:, 1] *= _TRUNK_FEMALE
        t[:, 2:4] *= 0.96
    u = t[:, 0]
    # Bones set the trunk's size more than muscles do.
    t[:, 1:4] *= f.s * f.lean**0.25
    belly = np.exp(-(((u - 0.615) / 0.05) ** 2))
    t[:, 2] += belly * f.visceral
    t[:, 1] += belly * f.visceral * 0.55
    if f.arms != "down":
        # Raised arms pull the shoulders up and in.
        lift = np.clip((u - 0.79) / 0.03, 0, 1) * np.clip((0.86 - u) / 0.03, 0, 1)
        t[:, 0] = u + 0.006 * lift
        t[:, 1] *= 1 - 0.10 * np.clip((u - 0.77) / 0.03, 0, 1) * np.clip((0.845 - u) / 0.015, 0, 1)
    if fat:
        rind = [np.interp(u, _RIND[:, 0], _RIND[:, (4 if f.female else 1) + k]) for k in range(3)]
        for k in range(3):
            t[:, 1 + k] += rind[k] * f.fat * f.s
    z = t[:, 0] * f.height
    centre = np.interp(u, (0.46, 0.60, 0.82, 0.90), (0, 0, 0, HEAD_Y * 0.6)) * f.s
    return np.stack([z, 0 * z, t[:, 1], centre - t[:, 2], centre + t[:, 3], t[:, 4], centre], axis=1)


def head_rows(f: Frame, *, fat: bool) -> NDArray[np.float64]:
    """Rows of the head for `shapes.stack`; the scalp is thin."""
    t = _HEAD.copy()
    size = f.s * (0.965 if f.female else 1.0)
    t[:, 1:4] *= size
    t[:, 1:4] += (3.5 + 1.5 * (f.fat - 1)) if fat else 0.0
    z = f.z(1.0) - (1.0 - t[:, 0]) * f.height
    c = np.full(len(z), HEAD_Y * f.s)
    return np.stack([z, 0 * z, t[:, 1], c - t[:, 2], c + t[:, 3], t[:, 4], c], axis=1)


def arm(f: Frame, side: int, *, up: bool) -> Limb:
    """An arm: shoulder, elbow, wrist, knuckles, fingertips."""
    wob = f.wobble(f"arm{side}", 6)
    s = f.s
    shoulder_x = (0.104 if not f.female else 0.095) * f.height
    upper, fore, hand = 0.180 * f.height, 0.146 * f.height, 0.10 * f.height
    if up:
        shoulder = np.array([shoulder_x * 0.93, 8 * s, f.z(0.822)])
        out = np.radians(20 + 4 * wob[0])
        elbow = shoulder + upper * _unit(np.sin(out), -0.10 + 0.05 * wob[1], np.cos(out))
        lean_in = np.radians(-42 + 7 * wob[2])
        wrist = elbow + fore * _unit(np.sin(lean_in), -0.22 + 0.06 * wob[3], np.cos(lean_in))
        reach = _unit(np.sin(lean_in * 1.15), -0.10, np.cos(lean_in * 1.15))
    else:
        shoulder = np.array([shoulder_x, 8 * s, f.z(0.812)])
        # The wrist clears the hip whatever its width.
        rows = trunk_rows(f, fat=True)
        hip = float(rows[(rows[:, 0] > f.z(0.47)) & (rows[:, 0] < f.z(0.60)), 2].max())
        wrist_x = max(hip + (38 + 6 * f.fat) * s, shoulder_x + 40 * s) + 4 * wob[0]
        wrist = np.array([wrist_x, 10 * s + 6 * wob[1], shoulder[2] - 0.315 * f.height])
        chest = float(rows[(rows[:, 0] > f.z(0.62)) & (rows[:, 0] < f.z(0.68)), 2].max())
        elbow_x = max(0.45 * shoulder_x + 0.55 * wrist_x + 12 * s, chest + (46 + 8 * f.fat) * s)
        elbow = np.array([elbow_x, 30 * s, shoulder[2] - upper * 0.97])
        wrist = elbow + fore * _unit(*(wrist - elbow))
        reach = _unit(-0.10, -0.18, -1.0)
    knuckles, tips = wrist + 0.45 * hand * reach, wrist + hand * reach
    near = shoulder + 0.3 * (elbow - shoulder)
    mid = shoulder + 0.6 * (elbow - shoulder)
    belly = elbow + 0.22 * (wrist - elbow)
    points = np.array([shoulder, near, mid, elbow, belly, wrist, knuckles, tips])
    lean = np.array([47, 45, 41, 35, 38, 24, 27, 13.0]) * s * np.sqrt(f.lean) * (0.86 if f.female else 1.0)
    rind = np.array([9, 9, 9, 6, 5, 3, 3, 1.5]) * s * f.fat * (1.25 if f.female else 1.0)
    points[:, 0] *= side
    return Limb(side, points, lean, rind)


def leg(f: Frame, side: int) -> Limb:
    """A leg: hip, mid-thigh, knee, calf, ankle."""
    wob = f.wobble(f"leg{side}", 4)
    s = f.s
    hip_x = (86 if not f.female else 88) * s + 3 * (f.fat - 1)
    splay = (10 + 6 * wob[0]) * s
    y = 6 * s
    fractions = np.array([0.505, 0.455, 0.37, 0.285, 0.215, 0.12, 0.048])
    x = hip_x + splay * np.array([0, 0.1, 0.5, 1.0, 1.4, 2.0, 2.4])
    points = np.stack([x, np.array([y, y, y, y + 6, y + 12, y + 18, y + 20]), fractions * f.height], 1)
    lean = np.array([74, 76, 66, 50, 49, 33, 29.0]) * s * np.sqrt(f.lean) * (0.96 if f.female else 1.0)
    rind = np.array([14, 15, 11, 6, 6, 4, 3.0]) * s * f.fat * (1.5 if f.female else 1.0)
    points[:, 0] *= side
    return Limb(side, points, lean, rind)


def foot(f: Frame, side: int) -> Shape:
    """A foot from heel to toes, pointing up and slightly outwards as in a supine patient."""
    ankle = leg(f, side).points[-1]
    s = f.s * (0.92 if f.female else 1.0)
    heel = ankle + np.array([0, 26 * s, -0.028 * f.height])
    toes = ankle + np.array([side * 62 * s, -165 * s, -0.012 * f.height])
    ball = 0.35 * heel + 0.65 * toes
    return tube([heel, ankle * 0.6 + ball * 0.4, ball, toes], np.array([30, 34, 32, 17]) * s)


def breast(f: Frame, side: int) -> Shape:
    """A breast of a supine woman: flat, and sunk to the side."""
    wall = float(np.interp(f.z(0.748), *trunk_rows(f, fat=False)[:, (0, 3)].T))
    volume = organ_ml(f, "breasts") / 2
    # About half of the ellipsoid stands out from the chest.
    size = np.cbrt(volume * 1000 * 1.7 / (4 / 3 * np.pi * 62 * 30 * 62))
    centre = np.array([side * 82 * f.s, 0.9 * wall - 2 * f.s, f.z(0.748)])
    return ellipsoid(centre, np.array([62, 30, 62]) * size, (0, 0, side * 14))


def outline(f: Frame) -> dict[str, Shape]:
    """The outer (skin) and lean (muscle) solids of every part, by name."""
    parts = {
        "trunk": (stack(trunk_rows(f, fat=True)), stack(trunk_rows(f, fat=False))),
        "head": (stack(head_rows(f, fat=True)), stack(head_rows(f, fat=False))),
    }
    for side, name in ((1, "left"), (-1, "right")):
        a = arm(f, side, up=arm_is_up(f, side))
        g = leg(f, side)
        parts[f"arm-{name}"] = (a.shape(), a.shape(fat=False))
        parts[f"leg-{name}"] = (g.shape(), g.shape(fat=False))
        parts[f"foot-{name}"] = (foot(f, side).grown(3.0), foot(f, side))
    for side, name in ((1, "left"), (-1, "right")):
        if f.female:
            parts[f"breast-{name}"] = (breast(f, side), breast(f, side).grown(-40.0))
        ear = ellipsoid(f.at(side * 80, HEAD_Y + 8, 0.926), np.array([6, 16, 28]) * f.s, (0, 0, side * 20))
        parts[f"ear-{name}"] = (ear, ear.grown(-2.0))
    if not f.female:
        sac = ellipsoid(f.at(0, -66, 0.452), np.array([31, 22, 28]) * f.s)
        parts["scrotum"] = (sac, sac.grown(-3.0))
    nose = ellipsoid(f.at(0, HEAD_Y - 92, 0.912), np.array([13, 17, 22]) * f.s)
    parts["nose"] = (nose.grown(2.0), nose)
    return {
        f"{name}/{kind}": pair[k] for name, pair in parts.items() for k, kind in enumerate(("skin", "lean"))
    }


def arm_is_up(f: Frame, side: int) -> bool:
    """Whether the arm on this side is raised; with one-up, chance decides which, once per patient."""
    if f.arms == "one-up":
        return side == (1 if f.wobble("which-arm", 1)[0] > 0 else -1)
    return f.arms == "up"


def table_y(f: Frame) -> float:
    """y of the table top [mm]: the buttocks and the back are pressed slightly flat."""
    rows = trunk_rows(f, fat=True)
    return float(rows[:, 4].max()) - (8 + 3 * f.fat) * f.s


def body_distances(canvas: Canvas, f: Frame) -> tuple[Array, Array]:
    """Signed distance [mm] to the skin and to the lean body on the whole grid, parts joined by fillets."""
    found = []
    shapes = outline(f)
    for kind in ("skin", "lean"):
        total = np.full(canvas.grid.shape, 60.0, np.float32)
        for name, shape in shapes.items():
            if not name.endswith(kind):
                continue
            box = canvas.box(shape.grown(12))
            if box is None:
                continue
            part = shape.distance(canvas.points(box))
            total[box] = smooth_union(total[box], part, 14.0)
        found.append(total)
    y = canvas.grid.y.astype(np.float32)[None, :, None]
    flat = y - np.float32(table_y(f))
    np.maximum(found[0], flat, out=found[0])
    np.maximum(found[1], flat + np.float32(4.0 + 3.0 * f.fat), out=found[1])
    return found[0], found[1]


def districts(canvas: Canvas, f: Frame, body: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """District labels as defined in docs/phantoms.md; 0 outside the body."""
    labels = np.where(body, DISTRICT_LABEL["trunk"], 0).astype(np.uint8)
    z = canvas.grid.z
    below = z < f.z(LEG_TOP)
    labels[below] = np.where(body[below], DISTRICT_LABEL["legs"], 0)
    above = z >= f.z(HEAD_FLOOR)
    # Above C7/T1 are head and neck; the tip of a raised shoulder, further out, stays with the trunk.
    near = np.abs(canvas.grid.x) <= 110 * f.s
    labels[np.ix_(above, np.ones(len(canvas.grid.y), bool), near)] = np.where(
        body[above][:, :, near], DISTRICT_LABEL["head"], 0
    )
    for side in (1, -1):
        limb = arm(f, side, up=arm_is_up(f, side))
        shape = limb.shape(8.0)
        box = canvas.box(shape)
        if box is None:
            continue
        p = canvas.points(box)
        axis = _unit(*(limb.points[3] - limb.points[0])).astype(np.float32)
        start = limb.points[0].astype(np.float32)
        along = (p.x - start[0]) * axis[0] + (p.y - start[1]) * axis[1] + (p.z - start[2]) * axis[2]
        in_arm = shape.distance(p) < 0
        # Where an arm touches the trunk or the head, a voxel belongs to the nearer one.
        rest = _others(f, p)
        mine = in_arm & (along > ARM_START_MM * f.s) & (limb.shape().distance(p) < rest)
        labels[box] = np.where(mine & body[box], DISTRICT_LABEL["arms"], labels[box])
    return labels


def _others(f: Frame, p: Points) -> Array:
    """Distance [mm] to the nearest part that is not an arm."""
    shapes = [
        stack(trunk_rows(f, fat=True)),
        stack(head_rows(f, fat=True)),
        leg(f, 1).shape(),
        leg(f, -1).shape(),
    ]
    best = shapes[0].distance(p)
    for shape in shapes[1:]:
        best = np.minimum(best, shape.distance(p))
    return best


def volume_estimate_ml(f: Frame) -> float:
    """Approximate volume [ml] of the outline, from its rows and lines, without a grid."""
    trunk = trunk_rows(f, fat=True)
    total = 0.0
    for rows in (trunk[trunk[:, 0] <= f.z(0.872)], head_rows(f, fat=True)):
        # Area of a superellipse: 4 a b G(1 + 1/n)^2 / G(1 + 2/n).
        full = np.array([gamma(1 + 1 / n) ** 2 / gamma(1 + 2 / n) for n in rows[:, 5]])
        area = 2 * rows[:, 2] * (rows[:, 4] - rows[:, 3]) * full
        total += float(np.trapezoid(area, rows[:, 0])) / 1000
    for side in (1, -1):
        # The ends lie in the trunk; a foot is about 950 ml.
        total += leg(f, side).volume_ml(fat=True) * 0.93 + 950 * f.s**3
        total += arm(f, side, up=arm_is_up(f, side)).volume_ml(fat=True) * 0.95
    return total


def volume_ml(f: Frame, step: float = 14.0) -> float:
    """Volume [ml] of the outline as painted, with fillets and flat back, on a coarse grid."""
    half = 0.28 * f.height
    low, high = np.array([-35.0, -0.2 * f.height, -half]), np.array([1.13 * f.height, 0.14 * f.height, half])
    canvas = Canvas(Grid.over(low, high, (step, step, step)), (step, step, step), f.seed, {})
    skin, _ = body_distances(canvas, f)
    return float(np.clip(0.5 - skin / step, 0, 1).sum() * step**3 / 1000)


def _unit(x: float, y: float, z: float) -> NDArray[np.float64]:
    v = np.array([x, y, z], float)
    return np.asarray(v / np.linalg.norm(v), float)
