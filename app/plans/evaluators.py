"""Checks the evaluators of a plan as far as that is possible without running anybody's code."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import entry_points

from app.domain.errors import ConfigError
from app.domain.plans import EvaluatorSettings
from app.evaluation.catalogue import ENTRY_POINTS, JUDGE, build_evaluator, embedding_options

_OWN_PYTHON = re.compile(r"python:[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def parsed_option(type_name: str, name: str, value: object) -> object:
    """The option as its evaluator takes it: a JSON Schema given as text is parsed."""
    if (type_name, name) != ("json_schema", "schema") or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def check_evaluator(settings: EvaluatorSettings) -> Iterator[tuple[str, str]]:
    """What is wrong with an evaluator, as (key, message) pairs; the key is "" for the whole.

    Own Python and installed evaluators are loaded only when a Run or `check` makes them.
    """
    if settings.type == JUDGE:
        yield from _check_judge(settings)
    elif settings.type.startswith("python:"):
        if not _OWN_PYTHON.fullmatch(settings.type):
            yield "type", "must be python:module:Name, e.g. python:myteam.evals:Tone"
    elif not entry_points(group=ENTRY_POINTS, name=settings.type):
        yield from _check_built_in(settings)


def _check_judge(settings: EvaluatorSettings) -> Iterator[tuple[str, str]]:
    if settings.gate:
        yield "gate", "a judge cannot be a gate: its grades are not pass or fail"
    for name in settings.options:
        if name != "rubric":
            yield name, f"unknown option; did you mean `judge.{name}`?"


def _check_built_in(settings: EvaluatorSettings) -> Iterator[tuple[str, str]]:
    try:
        if settings.measures_embeddings:
            embedding_options(settings)
        else:
            build_evaluator(settings)
    except ConfigError as error:
        for problem in error.problems:
            yield _key(problem.message, settings), problem.message


def _key(message: str, settings: EvaluatorSettings) -> str:
    """The key that a message speaks of, "" for the evaluator as a whole."""
    if message.startswith("unknown evaluator"):
        return "type"
    named = (f"`{name}`" in message or f": {name}: " in message for name in settings.options)
    return next(
        (name for name, is_named in zip(settings.options, named, strict=True) if is_named), ""
    )
