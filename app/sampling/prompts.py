"""Prompts: a logged row's fields to what a model is sent, or the reason why not.

`messages` may hold a list of messages in OpenAI or Anthropic shape, or a whole request body of the
Messages, Chat Completions or Responses API; `prompt` is text, or any of these. Columns of their own
(`system`, `tools`, `params`) win over what a body says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from app.domain.cases import Message, Prompt, SkipReason
from app.domain.json_values import JsonObject, is_deep
from app.ports import LogRow
from app.sampling.content_blocks import plain_text
from app.sampling.logged_replies import LoggedReply, reply_of, tool_calls_of
from app.sampling.logged_values import (
    as_items,
    as_object,
    clean,
    json_of,
    lenient_json_of,
    number_of,
    text_of,
)
from app.sampling.messages import Conversation, chat_messages_of, conversation_of
from app.sampling.parameters import replay_params
from app.sampling.prompt_text import is_binary, is_encodable
from app.sampling.refusals import NotReplayable, unreadable, unsupported
from app.sampling.tools import tool_definitions

_FAILED = frozenset({"failure", "failed", "error", "timeout", "cancelled", "canceled"})
_TRUE = frozenset({"true", "t", "1", "yes", "hit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayable:
    """A logged row that can be replayed.

    Attributes:
        output_tokens: Of the logged reply, where the log tells.
    """

    row: LogRow
    prompt: Prompt
    reply: LoggedReply = field(default_factory=LoggedReply)
    reference: str | None = None
    conversation: str | None = None
    output_tokens: float | None = None


def replayable_of(row: LogRow) -> Replayable | SkipReason:
    """The row as it can be replayed, or why it cannot."""
    try:
        return _read(row)
    except NotReplayable as refusal:
        return refusal.reason
    except RecursionError:
        return SkipReason.UNREADABLE


def _read(row: LogRow) -> Replayable:
    if row.skip is not None:
        raise NotReplayable(SkipReason(row.skip))
    _refuse_unserved(row.fields)
    reply = reply_of(row.fields.get("response"))
    if given := tool_calls_of(row.fields.get("tool_calls")):
        reply = LoggedReply(text=reply.text, tool_calls=given)
    body = _body(row.fields)
    conversation = _conversation(body)
    messages, reply = _ending_with_a_question(conversation.messages, reply)
    prompt = Prompt(
        messages=messages,
        system=_system(row.fields, body, conversation),
        tools=tool_definitions(
            row.fields.get("tools") or body.get("tools") or body.get("functions")
        ),
        params=_params(row.fields, body),
    )
    _check(prompt, reply)
    return Replayable(
        row=row,
        prompt=prompt,
        reply=reply,
        reference=_optional_text(row.fields.get("reference", row.fields.get("expected"))),
        conversation=_optional_text(row.fields.get("conversation")),
        output_tokens=_count(row.fields.get("output_tokens")),
    )


def _refuse_unserved(fields: Mapping[str, object]) -> None:
    status = str(fields.get("status", "")).strip().casefold()
    code = number_of(status)
    if status in _FAILED or (code is not None and code >= 400):
        raise NotReplayable(SkipReason.FAILED)
    if str(fields.get("cache_hit", "")).strip().casefold() in _TRUE:
        raise NotReplayable(SkipReason.CACHED)


def _body(fields: Mapping[str, object]) -> Mapping[str, object]:
    """The request as an object with `messages`, whatever shape it was logged in."""
    logged = _messages(fields.get("messages")) or fields.get("prompt")
    if isinstance(logged, str | bytes):
        text = text_of(logged) or ""
        return {"messages": [{"role": "user", "content": text}]}
    if (items := as_items(logged)) is not None:
        return {"messages": items}
    body = as_object(logged)
    if not body:
        raise NotReplayable(SkipReason.EMPTY)
    if "role" in body and "content" in body:
        return {"messages": [body]}
    if "messages" in body:
        return body
    if "input" in body:
        return _responses_body(body)
    raise unsupported()


def _messages(logged: object) -> object:
    """What a column of messages holds: JSON, JSON inside a JSON string, or plain text after all."""
    text = (text_of(logged) or "").strip() if isinstance(logged, str | bytes) else None
    if text is None:
        return logged
    if text[:1] in {"[", "{", '"'}:
        return json_of(text)
    return None if text == "null" else text


def _responses_body(body: Mapping[str, object]) -> Mapping[str, object]:
    if body.get("previous_response_id") or body.get("conversation"):
        raise unsupported()  # the words before this turn are at the vendor, not in the log
    given = body["input"]
    items = as_items(given)
    if items is None and not isinstance(given, str):
        raise unsupported()
    messages = [{"role": "user", "content": given}] if items is None else chat_messages_of(items)
    return {**body, "messages": messages, "system": body.get("instructions")}


def _conversation(body: Mapping[str, object]) -> Conversation:
    items = as_items(json_of(body.get("messages")) or [])
    if items is None:
        raise unsupported()
    return conversation_of(items)


def _ending_with_a_question(
    messages: tuple[Message, ...], reply: LoggedReply
) -> tuple[tuple[Message, ...], LoggedReply]:
    """Leave out a reply that was logged as the last message.

    Raises:
        NotReplayable: If nothing is asked, or words were put in the model's mouth.
    """
    if messages and messages[-1].role == "assistant":
        last = reply_of(messages[-1].to_json())
        if reply.text is None and not reply.tool_calls:
            reply = last
        elif (last.text or "").strip() != (reply.text or "").strip():
            raise unsupported()
        messages = messages[:-1]
    if not messages:
        raise NotReplayable(SkipReason.EMPTY)
    if messages[-1].role == "assistant":
        raise unsupported()
    return messages, reply


def _system(
    fields: Mapping[str, object], body: Mapping[str, object], conversation: Conversation
) -> str | None:
    own = fields.get("system")
    parts = [
        plain_text(lenient_json_of(text_of(own)) if isinstance(own, str | bytes) else own)
        if own
        else plain_text(body.get("system")),
        conversation.system or "",
    ]
    if parts[0] == parts[1]:
        parts.pop()
    return "\n\n".join(part for part in parts if part) or None


def _params(fields: Mapping[str, object], body: Mapping[str, object]) -> JsonObject:
    own = as_object(json_of(fields.get("params")) or {})
    if own is None:
        raise unreadable()
    return replay_params({**body, **own})


def _check(prompt: Prompt, reply: LoggedReply) -> None:
    if is_deep([prompt.to_json(), *reply.tool_calls]):
        raise unreadable()
    blocks = [block for message in prompt.messages for block in _blocks(message)]
    if not prompt.tools and any(block["type"] == "tool_use" for block in blocks):
        raise unsupported()  # every vendor refuses calls of tools that the request does not define
    if not is_encodable(prompt):
        raise unreadable()
    if is_binary(prompt):
        raise NotReplayable(SkipReason.BINARY)


def _blocks(message: Message) -> tuple[JsonObject, ...]:
    content = message.content
    if isinstance(content, str):
        return ()
    if isinstance(content, tuple):
        return content
    assert_never(content)


def _optional_text(value: object) -> str | None:
    try:
        text = text_of(value)
    except NotReplayable:
        return None
    return clean(text) if text and text.strip() else None


def _count(value: object) -> float | None:
    number = number_of(value)
    return number if number is not None and number >= 0 else None
