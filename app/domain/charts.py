"""Charts as data: what is drawn and where, in shares of the plotting area, whatever draws it.

The page draws them as SVG and Slack gets them as PNG; both take every position, tick and label
from here. Places run from 0 (left, bottom) to 1 (right, top).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

SHAPES = ("circle", "square", "diamond", "triangle", "nabla", "plus", "cross", "star")
"""Marks by style: a model is told by its shape as well as by its colour."""

LIGHT_COLOURS = (
    "#0b5fa5",
    "#b4460f",
    "#137052",
    "#8a3a86",
    "#6b5d00",
    "#0f6f7e",
    "#a1264b",
    "#4c566a",
)
"""One colour per style, each at least 4.5:1 on white."""

MOST_LOG_FREE_SPAN = 12.0
"""An axis of money or time turns logarithmic when its values span more than this factor."""

MOST_TOLD_POINTS = 60
"""A line with more points is drawn without a mark and words on each."""

_PER = 1_000
"""Successes that a drawn cost stands for: single ones cost too little to read."""

_PAD = 0.06
_LABEL_HEIGHT = 0.055
_LABEL_LIFT = 0.045
_LETTER_WIDTH = 0.0135

LABEL_GAP = 0.014
"""Place between a mark's middle and its label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on an axis."""

    place: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis tells, and its ticks."""

    label: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A point and its interval, as places; the ends are None when the interval is unknown."""

    point: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One model at one place.

    Attributes:
        style: Index of its shape and colour.
        text: The figures in words, for tooltips and readers.
        label_y: Place of its label, moved where labels would collide.
        is_label_left: Whether the label stands left of the mark.
    """

    name: str
    is_primary: bool
    style: int
    x: Span
    y: Span
    text: str
    label_y: float = 0.0
    is_label_left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Cost against quality, with the frontier: models that no other beats on both.

    Attributes:
        frontier: Corners of the frontier's steps, left to right.
        best: Names on the frontier, cheapest first.
    """

    title: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    frontier: tuple[tuple[float, float], ...]
    best: tuple[str, ...]


class Dot(NamedTuple):
    """One reading on a line, as places; `text` tells it, and is empty on long lines."""

    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One model over time, in pieces: within a piece its figures may be compared.

    Attributes:
        is_told: Whether the line is short enough for a mark and words on each point.
    """

    name: str
    is_primary: bool
    style: int
    is_told: bool
    pieces: tuple[tuple[Dot, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notch:
    """A place in time at which something changed; its number leads to the words."""

    place: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One figure of every model over time."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    notches: tuple[Notch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One figure of one model at one time; `piece` counts up where its line is broken."""

    name: str
    is_primary: bool
    at: datetime
    piece: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Turns values into places."""

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """The place of a value; values beyond the scale lie on its ends."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def scatter(chart: Mapping[str, object]) -> Scatter | None:
    """Cost per success against quality, of an alert's chart data; None when nothing can be drawn.

    Args:
        chart: `{"points": [{name, role, cost: [low, point, high], quality: [low, point, high],
            cases}]}`.
    """
    points = [_Point.of(one) for one in _objects(chart.get("points"))]
    shown = [point for point in points if point.cost > 0]
    if not shown:
        return None
    shown.sort(key=lambda point: (not point.is_primary, point.name))
    x = _scale([c for p in shown for c in (p.cost, p.cost_low, p.cost_high)], has_zero=True)
    y = _quality_scale([q for p in shown for q in (p.quality, p.quality_low, p.quality_high)])
    marks = [_scatter_mark(point, style, x, y) for style, point in enumerate(shown)]
    best = _frontier(shown)
    return Scatter(
        title="Cost per success against quality",
        x=_axis("Cost per 1,000 successful responses", x, dollars),
        y=_axis("Quality (0–1)", y, plain),
        marks=_labelled(marks),
        frontier=_steps([(x.place(p.cost), y.place(p.quality)) for p in best]),
        best=tuple(point.name for point in best),
    )


def trend(
    title: str,
    readings: Sequence[Reading],
    *,
    unit: Callable[[float], str],
    styles: Mapping[str, int],
    notches: Sequence[tuple[datetime, int]] = (),
    is_share: bool = False,
) -> Trend | None:
    """One figure over time, None without readings.

    Args:
        title: What is drawn, with its unit.
        readings: Every reading, in any order.
        unit: Writes a value in words.
        styles: The mark of every model, the same in every chart of a page.
        notches: When something changed, with the number of its explanation.
        is_share: Whether the figure lies in 0..1.
    """
    if not readings:
        return None
    ordered = sorted(readings, key=lambda reading: reading.at)
    start, end = ordered[0].at.timestamp(), ordered[-1].at.timestamp()
    slack = max((end - start) * 0.02, 43_200.0)
    x = Scale(low=start - slack, high=end + slack)
    values = [one.value for one in ordered]
    bounds = [bound for one in ordered for bound in (one.low, one.high) if bound is not None]
    y = _quality_scale([*values, *bounds]) if is_share else _scale([*values, *bounds])
    names = sorted({one.name for one in ordered}, key=lambda name: styles[name])
    by_name: dict[str, list[Reading]] = {name: [] for name in names}
    for one in ordered:
        by_name[one.name].append(one)
    places = {at: x.place(at.timestamp()) for at in {one.at for one in ordered}}
    lines = tuple(_line(by_name[name], styles[name], places, y, unit) for name in names)
    return Trend(
        title=title,
        x=_time_axis(x, [one.at for one in ordered]),
        y=_axis("", y, unit),
        lines=lines,
        notches=tuple(
            Notch(place=x.place(at.timestamp()), number=number)
            for at, number in notches
            if start <= at.timestamp() <= end
        ),
    )


