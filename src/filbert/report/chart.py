"""Charts, as PNG or as SVG that needs nothing else. Matplotlib draws them, and is imported only then.

Colours are Okabe and Ito's, who chose them for eyes that tell few apart; in grey they differ, too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from filbert.core.errors import BadInput
from filbert.core.files import write_whole
from filbert.report.table import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#0072b2", "#e69f00", "#c4c9cf", "#333333"
STYLES = ((BLUE, "-"), (ORANGE, "--"), ("#009e73", "-."), ("#cc79a7", ":"))
DPI = 160
LONGEST_NAME = 40  # characters
SETTINGS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a name may hold $
    "svg.hashsalt": "filbert",  # or each picture of the same numbers has other bytes
}


@dataclass(frozen=True, slots=True)
class Chart:
    figure: Figure

    def png(self) -> bytes:
        return self._drawn("png")

    def svg(self) -> str:
        """An <svg> element, with letters as shapes: it looks the same within a page and without our font."""
        text = self._drawn("svg").decode()
        return text[text.index("<svg") :]

    def write(self, path: Path) -> None:
        """By its suffix. Raises BadInput as `need_chart`."""
        data = self.svg().encode() if kind_of(path) == "svg" else self.png()
        with write_whole(path) as file:
            file.write(data)

    def _drawn(self, kind: Literal["png", "svg"]) -> bytes:
        file = io.BytesIO()
        date = {"Date": None} if kind == "svg" else {}
        with _settings():
            self.figure.savefig(file, format=kind, dpi=DPI, metadata=date)
        return file.getvalue()


def need_chart(path: Path) -> None:
    """Before a long measurement: whether its chart can be drawn into this file. Raises BadInput."""
    kind_of(path)
    need_library()


def kind_of(path: Path) -> Literal["png", "svg"]:
    match path.suffix.lower():
        case ".png":
            return "png"
        case ".svg":
            return "svg"
    raise BadInput(f"{path.name} says no format of a picture.", do="Name a file that ends in .png or .svg.")


def need_library() -> None:
    if find_spec("matplotlib") is None:
        raise BadInput("Charts need matplotlib, which is not installed.", do="`pip install 'filbert[report]'`.")


def distribution_chart(samples: Mapping[str, ArrayLike], title: str, unit: str, most: float | None = None) -> Chart:
    """The empirical distribution function of each sample, by its name, over a logarithmic axis. unit: of the values;
    most: where they were clipped."""
    values = {name: np.sort(np.asarray(sample, np.float64)) for name, sample in samples.items()}
    low = 0.9 * min(sample[0] for sample in values.values())
    high = 1.04 * (most or max(sample[-1] for sample in values.values()))
    with _settings():
        figure, (axes,) = _figure(1, 7, 4.2)
        axes.axhline(50, color=GREY, linewidth=0.8)
        for (name, sample), (colour, line) in zip(values.items(), cycle(STYLES), strict=False):
            shares = 100 * np.arange(len(sample) + 1) / len(sample)
            middle = float(np.median(sample))
            label = f"{shortened(name, LONGEST_NAME)} (median {middle:.3g}, n {len(sample)})"
            axes.step([low, *sample], shares, where="post", color=colour, linestyle=line, linewidth=1.8, label=label)
            axes.plot([middle], [50], "o", color=colour, markersize=6, markeredgecolor="white")
        axes.set(xscale="log", xlim=(low, high), ylim=(0, 102), ylabel="share of answers that cost at most so much, %")
        axes.set_xlabel(f"{unit}, logarithmic" + (f"; {most:g} stands for more" if most else ""))
        axes.set_xticks([tick for tick in _ticks() if low <= tick <= high])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_title(title)
        axes.legend(frameon=False)
    return Chart(figure)


def _ticks() -> Iterator[float]:
    for power in range(-3, 6):
        yield from (10.0**power, 2 * 10.0**power, 5 * 10.0**power)


def curve(
    points: Sequence[tuple[str, float, float, tuple[float, float]]],
    title: str,
    x: str,
    y: str,
    line: Sequence[tuple[float, float]] = (),
) -> Chart:
    """Of each point its label, its place on either axis, and the interval of the second. x, y: what the axes are, the
    second a logarithmic one. line: where it goes, if not through the points below all that lie left of them."""
    with _settings():
        figure, (axes,) = _figure(1, 7, 4.2)
        ordered = sorted(points, key=lambda point: point[1])
        places, values = [point[1] for point in ordered], [point[2] for point in ordered]
        errors = [
            [value - low for _, _, value, (low, _) in ordered],
            [high - value for _, _, value, (_, high) in ordered],
        ]
        lows = np.minimum.accumulate(values)
        best = [(place, value) for place, value, low in zip(places, values, lows, strict=True) if value == low]
        axes.plot(*zip(*(line or best), strict=True), color=GREY, linewidth=1.2)
        axes.errorbar(places, values, yerr=errors, fmt="o", color=BLUE, ecolor=INK, elinewidth=1, markersize=5)
        for label, place, value, _ in ordered:
            axes.annotate(
                shortened(label, LONGEST_NAME), (place, value), (5, 5), textcoords="offset points", fontsize=7.5
            )
        axes.set(yscale="log", xlabel=x, ylabel=f"{y}, logarithmic{'' if line else '; lines: 95 %'}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.margins(x=0.12)
        axes.set_title(title)
    return Chart(figure)


def bars(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    errors: Sequence[Sequence[float | None]],
    highlighted: Collection[str] = (),
    unit: str = "accuracy, %",
) -> Chart:
    """A table as bars: a panel a column, a bar a row, each with its number. values: a list a row; None is no number.
    errors: one standard error to either side, None where nobody told one; highlighted: rows that stand out."""
    has_errors = any(error is not None for row in errors for error in row)
    with _settings():
        names = [shortened(name, LONGEST_NAME) for name in rows]
        width = 1 + 0.08 * max(map(len, names)) + 1.25 * len(columns)
        figure, panels = _figure(len(columns), width, 1.1 + 0.24 * len(rows))
        for index, (axes, column) in enumerate(zip(panels, columns, strict=True)):
            found = [math.nan if (value := row[index]) is None else value for row in values]
            spread = [row[index] or 0.0 for row in errors]
            colours = [BLUE if name in highlighted else GREY for name in rows]
            axes.barh(range(len(rows)), np.nan_to_num(found), height=0.72, color=colours)
            axes.errorbar(found, range(len(rows)), xerr=spread, fmt="none", ecolor=INK, elinewidth=1)
            _tell_numbers(axes, rows, found, spread, highlighted)
            axes.set_title(column, fontsize=9)
            axes.set_yticks(range(len(rows)), names if index == 0 else [""] * len(rows))
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(rows) - 0.4, -0.6)
        for label, name in zip(panels[0].get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if name in highlighted else "normal")
        figure.supxlabel(unit + ("; lines: one standard error to either side" if has_errors else ""), fontsize=9)
    return Chart(figure)


def _tell_numbers(
    axes: Axes, rows: Sequence[str], found: Sequence[float], spread: Sequence[float], highlighted: Collection[str]
) -> None:
    numbers = [value for value in found if not math.isnan(value)]
    most = max(numbers, default=1) or 1
    for place, (name, value, error) in enumerate(zip(rows, found, spread, strict=True)):
        told, end = ("–", 0.0) if math.isnan(value) else (f"{value:.1f}", value + error)
        weight = "bold" if name in highlighted else "normal"
        axes.text(end + 0.04 * most, place, told, va="center", fontsize=7.5, fontweight=weight)
    axes.set_xlim(0, 1.42 * most)


@contextmanager
def _settings() -> Iterator[None]:
    need_library()
    from matplotlib import rc_context

    with rc_context(SETTINGS):
        yield


def _figure(panels: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Not pyplot's, which holds all figures of the process. Sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])
