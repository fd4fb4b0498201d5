"""Why a verdict is what it is: every test of the policy with its figures, in words."""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from rich.console import Console
from rich.text import Text

from app.cli.figures import number, ratio, whole
from app.cli.reports import headline, held_verdict, verdict_sentences
from app.cli.tables import Table, terminal_table
from app.domain.runs import Trigger
from app.domain.wording import ABSENT, VERDICTS, count
from app.stats.scan import RESOLVE_Z, SHORT_WEEKS

Document = Mapping[str, Any]
_WINDOW_COLUMNS = (
    "Weeks",
    "Pairs",
    "Quality",
    "z of it",
    "Value ratio",
    "z of that",
    "Smallest z",
    "Short by",
)
_SHOWN = 0.005
_PASSED = {True: "passes", False: "fails", None: ABSENT}


def explanation(document: Document) -> dict[str, Any]:
    """Verdict, reasons and tests of every candidate, as stored."""
    kept = (
        "candidate",
        "primary",
        "verdict",
        "state",
        "reasons",
        "caveats",
        "epoch",
        "epoch_reason",
    )
    return {
        "run_id": document["run_id"],
        "plan": document["plan"],
        "comparisons": [
            {**{name: one.get(name) for name in kept}, "tests": one.get("tests") or {}}
            for one in document["comparisons"]
        ],
    }


def print_explanation(document: Document, console: Console) -> None:
    """Print the tests of every candidate, and what they add up to."""
    console.print(Text(headline(document), style="bold"))
    if not document["comparisons"]:
        console.print(Text(str(document.get("error") or "This run compared nothing.")))
    sentences = list(verdict_sentences(document))
    for one, sentence in zip(document["comparisons"], sentences, strict=True):
        console.print()
        console.print(Text(sentence))
        for table in _tables(one):
            console.print(terminal_table(table))
        for line in (*_lines(one), *_promise(document, one)):
            console.print(Text(line, style="dim"))


def _tables(one: Document) -> Iterator[Table]:
    tests: Document = one.get("tests") or {}
    if tests.get("unmeasured") or not tests.get("windows"):
        return
    yield Table(
        title=f"{one['candidate']}: tests of this week and of the longest window",
        columns=("Test", "Found", "Needed", "Result"),
        rows=list(_test_rows(tests)),
    )
    yield Table(
        title="What else could be said, and how far it is (longest window, 95 % bounds)",
        columns=("Verdict", "Found", "Said if", "Result"),
        rows=list(_bound_rows(one, tests)),
    )
    critical = tests["critical_value"]
    yield Table(
        title=f"Windows: a switch needs z ≥ {number(critical)} in one of them",
        columns=_WINDOW_COLUMNS,
        right=frozenset(_WINDOW_COLUMNS),
        rows=[_window_row(window) for window in tests["windows"]],
    )


def _test_rows(tests: Document) -> Iterator[tuple[str, str, str, str]]:
    quality, value = tests["quality"], tests["value"]
    success, latency = tests["success"], tests["latency"]
    margin, bar = quality["margin"], value["bar"]
    longest = tests["windows"][-1]
    yield (
        "Independent pairs",
        whole(round(longest.get("independent_pairs") or 0)),
        f"at least {tests['min_pairs']}",
        _PASSED[tests.get("has_enough_pairs")],
    )
    yield (
        "Quality of this week",
        number(quality["this_week"], 3),
        f"above −{number(margin, 3)}",
        _PASSED[_above(quality["this_week"], -margin)],
    )
    yield (
        "Cost per quality of this week",
        ratio(value["this_week"]),
        f"below {ratio(bar)}",
        _PASSED[_above(bar, value["this_week"])],
    )
    yield (
        "Success rate",
        f"z {number(success['z'])} ({_lost_and_won(success)})",
        f"z ≥ {number(success['needed_z'])} for a loss below {number(success['margin'])}",
        _PASSED[success.get("passes")],
    )
    is_supported = latency.get("is_supported")
    supported = "" if is_supported else " (too few replies to tell)"
    yield (
        "Latency p50 and p95",
        f"{ratio(latency['p50_ratio'])} and {ratio(latency['p95_ratio'])}{supported}",
        f"at most {ratio(latency['max_p50_ratio'])} and {ratio(latency['max_p95_ratio'])}",
        _PASSED[latency.get("passes") if is_supported else None],
    )
    best = _best_window(tests)
    critical = tests["critical_value"]
    yield (
        "Evidence of the best window",
        ABSENT if best is None else f"z {number(best['z'])} over {count(best['weeks'], 'week')}",
        f"z ≥ {number(critical)}",
        _PASSED[None if best is None else best["z"] >= critical],
    )
    yield "All of it together", "", "every test above", _PASSED[tests.get("is_hit")]


def _best_window(tests: Document) -> Document | None:
    """The window that speaks most for a switch, None where none holds enough pairs."""
    best = tests.get("best_window_weeks")
    return next((window for window in tests["windows"] if window["weeks"] == best), None)


