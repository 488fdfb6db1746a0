"""Shapes as signed distances: negative inside, in mm, so that an edge voxel gets its partial volume.

World points are LPS [mm] with z = 0 at the soles, x = 0 in the middle and y = 0 halfway through the trunk.
A shape is a box that contains it and a function of the points in that box; `|`, `&` and `-` combine shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

Array: TypeAlias = NDArray[np.float32]
"""float32 values with axes (z, y, x), or broadcastable to them."""


class Noise(Protocol):
    """A smooth random field of unit variance at the points of a box."""

    def __call__(self, name: str, step: float, stretch: float = 1.0) -> Array:
        """The field of that name: lattice step [mm], correlated over about 1.5 steps, and `stretch` times as
        far along z."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points of one box of the grid: `x`, `y`, `z` [mm], with smooth random fields."""

    x: Array
    y: Array
    z: Array
    noise: Noise
    """Unit-variance noise at the points."""


Distance: TypeAlias = Callable[[Points], Array]


@dataclass(frozen=True, eq=False)
class Shape:
    """A solid: `low` and `high` (x, y, z) [mm] bound it; `distance` is signed [mm], negative inside."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    distance: Distance

    def __or__(self, other: Shape) -> Shape:
        return Shape(
            np.minimum(self.low, other.low), np.maximum(self.high, other.high),
            lambda p: np.minimum(self.distance(p), other.distance(p)),
        )  # fmt: skip

    def __and__(self, other: Shape) -> Shape:
        return Shape(
            np.maximum(self.low, other.low), np.minimum(self.high, other.high),
            lambda p: np.maximum(self.distance(p), other.distance(p)),
        )  # fmt: skip

    def __sub__(self, other: Shape) -> Shape:
        return Shape(self.low, self.high, lambda p: np.maximum(self.distance(p), -other.distance(p)))

    def grown(self, mm: float) -> Shape:
        """The shape with its surface moved outwards by `mm` (inwards when negative)."""
        return Shape(self.low - mm, self.high + mm, lambda p: self.distance(p) - np.float32(mm))

    def rough(self, mm: float, step: float = 14.0) -> Shape:
        """The shape with an uneven surface: SD `mm`, bumps about `step` mm apart."""
        return Shape(
            self.low - 2 * mm,
            self.high + 2 * mm,
            lambda p: self.distance(p) + np.float32(mm) * p.noise("rough", step),
        )

    def scaled(self, factor: float) -> Shape:
        """The shape enlarged about the middle of its box."""
        middle = (self.low + self.high) / 2
        m = middle.astype(np.float32)
        k = np.float32(1 / factor)

        def distance(p: Points) -> Array:
            q = Points(m[0] + (p.x - m[0]) * k, m[1] + (p.y - m[1]) * k, m[2] + (p.z - m[2]) * k, p.noise)
            return np.asarray(self.distance(q) * np.float32(factor), np.float32)

        return Shape(middle + (self.low - middle) * factor, middle + (self.high - middle) * factor, distance)


def everywhere(distance: Distance) -> Shape:
    """A shape without bounds, for intersecting with others."""
    return Shape(np.full(3, -np.inf), np.full(3, np.inf), distance)


def ellipsoid(
    centre: ArrayLike, axes: ArrayLike, turn: ArrayLike = (0.0, 0.0, 0.0), *, along: ArrayLike | None = None
) -> Shape:
    """An ellipsoid with centre and half-axes (x, y, z) [mm], turned about x, y, z [degrees], or with its own
    z axis along the world direction `along`."""
    c, a = np.asarray(centre, float), np.asarray(axes, float)
    rotation = _rotation(np.radians(np.asarray(turn, float))) if along is None else _towards(along)
    reach = np.sqrt((rotation**2) @ (a**2))
    m = (rotation / a).T.astype(np.float32)  # (own axis, world axis), scaled to the unit sphere
    plain = bool(np.allclose(rotation, np.eye(3)))
    c32, a32 = c.astype(np.float32), a.astype(np.float32)

    def distance(p: Points) -> Array:
        x, y, z = p.x - c32[0], p.y - c32[1], p.z - c32[2]
        if plain:
            u, v, w = x / a32[0], y / a32[1], z / a32[2]
        else:
            u, v, w = (m[i, 0] * x + m[i, 1] * y + m[i, 2] * z for i in range(3))
        u2, v2, w2 = u * u, v * v, w * w
        f = np.sqrt(u2 + v2 + w2)
        # First-order distance: (f - 1) over the length of the gradient of f.
        slope = np.sqrt(u2 / a32[0] ** 2 + v2 / a32[1] ** 2 + w2 / a32[2] ** 2)
        return np.asarray((f - 1) * f / np.maximum(slope, np.float32(1e-6)), np.float32)

    return Shape(c - reach, c + reach, distance)


def ellipsoid_of(
    volume: float, centre: ArrayLike, axes: ArrayLike, turn: ArrayLike = (0.0, 0.0, 0.0)
) -> Shape:
    """An ellipsoid of `volume` [ml] with half-axes (x, y, z) in the proportions of `axes`."""
    a = np.asarray(axes, float)
    scale = np.cbrt(volume * 1000 / (4 / 3 * np.pi * np.prod(a)))
    return ellipsoid(centre, a * scale, turn)


def tube(points: ArrayLike, radii: ArrayLike, flat: float = 1.0) -> Shape:
    """A tube along the polyline `points` (n, xyz) [mm] with `radii` [mm]; `flat` scales it in y."""
    path = np.asarray(points, float)
    radius = np.broadcast_to(np.asarray(radii, float), (len(path),))
    grow = radius[:, None] * np.array([1.0, flat, 1.0])
    squeeze = np.float32(1.0 / flat)

    if len(path) < 2:
        raise ValueError("a tube needs two points")

    def distance(p: Points) -> Array:
        best = np.full(np.broadcast_shapes(p.x.shape, p.y.shape, p.z.shape), _FAR, np.float32)
        for k in range(len(path) - 1):
            ends, reach = path[k : k + 2], grow[k : k + 2]
            part, q = _near(p, (ends - reach).min(axis=0) - _MARGIN, (ends + reach).max(axis=0) + _MARGIN)
            d = _segment(q, path[k], path[k + 1], radius[k], radius[k + 1], squeeze)
            np.minimum(best[part], d, out=best[part])
        return best

    return Shape((path - grow).min(axis=0), (path + grow).max(axis=0), distance)


_FAR: Final = 60.0
"""Distance that stands for "not near" [mm]: more than any edge or fillet needs."""
_MARGIN: Final = 42.0
"""Margin around a segment of a tube within which its distance is computed [mm]: for warp and fillets."""


def _near(
    p: Points, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[tuple[slice, slice, slice], Points]:
    """The part of a box of points that lies roughly within low..high (x, y, z) [mm]."""
    parts = []
    for axis, line in ((2, p.z[:, 0, 0]), (1, p.y[0, :, 0]), (0, p.x[0, 0, :])):
        inside = np.flatnonzero((line >= low[axis]) & (line <= high[axis]))
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
    z, y, x = parts

    def cut(a: Array) -> Array:
        return a[tuple(s if n > 1 else slice(None) for s, n in zip((z, y, x), a.shape, strict=True))]

    return (z, y, x), Points(cut(p.x), cut(p.y), cut(p.z), p.noise)


def _segment(
    p: Points, a: NDArray[np.float64], b: NDArray[np.float64], ra: float, rb: float, squeeze: np.float32
) -> Array:
    along = (b - a) * np.array([1.0, squeeze, 1.0])
    length2 = max(float(along @ along), 1e-6)
    x, y, z = p.x - np.float32(a[0]), (p.y - np.float32(a[1])) * squeeze, p.z - np.float32(a[2])
    ux, uy, uz = along.astype(np.float32)
    t = np.clip((x * ux + y * uy + z * uz) / np.float32(length2), 0, 1)
    x, y, z = x - t * ux, y - t * uy, z - t * uz
    d = np.sqrt(x * x + y * y + z * z) - (np.float32(ra) + t * np.float32(rb - ra))
    return np.asarray(d * min(np.float32(1), 1 / squeeze), np.float32)


def stack(rows: ArrayLike) -> Shape:
    """Superellipses stacked along z. Rows (n, 7): z, centre x, half-width, y of the front, y of the back,
    exponent, y of the widest line [mm]; smooth between rows."""
    table = np.asarray(rows, float)
    order = np.argsort(table[:, 0])
    table = table[order]
    z = table[:, 0]
    low = np.array([(table[:, 1] - table[:, 2]).min(), table[:, 3].min(), z[0]])
    high = np.array([(table[:, 1] + table[:, 2]).max(), table[:, 4].max(), z[-1]])

    curves = _curves(z, table[:, 1:])
    constant = [bool(np.ptp(curve) < 1e-3) for curve in curves]
    steps = np.float32((_FINE - 1) / (z[-1] - z[0]))

    def distance(p: Points) -> Array:
        at = np.clip((p.z - np.float32(z[0])) * steps + np.float32(0.5), 0, _FINE - 1).astype(np.int32)
        cx, half, front, back, power, wide = (
            curve[0] if flat else curve[at] for curve, flat in zip(curves, constant, strict=True)
        )
        dx = p.x - cx
        u = np.abs(dx) / half
        dy = p.y - wide
        reach = np.maximum(np.where(dy < 0, wide - front, back - wide), np.float32(1))
        v = np.abs(dy) / reach
        big = np.maximum(np.maximum(u, v), np.float32(1e-6))
        f = big * (1 + (np.minimum(u, v) / big) ** power) ** (1 / power)
        # Scaled by the half-axis in the direction of the point: exact on both axes.
        scale = np.sqrt((u * half) ** 2 + (v * reach) ** 2) / np.maximum(
            np.sqrt(u * u + v * v), np.float32(1e-6)
        )
        inside = (f - 1) * np.minimum(scale, np.maximum(half, reach))
        ends = np.maximum(np.float32(z[0]) - p.z, p.z - np.float32(z[-1]))
        return np.asarray(np.maximum(inside, ends), np.float32)

    return Shape(low, high, distance)


def half_space(axis: int, at: float, *, above: bool) -> Shape:
    """The side of a plane across world axis 0 x, 1 y or 2 z that lies above or below `at` [mm]."""
    sign = np.float32(-1 if above else 1)
    return everywhere(lambda p: np.asarray(sign * ((p.x, p.y, p.z)[axis] - np.float32(at)), np.float32))


_FINE = 1024
"""Steps to which the rows of a stack are interpolated: finer than 2 mm for a whole body."""


def _curves(knots: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Monotone cubics through the rows (no overshoot between them), with axes (column, step)."""
    fine = np.linspace(knots[0], knots[-1], _FINE)
    return np.asarray(PchipInterpolator(knots, columns, axis=0)(fine).T, np.float32)


