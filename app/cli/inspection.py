"""What `check` looks at, one thing after the other; nothing it finds stops the rest."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from rich.console import Console
from rich.text import Text

from app.alerting.phrases import bill_warnings
from app.alerting.words import count, money
from app.cli.figures import counted
from app.cli.session import Session
from app.daemon.slots import latest_due_slot, next_slots
from app.domain.attempts import Completion, Failure
from app.domain.cases import Sample, Window
from app.domain.errors import ConfigError, NothingToReplay, SwitchwiseError, UnknownPrice
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.plans import Plan
from app.domain.prices import CostCheck, Price
from app.evaluation.catalogue import build_evaluators, judge_evaluators
from app.pipeline import known_prices
from app.ports import Clock, LogSource
from app.sampling.draw import DrawRequest, draw_sample
from app.settings import Settings
from app.storage.migrations import SchemaState, status
from app.wiring import (
    clock_for,
    log_source,
    logs_dsn,
    notifier_for,
    price_book,
    price_list_for,
    probe_models,
    results_database,
)

_TRIED_ROWS = 20


class Level(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        exit_code: What an error makes of the command.
    """

    plan: str
    subject: str
    level: Level
    message: str
    exit_code: int = 0

    def to_json(self) -> dict[str, str]:
        """The finding as plain JSON."""
        return {
            "plan": self.plan,
            "check": self.subject,
            "result": self.level.value,
            "message": self.message,
        }


