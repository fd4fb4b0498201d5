"""Which Evaluators there are, and those that a Plan configures."""

import difflib
import hashlib
import importlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass, replace
from importlib.metadata import entry_points
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.domain.errors import ConfigError, Problem
from app.domain.json_values import JsonObject, fingerprint
from app.domain.plans import EvaluatorSettings, JudgeSettings, Plan
from app.evaluation.embeddings import EmbeddingEvaluator, EmbeddingOptions, embedding_version
from app.evaluation.evaluator import ConfiguredEvaluator, Evaluator
from app.evaluation.json_checks import JsonSchema, JsonValid
from app.evaluation.judge import JudgeEvaluator, judge_version
from app.evaluation.language import Language
from app.evaluation.numbers import Numeric
from app.evaluation.pii import NoPii
from app.evaluation.refusals import NotRefused
from app.evaluation.rubrics import DEFAULT_RUBRIC
from app.evaluation.similarity import LevenshteinLikeness, Similarity
from app.evaluation.speed import MaxLatency
from app.evaluation.text_checks import Contains, Exact, Length, Regex
from app.evaluation.tool_calls import ToolCall

JUDGE = "judge"
ENTRY_POINTS = "switchwise.evaluators"

_BUILT_IN: Mapping[str, type] = {
    kind.name: kind
    for kind in (
        Exact,
        Contains,
        Regex,
        JsonValid,
        JsonSchema,
        NotRefused,
        Similarity,
        LevenshteinLikeness,
        Numeric,
        ToolCall,
        Language,
        NoPii,
        MaxLatency,
        Length,
    )
}


def evaluator_types() -> tuple[str, ...]:
    """Every `type` a Plan may name, except `python:module:Name`."""
    installed = {entry.name for entry in entry_points(group=ENTRY_POINTS)}
    return (*sorted({*_BUILT_IN, *installed}), JUDGE)


def build_evaluators(plan: Plan) -> tuple[ConfiguredEvaluator, ...]:
    """The Plan's Evaluators that ask no model, in the Plan's order.

    Raises:
        ConfigError: If a type is unknown, an option wrong, or an own Evaluator cannot be loaded.
    """
    return tuple(
        ConfiguredEvaluator(
            label=label,
            evaluator=build_evaluator(settings),
            is_gate=settings.gate,
            weight=settings.weight,
            when=settings.when,
        )
        for label, settings in _labelled(plan)
        if settings.type != JUDGE and not settings.measures_embeddings
    )


def judge_evaluators(plan: Plan) -> tuple[JudgeEvaluator, ...]:
    """The Plan's uses of the judge; each may have a rubric of its own.

    Raises:
        ConfigError: If a judge is used that is not configured, or used as a gate.
    """
    return tuple(
        _judge_evaluator(label, settings, plan.judge)
        for label, settings in _labelled(plan)
        if settings.type == JUDGE
    )


def embedding_evaluators(plan: Plan) -> tuple[EmbeddingEvaluator, ...]:
    """The Plan's uses of embeddings.

    Raises:
        ConfigError: If embeddings are used that are not configured, or an option is wrong.
    """
    return tuple(
        _embedding_evaluator(label, settings, plan)
        for label, settings in _labelled(plan)
        if settings.measures_embeddings
    )


def embedding_options(settings: EvaluatorSettings) -> EmbeddingOptions:
    """The options of a `similarity` by embeddings.

    Raises:
        ConfigError: If one is wrong, or it is a gate that nothing passes.
    """
    try:
        options = TypeAdapter(EmbeddingOptions).validate_python(dict(settings.options))
    except ValidationError as error:
        raise ConfigError(
            [_problem(settings, detail, EmbeddingOptions) for detail in error.errors()]
        ) from None
    if settings.gate and options.at_least is None:
        raise _error(settings, "as a gate it needs `at_least`: hardly any reply scores a full 1")
    return options


def build_evaluator(settings: EvaluatorSettings) -> Evaluator:
    """One Evaluator from its settings.

    Raises:
        ConfigError: If the type is unknown, an option wrong, or it cannot be loaded.
    """
    settings = _without_measure(settings)
    kind = _kind(settings.type)
    if not is_dataclass(kind):
        return _checked(_constructed(kind, settings), settings)
    try:
        built = TypeAdapter(kind).validate_python(dict(settings.options))
    except ValidationError as error:
        raise ConfigError([_problem(settings, detail, kind) for detail in error.errors()]) from None
    return _checked(built, settings)


def evaluator_versions(plan: Plan) -> Mapping[str, str]:
    """The version of every Evaluator of the Plan, by label."""
    deterministic = {one.label: one.evaluator.version for one in build_evaluators(plan)}
    embedded = {one.label: one.version for one in embedding_evaluators(plan)}
    return deterministic | embedded | {one.label: one.version for one in judge_evaluators(plan)}


def evaluation_identity(plan: Plan) -> JsonObject:
    """What must stay the same for qualities to be comparable, by label."""
    versions = evaluator_versions(plan)
    return {
        label: {
            "type": settings.type,
            "version": versions[label],
            "options": fingerprint(dict(settings.options)) if settings.options else None,
            "gate": settings.gate,
            "weight": settings.weight,
            "when": dict(settings.when),
        }
        for label, settings in _labelled(plan)
    }


