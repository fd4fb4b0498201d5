"""A Run's document as leaderboard, comparisons and verdict sentences: text, Markdown, CSV.

Every function takes the object that `report --json` prints.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from app.cli.figures import (
    counted,
    difference,
    dollar_range,
    dollars,
    duration_range,
    interval,
    milliseconds,
    point_range,
    ratio_range,
    share_range,
    shares,
    whole,
)
from app.cli.tables import Table, escaped, markdown_table, terminal_table
from app.decision.comparisons import SEGMENT_PAIRS
from app.domain.wording import MINUS, VERDICTS, percent
from app.stats.switch_tests import SUCCESS_Z
from app.summary.pairs import TURN
from app.summary.summaries import PERCENTS, replies_needed

Document = Mapping[str, Any]

_ENDS = {
    "partial": "Ended before it was complete: no verdict from this run",
    "failed": "Failed",
    "running": "Still running",
    "due": "Not started yet",
    "skipped": "Skipped: an earlier run was still going",
    "missed": "Missed: nothing was running when it was due",
}
_NOTE = "Ranges are 95 % intervals; – stands for a figure that the sample cannot support."
_PERCENTILES = tuple(f".p{percent}" for percent in PERCENTS)
_TOO_FEW = f"– (below {SEGMENT_PAIRS} pairs)"


def print_report(document: Document, console: Console) -> None:
    """Print the whole report."""
    console.print(Group(*_parts(document)))


def report_markdown(document: Document) -> str:
    """The whole report as Markdown."""
    lines = [f"## {escaped(headline(document))}", ""]
    lines += [*(f"- {escaped(line)}" for line in circumstances(document)), ""]
    lines += [*(f"- {escaped(sentence)}" for sentence in verdict_sentences(document)), ""]
    for table in _tables(document):
        lines += [markdown_table(table), ""]
    lines += [*(f"- {escaped(line)}" for line in remarks(document)), "", f"_{_NOTE}_"]
    return "\n".join(lines).rstrip() + "\n"


def report_csv(document: Document) -> str:
    """One line per model with raw figures, the comparison with the primary beside it."""
    compared = {one["candidate"]: one for one in document["comparisons"]}
    rows = [
        {
            **_run_cells(document),
            **_model_cells(model),
            **_comparison_cells(compared.get(model["name"])),
        }
        for model in document["models"]
    ]
    if not rows:
        rows = [_run_cells(document)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def headline(document: Document) -> str:
    """Which Run this is and what it says, in one line."""
    switches = [one for one in document["comparisons"] if one["verdict"] == "switch"]
    start = f"{document['plan']}, {_when(document)}"
    if document["status"] != "done":
        return f"{start}: {_ENDS.get(document['status'], document['status'])}"
    primary = _primary_name(document)
    if switches:
        names = ", ".join(one["candidate"] for one in switches)
        return f"{start}: switch recommended, {primary} → {names}"
    return f"{start}: keep {primary}"


def circumstances(document: Document) -> tuple[str, ...]:
    """What was sampled, how the Run ended, in lines."""
    cases, window = document["cases"], document["window"]
    sampled = f"{whole(cases['sampled'])} cases of {whole(cases['frame'])} logged prompts"
    if window["start"]:
        sampled += f", {_day(window['start'])} to {_day(window['end'])}"
    if cases["anchors"]:
        sampled += f"; {whole(cases['anchors'])} anchors"
    skipped = counted(cases["skipped"])
    lines = [f"Run {document['run_id']} ({document.get('triggered_by') or 'schedule'})", sampled]
    if skipped:
        lines.append(f"Skipped: {skipped}")
    if document.get("error"):
        lines.append(f"Why: {document['error']}")
    return tuple(lines)


def leaderboard(document: Document) -> Table:
    """Quality, success and cost per quality of every model."""
    models: Sequence[Document] = document["models"]
    columns = ("Model", "Cases", "Quality", "Success", "Per quality point")
    return Table(
        title="This run: quality and cost",
        columns=columns,
        right=frozenset(columns[1:]),
        emphasised=_primaries(models),
        rows=[
            (
                _label(model),
                whole(model["cases"]),
                interval(model["quality"]),
                share_range(model["success_rate"], _interval_of(model, "success_rate")),
                dollar_range(model["cost_per_quality_usd"]),
            )
            for model in models
        ],
    )


def spending(document: Document) -> Table:
    """What every model costs, and what this Run spent on it."""
    models: Sequence[Document] = document["models"]
    columns = ("Model", "Per success", "Per 1,000 requests", "Spent", "Calls")
    return Table(
        title="This run: cost and spend",
        columns=columns,
        right=frozenset(columns[1:]),
        emphasised=_primaries(models),
        rows=[
            (
                _label(model),
                _money_range(model, "cost_per_success_usd"),
                _money_range(model, "cost_per_1k_usd"),
                _spend(model),
                _attempts(model),
            )
            for model in models
        ],
    )


def speed(document: Document) -> Table:
    """First token and latency of every model."""
    models: Sequence[Document] = document["models"]
    columns = ("Model", "First token p50", "Latency p50", "p95", "p99")
    return Table(
        title="This run: speed",
        columns=columns,
        right=frozenset(columns[1:]),
        emphasised=_primaries(models),
        rows=[
            (
                _label(model),
                _duration(model, "ttft_ms", "p50"),
                *(_duration(model, "latency_ms", name) for name in ("p50", "p95", "p99")),
            )
            for model in models
        ],
    )


def comparisons(document: Document) -> Table:
    """Verdict, quality and value of every candidate, on the verdict's window."""
    columns = ("Candidate", "Verdict", "Pairs", "Quality", "Value ratio")
    return Table(
        title=f"Against {_primary_name(document)}, on the verdict's window",
        columns=columns,
        right=frozenset(columns[2:]),
        emphasised=_switches(document),
        rows=[
            (
                one["candidate"],
                one["verdict"],
                _pairs(one),
                difference(one["quality_delta"]),
                interval(one["value_ratio"]),
            )
            for one in document["comparisons"]
        ],
    )


