"""Logs in spans of OpenTelemetry's GenAI conventions, kept in a Postgres table of any name.

The attributes are one JSON column, under dotted names or nested. Conversations are in
`gen_ai.input.messages` (a list, or its JSON as text); instrumentations record them only when they
are told to. Give `logs.where` a condition that leaves other spans out.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from app.domain.json_values import canonical
from app.domain.plans import LogSettings
from app.logsources.postgres import PostgresLogs, Preset
from app.logsources.span_attributes import attribute, items_of, object_of
from app.ports import LogRow

_COLUMNS: Mapping[str, str] = {
    "id": "span_id",
    "created_at": "start_time",
    "messages": "attributes",
}
_FIELDS: Mapping[str, str] = {
    "conversation": "gen_ai.conversation.id",
    "model": "gen_ai.request.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
}
_REQUEST: Mapping[str, str] = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "stop_sequences": "gen_ai.request.stop_sequences",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "n": "gen_ai.request.choice.count",
    "tools": "gen_ai.tool.definitions",
}

Part = Mapping[str, object]


class OtelLogs(PostgresLogs):
    """Spans that carry GenAI attributes."""

    def __init__(self, settings: LogSettings, *, dsn: str) -> None:
        super().__init__(settings, dsn=dsn, preset=PRESET)


def read_span(row: LogRow) -> LogRow:
    """The row with its request and reply in the shape of the Messages API."""
    attributes = object_of(row.fields.get("messages"))
    body = {ours: attribute(attributes, theirs) for ours, theirs in _REQUEST.items()}
    body["messages"] = _messages(attribute(attributes, "gen_ai.input.messages"))
    system = items_of(attribute(attributes, "gen_ai.system_instructions"))
    body["system"] = [_part(object_of(part)) for part in system]
    fields: dict[str, object] = {**row.fields, "messages": body}
    if replies := _messages(attribute(attributes, "gen_ai.output.messages")):
        fields["response"] = {**replies[0], "type": "message"}
    if attribute(attributes, "error.type") is not None:
        fields["status"] = "error"
    for ours, theirs in _FIELDS.items():
        if (value := attribute(attributes, theirs)) is not None:
            fields[ours] = value
    return replace(row, fields=fields)


def _messages(value: object) -> list[dict[str, object]]:
    return [_message(object_of(item)) for item in items_of(value)]


def _message(logged: Mapping[str, object]) -> dict[str, object]:
    parts = [_part(object_of(part)) for part in items_of(logged.get("parts"))]
    is_result = any(part.get("type") == "tool_result" for part in parts)
    role = "user" if is_result else logged.get("role")
    return {"role": role, "content": parts or logged.get("content")}


def _part(part: Part) -> Part:
    convert = _PARTS.get(str(part.get("type")))
    return convert(part) if convert else part


def _text(part: Part) -> Part:
    return {"type": "text", "text": part.get("content", part.get("text"))}


def _tool_call(part: Part) -> Part:
    return {
        "type": "tool_use",
        "id": part.get("id"),
        "name": part.get("name"),
        "input": part.get("arguments"),
    }


def _tool_result(part: Part) -> Part:
    given = part.get("response", part.get("result"))
    content = given if isinstance(given, str) else canonical(given)
    return {"type": "tool_result", "tool_use_id": part.get("id"), "content": content}


def _blob(part: Part) -> Part:
    source = {
        "type": "base64",
        "media_type": part.get("mime_type"),
        "data": part.get("content", part.get("data")),
    }
    return {"type": _kind(part), "source": source}


def _uri(part: Part) -> Part:
    return {"type": _kind(part), "source": {"type": "url", "url": part.get("uri")}}


def _kind(part: Part) -> str:
    """What the part shows; only images are sent, so that any other kind is refused later."""
    return str(part.get("modality", "image"))


_PARTS: Mapping[str, Callable[[Part], Part]] = {
    "text": _text,
    "tool_call": _tool_call,
    "tool_call_response": _tool_result,
    "blob": _blob,
    "uri": _uri,
}

PRESET = Preset(
    columns=_COLUMNS,
    reading=read_span,
    empty_advice="no span has attributes; name their column in logs.columns.messages",
)
