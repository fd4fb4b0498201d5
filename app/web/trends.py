"""Figures over weeks, in lines that are broken where figures stop being comparable."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from app.decision.epochs import break_reason
from app.domain.charts import Reading, dollars, milliseconds, plain, trend
from app.web.ports import Pages, Row
from app.web.rendering import Page
from app.web.svg import trend_svg

_INTERVALS = frozenset({"ttft_p50", "latency_p50", "latency_p95"})
SPANS = (12, 26, 52, 104)
MOST_TABLE_ROWS = 26
DEFAULT_SPAN = 26

#: Sections of the configuration that change what every model is measured on.
_SHARED = ("primary", "logs", "sample", "evaluators", "judge", "replay", "privacy")
_WORDS = {
    "primary": "the primary",
    "candidates": "the candidates",
    "logs": "the log source",
    "sample": "the sample",
    "evaluators": "the evaluators",
    "judge": "the judge",
    "policy": "the policy",
    "replay": "the way of replaying",
    "privacy": "the masking",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure that is drawn: columns of its point and interval, and how it is written."""

    key: str
    title: str
    unit: Callable[[float], str]
    figure: Callable[[Row], tuple[float, float | None, float | None] | None]
    is_share: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A Run at which something changed.

    Attributes:
        reasons: What changed, in words.
        models: Models whose lines are broken; empty when figures stay comparable.
    """

    number: int
    run_id: str
    slot: str
    slot_at: Any
    reasons: tuple[str, ...]
    models: tuple[str, ...] = field(default=())


def _columns(stem: str, unit: str = "", factor: float = 1.0) -> Callable[[Row], Any]:
    """Reads point and interval of columns `stem`, `stem_low` and `stem_high`."""

    def read(row: Row) -> tuple[float, float | None, float | None] | None:
        values = [row[f"{stem}{end}{unit}"] for end in ("", "_low", "_high")]
        if values[0] is None:
            return None
        point, low, high = (None if v is None else float(v) * factor for v in values)
        return (point or 0.0, low, high)

    return read


def _percentile(name: str) -> Callable[[Row], Any]:
    """Reads a percentile in milliseconds, with its interval where one was stored."""

    def read(row: Row) -> tuple[float, float | None, float | None] | None:
        point, interval = row[f"{name}_seconds"], row[name]
        if point is None:
            return None
        if interval is None:
            return point * 1000, None, None
        return point * 1000, interval["low"] * 1000, interval["high"] * 1000

    return read


METRICS = (
    Metric(
        key="quality",
        title="Quality (0–1)",
        unit=plain,
        figure=_columns("quality"),
        is_share=True,
    ),
    Metric(
        key="cost_per_success",
        title="Cost per 1,000 successes",
        unit=dollars,
        figure=_columns("cost_per_success", "_usd", 1_000),
    ),
    Metric(
        key="cost_per_quality",
        title="Cost per 1,000 quality points",
        unit=dollars,
        figure=_columns("cost_per_quality", "_usd", 1_000),
    ),
    Metric(
        key="ttft",
        title="Time to first token, p50",
        unit=milliseconds,
        figure=_percentile("ttft_p50"),
    ),
    Metric(
        key="latency_p50",
        title="Latency, p50",
        unit=milliseconds,
        figure=_percentile("latency_p50"),
    ),
    Metric(
        key="latency_p95",
        title="Latency, p95",
        unit=milliseconds,
        figure=_percentile("latency_p95"),
    ),
)


async def trends(pages: Pages, plan_name: str, *, weeks: int) -> Page:
    """The trends of a plan over its newest complete Runs."""
    rows = await pages.history(plan_name, limit=weeks)
    breaks = await _breaks(pages, plan_name, rows, weeks)
    pieces = _pieces(rows, breaks)
    names = list(dict.fromkeys(row["model_name"] for row in rows))
    names.sort(key=lambda name: (name not in _primaries(rows), name))
    data = {
        "plan": plan_name,
        "weeks": weeks,
        "models": names,
        "breaks": [_break_json(one) for one in breaks],
        "history": [_history_json(row, pieces) for row in rows],
    }
    drawn = {
        "metrics": [_drawn(metric, rows, pieces, breaks, names) for metric in METRICS],
        "breaks": breaks,
        "spans": SPANS,
        "styles": {name: style for style, name in enumerate(names)},
        "primaries": _primaries(rows),
    }
    return Page(template="trends.html", title="Trends", data=data, drawn=drawn)


async def _breaks(
    pages: Pages, plan_name: str, rows: Sequence[Row], weeks: int
) -> tuple[Break, ...]:
    """Runs at which the set-up or a candidate's epoch changed, oldest first."""
    epochs = await pages.epochs(plan_name, limit=weeks)
    identities = await pages.identities(plan_name)
    runs = list({row["run_id"]: row for row in rows}.values())
    changed = [
        (before, after)
        for before, after in pairwise(runs)
        if before["config_hash"] != after["config_hash"]
    ]
    frozen = await pages.configurations(sorted({run["run_id"] for pair in changed for run in pair}))
    found: dict[str, tuple[list[str], set[str]]] = {}
    for before, after in changed:
        reasons, is_shared = _config_changes(frozen[before["run_id"]], frozen[after["run_id"]])
        everyone = {row["model_name"] for row in rows} if is_shared else set()
        found[after["run_id"]] = (reasons, everyone)
    for run_id, name, reason in _epoch_changes(epochs, identities):
        reasons, models = found.setdefault(run_id, ([], set()))
        models.add(name)
        if reason not in reasons:
            reasons.append(reason)
    marked = [run for run in runs if run["run_id"] in found]
    return tuple(
        Break(
            number=number,
            run_id=run["run_id"],
            slot=run["slot"],
            slot_at=run["slot_at"],
            reasons=tuple(found[run["run_id"]][0]) or ("the set-up changed",),
            models=tuple(sorted(found[run["run_id"]][1])),
        )
        for number, run in enumerate(marked, start=1)
    )


