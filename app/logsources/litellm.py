"""Logs of a LiteLLM proxy: the table "LiteLLM_SpendLogs".

The request is kept in `proxy_server_request` and the reply in `response`, both only when the proxy
runs with `store_prompts_in_spend_logs`; strings above 2,048 characters lose their middle there
(`MAX_STRING_LENGTH_PROMPT_IN_DB` raises the limit).
"""

from collections.abc import Mapping
from dataclasses import replace

from app.domain.cases import SkipReason
from app.domain.json_values import canonical
from app.domain.plans import LogSettings
from app.logsources.postgres import PostgresLogs, Preset
from app.ports import LogRow

_CUT = "litellm_truncated"
_REMOVED = "redacted-by-litellm"
#: Calls whose bodies are conversations; what a pass-through call is shows its body.
_CONVERSATIONS = frozenset(
    {
        "",
        "completion",
        "acompletion",
        "anthropic_messages",
        "responses",
        "aresponses",
        "pass_through_endpoint",
        "allm_passthrough_route",
    }
)
_COLUMNS: Mapping[str, str] = {
    "id": "request_id",
    "created_at": "startTime",
    "messages": "proxy_server_request",
    "prompt": "messages",
    "model": "model_group",
    "conversation": "session_id",
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
}


class LiteLLMLogs(PostgresLogs):
    """The spend logs of a LiteLLM proxy."""

    def __init__(self, settings: LogSettings, *, dsn: str) -> None:
        super().__init__(settings, dsn=dsn, preset=PRESET)


def read_spend_log(row: LogRow) -> LogRow:
    """The row with its reason to be skipped, when LiteLLM itself says one."""
    reason = row.skip or _reason(row.fields)
    fields = dict(row.fields)
    if _is_cut(fields.get("response")):
        fields.pop("response")
    return replace(row, fields=fields, skip=reason)


def _reason(fields: Mapping[str, object]) -> str | None:
    if str(fields.get("status", "")).casefold() == "failure":
        return SkipReason.FAILED.value
    if str(fields.get("cache_hit", "")).casefold() == "true":
        return SkipReason.CACHED.value
    if str(fields.get("call_type", "")) not in _CONVERSATIONS:
        return SkipReason.UNSUPPORTED.value
    if _is_cut(fields.get("messages")) or _is_cut(fields.get("prompt")):
        return SkipReason.CUT_BY_LOGGER.value
    return None


def _is_cut(value: object) -> bool:
    text = repr(value) if isinstance(value, bytes) else canonical(value)
    return _CUT in text or _REMOVED in text


PRESET = Preset(
    table='"LiteLLM_SpendLogs"',
    columns=_COLUMNS,
    reading=read_spend_log,
    empty_advice=(
        "LiteLLM stores prompts only with general_settings.store_prompts_in_spend_logs: true "
        "(and raise MAX_STRING_LENGTH_PROMPT_IN_DB, or long prompts are cut)"
    ),
)
