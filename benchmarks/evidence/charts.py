"""Charts of the report: lines and points, in one panel or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from benchmarks.evidence.findings import Picture, Workshop
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from scantwin.files import whole_file

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#5a5a5a", "#e69f00")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""
_INK: Final = "#1e1e1e"
_HEIGHT, _WIDTH, _LEGEND = 3.6, 4.4, 1.8
"""Inches: height of a chart, width of each panel, width of the legend beside the last one."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes: lines by name, or points unless `joined`."""

    lines: Mapping[str, Points]
    x: str
    y: str
    ticks: Sequence[float] = ()
    """Marks on the x axis, which is then logarithmic; empty: a linear axis."""
    logarithmic: bool = False
    """Whether the y axis is logarithmic."""
    joined: bool = True
    level: Mapping[str, float] = field(default_factory=dict)
    """Horizontal dashed lines: what is written beside them -> height."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Line -> labels of its points, in their order."""
    share: bool = False
    """Whether the y axis is a share, 0 to 1; the x axis then begins at 0."""


def chart(workshop: Workshop, file: str, panels: Sequence[Panel], caption: str) -> Picture:
    """Draw the panels side by side, with one legend beside the last."""
    figure = Figure(figsize=(_WIDTH * len(panels) + _LEGEND, _HEIGHT), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(every, panels, strict=True):
        _draw(axes, panel)
    handles, names = every[-1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside right upper", frameon=False)
    with whole_file(workshop.pictures / file) as aside:
        figure.savefig(aside, format="png", dpi=110)
    return Picture(file, caption)


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set(xlabel=panel.x, ylabel=panel.y)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.logarithmic:
        axes.set_yscale("log")
    if panel.ticks:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(list(panel.ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
    for number, (name, points) in enumerate(panel.lines.items()):
        x, y = np.array([p for p in points if np.isfinite(p).all()], float).reshape(-1, 2).T
        style = "-" if panel.joined else "none"
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(x, y, linestyle=style, marker="o", markersize=4, color=colour, label=name)
        for (px, py), beside in zip(points, panel.names.get(name, ()), strict=False):
            axes.annotate(
                beside, (px, py), xytext=(5, -9), textcoords="offset points", fontsize="small", color=_INK
            )
    if panel.share:
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(left=0)
    for text, height in panel.level.items():
        axes.axhline(height, color=_INK, linestyle="--", linewidth=1)
        at = (1.0, height)
        axes.annotate(
            f"{text} {height:+.2f}", at, xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize="small", color=_INK,
        )  # fmt: skip