def _epoch_changes(
    epochs: Sequence[Row], identities: Mapping[str, Row]
) -> Iterator[tuple[str, str, str]]:
    """Run, model and reason of every new epoch; what they share breaks the primary's line too."""
    latest: dict[str, Row] = {}
    for row in epochs:
        before = latest.get(row["candidate_name"])
        if row["epoch"]:
            latest[row["candidate_name"]] = row
        if before is None or not row["epoch"] or before["epoch"] == row["epoch"]:
            continue
        old, new = identities.get(before["epoch"]), identities.get(row["epoch"])
        known = break_reason(old, new) if old and new else None
        reason = known or row["epoch_reason"] or "the set-up changed"
        yield row["run_id"], row["candidate_name"], reason
        if old and new and any(old.get(k) != new.get(k) for k in _MEASURES_PRIMARY):
            yield row["run_id"], row["primary_name"], reason


_MEASURES_PRIMARY = ("primary", "judges", "rubric", "judging", "evaluators")


def _config_changes(before: Row, after: Row) -> tuple[list[str], bool]:
    """What differs between two set-ups, in words, and whether it concerns every model."""
    old, new = before.get("config") or {}, after.get("config") or {}
    sections = [name for name in _WORDS if old.get(name) != new.get(name)]
    reasons = [
        f"{_WORDS[name]} changed{_detail(old.get(name), new.get(name))}" for name in sections
    ]
    return reasons, any(name in _SHARED for name in sections)


def _detail(before: object, after: object) -> str:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return ""
    parts = [
        f"{key} {before.get(key)} → {after.get(key)}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and _is_short(before.get(key), after.get(key))
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _is_short(*values: object) -> bool:
    return all(not isinstance(v, Mapping | list) and len(str(v)) <= 40 for v in values)


def _pieces(rows: Sequence[Row], breaks: Sequence[Break]) -> dict[tuple[str, str], int]:
    """Which piece of its line every reading belongs to, by Run and model."""
    by_run = {one.run_id: one for one in breaks}
    current: dict[str, int] = {}
    pieces: dict[tuple[str, str], int] = {}
    started: set[str] = set()
    for row in rows:
        run_id, name = row["run_id"], row["model_name"]
        if run_id in by_run and run_id not in started:
            started.add(run_id)
            for broken in by_run[run_id].models:
                current[broken] = current.get(broken, 0) + 1
        pieces[run_id, name] = current.get(name, 0)
    return pieces


def _drawn(
    metric: Metric,
    rows: Sequence[Row],
    pieces: Mapping[tuple[str, str], int],
    breaks: Sequence[Break],
    names: Sequence[str],
) -> dict[str, Any]:
    readings = list(_readings(metric, rows, pieces))
    chart = trend(
        metric.title,
        readings,
        unit=metric.unit,
        styles={name: style for style, name in enumerate(names)},
        notches=[(one.slot_at, one.number) for one in breaks],
        is_share=metric.is_share,
    )
    cells = {(one.at, one.name): one for one in readings}
    runs = list({row["run_id"]: row for row in rows}.values())
    return {
        "key": metric.key,
        "title": metric.title,
        "older": max(len(runs) - MOST_TABLE_ROWS, 0),
        "svg": None if chart is None else trend_svg(chart, key=metric.key),
        "rows": [
            {"run": run, "cells": [_cell(cells.get((run["slot_at"], n)), metric) for n in names]}
            for run in runs[: -MOST_TABLE_ROWS - 1 : -1]
        ],
    }


def _readings(
    metric: Metric, rows: Sequence[Row], pieces: Mapping[tuple[str, str], int]
) -> Iterator[Reading]:
    for row in rows:
        figure = metric.figure(row)
        if figure is not None:
            yield Reading(
                name=row["model_name"],
                is_primary=row["role"] == "primary",
                at=row["slot_at"],
                piece=pieces[row["run_id"], row["model_name"]],
                value=figure[0],
                low=figure[1],
                high=figure[2],
            )


def _cell(reading: Reading | None, metric: Metric) -> tuple[str, str]:
    if reading is None:
        return "–", ""
    if reading.low is None or reading.high is None:
        return metric.unit(reading.value), ""
    return metric.unit(reading.value), f"{metric.unit(reading.low)}–{metric.unit(reading.high)}"


def _primaries(rows: Sequence[Row]) -> frozenset[str]:
    return frozenset(row["model_name"] for row in rows if row["role"] == "primary")


def _break_json(one: Break) -> dict[str, Any]:
    return {
        "number": one.number,
        "run_id": one.run_id,
        "slot": one.slot,
        "reasons": list(one.reasons),
        "models": list(one.models),
    }


def _history_json(row: Row, pieces: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    kept = {name: row[name] for name in row if name not in _INTERVALS}
    return {**kept, "piece": pieces[row["run_id"], row["model_name"]]}