def _labelled(plan: Plan) -> Iterator[tuple[str, EvaluatorSettings]]:
    """The settings with labels of their own: the second `regex` becomes `regex-2`."""
    seen: Counter[str] = Counter()
    for settings in plan.evaluators:
        seen[settings.label] += 1
        count = seen[settings.label]
        yield (settings.label if count == 1 else f"{settings.label}-{count}"), settings


def _judge_evaluator(
    label: str, settings: EvaluatorSettings, judge: JudgeSettings | None
) -> JudgeEvaluator:
    if judge is None or not judge.models:
        raise _error(settings, "uses a judge, but no judge model is configured under `judge`")
    if settings.gate:
        raise _error(settings, "a judge cannot be a gate: its grades are not pass or fail")
    unknown = set(settings.options) - {"rubric"}
    if unknown:
        raise _error(settings, f"unknown option `{min(unknown)}`; the judge takes `rubric`")
    rubric = str(settings.options.get("rubric") or judge.rubric or DEFAULT_RUBRIC)
    return JudgeEvaluator(
        label=label,
        rubric=rubric,
        version=judge_version(judge, rubric),
        weight=settings.weight,
        when=settings.when,
    )


def _embedding_evaluator(label: str, settings: EvaluatorSettings, plan: Plan) -> EmbeddingEvaluator:
    if plan.embedder is None:
        raise _error(settings, "measures by embeddings, but no model is under `embeddings`")
    options = embedding_options(settings)
    return EmbeddingEvaluator(
        label=label,
        version=embedding_version(plan.embedder, options),
        options=options,
        is_gate=settings.gate,
        weight=settings.weight,
        when=settings.when,
    )


def _without_measure(settings: EvaluatorSettings) -> EvaluatorSettings:
    """The settings of `similarity` without `measure: rouge_l`, which is what it does anyhow."""
    if settings.type != Similarity.name or "measure" not in settings.options:
        return settings
    if settings.options["measure"] != "rouge_l":
        raise _error(settings, "measure: must be `rouge_l` or `embeddings`")
    options = {name: value for name, value in settings.options.items() if name != "measure"}
    return replace(settings, options=options)


def _kind(name: str) -> Callable[..., Any]:
    """The class behind a type: built in, `python:module:Name`, or an installed entry point."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name.startswith("python:"):
        return _own(name)
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return _callable(entry.load(), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                Problem(message=f"{name}: cannot load {entry.value}: {error}", key="evaluators")
            ) from error
    near = difflib.get_close_matches(name, evaluator_types(), n=1)
    hint = f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(evaluator_types())}"
    raise ConfigError(Problem(message=f"unknown evaluator `{name}`{hint}", key="evaluators"))


def _own(name: str) -> Callable[..., Any]:
    parts = name.split(":")
    if len(parts) != 3 or not all(parts):
        raise ConfigError(
            Problem(message=f"`{name}`: write python:package.module:ClassName", key="evaluators")
        )
    try:
        return _callable(getattr(importlib.import_module(parts[1]), parts[2]), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            Problem(message=f"`{name}` cannot be loaded: {error}", key="evaluators")
        ) from error


def _callable(found: Any, name: str) -> Callable[..., Any]:
    if not callable(found):
        raise ConfigError(
            Problem(message=f"`{name}` is no class that can be made", key="evaluators")
        )
    kind: Callable[..., Any] = found
    return kind


def _constructed(kind: Callable[..., Any], settings: EvaluatorSettings) -> object:
    try:
        made: object = kind(**settings.options)
    except (TypeError, ValueError) as error:
        raise _error(settings, f"does not take these options: {error}") from error
    return made


def _checked(built: object, settings: EvaluatorSettings) -> Evaluator:
    """The Evaluator, with a version from its source where it brings none of its own."""
    if not callable(getattr(built, "score", None)):
        raise _error(settings, "has no method score(case, completion)")
    if inspect.iscoroutinefunction(built.score):  # type: ignore[attr-defined]
        raise _error(settings, "score must be an ordinary method, not an async one")
    if isinstance(getattr(built, "version", None), str):
        evaluator: Evaluator = built  # type: ignore[assignment]
        return evaluator
    return _Unversioned(built, settings)


class _Unversioned:
    """An own Evaluator without a version: its source and options stand for one."""

    __slots__ = ("name", "score", "version")

    def __init__(self, evaluator: Any, settings: EvaluatorSettings) -> None:
        self.name = settings.type
        try:
            source = inspect.getsource(type(evaluator))
        except (OSError, TypeError):
            source = settings.type
        digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self.version = fingerprint([settings.type, dict(settings.options), digest])
        self.score = evaluator.score


def _problem(settings: EvaluatorSettings, detail: Any, kind: Any) -> Problem:
    """One thing wrong with the options, in words."""
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        names = list(getattr(kind, "__dataclass_fields__", ()))
        near = difflib.get_close_matches(place, names, n=1)
        hint = (
            f"; did you mean `{near[0]}`?" if near else f"; it takes {', '.join(names) or 'none'}"
        )
        return _error(settings, f"unknown option `{place}`{hint}").problems[0]
    message = str(detail["msg"]).removeprefix("Value error, ")
    return _error(settings, f"{place}: {message}" if place else message).problems[0]


def _error(settings: EvaluatorSettings, message: str) -> ConfigError:
    return ConfigError(
        Problem(message=f"evaluator `{settings.label}`: {message}", key="evaluators")
    )
