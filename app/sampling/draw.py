"""Draw the Sample of a Run: rows first, then Cases.

1. Share out the rows wanted over the strata (`quotas`).
2. Walk each stratum's seeded order until its share of replayable rows is met, it is exhausted, or
   so many rows were of no use that looking further would cost more than it brings.
3. Fold exact duplicates into one Case, weigh the Cases back to the traffic, put them in blocks.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from app.domain.cases import Case, Sample, SkipReason, Window
from app.domain.errors import NothingToReplay
from app.domain.plans import Privacy, SampleSettings
from app.ports import Ahead, Frame, LogRow, LogSource
from app.sampling.anchors import repeated
from app.sampling.blocks import Member, assign_blocks
from app.sampling.identity import case_id_of
from app.sampling.logged_replies import LoggedReply
from app.sampling.logged_values import clean, number_of
from app.sampling.prompt_text import estimated_tokens
from app.sampling.prompts import Replayable, replayable_of
from app.sampling.quotas import allocate, can_stratify, replayable_share, traffic_shares
from app.sampling.redaction import Redactor
from app.sampling.seeds import seeded_key

#: Rows looked at, per row wanted and at least, before a stratum is given up.
MOST_LOOKED_AT_PER_ROW = 50
LEAST_BEFORE_GIVING_UP = 1_000
_FETCH_MARGIN = 1.1
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawRequest:
    """What is to be drawn.

    Attributes:
        anchors: Cases of earlier Runs to repeat, as `choose_anchors` returns them.
        quarantined: Fingerprints of prompts that always fail and are left out.
    """

    run_id: str
    window: Window
    seed: int
    settings: SampleSettings
    privacy: Privacy = field(default_factory=Privacy)
    anchors: Sequence[Case] = ()
    quarantined: frozenset[str] = frozenset()


async def draw_sample(source: LogSource, request: DrawRequest) -> Sample:
    """Draw the Cases of a Run: the same ones whenever it is asked with the same seed.

    Raises:
        NothingToReplay: If the window is empty or none of its rows can be replayed.
        LogSourceError: If the source cannot be read.
    """
    settings = request.settings
    by = settings.by if settings.strategy == "stratified" else ()
    ahead = Ahead(seed=request.seed, rows=settings.n)
    frame = await source.frame(request.window, by=by, ahead=ahead)
    if by and not can_stratify(settings.n, frame.rows):
        by, frame = (), Frame(rows={"": frame.total})  # a stratum of one row has no variance
    if not frame.total:
        raise NothingToReplay(f"the log holds no rows {_span(request.window)}")
    walk = _Walk(source, request, by=by, frame=frame)
    await walk.to_the_end()
    drawn = walk.drawn
    if not drawn:
        raise NothingToReplay(_nothing(request.window, walk.skipped))
    cases = _cases(drawn, walk.stratum_weights(), request)
    anchors = () if request.privacy.store_bodies == "none" else tuple(request.anchors)
    return Sample(
        window=request.window,
        seed=request.seed,
        frame=frame.total,
        requested=settings.n,
        drawn=len(drawn),
        cases=cases,
        anchors=repeated(anchors, run_id=request.run_id, first_ordinal=len(cases)),
        skipped=dict(sorted(walk.skipped.items())),
        mean_logged_output_tokens=_mean_output_tokens(drawn),
        replayable=walk.replayable(),
    )


def admit(row: LogRow, request: DrawRequest, redactor: Redactor) -> Replayable | SkipReason:
    """The row as it will be replayed (redacted if asked), or why it will not be."""
    for name, values in request.privacy.exclude_segments.items():
        if row.segments.get(name) in values:
            return SkipReason.EXCLUDED
    found = replayable_of(row)
    if isinstance(found, SkipReason):
        return found
    logged_tokens = number_of(row.fields.get("input_tokens")) or 0
    if max(estimated_tokens(found.prompt), logged_tokens) > request.settings.max_input_tokens:
        return SkipReason.TOO_LONG
    if found.prompt.fingerprint in request.quarantined:
        return SkipReason.QUARANTINED
    return _redacted(found, redactor) if request.privacy.redact_before_replay else found


@dataclass(slots=True)
class _Stratum:
    """How far the walk through one stratum has come."""

    rows: int
    target: int
    fetched: int = 0
    looked_at: int = 0
    is_exhausted: bool = False
    waiting: list[LogRow] = field(default_factory=list)
    drawn: list[Replayable] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.target - len(self.drawn)

    @property
    def is_open(self) -> bool:
        """Whether looking further may bring more rows."""
        if self.is_exhausted and not self.waiting:
            return False
        return self.looked_at < max(MOST_LOOKED_AT_PER_ROW * self.target, LEAST_BEFORE_GIVING_UP)

    @property
    def ask(self) -> int:
        """How many rows to fetch so that the missing ones are probably among them."""
        if self.missing <= 0 or self.is_exhausted or not self.is_open:
            return 0
        share = (len(self.drawn) + 1) / (self.looked_at + 1)
        wanted = ceil(_FETCH_MARGIN * self.missing / max(share, _LEAST_SHARE)) + 2
        return max(min(wanted, self.rows - self.fetched), 1)

    @property
    def share(self) -> float:
        """Which share of its rows can be replayed."""
        stopped_early = self.missing <= 0 and not (self.is_exhausted and not self.waiting)
        return replayable_share(
            looked_at=self.looked_at, replayable=len(self.drawn), is_exhausted=not stopped_early
        )

    @property
    def dated_share(self) -> float:
        """Which share of its replayable rows tells when it was logged."""
        dated = sum(found.row.created_at is not None for found in self.drawn)
        return dated / len(self.drawn) if self.drawn else 0.0


class _Walk:
    """Walks the strata's seeded orders until enough replayable rows are found."""

    def __init__(
        self, source: LogSource, request: DrawRequest, *, by: Sequence[str], frame: Frame
    ) -> None:
        self._source = source
        self._request = request
        self._by = by
        self._redactor = Redactor(request.privacy.redact)
        self.skipped: Counter[str] = Counter()
        targets = allocate(request.settings.n, frame.rows)
        self._strata = {
            name: _Stratum(rows=frame.rows[name], target=target) for name, target in targets.items()
        }

    @property
    def drawn(self) -> list[tuple[str, Replayable]]:
        """Every replayable row drawn, with its stratum."""
        return [(name, row) for name, stratum in self._strata.items() for row in stratum.drawn]

    async def to_the_end(self) -> None:
        """Walk until the targets are met or nothing more can be had."""
        while self._pass_on_what_is_missing():
            await self._fetch()
            for stratum in self._strata.values():
                self._look(stratum)

    def stratum_weights(self) -> dict[str, float]:
        """The weight of one drawn row in each stratum."""
        shares = traffic_shares(
            {name: s.rows * s.share for name, s in self._strata.items() if s.drawn}
        )
        return {name: share / len(self._strata[name].drawn) for name, share in shares.items()}

    def replayable(self) -> float:
        """About how many rows logged in the window can be replayed, over all strata."""
        return sum(s.rows * s.share * s.dated_share for s in self._strata.values())

    def _pass_on_what_is_missing(self) -> bool:
        """Let open strata fill in for closed ones; False when the walk is over."""
        for stratum in self._strata.values():
            if not stratum.is_open:
                stratum.target = len(stratum.drawn)
        open_rows = {
            name: stratum.rows - stratum.looked_at - stratum.missing
            for name, stratum in self._strata.items()
            if stratum.is_open
        }
        short = self._request.settings.n - sum(s.target for s in self._strata.values())
        for name, more in allocate(max(short, 0), open_rows, least=0).items():
            self._strata[name].target += more
        return any(s.missing > 0 and s.is_open for s in self._strata.values())

    async def _fetch(self) -> None:
        asks = {
            name: ask
            for name, s in self._strata.items()
            if len(s.waiting) < s.missing and (ask := s.ask)
        }
        if not asks:
            return
        rows = await self._source.draw(
            self._request.window,
            seed=self._request.seed,
            by=self._by,
            quota=asks,
            offset={name: self._strata[name].fetched for name in asks},
        )
        got: Counter[str] = Counter()
        for row in rows:
            got[row.stratum] += 1
            self._strata[row.stratum].waiting.append(row)
        for name, ask in asks.items():
            stratum = self._strata[name]
            stratum.fetched += got[name]
            stratum.is_exhausted = got[name] < ask or stratum.fetched >= stratum.rows

    def _look(self, stratum: _Stratum) -> None:
        taken = 0
        for row in stratum.waiting:
            if stratum.missing <= 0:
                break
            taken += 1
            found = admit(row, self._request, self._redactor)
            if isinstance(found, SkipReason):
                self.skipped[found.value] += 1
            else:
                stratum.drawn.append(found)
        stratum.looked_at += taken
        del stratum.waiting[:taken]