def inspect(session: Session, *, online: bool) -> list[Finding]:
    """Look at everything a Run of each plan needs."""
    settings = session.settings
    try:
        with results_database(settings) as dsn:
            findings = [_schema(settings, dsn)]
            for plan in session.plans:
                findings += asyncio.run(_inspect(plan, settings, dsn, online=online))
            return findings
    except SwitchwiseError as error:
        return [_error("", "results database", error)]


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print one line per finding."""
    marks = {
        Level.OK: ("ok     ", "green"),
        Level.WARNING: ("warning", "yellow"),
        Level.ERROR: ("error  ", "red"),
    }
    for finding in findings:
        mark, style = marks[finding.level]
        line = Text(mark, style=style)
        place = f"{finding.plan}: " if finding.plan else ""
        console.print(
            line.append(f"  {place}{finding.subject}: {finding.message}", style="default")
        )


def worst_exit_code(findings: Iterable[Finding]) -> int:
    """The exit code of the first error, 0 without one."""
    return next((f.exit_code for f in findings if f.level is Level.ERROR), 0)


async def _inspect(plan: Plan, settings: Settings, dsn: str, *, online: bool) -> list[Finding]:
    clock = clock_for(settings)
    findings = [_plan(plan), *_cautions(plan), _prices(plan, clock), _evaluators(plan)]
    findings += [finding async for finding in _logs(plan, settings, dsn, clock)]
    findings += await _notifier(plan, clock)
    findings.append(_slots(plan, clock))
    if online:
        findings += await _calls(plan, clock)
    return findings


def _schema(settings: Settings, dsn: str) -> Finding:
    found = status(dsn)
    place = "private database" if settings.database_url is None else "results database"
    match found.state:
        case SchemaState.CURRENT:
            return _ok("", place, f"schema {found.revision}")
        case SchemaState.ABSENT:
            return _ok("", place, "empty; the first run makes the schema")
        case SchemaState.BEHIND if settings.database_url is None:
            return _ok("", place, f"schema {found.revision}; the next run brings it up to date")
        case _:
            message = (
                f"schema {found.revision}, this program needs {found.head}: switchwise db upgrade"
            )
            return Finding(plan="", subject=place, level=Level.ERROR, message=message, exit_code=3)


def _plan(plan: Plan) -> Finding:
    names = ", ".join(candidate.name for candidate in plan.candidates)
    return _ok(plan.name, "plan", f"{plan.primary.name} against {names}")


def _cautions(plan: Plan) -> Iterable[Finding]:
    """What is allowed and yet worth a second look."""
    if plan.budget.per_run_usd is None and plan.budget.per_month_usd is None:
        yield _warning(plan.name, "budget", "no cap is set: a run may spend what it takes")
    if plan.privacy.store_bodies == "none":
        yield _warning(plan.name, "privacy", "store_bodies: none turns anchors and drift off")
    judging = any(evaluator.type == "judge" for evaluator in plan.evaluators)
    if plan.judge is not None and not judging:
        yield _warning(plan.name, "judge", "configured, but no evaluator of type judge uses it")
    if plan.embedder is not None and not any(one.measures_embeddings for one in plan.evaluators):
        yield _warning(plan.name, "embeddings", "configured, but no evaluator measures by them")
    if judging and plan.judge is not None:
        if plan.judge.canaries == 0:
            yield _warning(plan.name, "judge", "canaries are off: a misled judge goes unnoticed")
        yield from _self_judging(plan)
    yield from _unequal_limits(plan)
    if plan.schedule is None:
        yield _warning(plan.name, "schedule", "none: `serve` will run nothing for this plan")


def _unequal_limits(plan: Plan) -> Iterable[Finding]:
    """Models of one endpoint that tell different limits of it."""
    first: dict[str, ModelSpec] = {}
    for model in plan.models:
        other = first.setdefault(model.endpoint.key, model)
        one, two = other.endpoint, model.endpoint
        if one.concurrency != two.concurrency:
            yield _warning(
                plan.name,
                "concurrency",
                f"{other.name} ({one.concurrency}) and {model.name} ({two.concurrency}) share an "
                f"endpoint: the lower counts for both",
            )
        if one.rate_per_min != two.rate_per_min:
            yield _warning(
                plan.name,
                "rate_per_min",
                f"{other.name} ({_rate(one)}) and {model.name} ({_rate(two)}) share an endpoint: "
                "give both the same",
            )


def _rate(endpoint: Endpoint) -> str:
    return "none" if endpoint.rate_per_min is None else f"{endpoint.rate_per_min:g}"


def _self_judging(plan: Plan) -> Iterable[Finding]:
    for judge in plan.judges:
        for model in plan.contestants:
            if judge.model == model.model:
                yield _warning(
                    plan.name,
                    "judge",
                    f"{judge.name} is the model of {model.name}: it grades itself",
                )


def _prices(plan: Plan, clock: Clock) -> Finding:
    try:
        book = price_book(plan)
        prices = known_prices(plan.models, lambda model: book.price(model, clock.now()))
    except UnknownPrice as error:
        return _error(plan.name, "prices", UnknownPrice(f"{error}{_nearest_prices(plan, clock)}"))
    except SwitchwiseError as error:
        return _error(plan.name, "prices", error)
    return _ok(plan.name, "prices", f"known for {count(len(prices), 'model')}")


def _nearest_prices(plan: Plan, clock: Clock) -> str:
    """Listed names that look like those without a price."""
    book = price_list_for(plan)
    unknown = {
        model.price_as or model.model
        for model in plan.models
        if book.price(model, clock.now()) is None
    }
    hints = (f"for {name}: {', '.join(book.nearest_known(name))}" for name in sorted(unknown))
    listed = "; ".join(hint for hint in hints if not hint.endswith(": "))
    return f". Listed names that look alike {listed}" if listed else ""


def _evaluators(plan: Plan) -> Finding:
    try:
        labels = [one.label for one in build_evaluators(plan)]
        labels += [one.label for one in judge_evaluators(plan)]
    except SwitchwiseError as error:
        return _error(plan.name, "evaluators", error)
    return _ok(plan.name, "evaluators", ", ".join(labels))


async def _logs(plan: Plan, settings: Settings, dsn: str, clock: Clock) -> AsyncIterator[Finding]:
    """The log source, and whether some of its rows could be replayed."""
    try:
        source = log_source(plan, logs_dsn(plan, settings, dsn))
    except SwitchwiseError as error:
        yield _error(plan.name, "logs", error)
        return
    try:
        for warning in await source.check():
            yield _warning(plan.name, "logs", warning)
        sample = await _tried(plan, source, clock)
        yield _ok(plan.name, "logs", _frame_words(plan, sample))
        if sample.skipped:
            yield _warning(
                plan.name,
                "logs",
                f"of {sum(sample.skipped.values()) + sample.drawn} rows tried some cannot be "
                f"replayed: {counted(sample.skipped)}",
            )
    except (SwitchwiseError, NothingToReplay) as error:
        yield _error(plan.name, "logs", error)
    finally:
        await source.close()


async def _tried(plan: Plan, source: LogSource, clock: Clock) -> Sample:
    """A small draw from the window of the newest slot, or of now."""
    now = clock.now()
    settings = replace(plan.sample, n=min(plan.sample.n, _TRIED_ROWS), anchors=0)
    window = Window(start=now - plan.sample.window, end=now)
    request = DrawRequest(
        run_id="check", window=window, seed=1, settings=settings, privacy=plan.privacy
    )
    return await draw_sample(source, request)


def _frame_words(plan: Plan, sample: Sample) -> str:
    where = plan.logs.table or plan.logs.path or "query"
    words = f"{where} holds {count(sample.frame, 'row')} of the last {sample.window.days:g} days"
    if sample.frame < plan.sample.n:
        words += f", fewer than the {plan.sample.n} to be sampled"
    return words


async def _notifier(plan: Plan, clock: Clock) -> list[Finding]:
    notifier = notifier_for(plan, clock, sys.stderr)
    try:
        warnings = await notifier.check()
    except SwitchwiseError as error:
        return [_error(plan.name, "messages", error)]
    finally:
        await notifier.close()
    if warnings:
        return [_warning(plan.name, "messages", warning) for warning in warnings]
    return [_ok(plan.name, "messages", f"go to {notifier.name}")]


def _slots(plan: Plan, clock: Clock) -> Finding:
    if plan.schedule is None:
        return _ok(plan.name, "next runs", "only by hand")
    now = clock.now()
    zone = plan.schedule.timezone
    slots = next_slots(plan.schedule, now, 3)
    if not slots and latest_due_slot(plan.schedule, now) is None:
        return _error(plan.name, "next runs", ConfigError("the schedule never comes"))
    times = ", ".join(f"{slot.at.astimezone(zone):%a %d %b %Y %H:%M}" for slot in slots)
    return _ok(plan.name, "next runs", f"{times} ({zone.key})")


async def _calls(plan: Plan, clock: Clock) -> list[Finding]:
    """One short call per model: does it answer, is it streamed, and does its bill agree?"""
    book = price_book(plan)
    findings: list[Finding] = []
    for model, result in await probe_models(plan, clock):
        subject = f"call {model.name}"
        if isinstance(result, Failure):
            message = f"{result.failure_class.value}: {result.message}"
            findings.append(
                Finding(
                    plan=plan.name,
                    subject=subject,
                    level=Level.ERROR,
                    message=message,
                    exit_code=3,
                )
            )
            continue
        price = book.price(model, clock.now())
        findings.append(_ok(plan.name, subject, _answer_words(result, price)))
        findings += _call_warnings(plan, model, result, price)
    return findings


def _answer_words(result: Completion, price: Price | None) -> str:
    usage = result.usage
    words = f"answered in {result.latency_s:.1f} s"
    if price is not None:
        words += f" for {money(price.cost(usage))}"
    return f"{words} ({usage.prompt_tokens} tokens in, {usage.output_tokens} out)"


def _call_warnings(
    plan: Plan, model: ModelSpec, result: Completion, price: Price | None
) -> Iterable[Finding]:
    subject = f"call {model.name}"
    if result.ttft_s is None and model.role not in {Role.JUDGE, Role.EMBEDDER}:
        message = "the gateway does not stream: time to first token cannot be measured"
        yield _warning(plan.name, subject, message)
    if price is not None and result.reported_cost_usd is not None:
        check = CostCheck(
            model_name=model.name,
            calls=1,
            computed_usd=price.cost(result.usage),
            reported_usd=result.reported_cost_usd,
        )
        for words in bill_warnings([check]):
            yield _warning(plan.name, subject, words)


def _ok(plan: str, subject: str, message: str) -> Finding:
    return Finding(plan=plan, subject=subject, level=Level.OK, message=message)


def _warning(plan: str, subject: str, message: str) -> Finding:
    return Finding(plan=plan, subject=subject, level=Level.WARNING, message=message)


def _error(plan: str, subject: str, error: SwitchwiseError) -> Finding:
    return Finding(
        plan=plan,
        subject=subject,
        level=Level.ERROR,
        message=str(error).replace("\n", "; "),
        exit_code=error.exit_code,
    )
