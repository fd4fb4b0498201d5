"""A Plan as plain JSON without secrets, its digest, and the JSON Schema of plan files."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from app.domain.json_values import fingerprint
from app.domain.models import Secret
from app.domain.plans import Plan
from app.domain.prices import Price
from app.plans.sections import PlanFile
from app.plans.times import format_duration

HIDDEN = "…"
_MEASURED = (
    "name",
    "primary",
    "candidates",
    "logs",
    "sample",
    "evaluators",
    "judge",
    "policy",
    "replay",
    "privacy",
)
_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]+\}"}


def public_config(plan: Plan) -> dict[str, object]:
    """The plan as plain JSON: secrets show only whether they are set, addresses only their host."""
    shown = {
        field.name: _plain(getattr(plan, field.name))
        for field in fields(plan)
        if field.name not in {"source_file", "config_hash"}
    }
    shown["heartbeat_url"] = _host(plan.heartbeat_url)
    return {**shown, "config_hash": plan.config_hash}


def config_hash(plan: Plan) -> str:
    """A digest of everything that can move a measured figure; equal for equal measurements.

    Where results are sent, kept and shown, when runs are due and what they may spend is left out,
    so that a new Slack channel does not break a trend; so are secrets and the log's address.
    """
    config = public_config(plan)
    logs = config["logs"]
    measured = {name: config[name] for name in _MEASURED}
    if plan.embedder is not None:
        measured["embedder"] = config["embedder"]
    if isinstance(logs, dict):
        measured["logs"] = {name: value for name, value in logs.items() if name != "dsn"}
    return fingerprint(measured)


def secrets_of(plan: Plan) -> frozenset[str]:
    """Every secret value of the plan, for those who mask them."""
    return frozenset(_secrets(plan))


def plan_json_schema() -> dict[str, object]:
    """JSON Schema of a plan file, for editors; any value may also be a reference."""
    schema = _with_references(PlanFile.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Switchwise plan",
    }


def _plain(value: object) -> Any:
    match value:
        case Secret():
            return _shown_secret(value)
        case Price():
            return value.to_json()
        case timedelta():
            return format_duration(value)
        case Decimal():
            return format(value, "f")
        case ZoneInfo():
            return value.key
        case Enum():
            return value.value
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list() | frozenset():
            return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value)
    return value


def _plain_fields(value: Any) -> dict[str, object]:
    shown = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if "headers" in shown:  # values of headers may be secrets
        shown["headers"] = [name for name, _ in value.headers]
    if "dsn" in shown and value.dsn:
        shown["dsn"] = _host(value.dsn.reveal())
    return shown


def _shown_secret(secret: Secret) -> str:
    return HIDDEN if secret else ""


def _host(url: str | None) -> str | None:
    """Scheme, host and database of an address: no user, password, path token or query."""
    if not url:
        return None
    parts = urlsplit(url)
    path = parts.path if parts.scheme.startswith("postgres") else ""
    return f"{parts.scheme}://{parts.hostname or ''}{path}"


def _secrets(value: object) -> list[str]:
    match value:
        case Secret():
            return [value.reveal()] if value else []
        case Mapping():
            return [found for item in value.values() for found in _secrets(item)]
        case tuple() | list():
            return [found for item in value for found in _secrets(item)]
    if is_dataclass(value) and not isinstance(value, type):
        found = [
            secret for field in fields(value) for secret in _secrets(getattr(value, field.name))
        ]
        if hasattr(value, "headers"):
            found += [text for _, text in value.headers]
        return found
    return []


def _with_references(schema: Any) -> Any:
    """Let editors accept `${VAR}` wherever a number or a flag is asked for."""
    if isinstance(schema, list):
        return [_with_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    walked = {key: _with_references(value) for key, value in schema.items()}
    if walked.get("type") in ("integer", "number", "boolean"):
        kept = {
            key: walked.pop(key) for key in ("description", "default", "title") if key in walked
        }
        return {**kept, "anyOf": [walked, _REFERENCE]}
    return walked
