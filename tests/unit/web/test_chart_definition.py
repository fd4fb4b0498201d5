"""One chart definition: what is on it, whoever draws it."""

import itertools
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.charts import (
    LIGHT_COLOURS,
    SHAPES,
    Reading,
    dollars,
    plain,
    scatter,
    shape_of,
    trend,
)
from app.notifiers.chart import draw_chart
from app.web.svg import scatter_svg, trend_svg

START = datetime(2026, 9, 6, 6, tzinfo=UTC)
_figures = st.floats(1e-7, 1e3, allow_nan=False)


def chart(*points: tuple[str, float, float]) -> dict[str, object]:
    """Chart data as an alert carries it; the first point is the primary."""
    return {
        "points": [
            {
                "name": name,
                "role": "candidate" if number else "primary",
                "cost": [cost * 0.9, cost, cost * 1.1],
                "quality": [max(quality - 0.05, 0), quality, min(quality + 0.05, 1)],
                "cases": 400,
            }
            for number, (name, cost, quality) in enumerate(points)
        ]
    }


FOUR = chart(
    ("prime", 0.0022, 0.83), ("swift", 0.0013, 0.85), ("mini", 0.00002, 0.5), ("large", 0.004, 0.84)
)


def test_the_frontier_holds_what_no_model_beats_on_both() -> None:
    drawn = scatter(FOUR)
    assert drawn is not None
    assert drawn.best == ("mini", "swift")


def test_every_model_has_its_own_shape_and_colour_and_the_primary_the_first() -> None:
    drawn = scatter(chart(*((f"m{n}", 0.001 + n / 1000, 0.5) for n in range(len(SHAPES)))))
    assert drawn is not None
    assert len({shape_of(mark.style) for mark in drawn.marks}) == len(SHAPES)
    assert [mark.style for mark in drawn.marks if mark.is_primary] == [0]


@given(st.lists(st.tuples(_figures, st.floats(0, 1)), min_size=1, max_size=9))
def test_every_place_lies_on_the_canvas(points: list[tuple[float, float]]) -> None:
    drawn = scatter(chart(*((f"m{n}", cost, quality) for n, (cost, quality) in enumerate(points))))
    assert drawn is not None
    for mark, tick in itertools.zip_longest(drawn.marks, (*drawn.x.ticks, *drawn.y.ticks)):
        if mark is not None:
            for span in (mark.x, mark.y):
                assert span.low is not None
                assert span.high is not None
                assert 0 <= span.low <= span.point <= span.high <= 1
        if tick is not None:
            assert -1e-9 <= tick.place <= 1 + 1e-9


def test_a_chart_without_costs_is_not_drawn() -> None:
    assert scatter({"points": []}) is None
    assert scatter({}) is None
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_chart({"points": []})


def test_the_page_draws_every_model_with_both_intervals_and_a_description() -> None:
    drawn = scatter(FOUR)
    assert drawn is not None
    root = ET.fromstring(str(scatter_svg(drawn, key="k")))
    assert len([e for e in root.iter() if e.get("class") == "mark"]) == 4
    assert len([e for e in root.iter() if e.get("class") == "whisker"]) == 8
    assert "swift: quality 0.85" in str(root.findtext("desc"))
    assert root.get("role") == "img"


def test_a_hostile_model_name_stays_text_in_the_drawing() -> None:
    drawn = scatter(chart(("<script>alert(1)</script>\"'", 0.001, 0.5)))
    assert drawn is not None
    svg = str(scatter_svg(drawn, key="k"))
    assert "<script" not in svg
    assert ET.fromstring(svg).get("class") == "chart"


def test_drawings_need_no_inline_style() -> None:
    drawn = scatter(FOUR)
    assert drawn is not None
    assert "style=" not in str(scatter_svg(drawn, key="k"))


def test_slack_gets_a_png_twice_the_width_it_is_shown_at() -> None:
    image = draw_chart(FOUR)
    assert image.startswith(b"\x89PNG")
    width, height = (int.from_bytes(image[at : at + 4]) for at in (16, 20))
    assert (width, height) == (1600, 1000)
    assert len(image) < 300_000


@pytest.mark.parametrize("colour", LIGHT_COLOURS)
def test_colours_stand_out_on_white(colour: str) -> None:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    light = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
    assert 1.05 / (luminance + 0.05) >= 4.5


def readings(weeks: int, *, broken_at: int) -> list[Reading]:
    return [
        Reading(
            name=name,
            is_primary=name == "prime",
            at=START + timedelta(weeks=week),
            piece=int(name == "swift" and week >= broken_at),
            value=0.8,
            low=0.7,
            high=0.9,
        )
        for week in range(weeks)
        for name in ("prime", "swift")
    ]


def test_a_line_is_broken_where_its_figures_stop_being_comparable_and_only_there() -> None:
    drawn = trend(
        "Quality",
        readings(6, broken_at=3),
        unit=plain,
        styles={"prime": 0, "swift": 1},
        notches=[(START + timedelta(weeks=3), 1)],
        is_share=True,
    )
    assert drawn is not None
    assert {line.name: [len(p) for p in line.pieces] for line in drawn.lines} == {
        "prime": [6],
        "swift": [3, 3],
    }
    svg = str(trend_svg(drawn, key="q"))
    assert len(re.findall(r'<polyline class="line"', svg)) == 3
    assert 'class="notch-number"' in svg


def test_a_long_line_is_drawn_without_a_mark_on_every_point() -> None:
    drawn = trend(
        "Quality", readings(100, broken_at=200), unit=plain, styles={"prime": 0, "swift": 1}
    )
    assert drawn is not None
    assert 'class="mark"' not in str(trend_svg(drawn, key="q"))


@given(_figures)
def test_money_is_never_written_with_an_exponent(value: float) -> None:
    assert "e" not in dollars(value)
