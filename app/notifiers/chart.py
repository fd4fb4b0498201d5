"""The chart of an alert as PNG: the same definition that the page draws as SVG."""

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

from app.domain.charts import LABEL_GAP, LIGHT_COLOURS, Mark, Scatter, scatter, shape_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle": "^",
    "nabla": "v",
    "plus": "P",
    "cross": "X",
    "star": "*",
}
_SIZE_INCHES = (8.0, 5.0)
_DOTS_PER_INCH = 200
_INK = "#1c2430"
_MUTED = "#566072"
_GRID = "#e3e7ee"
_FAR = 0.04
"""A label farther from its mark than this share of the height is tied to it by a line."""


def draw_chart(chart: Mapping[str, object]) -> bytes:
    """Draw cost per success against quality, on white: legible in light and dark clients.

    Raises:
        ValueError: If the chart holds no model that can be drawn.
    """
    drawn = scatter(chart)
    if drawn is None:
        raise ValueError("the chart holds nothing to draw")
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, and only for Slack
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - as above

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, facecolor="white")
    axes = figure.add_axes((0.11, 0.14, 0.85, 0.72))
    _frame(axes, drawn)
    _frontier(axes, drawn)
    for mark in drawn.marks:
        _mark(axes, mark)
    for text in axes.texts:
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    figure.text(0.11, 0.935, drawn.title, fontsize=14, fontweight="bold", color=_INK)
    figure.text(
        0.11,
        0.885,
        "Bars are 95 % intervals; dashed: the frontier, which no model beats on both",
        fontsize=9.5,
        color=_MUTED,
    )
    image = BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _frame(axes: "Axes", drawn: Scatter) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([tick.place for tick in drawn.x.ticks], [tick.text for tick in drawn.x.ticks])
    axes.set_yticks([tick.place for tick in drawn.y.ticks], [tick.text for tick in drawn.y.ticks])
    axes.set_xlabel(drawn.x.label, fontsize=11, color=_INK)
    axes.set_ylabel(drawn.y.label, fontsize=11, color=_INK)
    axes.tick_params(colors=_MUTED, labelsize=10, length=0, pad=7)
    axes.grid(visible=True, color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _frontier(axes: "Axes", drawn: Scatter) -> None:
    axes.plot(
        [x for x, _ in drawn.frontier],
        [y for _, y in drawn.frontier],
        color=_MUTED,
        linestyle=(0, (5, 4)),
        linewidth=1.4,
    )


def _mark(axes: "Axes", mark: Mark) -> None:
    colour = LIGHT_COLOURS[mark.style % len(LIGHT_COLOURS)]
    x, y = mark.x.point, mark.y.point
    for span, is_wide in ((mark.x, True), (mark.y, False)):
        if span.low is not None and span.high is not None:
            ends = ([span.low, span.high], [y, y]) if is_wide else ([x, x], [span.low, span.high])
            axes.plot(*ends, color=colour, linewidth=1.6, alpha=0.75)
    axes.plot(
        [x],
        [y],
        marker=_MARKERS[shape_of(mark.style)],
        markersize=13 if mark.is_primary else 11,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=1.2,
        linestyle="none",
    )
    if abs(mark.label_y - y) > _FAR:
        label_x = x + (-LABEL_GAP if mark.is_label_left else LABEL_GAP)
        axes.plot([x, label_x], [y, mark.label_y], color=_MUTED, linewidth=0.7, zorder=1.5)
    axes.annotate(
        mark.name + (" (primary)" if mark.is_primary else ""),
        (x + (-LABEL_GAP if mark.is_label_left else LABEL_GAP), mark.label_y),
        ha="right" if mark.is_label_left else "left",
        va="center",
        fontsize=11,
        fontweight="bold" if mark.is_primary else "normal",
        color=_INK,
    )
