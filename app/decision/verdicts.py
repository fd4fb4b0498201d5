"""Verdicts: the first rule that matches, with its deciding numbers in words."""

from app.decision.looks import Look, Rules
from app.decision.sentences import (
    complement,
    count,
    difference,
    percent,
    ratio,
    saving_range,
    signed,
)
from app.domain.results import CandidateState, Verdict, VerdictKind
from app.stats.evidence import Evidence
from app.stats.intervals import cost_ratio_interval
from app.stats.scan import ScanResult, WindowTest
from app.stats.switch_tests import SUCCESS_Z, value_refusal


def verdict_of(look: Look, rules: Rules) -> Verdict:
    """Return what is said of a candidate: the first matching rule, on the epoch's longest window.

    unmeasured, switch, unreliable, worse, slower, dearer, watch, keep, undecided.
    """
    result = look.result
    if look.unmeasured is not None:
        return Verdict(kind=VerdictKind.UNMEASURED, reasons=_unmeasured(look, rules))
    if result is None or result.longest is None:
        raise ValueError("a measured look has a window")
    if not has_enough_pairs(result.longest, rules):
        return Verdict(kind=VerdictKind.UNMEASURED, reasons=_too_few(result, rules))
    kind = _kind(look.state, result, rules)
    return Verdict(kind=kind, reasons=_reasons(kind, result, rules))


def has_enough_pairs(window: Evidence, rules: Rules) -> bool:
    """Whether a window holds the independent pairs that a verdict needs."""
    return window.independent_pairs >= rules.policy.min_pairs


def quality_words(result: ScanResult, rules: Rules) -> str:
    """Say how the candidate's quality compares on the longest window."""
    if result.difference is None:
        return "quality is not compared"
    return (
        f"quality {difference(result.difference)} on {window_words(result)} "
        f"(allowed: {signed(-rules.policy.quality_margin)})"
    )


def window_words(result: ScanResult) -> str:
    """Say how much the longest window holds."""
    last = result.windows[-1]
    return f"{count(last.n, 'prompt')} of {count(last.weeks, 'week')}"


def _kind(state: CandidateState, result: ScanResult, rules: Rules) -> VerdictKind:
    policy = rules.policy
    worse = result.difference is not None and result.difference.high < -policy.quality_margin
    lowest_ratio = None if result.value_ratio is None else result.value_ratio.low
    matches = (
        (VerdictKind.SWITCH, state is CandidateState.ALERT),
        (VerdictKind.UNRELIABLE, result.success_z is not None and result.success_z < -SUCCESS_Z),
        (VerdictKind.WORSE, worse),
        (VerdictKind.SLOWER, result.is_slower),
        (VerdictKind.DEARER, lowest_ratio is not None and lowest_ratio > 1),
        (VerdictKind.WATCH, state is CandidateState.WATCH),
        (VerdictKind.KEEP, lowest_ratio is not None and lowest_ratio > policy.bar),
    )
    return next((kind for kind, is_match in matches if is_match), VerdictKind.UNDECIDED)


def _reasons(kind: VerdictKind, result: ScanResult, rules: Rules) -> tuple[str, ...]:
    sentences = {
        VerdictKind.SWITCH: _switch,
        VerdictKind.UNRELIABLE: _unreliable,
        VerdictKind.WORSE: _worse,
        VerdictKind.SLOWER: _slower,
        VerdictKind.DEARER: _dearer,
        VerdictKind.WATCH: _watch,
        VerdictKind.KEEP: _keep,
        VerdictKind.UNDECIDED: _undecided,
    }
    return (*sentences[kind](result, rules), *_latency_block(kind, result))


def _unmeasured(look: Look, rules: Rules) -> tuple[str, ...]:
    first = f"Not measured this week: {look.unmeasured}."
    if look.result is None or look.result.longest is None:
        return (first,)
    return (first, f"Before this week: {quality_words(look.result, rules)}.")


