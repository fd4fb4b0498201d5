"""Which evaluators a plan may name, and which options each takes."""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from app.plans.sections import Section, Text
from app.plans.validation import nearest

GROUP = "switchwise.evaluators"
_OWN_PYTHON = re.compile(r"python:[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class NoOptions(Section):
    """Takes no options."""


class ExpectedOptions(Section):
    """The text to compare with; default: the reference of the case."""

    expected: Text | None = None


class RegexOptions(Section):
    """The pattern to find."""

    pattern: Text
    ignore_case: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return value


class JsonSchemaOptions(Section):
    """The JSON Schema that the reply must satisfy, inline or as file:PATH."""

    schema_: dict[str, object] | Text = Field(alias="schema")


class NumericOptions(Section):
    """How close a number must be."""

    expected: float | None = None
    abs_tol: float = Field(default=0.0, ge=0)
    rel_tol: float = Field(default=1e-6, ge=0)


class LanguageOptions(Section):
    """The language to answer in; default: that of the prompt."""

    language: Text | None = None


class MaxLatencyOptions(Section):
    """The longest a reply may take."""

    seconds: float = Field(gt=0)


class LengthOptions(Section):
    """How long a reply may be."""

    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=1)
    unit: Literal["characters", "words"] = "words"


OPTIONS: Mapping[str, type[Section]] = {
    "contains": ExpectedOptions,
    "exact": ExpectedOptions,
    "json_schema": JsonSchemaOptions,
    "json_valid": NoOptions,
    "judge": NoOptions,
    "language": LanguageOptions,
    "length": LengthOptions,
    "levenshtein": ExpectedOptions,
    "max_latency": MaxLatencyOptions,
    "no_pii": NoOptions,
    "not_refused": NoOptions,
    "numeric": NumericOptions,
    "regex": RegexOptions,
    "similarity": ExpectedOptions,
    "tool_call": NoOptions,
}
BUILT_IN = tuple(OPTIONS)


def check_evaluator(type_name: str, options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """What is wrong with an evaluator, as (key, message) pairs."""
    section = OPTIONS.get(type_name)
    if section is not None:
        yield from _check_options(section, type_name, options)
    elif type_name.startswith("python:"):
        if not _OWN_PYTHON.fullmatch(type_name):
            yield "type", "must be python:module:Name, e.g. python:myteam.evals:Tone"
    elif type_name not in (plugins := [point.name for point in entry_points(group=GROUP)]):
        known = [*BUILT_IN, *plugins]
        yield "type", f"there is no evaluator {type_name!r}; {nearest(type_name, known)}"


def _check_options(
    section: type[Section], type_name: str, options: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    known = [field.alias or name for name, field in section.model_fields.items()]
    try:
        section.model_validate(options)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            key = str(detail["loc"][0])
            if detail["type"] == "extra_forbidden":
                valid = nearest(key, [*known, "type", "gate", "weight", "when", "name"])
                yield key, f"evaluator {type_name} has no such option; {valid}"
            elif detail["type"] == "missing":
                yield key, f"evaluator {type_name} requires it"
            else:
                yield key, detail["msg"].removeprefix("Value error, ")