def consequences(document: Document) -> Table:
    """What a switch would change in money."""
    columns = ("Candidate", "Bill", "Saved a month")
    return Table(
        title="What a switch would change",
        columns=columns,
        right=frozenset(columns[1:]),
        emphasised=_switches(document),
        rows=[
            (
                one["candidate"],
                _bill(one["saving"]),
                dollar_range(one["monthly_saving_usd"]),
            )
            for one in document["comparisons"]
        ],
    )


def guardrails(document: Document) -> Table:
    """What a switch would change in reliability and latency."""
    columns = ("Candidate", "Success", "Latency p50", "Latency p95")
    return Table(
        title="Guardrails, on the same window",
        columns=columns,
        right=frozenset(columns[1:]),
        emphasised=_switches(document),
        rows=[
            (
                one["candidate"],
                point_range(one["success_delta"], _interval_of(one, "success_delta")),
                *(
                    ratio_range(one.get(name), _interval_of(one, name))
                    for name in ("latency_p50_ratio", "latency_p95_ratio")
                ),
            )
            for one in document["comparisons"]
        ],
    )


def segments(document: Document) -> Table | None:
    """First and later turns apart, and where a candidate is worse although its average may not be.

    None where there is nothing of either.
    """
    rows = [
        (
            one["candidate"],
            f"{part['segment']}={part['value']}",
            whole(part["pairs"]),
            difference(part["quality_delta"]) if part["quality_delta"] else _TOO_FEW,
            interval(part.get("value_ratio")),
            "worse" if part.get("is_worse") else "",
        )
        for one in document["comparisons"]
        for part in one["segments"]
        if part.get("is_worse") or part["segment"] == TURN
    ]
    if not rows:
        return None
    return Table(
        title="First and later turns, and segments that are worse",
        columns=("Candidate", "Segment", "Pairs", "Quality", "Value ratio", ""),
        right=frozenset({"Pairs", "Quality", "Value ratio"}),
        rows=rows,
    )


