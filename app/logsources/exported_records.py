"""Records of Langfuse, Helicone and OpenAI's stored completions under our column names.

What a record is no prompt at all (a span, an event) reads as None. Everything else becomes a row;
whether it can be replayed is decided later, with a reason.
"""

from collections.abc import Callable, Mapping

from app.domain.cases import SkipReason
from app.domain.json_values import canonical
from app.logsources.span_attributes import object_of, parsed

Record = Mapping[str, object]
Reading = Callable[[Record], Record | None]

#: What Langfuse's SDKs write in place of bodies that are too large.
_LANGFUSE_CUT = "truncated due to size exceeding limit"
_HELICONE_UNCACHED = "00000000-0000-0000-0000-000000000000"
_OPENAI_PARAMS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "logit_bias",
)


def read_langfuse(record: Record) -> Record | None:
    """An observation of Langfuse; None unless it is a generation."""
    if str(record.get("type", "GENERATION")).upper() != "GENERATION":
        return None
    usage = object_of(record.get("usageDetails") or record.get("usage"))
    params = object_of(record.get("modelParameters"))
    given = parsed(record.get("input"))
    body = given if not isinstance(given, Mapping) else _named_prompt(given)
    is_cut = _LANGFUSE_CUT in canonical(record.get("input") or "")
    return {
        **record,
        "id": record.get("id"),
        "created_at": record.get("startTime"),
        "messages": body,
        "params": {name: parsed(value) for name, value in params.items()},
        "response": _reply(parsed(record.get("output"))),
        "model": record.get("model") or record.get("providedModelName"),
        "status": "error" if record.get("level") == "ERROR" else "success",
        "conversation": record.get("sessionId") or record.get("traceId"),
        "input_tokens": usage.get("input", usage.get("promptTokens")),
        "output_tokens": usage.get("output", usage.get("completionTokens")),
        "skip": SkipReason.CUT_BY_LOGGER.value if is_cut else None,
    }


def read_helicone(record: Record) -> Record | None:
    """A request of Helicone with its bodies."""
    properties = object_of(record.get("request_properties") or record.get("properties"))
    cached_as = record.get("cache_reference_id")
    return {
        **record,
        "id": record.get("request_id"),
        "created_at": record.get("request_created_at"),
        "messages": parsed(record.get("request_body")),
        "response": parsed(record.get("response_body")),
        "model": record.get("request_model") or record.get("model"),
        "status": record.get("response_status", record.get("status")),
        "cache_hit": cached_as not in {None, "", _HELICONE_UNCACHED},
        "conversation": properties.get("Helicone-Session-Id"),
        "input_tokens": record.get("prompt_tokens"),
        "output_tokens": record.get("completion_tokens"),
        "properties": properties,
    }


def read_openai(record: Record) -> Record | None:
    """A stored completion of OpenAI with its messages, or a line of an export or batch file."""
    item = object_of(record.get("item"))
    body = object_of(record.get("body")) or item or record
    usage = object_of(record.get("usage"))
    sample = object_of(record.get("sample"))
    messages = body.get("messages") or body.get("input")
    response = {"choices": record["choices"]} if record.get("choices") else None
    return {
        **record,
        "id": record.get("id") or record.get("custom_id"),
        "created_at": record.get("created", record.get("created_at")),
        "messages": messages,
        "params": {name: body[name] for name in _OPENAI_PARAMS if body.get(name) is not None},
        "tools": body.get("tools"),
        "response": response or sample.get("output_text") or _first(sample.get("output")),
        "model": body.get("model"),
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
    }


READINGS: Mapping[str, Reading] = {
    "langfuse": read_langfuse,
    "helicone": read_helicone,
    "openai": read_openai,
}


def _named_prompt(given: Record) -> object:
    """The input of a generation; integrations put plain prompts under a name of their own."""
    if set(given) <= {"prompt", "query", "question", "text"} and len(given) == 1:
        return next(iter(given.values()))
    return given


def _reply(output: object) -> object:
    """The output of a generation as a reply: messages often come without their role."""
    if isinstance(output, Mapping) and "content" in output:
        return {"role": "assistant", **output}
    if isinstance(output, Mapping) and len(output) == 1:
        (only,) = output.values()
        return only if isinstance(only, str) else output
    return output


def _first(values: object) -> object:
    return values[0] if isinstance(values, list) and values else None
