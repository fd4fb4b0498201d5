"""Checks a document against the sections and says in words what is wrong, and where."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from app.plans.documents import Document, Findings, Place, dotted

_M = TypeVar("_M", bound=BaseModel)

_WORDS = {
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "too_short": "must not be empty",
}


def validate(model: type[_M], document: Document, findings: Findings) -> _M | None:
    """The document as its sections, or None with everything that is wrong noted."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=True):
            place = _place(model, detail["loc"])
            message = _message(model, place, dict(detail))
            findings.add(place, message, line=document.line(place))
        return None


def nearest(word: str, known: list[str]) -> str:
    """A hint at the most similar known word, or at all of them."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"valid here: {', '.join(sorted(known))}"


def _message(model: type[BaseModel], place: Place, detail: Mapping[str, Any]) -> str:
    kind = str(detail["type"])
    context: Mapping[str, Any] = detail.get("ctx") or {}
    match kind:
        case "extra_forbidden":
            return _unknown_key(model, place)
        case "missing":
            return "is required"
        case "literal_error":
            return _not_one_of(detail.get("input"), str(context["expected"]))
        case "value_error":
            return str(context["error"])
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return str(detail["msg"]).replace("Input should be", "must be")
        case "too_long":
            return f"must hold at most {context['max_length']}"
        case _:
            return _WORDS.get(kind, str(detail["msg"]).replace("Input should", "must"))


def _unknown_key(model: type[BaseModel], place: Place) -> str:
    section = _section_at(model, place[:-1])
    word = str(place[-1])
    known = list(section.model_fields) if section else []
    if difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6):
        return f"unknown key; {nearest(word, known)}"
    elsewhere = [dotted(path) for path in _all_keys(model) if path[-1] == word]
    if elsewhere:
        return f"unknown key; did you mean `{elsewhere[0]}`?"
    return f"unknown key; {nearest(word, known)}"


def _not_one_of(given: object, expected: str) -> str:
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    if isinstance(given, str):
        return f"{given!r} is not one of {', '.join(choices)}{_perhaps(given, choices)}"
    return f"must be one of {', '.join(choices)}"


def _perhaps(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word.lower(), choices, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _place(model: type[BaseModel], location: tuple[str | int, ...]) -> Place:
    """The error's location without the names of union members, which no file mentions."""
    place: Place = ()
    for part in location:
        section = _section_at(model, place)
        is_member = (
            isinstance(part, str)
            and section is None
            and (part == "[key]" or part.startswith(("literal[", "function-")))
        )
        is_type = isinstance(part, str) and part.endswith("Section") and place != ()
        if not (is_member or is_type):
            place = (*place, part)
    return place


def _section_at(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    section: type[BaseModel] | None = model
    is_entry = False  # the part is a key of a mapping of sections, which no section declares
    for part in place:
        if isinstance(part, int) or is_entry:
            is_entry = False
            continue
        if section is None or part not in section.model_fields:
            return None
        annotation = section.model_fields[part].annotation
        section, is_entry = _inner(annotation), get_origin(annotation) is dict
    return section


def _inner(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner(part))), None)


def _all_keys(model: type[BaseModel], place: Place = ()) -> Iterator[Place]:
    for name, field in model.model_fields.items():
        yield (*place, name)
        inner = _inner(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, (*place, name))
