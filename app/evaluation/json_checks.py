"""Checks of JSON replies: json_valid, json_schema."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

from jsonschema import exceptions
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.json_values import canonical
from app.domain.scores import Score, Unscored
from app.evaluation.evaluator import Versioned, passed
from app.evaluation.json_text import NotJson, parse_json

_KINDS: Mapping[str, type | tuple[type, ...]] = {"object": dict, "array": list}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonValid(Versioned):
    """1 when the reply is valid JSON, else 0.

    Attributes:
        fence: Whether JSON inside the reply's one Markdown fence counts.
        kind: What the value must be.
    """

    name: ClassVar[str] = "json_valid"

    fence: bool = True
    kind: Literal["any", "object", "array"] = "any"

    def score(self, case: Case, completion: Completion) -> Score:  # noqa: ARG002
        """Parse the reply."""
        try:
            value = parse_json(completion.text, fence=self.fence)
        except NotJson as error:
            return passed(False, str(error))
        if self.kind != "any" and not isinstance(value, _KINDS[self.kind]):
            return passed(False, f"valid JSON, but no {self.kind}")
        return passed(True, "valid JSON")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchema(Versioned):
    """1 when the reply is JSON that meets the schema, else 0.

    Attributes:
        schema: A JSON Schema; references must stay inside it, nothing is fetched.
        fence: Whether JSON inside the reply's one Markdown fence counts.
    """

    name: ClassVar[str] = "json_schema"

    schema: Mapping[str, object] | bool
    fence: bool = True

    def __post_init__(self) -> None:
        try:
            _validator(canonical(self.schema))
        except exceptions.SchemaError as error:
            raise ValueError(f"not a JSON Schema: {error.message}") from None

    def score(self, case: Case, completion: Completion) -> Score | Unscored:  # noqa: ARG002
        """Parse the reply and validate it; the reason names the place, never the value."""
        try:
            value = parse_json(completion.text, fence=self.fence)
        except NotJson as error:
            return passed(False, str(error))
        try:
            errors = _validator(canonical(self.schema)).iter_errors(value)  # type: ignore[arg-type]
            worst = exceptions.best_match(errors)
        except Unresolvable:
            return Unscored(reason="the schema refers to something outside itself")
        if worst is None:
            return passed(True, "meets the schema")
        return passed(False, f"at {worst.json_path}: fails `{worst.validator}`")


@lru_cache(maxsize=64)
def _validator(schema_text: str) -> Validator:
    schema = json.loads(schema_text)
    kind = validator_for(schema, default=Draft202012Validator)
    kind.check_schema(schema)
    return kind(schema, registry=Registry())
