"""Label sheets: blind pairs of replies for people to score, and the scores read back.

A sheet tells neither which model wrote a reply nor what the judge thought of it. `pair` is a digest
from which the import finds out which candidate is meant and on which side it stands.
"""

import csv
import html
import io
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.errors import ConfigError, Problem
from app.domain.json_values import canonical, fingerprint
from app.domain.labels import JudgedCase, Label

LOWEST, HIGHEST = 1, 5
COLUMNS = (
    "pair",
    "run",
    "case",
    "link",
    "segments",
    "conversation",
    "reply_a",
    "reply_b",
    "score_a",
    "score_b",
    "labelled_by",
)
_PROBLEMS_TOLD = 5
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_SCALE = (
    "5 = could hardly be better; 4 = good, small flaws; 3 = usable, with gaps; 2 = poor; "
    "1 = useless"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindPair:
    """Two replies to one Case, of the primary and of a candidate, in an order that hides which."""

    judged: JudgedCase
    primary: str
    candidate: str

    @property
    def key(self) -> str:
        """A digest that names the pair without naming a model."""
        return pair_key(self.judged.run_id, self.judged.case.case_id, self.candidate)

    @property
    def sides(self) -> tuple[str, str]:
        """The models behind `reply_a` and `reply_b`."""
        return sides_of(self.key, self.primary, self.candidate)

    @property
    def replies(self) -> tuple[Completion, Completion]:
        """The replies shown as `reply_a` and `reply_b`."""
        first, second = self.sides
        return (
            self.judged.replies[first].completion,
            self.judged.replies[second].completion,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetScore:
    """One filled line of a sheet.

    Attributes:
        number: Which pair of the sheet it is, from 1, for messages.
        scores: 0..1 of `reply_a` and `reply_b`; None where the person gave none.
    """

    number: int
    pair: str
    run_id: str
    case_id: str
    scores: tuple[float | None, float | None]
    labelled_by: str


def pair_key(run_id: str, case_id: str, candidate: str) -> str:
    """The digest under which a pair stands in a sheet."""
    return fingerprint(["pair", run_id, case_id, candidate])[:16]


def sides_of(key: str, primary: str, candidate: str) -> tuple[str, str]:
    """Who stands on which side: half of all pairs show the candidate first."""
    is_swapped = int(fingerprint(["side", key])[:8], 16) % 2 == 1
    return (candidate, primary) if is_swapped else (primary, candidate)


def blind_pairs(
    judged: Sequence[JudgedCase],
    *,
    primary: str,
    candidate: str,
    wanted: int,
    seed: int,
    done: Iterable[tuple[str, str]] = (),
) -> list[BlindPair]:
    """Draw pairs to label: every stratum by its share of the traffic, within it by weight.

    So drawn, the mean over the labelled pairs estimates the mean over the traffic.

    Args:
        judged: Cases with their judged replies, of one or several Runs.
        primary: Name of the primary.
        candidate: Name of the candidate.
        wanted: How many pairs.
        seed: Fixes the draw.
        done: (run_id, case_id) of pairs that are labelled already.
    """
    known = set(done)
    strata: dict[str, list[BlindPair]] = {}
    for one in judged:
        if primary in one.replies and candidate in one.replies and one.case.weight > 0:
            pair = BlindPair(judged=one, primary=primary, candidate=candidate)
            strata.setdefault(_stratum(one.case), []).append(pair)
    rng = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
    quotas = _quotas({name: _weight(own) for name, own in strata.items()}, wanted)
    drawn = [
        pair
        for name in sorted(strata)
        for pair in _weighted_order(strata[name], rng)[: quotas[name]]
    ]
    rng.shuffle(drawn)
    return [pair for pair in drawn if (pair.judged.run_id, pair.judged.case.case_id) not in known]


def csv_sheet(pairs: Sequence[BlindPair], *, public_url: str = "") -> str:
    """The pairs as CSV, scores to be filled in."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_cells(pair, public_url) for pair in pairs)
    return text.getvalue()


def html_sheet(pairs: Sequence[BlindPair], *, plan_name: str, public_url: str = "") -> str:
    """The pairs as one page that needs no server: score them and save the CSV to import."""
    items = "\n".join(_item(number, pair, public_url) for number, pair in enumerate(pairs, 1))
    return _PAGE.format(
        title=html.escape(f"{plan_name}: {len(pairs)} pairs to label"),
        scale=html.escape(_SCALE),
        items=items,
        columns=html.escape(",".join(COLUMNS)),
    )


def read_sheet(text: str, *, labelled_by: str | None = None) -> list[SheetScore]:
    """The filled lines of a CSV sheet; lines without any score are passed over.

    Args:
        text: The CSV.
        labelled_by: Who scored, where the sheet does not say.

    Raises:
        ConfigError: Naming the pairs that cannot be read.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    missing = {"pair", "run", "case", "score_a", "score_b"} - set(reader.fieldnames or ())
    if missing:
        raise ConfigError(f"the sheet lacks the column {', '.join(sorted(missing))}")
    found, problems = [], []
    for number, row in enumerate(reader, start=1):
        try:
            scored = _scored(row, number, labelled_by)
        except ValueError as error:
            problems.append(Problem(message=f"pair {number} of the sheet: {error}"))
        else:
            found += [] if scored is None else [scored]
    if problems:
        raise ConfigError(_few(problems))
    return found


def labels_of(
    score: SheetScore,
    versions: Mapping[str, str],
    *,
    primary: str,
    candidates: Sequence[str],
    at: datetime,
) -> list[Label]:
    """The labels that one filled line holds.

    Args:
        score: The line.
        versions: Version of the judge that scored each model's reply to this Case.
        primary: Name of the Run's primary.
        candidates: Names of its candidates.
        at: When it was imported.

    Raises:
        ConfigError: If the line names no pair of the Run.
    """
    name = next(
        (c for c in candidates if pair_key(score.run_id, score.case_id, c) == score.pair), None
    )
    if name is None or primary not in versions or name not in versions:
        raise ConfigError(f"pair {score.number} of the sheet: the run holds no such judged pair")
    return [
        Label(
            run_id=score.run_id,
            case_id=score.case_id,
            model_name=model,
            score=value,
            labelled_by=score.labelled_by,
            labelled_at=at,
            judge_version=versions[model],
        )
        for model, value in zip(sides_of(score.pair, primary, name), score.scores, strict=True)
        if value is not None
    ]


def _few(problems: Sequence[Problem]) -> list[Problem]:
    """The first of many problems, and how many more there are."""
    rest = len(problems) - _PROBLEMS_TOLD
    more = [Problem(message=f"and {rest} more like these")] if rest > 0 else []
    return [*problems[:_PROBLEMS_TOLD], *more]


def _scored(row: Mapping[str, str | None], number: int, by: str | None) -> SheetScore | None:
    scores = (_score(row, "score_a"), _score(row, "score_b"))
    if scores == (None, None):
        return None
    who = (row.get("labelled_by") or "").strip() or by
    if not who:
        raise ValueError("nobody is named in `labelled_by`; --by NAME names you")
    return SheetScore(
        number=number,
        pair=(row["pair"] or "").strip(),
        run_id=(row["run"] or "").strip(),
        case_id=(row["case"] or "").strip(),
        scores=scores,
        labelled_by=who,
    )


def _score(row: Mapping[str, str | None], column: str) -> float | None:
    """A score of 1 to 5 on 0..1."""
    text = (row.get(column) or "").strip().replace(",", ".")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LOWEST <= value <= HIGHEST:
        raise ValueError(f"{column} takes a number from {LOWEST} to {HIGHEST}, or nothing")
    return (value - LOWEST) / (HIGHEST - LOWEST)


def _stratum(case: Case) -> str:
    return case.stratum or canonical(dict(case.segments))


def _weight(pairs: Sequence[BlindPair]) -> float:
    return math.fsum(pair.judged.case.weight for pair in pairs)


def _quotas(weights: Mapping[str, float], wanted: int) -> dict[str, int]:
    """Shares of `wanted` by largest remainder."""
    total = math.fsum(weights.values())
    exact = {name: wanted * weight / total for name, weight in weights.items()}
    quotas = {name: int(share) for name, share in exact.items()}
    rest = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in rest[: wanted - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _weighted_order(pairs: Sequence[BlindPair], rng: random.Random) -> list[BlindPair]:
    """A random order in which heavier Cases tend to come first (Efraimidis and Spirakis 2006)."""
    keyed = [(rng.random() ** (1.0 / pair.judged.case.weight), pair.key, pair) for pair in pairs]
    return [pair for _, _, pair in sorted(keyed, key=lambda one: one[:2], reverse=True)]


def _cells(pair: BlindPair, public_url: str) -> dict[str, str]:
    first, second = pair.replies
    case = pair.judged.case
    shown = {
        "segments": _segments(case),
        "conversation": _conversation(case),
        "reply_a": _reply(first),
        "reply_b": _reply(second),
    }
    return {
        "pair": pair.key,
        "run": pair.judged.run_id,
        "case": case.case_id,
        "link": _link(pair, public_url),
        **{name: _no_formula(text) for name, text in shown.items()},
        "score_a": "",
        "score_b": "",
        "labelled_by": "",
    }


def _segments(case: Case) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(case.segments.items()))


def _conversation(case: Case) -> str:
    return "\n\n".join(f"{who}: {text}" for who, text in _turns(case))


def _turns(case: Case) -> Iterator[tuple[str, str]]:
    if case.prompt.system:
        yield "SYSTEM", case.prompt.system
    for message in case.prompt.messages:
        yield message.role.upper(), message.text


def _reply(completion: Completion) -> str:
    calls = [f"[tool call] {canonical(dict(call))}" for call in completion.tool_calls]
    return "\n\n".join([*([completion.text] if completion.text else []), *calls])


def _link(pair: BlindPair, public_url: str) -> str:
    return f"{public_url.rstrip('/')}/cases/{pair.judged.case.case_id}"


def _no_formula(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _item(number: int, pair: BlindPair, public_url: str) -> str:
    first, second = (html.escape(_reply(reply)) for reply in pair.replies)
    case = pair.judged.case
    turns = "".join(
        f"<dt>{html.escape(who.lower())}</dt><dd>{html.escape(text)}</dd>"
        for who, text in _turns(case)
    )
    link = html.escape(_link(pair, public_url), quote=True)
    return (
        f'<section data-pair="{pair.key}" data-run="{html.escape(pair.judged.run_id, quote=True)}"'
        f' data-case="{html.escape(case.case_id, quote=True)}">'
        f"<h2>{number} <small>{html.escape(_segments(case))}</small></h2><dl>{turns}</dl>"
        f'<div class="two"><div><h3>Reply A</h3><pre>{first}</pre>{_radios(number, "a")}</div>'
        f"<div><h3>Reply B</h3><pre>{second}</pre>{_radios(number, 'b')}</div></div>"
        f'<p><a href="{link}">Case</a> (it names the models: look only after scoring)</p></section>'
    )


def _radios(number: int, side: str) -> str:
    choices = "".join(
        f'<label><input type="radio" name="{side}{number}" value="{score}"> {score}</label>'
        for score in range(LOWEST, HIGHEST + 1)
    )
    return (
        f'<fieldset data-side="{side}"><legend>Score of {side.upper()}</legend>{choices}</fieldset>'
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 75rem; margin: auto; padding: 1rem }}
section {{ border-top: 1px solid; padding: 1rem 0 }}
dt {{ font-weight: 600 }} dd, pre {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }}
.two {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1.5rem }}
fieldset label {{ margin-right: 1rem }}
@media (max-width: 50rem) {{ .two {{ grid-template-columns: 1fr }} }}
@media print {{ button {{ display: none }} section {{ break-inside: avoid }} }}
</style></head><body>
<h1>{title}</h1>
<p>Score each reply by itself, for this conversation. {scale}. Leave out what you cannot judge.</p>
<p><label>Your name <input id="by" autocomplete="name"></label>
<button id="save" type="button">Save CSV</button>
Then: <code>switchwise labels import labels.csv</code></p>
{items}
<script>
const columns = "{columns}".split(",");
const cell = (text) => '"' + text.replaceAll('"', '""') + '"';
const score = (item, side) =>
  item.querySelector(`fieldset[data-side=${{side}}] input:checked`)?.value ?? "";
document.getElementById("save").addEventListener("click", () => {{
  const by = document.getElementById("by").value;
  const lines = [...document.querySelectorAll("section")].map((item) => {{
    const known = {{ pair: item.dataset.pair, run: item.dataset.run, case: item.dataset.case,
      score_a: score(item, "a"), score_b: score(item, "b"), labelled_by: by }};
    return columns.map((name) => cell(known[name] ?? "")).join(",");
  }});
  const file = new Blob([columns.join(",") + "\\n" + lines.join("\\n") + "\\n"]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = "labels.csv";
  link.click();
}});
</script></body></html>
"""
