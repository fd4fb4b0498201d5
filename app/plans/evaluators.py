"""Which evaluators a plan may name, and which options each takes."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points

from pydantic import TypeAdapter, ValidationError

from app.plans.validation import nearest

GROUP = "switchwise.evaluators"
JUDGE = "judge"
CLASSES: Mapping[str, str] = {
    "contains": "text_checks:Contains",
    "exact": "text_checks:Exact",
    "json_schema": "json_checks:JsonSchema",
    "json_valid": "json_checks:JsonValid",
    "language": "language:Language",
    "length": "text_checks:Length",
    "levenshtein": "similarity:LevenshteinLikeness",
    "max_latency": "speed:MaxLatency",
    "no_pii": "pii:NoPii",
    "not_refused": "refusals:NotRefused",
    "numeric": "numbers:Numeric",
    "regex": "text_checks:Regex",
    "similarity": "similarity:Similarity",
    "tool_call": "tool_calls:ToolCall",
}
"""Where each built-in evaluator stands in `app.evaluation`; its fields are its options."""

BUILT_IN = (*CLASSES, JUDGE)
_OWN_PYTHON = re.compile(r"python:[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_COMMON_KEYS = ("type", "gate", "weight", "when", "name")


def evaluator_class(type_name: str) -> type:
    """The class behind a built-in evaluator other than the judge."""
    module, _, name = CLASSES[type_name].partition(":")
    found = getattr(import_module(f"app.evaluation.{module}"), name)
    if not isinstance(found, type):
        raise TypeError(f"{CLASSES[type_name]} is no class")
    return found


def parsed_option(type_name: str, name: str, value: object) -> object:
    """The option as its evaluator takes it: a JSON Schema given as text is parsed."""
    if (type_name, name) != ("json_schema", "schema") or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def check_evaluator(type_name: str, options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """What is wrong with an evaluator, as (key, message) pairs; the key is "" for the whole."""
    if type_name in CLASSES:
        yield from _check_options(type_name, options)
    elif type_name == JUDGE:
        for name in options:
            yield name, f"is no option of an evaluator; did you mean `judge.{name}`?"
    elif type_name.startswith("python:"):
        if not _OWN_PYTHON.fullmatch(type_name):
            yield "type", "must be python:module:Name, e.g. python:myteam.evals:Tone"
    elif type_name not in (plugins := [point.name for point in entry_points(group=GROUP)]):
        known = [*BUILT_IN, *plugins]
        yield "type", f"there is no evaluator {type_name!r}; {nearest(type_name, known)}"


def _check_options(type_name: str, options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    kind = evaluator_class(type_name)
    known = [*getattr(kind, "__dataclass_fields__", ()), *_COMMON_KEYS]
    try:
        TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            key = str(detail["loc"][0]) if detail["loc"] else ""
            match detail["type"]:
                case "unexpected_keyword_argument":
                    valid = nearest(key, known)
                    yield key, f"evaluator {type_name} has no such option; {valid}"
                case "missing" | "missing_keyword_only_argument":
                    yield key, f"evaluator {type_name} requires it"
                case _:
                    message = detail["msg"].removeprefix("Value error, ")
                    yield key, message.replace("Input should", "must")