def _cases(
    drawn: Sequence[tuple[str, Replayable]], weights: Mapping[str, float], request: DrawRequest
) -> tuple[Case, ...]:
    """Fold duplicates, put the Cases in blocks and in random order, give them their ids."""
    folded: dict[tuple[object, ...], list[tuple[str, Replayable]]] = defaultdict(list)
    for stratum, row in drawn:
        folded[_identity(stratum, row)].append((stratum, row))
    groups = {rows[0][1].row.source_id + "\x1f" + rows[0][0]: rows for rows in folded.values()}
    if request.settings.adaptive:
        members = [
            Member(key=key, stratum=rows[0][0], conversation=rows[0][1].conversation)
            for key, rows in groups.items()
        ]
        blocks = assign_blocks(members, seed=request.seed)
    else:
        blocks = dict.fromkeys(groups, 0)
    order = sorted(groups, key=lambda key: (blocks[key], seeded_key(request.seed, "order", key)))
    return tuple(
        _case(
            groups[key],
            case_id=case_id_of(request.run_id, ordinal),
            ordinal=ordinal,
            block=blocks[key],
            weight=weights[groups[key][0][0]] * len(groups[key]),
        )
        for ordinal, key in enumerate(order)
    )


def _case(
    rows: Sequence[tuple[str, Replayable]],
    *,
    case_id: str,
    ordinal: int,
    block: int,
    weight: float,
) -> Case:
    stratum, first = rows[0]
    return Case(
        case_id=case_id,
        source_id=clean(first.row.source_id),
        ordinal=ordinal,
        prompt=first.prompt,
        copies=len(rows),
        weight=weight,
        stratum=clean(stratum),
        conversation=first.conversation,
        block=block,
        segments={name: clean(value) for name, value in first.row.segments.items()},
        reference=first.reference,
        logged_response=first.reply.text,
        logged_at=first.row.created_at,
        tool_calls=first.reply.tool_calls,
    )