def shape_of(style: int) -> str:
    """The shape of a style."""
    return SHAPES[style % len(SHAPES)]


def dollars(value: float) -> str:
    """Money with as many digits as help.

    >>> dollars(0.0021), dollars(5.6), dollars(1140)
    ('$0.0021', '$5.60', '$1,140')
    """
    size = abs(value)
    sign = "\u2212" if value < 0 else ""
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    if size >= 0.1 or size == 0:
        return f"{sign}${size:.2f}"
    return f"{sign}${Decimal(f'{size:.2g}'):f}"


def plain(value: float) -> str:
    """A number without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def milliseconds(value: float) -> str:
    """A duration.

    >>> milliseconds(48.3), milliseconds(4400)
    ('48 ms', '4.4 s')
    """
    return f"{value:,.0f} ms" if value < 1000 else f"{value / 1000:,.3g} s"


# --- scatter ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """A model's cost and quality with their intervals."""

    name: str
    is_primary: bool
    cases: int | None
    cost_low: float
    cost: float
    cost_high: float
    quality_low: float
    quality: float
    quality_high: float

    @classmethod
    def of(cls, data: Mapping[str, object]) -> "_Point":
        cost = tuple(bound * _PER for bound in _three(data.get("cost")))
        quality = _three(data.get("quality"))
        cases = data.get("cases")
        return cls(
            name=str(data.get("name", "")),
            is_primary=data.get("role") == "primary",
            cases=cases if isinstance(cases, int) else None,
            cost_low=cost[0],
            cost=cost[1],
            cost_high=cost[2],
            quality_low=quality[0],
            quality=quality[1],
            quality_high=quality[2],
        )


def _scatter_mark(point: _Point, style: int, x: Scale, y: Scale) -> Mark:
    counted = "" if point.cases is None else f", {point.cases:,} cases"
    return Mark(
        name=point.name,
        is_primary=point.is_primary,
        style=style,
        x=Span(
            point=x.place(point.cost), low=x.place(point.cost_low), high=x.place(point.cost_high)
        ),
        y=Span(
            point=y.place(point.quality),
            low=y.place(point.quality_low),
            high=y.place(point.quality_high),
        ),
        text=(
            f"{point.name}: quality {plain(point.quality)} "
            f"({plain(point.quality_low)}–{plain(point.quality_high)}), {dollars(point.cost)} "
            f"({dollars(point.cost_low)}–{dollars(point.cost_high)}) per 1,000 successes{counted}"
        ),
    )