def verdict_sentences(document: Document) -> Iterator[str]:
    """What is said of each candidate and why, in words; caveats of all are left to `remarks`."""
    shared = set(_shared_caveats(document))
    for one in document["comparisons"]:
        meaning = VERDICTS.get(one["verdict"], one["verdict"])
        reasons = " ".join(_sentence(reason) for reason in one["reasons"])
        own = [caveat for caveat in one.get("caveats") or () if caveat not in shared]
        caveats = " ".join(_sentence(caveat) for caveat in own)
        yield " ".join(
            part for part in (f"{one['candidate']}: {meaning}.", reasons, caveats) if part
        )


def held_verdict(one: Document) -> str | None:
    """Why a candidate stays recommended although this look alone would not recommend it."""
    tests = one.get("tests") or {}
    if one["verdict"] != "switch" or tests.get("is_hit") is not False:
        return None
    return (
        f"{one['candidate']}: stays recommended although this look alone does not show it anew. It "
        f"is withdrawn when the smallest z of one week falls below {MINUS}{SUCCESS_Z:.2f} or that "
        "of the last 4 weeks below 0."
    )


def remarks(document: Document) -> Iterator[str]:
    """Shared caveats, patterns, drift, judge and spend, in sentences."""
    yield from _shared_caveats(document)
    yield from filter(None, map(held_verdict, document["comparisons"]))
    yield from _partly_replayed(document)
    for model in document["models"]:
        if model.get("pattern"):
            yield f"{model['name']}: {model['pattern']}"
    yield from _failures(document)
    yield from withheld(document)
    yield from (document.get("drift") or {}).get("sentences") or ()
    yield from _judge(document["judge"])
    adaptive = document.get("adaptive") or {}
    if adaptive.get("dropped"):
        saved = whole(adaptive["saved_calls"])
        yield f"{saved} calls were saved by leaving out candidates whose verdict was clear."
    spend = document["spend"]
    budget = f" of a budget of {dollars(spend['budget_usd'])}" if spend["budget_usd"] else ""
    evaluation = "judge and embeddings" if spend.get("embeddings_usd") else "judge"
    yield (
        f"Spent {dollars(spend['total_usd'])}{budget}: models {dollars(spend['models_usd'])}, "
        f"{evaluation} {dollars(spend['judge_usd'])}."
    )
    yield from bill_warnings_of(document)
    for alert in document["alerts"]:
        yield f"Message: {alert['title']} ({alert['key']})"


def bill_warnings_of(document: Document) -> Sequence[str]:
    """Where the gateway's bill differs from our prices; older reports do not say."""
    return document["spend"].get("warnings") or ()


def withheld(document: Document) -> Iterator[str]:
    """Why figures are missing: percentiles that need more replies, and what has no interval."""
    models: Sequence[Document] = document["models"]
    for percentage in PERCENTS:
        short = [
            f"{model['name']} {whole(model['successes'])}"
            for model in models
            if model["latency_ms"].get(f"p{percentage}") is None and "successes" in model
        ]
        if short:
            needed = whole(replies_needed(percentage))
            yield (
                f"Latency p{percentage} is withheld below {needed} successful timed replies: "
                f"{', '.join(short)}."
            )
    for model in models:
        for name, why in (model.get("absent") or {}).items():
            if not name.endswith(_PERCENTILES):
                figure = name.removesuffix("_usd").replace("_", " ")
                yield f"{model['name']} has no {figure}: {why}."


def _parts(document: Document) -> Iterator[RenderableType]:
    yield Text(headline(document), style="bold")
    for line in circumstances(document):
        yield Text(line, style="dim")
    yield Text()
    for sentence in verdict_sentences(document):
        yield Text(sentence)
        yield Text()
    for table in _tables(document):
        yield terminal_table(table)
    for line in remarks(document):
        yield Text(line, style="dim")
    yield Text(_NOTE, style="dim")


