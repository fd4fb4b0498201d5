"""Charts as inline SVG: no script and no inline style, so that the strictest policy lets it be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.domain.charts import (
    LABEL_GAP,
    Axis,
    Dot,
    Line,
    Mark,
    Scatter,
    Trend,
    shape_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Area:
    """Where places lie on the canvas, in units of its view box."""

    width: float
    height: float
    left: float = 58
    right: float = 18
    top: float = 14
    bottom: float = 46

    def x(self, place: float) -> float:
        """The horizontal position of a place."""
        return round(self.left + place * (self.width - self.left - self.right), 1)

    def y(self, place: float) -> float:
        """The vertical position of a place."""
        return round(self.height - self.bottom - place * (self.height - self.top - self.bottom), 1)


_SCATTER = _Area(width=600, height=400)
_TREND = _Area(width=600, height=290, left=66)
_PULSE = _Area(width=600, height=150, bottom=28, left=40, top=8)


def scatter_svg(drawn: Scatter, *, key: str) -> Markup:
    """Cost against quality with intervals, shapes, labels and the frontier.

    Args:
        drawn: What to draw.
        key: Prefix of the ids within the page.
    """
    area = _SCATTER
    parts = [*_grid(area, drawn.x, drawn.y)]
    path = " ".join(f"{area.x(x)},{area.y(y)}" for x, y in drawn.frontier)
    parts.append(Markup('<polyline class="frontier" points="{}"/>').format(path))
    parts += [_point(mark, area) for mark in drawn.marks]
    parts += [_label(mark, area) for mark in drawn.marks]
    words = "; ".join(mark.text for mark in drawn.marks)
    words += f". On the frontier: {', '.join(drawn.best)}."
    return _canvas(area, key, (drawn.title, words), parts)


def trend_svg(drawn: Trend, *, key: str) -> Markup:
    """One figure of every model over time; lines are broken where figures stop being comparable.

    Args:
        drawn: What to draw.
        key: Prefix of the ids within the page.
    """
    area = _TREND
    parts = [*_grid(area, drawn.x, drawn.y)]
    parts += [
        Markup(
            '<line class="notch" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
            '<text class="notch-number" x="{0}" y="{3}" text-anchor="middle">{4}</text>'
        ).format(area.x(notch.place), area.y(0), area.y(1), area.y(1) - 3, notch.number)
        for notch in drawn.notches
    ]
    parts += [_line(line, area) for line in reversed(drawn.lines)]
    names = ", ".join(line.name for line in drawn.lines)
    broken = f" Changes are marked at {len(drawn.notches)} places." if drawn.notches else ""
    return _canvas(area, key, (drawn.title, f"Lines of {names}.{broken}"), parts)


def mark_svg(style: int) -> Markup:
    """The mark of a style on its own, for legends and tables; hidden from readers."""
    return Markup(
        '<svg class="key s{}" viewBox="-8 -8 16 16" width="14" height="14" aria-hidden="true" '
        'focusable="false">{}</svg>'
    ).format(style % 8, _shape(style, 0, 0, 6))


def pulse_svg(buckets: Sequence[tuple[int, int, int]], *, key: str) -> Markup:
    """Calls over the duration of a Run: replays, judgements and failures stacked.

    Args:
        buckets: Replays, judgements and failures of each equal part of the Run.
        key: Prefix of the ids within the page.
    """
    area = _PULSE
    most = max((sum(bucket) for bucket in buckets), default=0) or 1
    width = (area.x(1) - area.x(0)) / max(len(buckets), 1)
    parts: list[Markup] = [
        Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
            area.left - 6, area.y(1) + 9, most
        ),
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            area.x(0), area.x(1), area.y(0), area.y(0)
        ),
        Markup('<text class="tick" x="{}" y="{}">start</text>').format(area.x(0), area.y(0) + 17),
        Markup('<text class="tick" x="{}" y="{}" text-anchor="end">end</text>').format(
            area.x(1), area.y(0) + 17
        ),
    ]
    for index, bucket in enumerate(buckets):
        floor = 0
        for kind, count in zip(("replay", "judge", "failure"), bucket, strict=True):
            if count:
                top, bottom = area.y((floor + count) / most), area.y(floor / most)
                parts.append(
                    Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        kind,
                        round(area.x(0) + index * width + 0.5, 1),
                        top,
                        round(width - 1, 1),
                        round(bottom - top, 1),
                    )
                )
            floor += count
    words = f"At most {most} calls in one of {len(buckets)} equal parts of the run."
    return _canvas(area, key, ("Calls over the run", words), parts)


def _canvas(area: _Area, key: str, words: tuple[str, str], parts: Sequence[Markup]) -> Markup:
    """The chart with its name and description for readers."""
    title, description = words
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d">'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
    ).format(
        *(area.width, area.height, key, key, key, title, key, description, Markup("").join(parts))
    )


def _grid(area: _Area, x: Axis, y: Axis) -> Iterator[Markup]:
    for tick in y.ticks:
        at = area.y(tick.place)
        yield Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
            '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(area.x(0), area.x(1), at, at, area.left - 8, at + 4, tick.text)
    for tick in x.ticks:
        at = area.x(tick.place)
        yield Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
            '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>'
        ).format(at, at, area.y(0), area.y(1), at, area.y(0) + 18, tick.text)
    yield Markup('<text class="axis-label" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        (area.x(0) + area.x(1)) / 2, area.height - 8, x.label
    )
    yield Markup(
        '<text class="axis-label" transform="translate(13 {}) rotate(-90)" '
        'text-anchor="middle">{}</text>'
    ).format((area.y(0) + area.y(1)) / 2, y.label)


def _point(mark: Mark, area: _Area) -> Markup:
    x, y = area.x(mark.x.point), area.y(mark.y.point)
    bars = Markup("")
    if mark.x.low is not None and mark.x.high is not None:
        bars += _bar(area.x(mark.x.low), area.x(mark.x.high), y, y)
    if mark.y.low is not None and mark.y.high is not None:
        bars += _bar(x, x, area.y(mark.y.low), area.y(mark.y.high))
    return Markup('<g class="s{}">{}{}<title>{}</title></g>').format(
        mark.style % 8, bars, _shape(mark.style, x, y, 8 if mark.is_primary else 7), mark.text
    )


def _label(mark: Mark, area: _Area) -> Markup:
    shift = -LABEL_GAP if mark.is_label_left else LABEL_GAP
    return Markup('<text class="label{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        " primary" if mark.is_primary else "",
        area.x(mark.x.point + shift),
        area.y(mark.label_y) + 4,
        "end" if mark.is_label_left else "start",
        mark.name + (" (primary)" if mark.is_primary else ""),
    )


def _bar(x1: float, x2: float, y1: float, y2: float) -> Markup:
    return Markup('<line class="whisker" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(x1, x2, y1, y2)


def _line(line: Line, area: _Area) -> Markup:
    """Bands, lines and marks of one model; of what is put together here only texts are foreign."""
    parts = [f'<g class="s{line.style % 8}{" primary" if line.is_primary else ""}">']
    left, wide = area.x(0), area.x(1) - area.x(0)
    ground, tall = area.y(0), area.y(0) - area.y(1)
    for piece in line.pieces:
        if band := _band(piece, area):
            parts.append(f'<polygon class="band" points="{band}"/>')
        path = " ".join(f"{left + dot.x * wide:.1f},{ground - dot.y * tall:.1f}" for dot in piece)
        parts.append(f'<polyline class="line" points="{path}"/>')
        if line.is_told:
            parts += [
                f"<g>{_shape(line.style, area.x(dot.x), area.y(dot.y), 4)}"
                f"<title>{escape(dot.text)}</title></g>"
                for dot in piece
            ]
    return Markup("".join((*parts, "</g>")))  # noqa: S704 - texts are escaped above


def _band(piece: Sequence[Dot], area: _Area) -> str:
    """The corners of a piece's intervals; a point alone gets a sliver."""
    left, wide = area.x(0), area.x(1) - area.x(0)
    ground, tall = area.y(0), area.y(0) - area.y(1)
    known = [
        (left + dot.x * wide, ground - dot.low * tall, ground - dot.high * tall)
        for dot in piece
        if dot.low is not None and dot.high is not None
    ]
    if len(known) == 1:
        x, low, high = known[0]
        known = [(x - 2, low, high), (x + 2, low, high)]
    upper = [f"{x:.1f},{high:.1f}" for x, _, high in known]
    lower = [f"{x:.1f},{low:.1f}" for x, low, _ in reversed(known)]
    return " ".join((*upper, *lower))