def _bound_rows(one: Document, tests: Document) -> Iterator[tuple[str, str, str, str]]:
    """The verdicts that an interval decides, with the margin to each."""
    delta, value = one.get("quality_delta") or {}, one.get("value_ratio") or {}
    margin, bar = tests["quality"]["margin"], tests["value"]["bar"]
    upper, lower = delta.get("high"), value.get("low")
    yield (
        "worse",
        f"quality at most {number(upper, 3)}",
        f"below −{number(margin, 3)}",
        _reached(None if upper is None else -margin - upper),
    )
    yield (
        "dearer",
        f"value ratio at least {number(lower, 3)}",
        "above 1",
        _reached(None if lower is None else lower - 1),
    )
    yield (
        "keep",
        f"value ratio at least {number(lower, 3)}",
        f"above {number(bar, 3)}",
        _reached(None if lower is None else lower - bar),
    )
    success = tests["success"]["z"]
    yield (
        "unreliable",
        f"z of the success rate {number(success)}",
        f"below {number(-tests['success']['needed_z'])}",
        _reached(None if success is None else -tests["success"]["needed_z"] - success),
    )
    if one["state"] == "alert":
        yield from _withdrawal_rows(tests)


def _withdrawal_rows(tests: Document) -> Iterator[tuple[str, str, str, str]]:
    """What ends an open recommendation: a bad week, or recent weeks that no longer hold."""
    windows = tests["windows"]
    week = min(_plain_z(windows[0]), tests["success"].get("z_this_week") or inf)
    recent = next(one for one in reversed(windows) if one["weeks"] <= SHORT_WEEKS)
    yield (
        "withdrawn",
        f"smallest z of this week {number(week)}",
        f"below {number(RESOLVE_Z)}",
        _reached(RESOLVE_Z - week),
    )
    yield (
        "withdrawn",
        f"smallest z of {count(recent['weeks'], 'week')} {number(_plain_z(recent))}",
        "below 0",
        _reached(-_plain_z(recent)),
    )


def _plain_z(window: Document) -> float:
    """The smaller z of quality and value, unscored replies left out."""
    return float(min(window["quality_z"], window["value_z"]))


def _reached(margin: float | None) -> str:
    """Whether a bound is passed, and by how much or how far it is away."""
    if margin is None:
        return ABSENT
    return f"yes, by {number(margin, 3)}" if margin > 0 else f"no, {number(-margin, 3)} away"


def _window_row(window: Document) -> tuple[str, ...]:
    short = window.get("short_of_z")
    return (
        str(window["weeks"]),
        whole(round(window["pairs"])),
        number(window["quality_delta"], 3),
        number(window["quality_z"]),
        number(window["value_ratio"], 3),
        number(window["value_z"]),
        number(window["z"]),
        "reached" if short == 0 else number(short),
    )


def _lines(one: Document) -> Iterator[str]:
    tests: Document = one.get("tests") or {}
    meaning = VERDICTS.get(one["verdict"], one["verdict"])
    change: Document = tests.get("transition") or {}
    if change.get("from") != change.get("to"):
        yield f"State: {change['from']} → {change['to']} ({change.get('reason') or meaning})."
    else:
        yield f"State: {one['state']}."
    if tests.get("unmeasured"):
        yield f"Not measured this week: {tests['unmeasured']}."
    held = held_verdict(one)
    if held is not None:
        yield held
    yield from _worst_cases(tests)
    assumed: Document = tests.get("assumptions") or {}
    if assumed.get("human_labels"):
        yield f"Quality is corrected by {whole(assumed['human_labels'])} pairs labelled by people."
    elif assumed.get("bias_allowance"):
        yield f"Assumed: the judge favours the candidate by {number(assumed['bias_allowance'], 3)}."
    if one.get("epoch_reason"):
        yield f"Evidence before this was put aside: {one['epoch_reason']}."
    yield from _counted("Pairs left out", tests.get("dropped_pairs"))
    yield from _counted("Weeks left out", tests.get("left_out_weeks"))


def _promise(document: Document, one: Document) -> Iterator[str]:
    """The budget of false alerts; it covers the schedule's looks, not those at Runs by hand."""
    tests: Document = one.get("tests") or {}
    budget = tests.get("false_alerts_per_year")
    if budget is not None and document.get("triggered_by") != Trigger.HAND:
        yield (
            f"If no candidate truly qualifies, the chance of any false alert in a year is at most "
            f"{budget * 100:g} % for this plan, over {count(tests['candidates'], 'candidate')}."
        )


def _worst_cases(tests: Document) -> Iterator[str]:
    """That unscored replies are also taken at their worst, where that lowers a z."""
    for window in tests.get("windows") or ():
        worst = [window.get("worst_quality_z"), window.get("worst_value_z")]
        if None not in worst and min(worst) < _plain_z(window) - _SHOWN:
            yield (
                f"Smallest z of {count(window['weeks'], 'week')} takes unscored replies at their "
                f"worst: 0 for the candidate, 1 for the primary (else {number(_plain_z(window))})."
            )


def _counted(label: str, counts: object) -> Iterator[str]:
    if isinstance(counts, Mapping) and counts:
        yield f"{label}: " + ", ".join(f"{name} ({why})" for name, why in counts.items()) + "."


def _above(value: float | None, bar: float | None) -> bool | None:
    return None if value is None or bar is None else value > bar


def _lost_and_won(success: Document) -> str:
    lost, won = success.get("only_primary"), success.get("only_candidate")
    return f"{number(lost, 0)} lost, {number(won, 0)} won"