def _tables(document: Document) -> Iterator[Table]:
    if document["models"]:
        yield leaderboard(document)
    if document["comparisons"]:
        yield comparisons(document)
        yield consequences(document)
        yield guardrails(document)
    parts = segments(document)
    if parts is not None:
        yield parts
    if document["models"]:
        yield spending(document)
        yield speed(document)


def _shared_caveats(document: Document) -> list[str]:
    """Caveats that hold for every candidate, to be said once."""
    told = [one.get("caveats") or () for one in document["comparisons"]]
    if len(told) < 2:
        return []
    return [caveat for caveat in told[0] if all(caveat in others for others in told)]


def _partly_replayed(document: Document) -> Iterator[str]:
    """That figures of this Run rest on different prompts, where they do."""
    most = max((model["cases"] for model in document["models"]), default=0)
    fewer = [
        f"{model['name']} {whole(model['cases'])}"
        for model in document["models"]
        if 0 < model["cases"] < most
    ]
    if fewer:
        yield (
            f"Not every model was given all {whole(most)} prompts ({', '.join(fewer)}): this run's "
            "figures compare different prompts, the verdict's window the same ones."
        )


def _failures(document: Document) -> Iterator[str]:
    """What went wrong on which model; each such reply counts as quality 0."""
    told = [
        f"{model['name']} {counted(model['failures'])}"
        for model in document["models"]
        if counted(model["failures"])
    ]
    if told:
        yield f"Unsuccessful replies: {'; '.join(told)}."


def _judge(judge: Document) -> Iterator[str]:
    if not judge["models"]:
        return
    words = [f"{whole(judge.get('judged'))} replies judged, {whole(judge['unscored'])} unscored"]
    if judge["agreement"] is not None:
        agreed = share_range(judge["agreement"], judge.get("agreement_interval"))
        words.append(f"agreement {agreed}")
    if judge["canaries"]:
        words.append(f"{judge.get('canaries_right', 0)} of {judge['canaries']} canaries right")
    else:
        words.append("no canary graded")
    yield f"Judge {', '.join(judge['models'])}: {'; '.join(words)}."
    yield from _people(judge.get("human"))
    yield from judge.get("warnings") or ()


def _people(human: Document | None) -> Iterator[str]:
    """How far judge and people agree; older reports do not say."""
    if not human or not human["replies"]:
        return
    kappa, rank = human["kappa"], human["spearman"]
    figures = f"weighted kappa {interval(kappa)}, rank correlation {interval(rank)}"
    yield f"Judge and people agree on {whole(human['replies'])} labelled replies: {figures}."


def _run_cells(document: Document) -> dict[str, object]:
    return {name: document.get(name) for name in ("plan", "run_id", "slot", "status")}


def _model_cells(model: Document) -> dict[str, object]:
    plain = (
        "name",
        "model",
        "role",
        "cases",
        "success_rate",
        "cost_per_success_usd",
        "cost_per_1k_usd",
        "spend_usd",
        "attempts",
        "retries",
    )
    cells = {name: model[name] for name in plain}
    cells |= _ends("quality", model["quality"])
    cells |= _bounds_of(model, "success_rate", "cost_per_success_usd", "cost_per_1k_usd")
    cells |= _ends("cost_per_quality", model["cost_per_quality_usd"], unit="_usd")
    for figure in ("ttft_ms", "latency_ms"):
        stem = figure.removesuffix("_ms")
        cells |= {f"{stem}_{p}_ms": (model[figure] or {}).get(p) for p in ("p50", "p95", "p99")}
    cells["failures"] = sum(model["failures"].values())
    return cells