def _shape(style: int, x: float, y: float, size: float) -> Markup:
    """A mark of its shape, centred; made of numbers alone, so nothing needs escaping."""
    name = shape_of(style)
    if name == "circle":
        return Markup(f'<circle class="mark" cx="{x}" cy="{y}" r="{size}"/>')  # noqa: S704
    corners = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in _CORNERS[name])
    return Markup(f'<polygon class="mark" points="{corners}"/>')  # noqa: S704 - numbers only


_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    "triangle": ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    "nabla": ((0, 1.15), (1.1, -0.85), (-1.1, -0.85)),
    "plus": (
        *((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)),
        *((0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
    ),
    "cross": (
        *((0, -0.55), (0.6, -1.15), (1.15, -0.6), (0.55, 0), (1.15, 0.6), (0.6, 1.15)),
        *((0, 0.55), (-0.6, 1.15), (-1.15, 0.6), (-0.55, 0), (-1.15, -0.6), (-0.6, -1.15)),
    ),
    "star": (
        *((0, -1.25), (0.35, -0.45), (1.2, -0.4), (0.55, 0.15), (0.75, 1.0)),
        *((0, 0.55), (-0.75, 1.0), (-0.55, 0.15), (-1.2, -0.4), (-0.35, -0.45)),
    ),
}