def _too_few(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    held = result.windows[-1].independent_pairs
    return (
        (
            f"Too few pairs: {held:.0f} independent ones of the {rules.policy.min_pairs} "
            "that a verdict needs."
        ),
        f"So far: {quality_words(result, rules)}.",
    )


def _switch(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    return (
        f"Costs {_less_per_point(result)}: {quality_words(result, rules)}.",
        _bill(result),
        _bar_words(result),
        *_promise(result, rules),
    )


def _promise(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    """The budget of false alerts, which covers the looks of a year's schedule and no others."""
    if not rules.counts:
        return ()
    return (
        (
            f"The chance of any false alert in a year is at most {percent(_alpha(rules))} "
            f"over {count(result.candidates, 'candidate')}."
        ),
    )


def _unreliable(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    return (
        (
            f"Fails more often than the allowed {percent(rules.policy.success_margin)} above the "
            f"primary: {_discordant(result)} (z = {_z(result.success_z)}, "
            f"below {signed(-SUCCESS_Z)} it is called unreliable)."
        ),
        _capital(quality_words(result, rules)) + ".",
    )


def _worse(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    highest = signed(result.difference.high) if result.difference else "–"
    return (
        f"Loses more quality than allowed: {quality_words(result, rules)}; at best {highest}.",
        _bill(result),
    )


def _slower(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    return (
        f"Passes on quality, value and success, but is too slow: {_latency(result, rules)}.",
        _capital(quality_words(result, rules)) + ".",
    )


def _dearer(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    return (
        f"Costs more per quality point than the primary: {_ratio(result)} times as much.",
        _capital(quality_words(result, rules)) + ".",
    )


def _watch(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    return (
        (
            f"Promising, not yet shown: {quality_words(result, rules)}, "
            f"cost per quality point {_ratio(result)} times the primary's."
        ),
        _bar_words(result),
        *_success_block(result, rules),
    )


def _keep(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    return (
        (
            f"The saving cannot reach {percent(rules.policy.min_saving)}: cost per quality point "
            f"is {_ratio(result)} times the primary's (needed: below {rules.policy.bar:.2f})."
        ),
        _capital(quality_words(result, rules)) + ".",
    )


def _undecided(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    return (
        (
            f"Neither shown nor ruled out: {quality_words(result, rules)}, "
            f"cost per quality point {_ratio(result)} times the primary's "
            f"(needed: below {rules.policy.bar:.2f})."
        ),
        _bar_words(result),
        *_success_block(result, rules),
    )


def _latency_block(kind: VerdictKind, result: ScanResult) -> tuple[str, ...]:
    """Say that a percentile the sample cannot support stands in the way of a switch."""
    is_open = kind in (VerdictKind.WATCH, VerdictKind.UNDECIDED)
    if not is_open or result.latency is None or result.latency.is_supported:
        return ()
    return (
        (
            "A switch also needs p95 latencies, which take 100 successful timed responses of each "
            "model on the longest window."
        ),
    )


def _success_block(result: ScanResult, rules: Rules) -> tuple[str, ...]:
    if result.success_passes:
        return ()
    return (
        (
            f"It is not yet shown that success falls by less than "
            f"{percent(rules.policy.success_margin)}: {_discordant(result)} "
            f"(z = {_z(result.success_z)}, needed {SUCCESS_Z})."
        ),
    )


def _less_per_point(result: ScanResult) -> str:
    if result.value_ratio is None:
        return "nothing"
    low, high = 1 - result.value_ratio.high, 1 - result.value_ratio.low
    if low < 0:
        return f"between {percent(high)} less and {percent(-low)} more per quality point"
    return f"{low * 100:.0f}–{high * 100:.0f} % less per quality point"


def _bill(result: ScanResult) -> str:
    ratio_of_bills = None if result.longest is None else cost_ratio_interval(result.longest.plain)
    if ratio_of_bills is None:
        return "The bills cannot be compared: a model cost nothing, or too few prompts bound them."
    saved = complement(ratio_of_bills)
    said = f"The bill is {saving_range(saved)}"
    is_better_value = result.value_ratio is not None and result.value_ratio.high < 1
    return (
        f"{said}: better value, not a saving." if saved.low <= 0 and is_better_value else f"{said}."
    )


def _bar_words(result: ScanResult) -> str:
    best = result.best
    if best is None:
        return f"No window holds enough pairs yet; z = {result.critical_value:.2f} is needed."
    return (
        f"Best z is {_z(best.z)} over {count(best.weeks, 'week')} "
        f"({_weaker(best)}); {result.critical_value:.2f} is needed."
    )


def _weaker(window: WindowTest) -> str:
    """Name the test that holds a window back."""
    by_quality = min(window.quality_z, window.worst_quality_z)
    by_value = min(window.value_z, window.worst_value_z)
    return f"quality {_z(by_quality)}, value {_z(by_value)}"


def _ratio(result: ScanResult) -> str:
    if result.value_ratio is not None:
        return ratio(result.value_ratio)
    refusal = None if result.longest is None else value_refusal(result.longest.mean)
    return f"– ({refusal or 'a model cost nothing, or too few prompts bound it'})"


def _discordant(result: ScanResult) -> str:
    if result.longest is None:
        return "no pairs"
    n, n10, n01 = result.longest.success_counts
    return (
        f"only the primary succeeded on {n10:.0f} and only the candidate on "
        f"{n01:.0f} of {n:.0f} independent pairs"
    )


def _latency(result: ScanResult, rules: Rules) -> str:
    check = result.latency
    parts = []
    if check is not None and check.p50_ratio is not None:
        parts.append(
            f"p50 {check.p50_ratio:.2f} times the primary's "
            f"(allowed: {rules.policy.max_latency_p50_ratio:.2f})"
        )
    if check is not None and check.p95_ratio is not None:
        parts.append(
            f"p95 {check.p95_ratio:.2f} times (allowed: {rules.policy.max_latency_p95_ratio:.2f})"
        )
    return ", ".join(parts)


def _alpha(rules: Rules) -> float:
    return rules.policy.false_alerts_per_year


def _z(value: float | None) -> str:
    return "–" if value is None else signed(value).removeprefix("+")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
