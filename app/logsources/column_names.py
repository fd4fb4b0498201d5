"""Which columns probably hold what, by their names and types."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from app.logsources.layout import FIELDS

TEXTS = ("text", "character varying", "character", "json", "jsonb")
JSONS = ("json", "jsonb")
TIMES = ("timestamp with time zone", "timestamp without time zone")
NUMBERS = ("bigint", "integer", "numeric", "double precision")
KEYS = ("id", "created_at")

#: Our column -> names it goes by, likeliest first, and the types it may have.
SYNONYMS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "messages": (
        ("messages", "request_messages", "chat_messages", "input_messages", "request_body",
         "request", "payload", "body"),
        TEXTS,
    ),
    "prompt": (
        ("prompt", "user_prompt", "prompt_text", "input", "input_text", "question", "user_message",
         "user_input", "query", "query_text"),
        TEXTS,
    ),
    "created_at": (
        ("created_at", "createdat", "timestamp", "ts", "logged_at", "requested_at", "request_time",
         "started_at", "start_time", "starttime", "inserted_at", "time", "created", "at"),
        TIMES,
    ),
    "id": (("id", "request_id", "log_id", "call_id", "uuid", "message_id", "trace_id"), ()),
    "system": (("system", "system_prompt", "system_message", "instructions"), TEXTS),
    "params": (("params", "parameters", "model_parameters", "settings"), TEXTS),
    "tools": (("tools", "tool_definitions"), TEXTS),
    "response": (
        ("response", "completion", "output", "reply", "answer", "response_text", "output_text",
         "response_body", "assistant_message", "result"),
        TEXTS,
    ),
    "reference": (("reference", "expected", "ground_truth", "expected_output"), TEXTS),
    "conversation": (("conversation", "conversation_id", "session_id", "thread_id", "chat_id"), ()),
    "model": (("model", "model_name", "model_id", "llm_model", "engine"), TEXTS),
    "status": (("status", "status_code", "http_status"), ()),
    "cache_hit": (("cache_hit", "is_cached", "cached"), ()),
    "input_tokens": (("input_tokens", "prompt_tokens", "tokens_in"), ()),
    "output_tokens": (("output_tokens", "completion_tokens", "tokens_out"), ()),
}  # fmt: skip
#: Our column -> words that a name of its own making holds, where no usual name is there.
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "system": frozenset({"system", "instructions"}),
    "reference": frozenset({"expected", "reference", "gold", "truth"}),
    "response": frozenset({"response", "completion", "output", "reply", "answer"}),
    "messages": frozenset({"messages"}),
    "prompt": frozenset({"prompt", "question", "input", "query"}),
    "model": frozenset({"model", "llm"}),
    "conversation": frozenset({"conversation", "session", "thread"}),
}
#: A name with one of these tells of a text and does not hold it.
_ABOUT = frozenset(
    {"tokens", "token", "count", "len", "length", "size", "hash", "cost", "usd", "price", "ms",
     "latency", "type", "format", "lang", "language", "version", "score", "rating", "url", "name"}
)  # fmt: skip
_NOT_IDS = _ABOUT | {"id"}


def named_columns(
    types: Mapping[str, str], *, wanted: Sequence[str] = (*KEYS, *FIELDS)
) -> dict[str, str]:
    """Our column names and the columns that probably hold them, by name and type ("": any).

    >>> named_columns({"auditId": "uuid", "usrQuestion": "text", "bot_answer": "text"})
    {'response': 'bot_answer', 'prompt': 'usrQuestion'}
    """
    known = [ours for ours in SYNONYMS if ours in wanted]
    chosen = _by_usual_names(types, known)
    for ours, words in _WORDS.items():
        is_prompt_known = ours == "prompt" and "messages" in chosen
        if ours not in known or ours in chosen or is_prompt_known:
            continue
        for theirs, kind in types.items():
            found = set(words_of(theirs))
            about = _ABOUT - {"name"} if ours == "model" else _NOT_IDS
            about = about - {"id"} if ours == "conversation" else about
            is_fit = not SYNONYMS[ours][1] or base_type(kind) in (*SYNONYMS[ours][1], "")
            if is_fit and found & words and not found & about and theirs not in chosen.values():
                chosen[ours] = theirs
                break
    if "messages" in chosen and "prompt" in chosen:
        del chosen["prompt"]  # the whole conversation says more than its last turn
    return chosen


def epoch_column(types: Mapping[str, str]) -> str | None:
    """A column of numbers that probably holds the time as seconds or milliseconds since 1970."""
    for name, kind in types.items():
        words = set(words_of(name))
        if base_type(kind) in NUMBERS and words & {"epoch", "timestamp", "ts", "created", "time"}:
            return name
    return None


def words_of(name: str) -> list[str]:
    """The words of a name, however they are joined.

    >>> words_of("usrQuestionText"), words_of("Expected Answer"), words_of("LLM_model")
    (['usr', 'question', 'text'], ['expected', 'answer'], ['llm', 'model'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name)]


def base_type(type_name: str) -> str:
    """The type without its length."""
    return type_name.partition("(")[0].strip()


def _by_usual_names(types: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    lowered = {name.lower().replace(" ", "_"): name for name in types}
    chosen: dict[str, str] = {}
    for ours in wanted:
        names, allowed = SYNONYMS[ours]
        for name in names:
            theirs = lowered.get(name)
            if theirs is None or theirs in chosen.values():
                continue
            if not allowed or base_type(types[theirs]) in (*allowed, ""):
                chosen[ours] = theirs
                break
    return chosen
