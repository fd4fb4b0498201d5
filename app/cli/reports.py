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
    durations,
    interval,
    points,
    ratio,
    share,
    shares,
    whole,
)
from app.cli.tables import Table, escaped, markdown_table, terminal_table
from app.domain.wording import VERDICTS

Document = Mapping[str, Any]

_ENDS = {
    "partial": "Ended before it was complete: no verdict from this run",
    "failed": "Failed",
    "running": "Still running",
    "due": "Not started yet",
    "skipped": "Skipped: an earlier run was still going",
    "missed": "Missed: nothing was running when it was due",
}
_NOTE = "Ranges are 95 % intervals; – means that the sample cannot support the figure."


def print_report(document: Document, console: Console) -> None:
    """Print the whole report."""
    console.print(Group(*_parts(document)))


def report_markdown(document: Document) -> str:
    """The whole report as Markdown."""
    lines = [f"## {escaped(headline(document))}", ""]
    lines += [*(f"- {escaped(line)}" for line in circumstances(document)), ""]
    for table in _tables(document):
        lines += [markdown_table(table), ""]
    for sentence in verdict_sentences(document):
        lines.append(f"- {escaped(sentence)}")
    lines += ["", *(f"- {escaped(line)}" for line in remarks(document)), "", f"_{_NOTE}_"]
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
    """Quality and cost of every model."""
    models: Sequence[Document] = document["models"]
    columns = ("Model", "Cases", "Quality", "Success", "Per success", "Per quality point")
    return Table(
        title="Quality and cost",
        columns=columns,
        right=frozenset(columns[1:]),
        emphasised=_primaries(models),
        rows=[
            (
                _label(model),
                whole(model["cases"]),
                interval(model["quality"]),
                share(model["success_rate"]),
                dollars(model["cost_per_success_usd"]),
                dollar_range(model["cost_per_quality_usd"]),
            )
            for model in models
        ],
    )


def speed(document: Document) -> Table:
    """Latency, spend and failures of every model."""
    models: Sequence[Document] = document["models"]
    columns = ("Model", "First token p50/p95", "Latency p50/p95/p99", "Per 1,000", "Spend")
    return Table(
        title="Speed, spend and failures",
        columns=(*columns, "Attempts", "Failures"),
        right=frozenset({*columns[1:], "Attempts"}),
        emphasised=_primaries(models),
        rows=[
            (
                _label(model),
                durations(model["ttft_ms"], "p50", "p95"),
                durations(model["latency_ms"], "p50", "p95", "p99"),
                dollars(model["cost_per_1k_usd"]),
                _spend(model),
                _attempts(model),
                counted(model["failures"]) or "none",
            )
            for model in models
        ],
    )


def comparisons(document: Document) -> Table:
    """Verdict, quality and value of every candidate, on the verdict's window."""
    columns = ("Candidate", "Verdict", "Pairs", "Quality", "Value ratio", "Success")
    return Table(
        title=f"Against {_primary_name(document)}",
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
                points(one["success_delta"]),
            )
            for one in document["comparisons"]
        ],
    )


def consequences(document: Document) -> Table:
    """What a switch would change: bill and latency."""
    columns = ("Candidate", "Bill", "Saved a month", "Latency p50", "p95")
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
                ratio(one.get("latency_p50_ratio")),
                ratio(one["latency_p95_ratio"]),
            )
            for one in document["comparisons"]
        ],
    )


def losing_segments(document: Document) -> Table | None:
    """Segments in which a candidate is worse although its average may not be."""
    rows = [
        (
            one["candidate"],
            f"{part['segment']}={part['value']}",
            whole(part["pairs"]),
            difference(part["quality_delta"]),
        )
        for one in document["comparisons"]
        for part in one["segments"]
        if part.get("is_worse")
    ]
    if not rows:
        return None
    return Table(
        title="Worse in these segments",
        columns=("Candidate", "Segment", "Pairs", "Quality"),
        right=frozenset({"Pairs", "Quality"}),
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


def remarks(document: Document) -> Iterator[str]:
    """Shared caveats, patterns, drift, judge and spend, in sentences."""
    yield from _shared_caveats(document)
    for model in document["models"]:
        if model.get("pattern"):
            yield f"{model['name']}: {model['pattern']}"
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
    for alert in document["alerts"]:
        yield f"Message: {alert['title']} ({alert['key']})"


def _parts(document: Document) -> Iterator[RenderableType]:
    yield Text(headline(document), style="bold")
    for line in circumstances(document):
        yield Text(line, style="dim")
    yield Text()
    for table in _tables(document):
        yield terminal_table(table)
    for sentence in verdict_sentences(document):
        yield Text(sentence)
    yield Text()
    for line in remarks(document):
        yield Text(line, style="dim")
    yield Text(_NOTE, style="dim")


def _tables(document: Document) -> Iterator[Table]:
    if document["models"]:
        yield leaderboard(document)
        yield speed(document)
    if document["comparisons"]:
        yield comparisons(document)
        yield consequences(document)
    losing = losing_segments(document)
    if losing is not None:
        yield losing


def _shared_caveats(document: Document) -> list[str]:
    """Caveats that hold for every candidate, to be said once."""
    told = [one.get("caveats") or () for one in document["comparisons"]]
    if len(told) < 2:
        return []
    return [caveat for caveat in told[0] if all(caveat in others for others in told)]


def _judge(judge: Document) -> Iterator[str]:
    if not judge["models"]:
        return
    words = [f"{whole(judge.get('judged'))} replies judged, {whole(judge['unscored'])} unscored"]
    if judge["agreement"] is not None:
        words.append(f"agreement {share(judge['agreement'])}")
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
    cells |= _ends("saving", found.get("saving"))
    cells |= _ends("value_ratio", found.get("value_ratio"))
    cells |= _ends("monthly_saving", found.get("monthly_saving_usd"), unit="_usd")
    cells["reasons"] = " ".join(_sentence(reason) for reason in found.get("reasons") or ())
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
    return f"{value} ({low} to {high})"


def _signed_percent(value: float) -> str:
    text = share(value)
    return text if text.startswith("−") or text == "0 %" else f"+{text}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _when(document: Document) -> str:
    return str(document["slot"]).replace("T", " ")


def _day(instant: str) -> str:
    return instant.partition("T")[0]