def smooth_union(a: Array, b: Array, k: float) -> Array:
    """Union of two distances with a fillet of about `k` mm (polynomial smooth minimum)."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0) / np.float32(k)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(k / 4), np.float32)


def _towards(along: ArrayLike) -> NDArray[np.float64]:
    """A rotation that takes +z to `along`."""
    w = np.asarray(along, float) / np.linalg.norm(np.asarray(along, float))
    u = np.cross([0.0, 1.0, 0.0] if abs(w[1]) < 0.9 else [1.0, 0.0, 0.0], w)
    u /= np.linalg.norm(u)
    return np.stack([u, np.cross(w, u), w], axis=1)


def _rotation(turn: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(t), np.sin(t)) for t in turn)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx, float)


def no_noise(name: str, step: float, stretch: float = 1.0) -> Array:  # noqa: ARG001
    """Replaces the random fields where only a mean volume is wanted."""
    return np.zeros((1, 1, 1), np.float32)


def volume_ml(shape: Shape, step: float = 6.0) -> float:
    """Volume [ml] of a bounded shape, sampled every `step` mm."""
    axes = [
        np.arange(a + step / 2, b, step, dtype=np.float32) for a, b in zip(shape.low, shape.high, strict=True)
    ]
    x, y, z = axes
    p = Points(x[None, None, :], y[None, :, None], z[:, None, None], no_noise)
    d = np.broadcast_to(shape.distance(p), (len(z), len(y), len(x)))
    return float(np.clip(0.5 - d / step, 0, 1).sum() * step**3 / 1000)


def sized(make: Callable[[float], Shape], target_ml: float) -> Shape:
    """`make(scale)` at the scale that gives `target_ml`, so that organs clipped by their neighbours keep
    their mass."""
    scale = 1.0
    for _ in range(3):
        shape = make(scale)
        step = float(np.clip(np.prod(shape.high - shape.low) ** (1 / 3) / 28, 1.0, 6.0))
        found = max(volume_ml(shape, step), 1e-3)
        if abs(found / target_ml - 1) < 0.01:
            break
        scale *= float(np.clip(target_ml / found, 0.3, 3.0)) ** (1 / 3)
    return make(scale)