def _frontier(points: Sequence[_Point]) -> list[_Point]:
    """The points that no other beats on both cost and quality, cheapest first."""
    best: list[_Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def _steps(corners: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The staircase through the points: as good for no less, as cheap for no better."""
    steps: list[tuple[float, float]] = []
    for x, y in corners:
        if steps:
            steps.append((x, steps[-1][1]))
        steps.append((x, y))
    if steps:
        steps.append((1.0, steps[-1][1]))
    return tuple(steps)


def _labelled(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The marks with each label where it covers least: other labels, marks and intervals."""
    ink = [box for mark in marks for box in _ink(mark)]
    placed: dict[str, Mark] = {}
    for mark in sorted(marks, key=lambda m: (not m.is_primary, m.x.point)):
        places = [
            (is_left, mark.y.point + side * lift)
            for lift in (_LABEL_LIFT, _LABEL_LIFT + _LABEL_HEIGHT, _LABEL_LIFT + 2 * _LABEL_HEIGHT)
            for side in (1, -1)
            for is_left in (False, True)
        ]
        boxes = [_label_box(mark, is_left, y) for is_left, y in places]
        covered = [sum(_overlap(box, other) for other in ink) + _outside(box) for box in boxes]
        best = covered.index(min(covered))
        ink.append(boxes[best])
        placed[mark.name] = replace(mark, is_label_left=places[best][0], label_y=places[best][1])
    return tuple(placed[mark.name] for mark in marks)


_Box = tuple[float, float, float, float]


def _label_box(mark: Mark, is_left: bool, y: float) -> _Box:
    """Left, bottom, right and top of a label."""
    words = len(mark.name) + (10 if mark.is_primary else 0)
    width = LABEL_GAP + words * _LETTER_WIDTH
    left = mark.x.point - width if is_left else mark.x.point + LABEL_GAP
    return left, y - _LABEL_HEIGHT / 2, left + width, y + _LABEL_HEIGHT / 2


def _ink(mark: Mark) -> list[_Box]:
    """Boxes around a mark and its two intervals."""
    x, y = mark.x, mark.y
    hair = 0.004
    return [
        (x.point - 0.015, y.point - 0.025, x.point + 0.015, y.point + 0.025),
        (x.low or x.point, y.point - hair, x.high or x.point, y.point + hair),
        (x.point - hair, y.low or y.point, x.point + hair, y.high or y.point),
    ]


def _overlap(one: _Box, other: _Box) -> float:
    """The covered share of the smaller box."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / area if area > 0 else 1.0


def _outside(box: _Box) -> float:
    """A penalty for leaving the plotting area."""
    return 5.0 * (max(0.0, -box[0]) + max(0.0, box[2] - 1.03) + max(0.0, box[3] - 1)) + (
        5.0 * max(0.0, -box[1])
    )


# --- trend --------------------------------------------------------------------------------------


def _line(
    readings: Sequence[Reading],
    style: int,
    x: Mapping[datetime, float],
    y: Scale,
    unit: Callable[[float], str],
) -> Line:
    is_told = len(readings) <= MOST_TOLD_POINTS
    place = y.place
    pieces: dict[int, list[Dot]] = {}
    for one in readings:
        dot = Dot(
            x[one.at],
            place(one.value),
            None if one.low is None else place(one.low),
            None if one.high is None else place(one.high),
            _told(one, unit) if is_told else "",
        )
        pieces.setdefault(one.piece, []).append(dot)
    return Line(
        name=readings[0].name,
        is_primary=readings[0].is_primary,
        style=style,
        is_told=is_told,
        pieces=tuple(tuple(piece) for piece in pieces.values()),
    )


def _told(one: Reading, unit: Callable[[float], str]) -> str:
    """A reading in words."""
    has_interval = one.low is not None and one.high is not None
    interval = f" ({unit(one.low or 0)}–{unit(one.high or 0)})" if has_interval else ""
    return f"{one.name}, {one.at:%d %b %Y}: {unit(one.value)}{interval}"


def _time_axis(scale: Scale, instants: Sequence[datetime]) -> Axis:
    unique = sorted(set(instants))
    step = max(1, math.ceil(len(unique) / 6))
    form = "%d %b" if unique[-1].year == unique[0].year else "%b %Y"
    return Axis(
        label="Slot of the run",
        ticks=tuple(
            Tick(place=scale.place(at.timestamp()), text=at.strftime(form).lstrip("0"))
            for at in unique[::step]
        ),
    )


# --- scales -------------------------------------------------------------------------------------


def _scale(values: Sequence[float], *, has_zero: bool = False) -> Scale:
    """A scale that holds the values; logarithmic when they span orders of magnitude."""
    positive = [value for value in values if value > 0]
    highest = max(values)
    if positive and min(positive) == min(values) and highest / min(positive) > MOST_LOG_FREE_SPAN:
        low, high = math.log(min(positive)), math.log(highest)
        pad = (high - low) * _PAD * 1.6
        return Scale(low=math.exp(low - pad), high=math.exp(high + pad), is_log=True)
    low = 0.0 if has_zero or min(values) < (highest - min(values)) else min(values)
    span = (highest - low) or abs(highest) or 1.0
    return Scale(low=low - (span * _PAD if low else 0.0), high=highest + span * _PAD)


def _quality_scale(values: Sequence[float]) -> Scale:
    """A scale within 0..1 that shows differences: a tenth of slack, steps of a tenth."""
    low = max(0.0, math.floor((min(values) - 0.01) * 10) / 10)
    high = min(1.0, math.ceil((max(values) + 0.01) * 10) / 10)
    return Scale(low=low, high=high if high > low else low + 0.1)


def _axis(label: str, scale: Scale, unit: Callable[[float], str]) -> Axis:
    values = _log_ticks(scale) if scale.is_log else _linear_ticks(scale)
    return Axis(
        label=", ".join(filter(None, (label, "log scale" if scale.is_log else ""))),
        ticks=tuple(Tick(place=scale.place(value), text=unit(value)) for value in values),
    )


def _linear_ticks(scale: Scale) -> list[float]:
    raw = (scale.high - scale.low) / 5
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(scale: Scale) -> list[float]:
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [
            m * 10.0**power
            for power in range(first, last + 1)
            for m in steps
            if scale.low <= m * 10.0**power <= scale.high
        ]
        if len(ticks) <= 7:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 7)]


# --- what comes from JSON -----------------------------------------------------------------------


def _three(value: object) -> tuple[float, float, float]:
    """Low, point and high; what is missing stands on the point."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        low, point, high = (float(item) for item in value)
        return min(low, point), point, max(high, point)
    return 0.0, 0.0, 0.0


def _objects(value: object) -> list[Mapping[str, object]]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [one for one in value if isinstance(one, Mapping)]
    return []
