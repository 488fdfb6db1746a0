"""Shapes by signed distance: negative inside, in mm, so that an edge voxel gets its partial volume.

World points are LPS [mm] with z = 0 at the soles, x = 0 in the middle and y = 0 halfway through the trunk.
A shape is a box that holds it and a function of the points in that box; `|`, `&` and `-` combine shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float32]
"""float32 values with axes (z, y, x), or broadcastable to them."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points of one box of the grid: `x`, `y`, `z` [mm], and a smooth random field for rough edges."""

    x: Array
    y: Array
    z: Array
    rough: Callable[[], Array]
    """Unit-variance noise at the points, correlated over about 15 mm."""


Distance: TypeAlias = Callable[[Points], Array]


@dataclass(frozen=True, eq=False)
class Shape:
    """A solid: `low` and `high` (x, y, z) [mm] hold it; `distance` is signed [mm], negative inside."""

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

    def rough(self, mm: float) -> Shape:
        """The shape with an uneven surface, SD `mm`."""
        return Shape(
            self.low - 2 * mm, self.high + 2 * mm, lambda p: self.distance(p) + np.float32(mm) * p.rough()
        )


def everywhere(distance: Distance) -> Shape:
    """A shape without bounds, to intersect others with."""
    return Shape(np.full(3, -np.inf), np.full(3, np.inf), distance)


def ellipsoid(centre: ArrayLike, axes: ArrayLike, turn: ArrayLike = (0.0, 0.0, 0.0)) -> Shape:
    """An ellipsoid: centre and half-axes (x, y, z) [mm], turned about x, y, z [degrees]."""
    c, a = np.asarray(centre, float), np.asarray(axes, float)
    rotation = _rotation(np.radians(np.asarray(turn, float)))
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


def tube(points: ArrayLike, radii: ArrayLike, flat: float = 1.0) -> Shape:
    """A tube along the polyline `points` (n, xyz) [mm] with `radii` [mm]; `flat` scales it in y."""
    path = np.asarray(points, float)
    radius = np.broadcast_to(np.asarray(radii, float), (len(path),))
    grow = radius[:, None] * np.array([1.0, flat, 1.0])
    squeeze = np.float32(1.0 / flat)

    def distance(p: Points) -> Array:
        best: Array | None = None
        for k in range(len(path) - 1):
            d = _segment(p, path[k], path[k + 1], radius[k], radius[k + 1], squeeze)
            best = d if best is None else np.minimum(best, d)
        if best is None:
            raise ValueError("a tube needs two points")
        return best

    return Shape((path - grow).min(axis=0), (path + grow).max(axis=0), distance)


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
    """Superellipses along z. Rows (n, 7): z, centre x, half-width, y of the front, y of the back, exponent,
    y of the widest line [mm]; smooth between rows."""
    table = np.asarray(rows, float)
    order = np.argsort(table[:, 0])
    table = table[order]
    z = table[:, 0]
    low = np.array([(table[:, 1] - table[:, 2]).min(), table[:, 3].min(), z[0]])
    high = np.array([(table[:, 1] + table[:, 2]).max(), table[:, 4].max(), z[-1]])

    def distance(p: Points) -> Array:
        cx, half, front, back, power, wide = (_smooth(p.z, z, table[:, k]) for k in range(1, 7))
        u = np.abs(p.x - cx) / half
        dy = p.y - wide
        reach = np.maximum(np.where(dy < 0, wide - front, back - wide), np.float32(1))
        v = np.abs(dy) / reach
        big = np.maximum(np.maximum(u, v), np.float32(1e-6))
        f = big * ((u / big) ** power + (v / big) ** power) ** (1 / power)
        # Scaled by the half-axis in the direction of the point: exact on both axes.
        scale = np.sqrt((u * half) ** 2 + (v * reach) ** 2) / np.maximum(
            np.sqrt(u * u + v * v), np.float32(1e-6)
        )
        inside = (f - 1) * np.minimum(scale, np.maximum(half, reach))
        ends = np.maximum(np.float32(z[0]) - p.z, p.z - np.float32(z[-1]))
        return np.asarray(np.maximum(inside, ends), np.float32)

    return Shape(low, high, distance)


def half_space(axis: int, at: float, *, above: bool) -> Shape:
    """The side of a plane across world axis 0 x, 1 y, 2 z, above or below `at` [mm]."""
    sign = np.float32(-1 if above else 1)
    return everywhere(lambda p: np.asarray(sign * ((p.x, p.y, p.z)[axis] - np.float32(at)), np.float32))


def _smooth(at: Array, knots: NDArray[np.float64], values: NDArray[np.float64]) -> Array:
    """Monotone cubic through the rows' values (no overshoot between them), constant beyond the ends."""
    from scipy.interpolate import PchipInterpolator

    fine = np.linspace(knots[0], knots[-1], 512)
    curve = PchipInterpolator(knots, values)(fine)
    return np.interp(at, fine, curve).astype(np.float32)


def smooth_union(a: Array, b: Array, k: float) -> Array:
    """Union of two distances with a fillet of about `k` mm (polynomial smooth minimum)."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0) / np.float32(k)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(k / 4), np.float32)


def _rotation(turn: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(t), np.sin(t)) for t in turn)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx, float)
