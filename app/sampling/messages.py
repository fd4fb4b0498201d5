"""Conversations: logged messages in OpenAI or Anthropic shape to ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.domain.cases import Message
from app.domain.json_values import JsonObject
from app.sampling.content_blocks import blocks_of, plain_text, tool_result_block, tool_use_block
from app.sampling.logged_values import Items, as_items, as_object
from app.sampling.refusals import unreadable, unsupported

Role = Literal["user", "assistant"]
_ROLES: Mapping[str, str] = {
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "developer": "system",
    "function": "tool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The system prompt and the turns of a logged request."""

    system: str | None
    messages: tuple[Message, ...]


@dataclass(slots=True)
class _Turns:
    """What was read so far."""

    system: list[str] = field(default_factory=list)
    turns: list[tuple[Role, list[JsonObject]]] = field(default_factory=list)
    legacy_calls: int = 0

    def add(self, role: Role, blocks: list[JsonObject]) -> None:
        if blocks:
            self.turns.append((role, blocks))

    def add_result(self, block: JsonObject) -> None:
        """Results of parallel calls belong in one turn."""
        if self.turns:
            role, blocks = self.turns[-1]
            if role == "user" and all(other["type"] == "tool_result" for other in blocks):
                blocks.append(block)
                return
        self.turns.append(("user", [block]))


def conversation_of(logged: Items) -> Conversation:
    """The conversation, turn by turn as it was logged.

    System messages at the start become the system prompt; names of speakers are left out.

    Raises:
        NotReplayable: If something in it cannot be sent to every model: a system message between
            turns, a tool call without its result, audio, files, a vendor's own tools.
    """
    turns = _Turns()
    for message in logged:
        _read(message, turns)
    _check_calls_are_answered(turns.turns)
    return Conversation(
        system="\n\n".join(turns.system) or None,
        messages=tuple(_message(role, blocks) for role, blocks in turns.turns),
    )


def chat_messages_of(items: Items) -> list[object]:
    """Input items of the Responses API as chat messages.

    Raises:
        NotReplayable: If an item is neither a message nor a function call or its output.
    """
    messages: list[object] = []
    for item in items:
        entry = as_object(item)
        if entry is None:
            raise unsupported()
        match entry.get("type", "message"):
            case "message":
                messages.append(entry)
            case "function_call":
                call = {"name": entry.get("name"), "arguments": entry.get("arguments")}
                _append_call(messages, {"id": entry.get("call_id"), "function": call})
            case "function_call_output":
                messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": entry.get("call_id"),
                        "content": entry.get("output"),
                    }
                )
            case "reasoning":
                continue
            case _:
                raise unsupported()
    return messages


def _append_call(messages: list[object], call: JsonObject) -> None:
    last = as_object(messages[-1]) if messages else None
    if last is not None and "tool_calls" in last:
        messages[-1] = {**last, "tool_calls": [*(as_items(last["tool_calls"]) or ()), call]}
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _read(logged: object, turns: _Turns) -> None:
    message = as_object(logged)
    if message is None:
        raise unsupported()
    role = message.get("role", message.get("type"))
    if not isinstance(role, str):
        raise unreadable()
    content = message.get("content")
    match _ROLES.get(role, role):
        case "system":
            _read_system(content, turns)
        case "user":
            turns.add("user", blocks_of(content))
        case "assistant":
            said = content or message.get("refusal")  # chat completions put a refusal beside it
            turns.add("assistant", [*blocks_of(said), *_calls(message, turns)])
        case "tool":
            call_id = message.get("tool_call_id") or f"call_{turns.legacy_calls}"
            turns.add_result(tool_result_block(call_id, "" if content is None else content))
        case _:
            raise unsupported()


def _read_system(content: object, turns: _Turns) -> None:
    text = plain_text(content)
    if text and turns.turns:
        raise unsupported()
    if text:
        turns.system.append(text)


def _calls(message: Mapping[str, object], turns: _Turns) -> list[JsonObject]:
    calls = list(as_items(message.get("tool_calls")) or ())
    if function := message.get("function_call"):
        turns.legacy_calls += 1
        calls.append({"id": f"call_{turns.legacy_calls}", "function": function})
    if message.get("audio"):
        raise unsupported()
    return [tool_use_block(call) for call in calls]


def _check_calls_are_answered(turns: Sequence[tuple[Role, list[JsonObject]]]) -> None:
    """Every vendor refuses a call without its result in the next turn, and the reverse."""
    waiting: set[object] = set()
    previous: Role = "assistant"
    for role, blocks in turns:
        if role == "assistant" and previous == "user" and waiting:
            raise unsupported()
        for block in blocks:
            if block["type"] == "tool_use":
                waiting.add(block["id"])
            elif block["type"] == "tool_result":
                if block["tool_use_id"] not in waiting:
                    raise unsupported()
                waiting.discard(block["tool_use_id"])
        previous = role
    if waiting and previous == "user":
        raise unsupported()


def _message(role: Role, blocks: list[JsonObject]) -> Message:
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return Message(role=role, content=str(blocks[0]["text"]))
    return Message(role=role, content=tuple(blocks))
