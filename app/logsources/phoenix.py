"""Logs of Arize Phoenix on Postgres: the LLM spans of its table `spans` (OpenInference)."""

from collections.abc import Mapping
from dataclasses import replace

from app.domain.cases import SkipReason
from app.domain.json_values import canonical
from app.domain.plans import LogSettings
from app.logsources.postgres import PostgresLogs, Preset
from app.logsources.span_attributes import attribute, items_of, object_of
from app.ports import LogRow

#: What instrumentations write in place of what they were told to hide.
_HIDDEN = "__REDACTED__"
_COLUMNS: Mapping[str, str] = {
    "id": "id",
    "created_at": "start_time",
    "messages": "attributes",
    "status": "status_code",
    "input_tokens": "llm_token_count_prompt",
    "output_tokens": "llm_token_count_completion",
}


class PhoenixLogs(PostgresLogs):
    """The LLM spans of an Arize Phoenix."""

    def __init__(self, settings: LogSettings, *, dsn: str) -> None:
        super().__init__(settings, dsn=dsn, preset=PRESET)


def read_span(row: LogRow) -> LogRow:
    """The row with its request and reply in the shape of a chat completion."""
    attributes = object_of(row.fields.get("messages"))
    body: dict[str, object] = {**object_of(attribute(attributes, "llm.invocation_parameters"))}
    body["messages"] = _messages(attribute(attributes, "llm.input_messages"))
    body["tools"] = [
        object_of(attribute(object_of(tool), "tool.json_schema"))
        for tool in items_of(attribute(attributes, "llm.tools"))
    ]
    fields: dict[str, object] = {**row.fields, "messages": body}
    if replies := _messages(attribute(attributes, "llm.output_messages")):
        fields["response"] = {**replies[0], "role": "assistant"}
    for name, source in {"conversation": "session.id", "model": "llm.model_name"}.items():
        if (value := attribute(attributes, source)) is not None:
            fields[name] = value
    is_hidden = _HIDDEN in canonical(body)
    return replace(
        row,
        fields=fields,
        skip=row.skip or (SkipReason.CUT_BY_LOGGER.value if is_hidden else None),
    )


def _messages(value: object) -> list[dict[str, object]]:
    return [_message(object_of(object_of(item).get("message"))) for item in items_of(value)]


def _message(logged: Mapping[str, object]) -> dict[str, object]:
    message = {
        name: logged[name]
        for name in ("role", "content", "tool_call_id")
        if logged.get(name) is not None
    }
    if contents := items_of(logged.get("contents")):
        message["content"] = [
            _part(object_of(object_of(item).get("message_content"))) for item in contents
        ]
    if calls := items_of(logged.get("tool_calls")):
        message["tool_calls"] = [object_of(object_of(call).get("tool_call")) for call in calls]
    return message


def _part(content: Mapping[str, object]) -> Mapping[str, object]:
    if content.get("type") != "image":
        return content
    return {"type": "image_url", "image_url": {"url": attribute(content, "image.image.url")}}


PRESET = Preset(
    table="spans",
    columns=_COLUMNS,
    where="span_kind = 'LLM'",
    reading=read_span,
    empty_advice="no LLM span has attributes: instrument the application with OpenInference",
)