def _identity(stratum: str, row: Replayable) -> tuple[object, ...]:
    """Rows with equal identity are asked once: same prompt, same place, same expected answer."""
    segments = tuple(sorted(row.row.segments.items()))
    return stratum, row.prompt.fingerprint, segments, row.reference


def _redacted(found: Replayable, redactor: Redactor) -> Replayable:
    return Replayable(
        row=found.row,
        prompt=redactor.prompt(found.prompt),
        reply=LoggedReply(
            text=redactor.optional(found.reply.text),
            tool_calls=redactor.objects(found.reply.tool_calls),
        ),
        reference=redactor.optional(found.reference),
        conversation=found.conversation,
        output_tokens=found.output_tokens,
    )


def _mean_output_tokens(drawn: Sequence[tuple[str, Replayable]]) -> float | None:
    counts = [row.output_tokens for _, row in drawn if row.output_tokens is not None]
    return sum(counts) / len(counts) if counts else None


def _span(window: Window) -> str:
    return f"from {window.start.isoformat()} to {window.end.isoformat()}"


def _nothing(window: Window, skipped: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    advice = ""
    if set(skipped) == {SkipReason.EMPTY.value}:
        advice = ": the log keeps no prompts; check logs.columns and the gateway's logging settings"
    return f"no row of the log {_span(window)} can be replayed ({reasons}){advice}"