def _comparison_cells(one: Document | None) -> dict[str, object]:
    found: Document = one or {}
    plain = ("pairs", "window_weeks", "success_delta", "latency_p95_ratio", "verdict", "state")
    cells = {name: found.get(name) for name in plain}
    cells |= _ends("quality_delta", found.get("quality_delta"))
    cells |= _bounds_of(found, "success_delta", "latency_p95_ratio")
    cells |= _ends("saving", found.get("saving"))
    cells |= _ends("value_ratio", found.get("value_ratio"))
    cells |= _ends("monthly_saving", found.get("monthly_saving_usd"), unit="_usd")
    cells["reasons"] = " ".join(_sentence(reason) for reason in found.get("reasons") or ())
    return cells


def _bounds_of(told: Document, *names: str) -> dict[str, object]:
    """Both ends of figures whose interval is held apart."""
    cells: dict[str, object] = {}
    for name in names:
        figure, stem = _interval_of(told, name) or {}, name.removesuffix("_usd")
        unit = "_usd" if name.endswith("_usd") else ""
        cells |= {f"{stem}_{end}{unit}": figure.get(end) for end in ("low", "high")}
    return cells


def _ends(stem: str, figure: Document | None, unit: str = "") -> dict[str, object]:
    values = figure or {}
    return {
        f"{stem}{unit}": values.get("value"),
        f"{stem}_low{unit}": values.get("low"),
        f"{stem}_high{unit}": values.get("high"),
    }


def _primaries(models: Sequence[Document]) -> frozenset[int]:
    return frozenset(index for index, model in enumerate(models) if model["role"] == "primary")


def _switches(document: Document) -> frozenset[int]:
    verdicts = [one["verdict"] for one in document["comparisons"]]
    return frozenset(index for index, verdict in enumerate(verdicts) if verdict == "switch")


def _primary_name(document: Document) -> str:
    for model in document["models"]:
        if model["role"] == "primary":
            return str(model["name"])
    named = next((one["primary"] for one in document["comparisons"] if one.get("primary")), None)
    return str(named or "the primary")


def _label(model: Document) -> str:
    return f"{model['name']} (primary)" if model["role"] == "primary" else str(model["name"])


def _interval_of(told: Document, name: str) -> Document | None:
    """The interval of a figure that the document holds apart; older ones may have none."""
    found = (told.get("intervals") or {}).get(name)
    return found if isinstance(found, Mapping) else None


def _money_range(model: Document, name: str) -> str:
    found = _interval_of(model, name)
    return dollars(model[name]) if found is None else dollar_range(found)


def _duration(model: Document, figure: str, name: str) -> str:
    found = (_interval_of(model, figure) or {}).get(name)
    value = (model[figure] or {}).get(name)
    return milliseconds(value) if found is None else duration_range(found)


def _spend(model: Document) -> str:
    unknown = model.get("unknown_cost") or 0
    text = dollars(model["spend_usd"])
    return f"{text} + {unknown} unknown" if unknown else text


def _attempts(model: Document) -> str:
    retries = model["retries"]
    return (
        f"{whole(model['attempts'])} ({whole(retries)} again)"
        if retries
        else whole(model["attempts"])
    )


def _pairs(one: Document) -> str:
    weeks = one["window_weeks"]
    return whole(one["pairs"]) if weeks in {0, 1} else f"{whole(one['pairs'])} in {weeks} weeks"


def _bill(saving: Document | None) -> str:
    """The saving as the change of the bill: −38 % is cheaper."""
    if saving is None:
        return shares(None)
    turned = {"value": -saving["value"], "low": -saving["high"], "high": -saving["low"]}
    value, low, high = (_signed_percent(turned[end]) for end in ("value", "low", "high"))
    if low == high:
        low, high = (_signed_percent(turned[end], 1) for end in ("low", "high"))
    return f"{value} ({low.removesuffix(' %')} to {high})"


def _signed_percent(value: float, digits: int = 0) -> str:
    text = percent(value, digits)
    return text if text.startswith("−") or float(text.removesuffix(" %")) == 0 else f"+{text}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _when(document: Document) -> str:
    return str(document["slot"]).replace("T", " ")


def _day(instant: str) -> str:
    return instant.partition("T")[0]
