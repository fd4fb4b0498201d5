"""Cases: logged prompts to replay, and the Sample they are drawn in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from app.domain.json_values import JsonObject, canonical, fingerprint

Content = str | tuple[JsonObject, ...]

MOST_IMAGE_TOKENS = 6_000
"""Above the documented bill of one image for current models; one that counts its tiles many times
over (gpt-4o-mini) can exceed it until the call is settled, at cents per thousand images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation; blocks are in the shape of the Anthropic Messages API."""

    role: Literal["user", "assistant"]
    content: Content

    def to_json(self) -> dict[str, object]:
        """The message as the Messages API takes it."""
        content = self.content if isinstance(self.content, str) else list(self.content)
        return {"role": self.role, "content": content}

    @property
    def text(self) -> str:
        """All text of the message, blocks joined by blank lines."""
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(
            str(block.get("text", "")) for block in self.content if block.get("type") == "text"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Everything a model is sent for one Case, in the shape of the Anthropic Messages API.

    Attributes:
        messages: The conversation; ends with the turn to be answered.
        system: The system prompt, if any.
        tools: Tool definitions as logged.
        params: Parameters as logged, such as max_tokens, temperature, stop_sequences, tool_choice.
    """

    messages: tuple[Message, ...]
    system: str | None = None
    tools: tuple[JsonObject, ...] = ()
    params: JsonObject = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The prompt as plain JSON."""
        return {
            "messages": [message.to_json() for message in self.messages],
            "system": self.system,
            "tools": list(self.tools),
            "params": dict(self.params),
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> "Prompt":
        """The prompt that `to_json` wrote."""
        messages = data["messages"]
        tools = data.get("tools") or ()
        params = data.get("params") or {}
        if not isinstance(messages, list) or not isinstance(params, Mapping):
            raise TypeError("messages must be a list and params an object")
        system = data.get("system")
        return cls(
            messages=tuple(
                Message(
                    role=message["role"],
                    content=message["content"]
                    if isinstance(message["content"], str)
                    else tuple(message["content"]),
                )
                for message in messages
            ),
            system=None if system is None else str(system),
            tools=tuple(tools),  # type: ignore[arg-type]
            params=dict(params),
        )

    @property
    def fingerprint(self) -> str:
        """Equal for prompts that are equal in every part."""
        return fingerprint(self.to_json())

    @property
    def most_tokens(self) -> int:
        """At most so many input tokens: one per UTF-8 byte of text, a flat ceiling per image."""
        images = 0

        def without_images(value: object) -> object:
            nonlocal images
            if isinstance(value, Mapping):
                if value.get("type") == "image":
                    images += 1
                    return None
                return {key: without_images(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [without_images(item) for item in value]
            return value

        text = canonical(without_images(self.to_json()))
        return len(text.encode("utf-8", "surrogatepass")) + images * MOST_IMAGE_TOKENS

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all that is sent: an upper bound of its tokens."""
        return len(canonical(self.to_json()).encode("utf-8", "surrogatepass"))

    @property
    def last_user_text(self) -> str:
        """The text of the turn to be answered."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def is_later_turn(self) -> bool:
        """Whether the conversation already holds an assistant's words."""
        return any(message.role == "assistant" for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One logged prompt to replay.

    Attributes:
        case_id: UUID, derived from the Run and the ordinal.
        ordinal: Position in the Sample, from 0, in random order.
        copies: How many drawn rows this Case stands for (exact duplicates folded).
        weight: Share of the traffic this Case stands for; the weights of a Sample sum to 1
            (anchors weigh 0).
        stratum: Name of the stratum it was drawn from ("" when the draw was uniform).
        conversation: Key of the logged conversation, None when unknown.
        block: Number of the block of Cases it belongs to, from 0.
        anchor_of: For an anchor, the case_id of its first appearance; else None.
        tool_calls: The logged tool calls, where a reference answer has any.
    """

    case_id: str
    source_id: str
    ordinal: int
    prompt: Prompt
    copies: int = 1
    weight: float
    stratum: str = ""
    conversation: str | None = None
    block: int = 0
    segments: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    logged_response: str | None = None
    logged_at: datetime | None = None
    anchor_of: str | None = None
    tool_calls: tuple[JsonObject, ...] = ()

    @property
    def is_anchor(self) -> bool:
        """Whether the Case is repeated from earlier weeks."""
        return self.anchor_of is not None


class SkipReason(StrEnum):
    """Why a logged row was not replayed."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    BINARY = "binary"
    CUT_BY_LOGGER = "cut_by_logger"
    UNSUPPORTED = "unsupported_content"
    UNREADABLE = "unreadable"
    FAILED = "failed_call"
    CACHED = "cache_hit"
    EXCLUDED = "excluded_segment"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A half-open span of logged time: start included, end not."""

    start: datetime
    end: datetime

    @property
    def days(self) -> float:
        """Length in days."""
        return (self.end - self.start).total_seconds() / 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The set of Cases drawn for one Run.

    Attributes:
        frame: Rows the log holds in the window.
        requested: Rows asked for.
        drawn: Replayable rows drawn; larger than the number of Cases when duplicates were folded.
        skipped: Rows met and not replayed, by reason.
        mean_logged_output_tokens: Of the drawn rows, where the log tells; for cost forecasts.
        replayable: About how many rows logged in the window can be replayed; rows without a time
            are in every window and count in none. None where it was not kept.
    """

    window: Window
    seed: int
    frame: int
    requested: int
    drawn: int
    cases: tuple[Case, ...]
    anchors: tuple[Case, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    mean_logged_output_tokens: float | None = None
    replayable: float | None = None

    def without_texts(self) -> "Sample":
        """Return the Sample with empty Prompts: all that a Run needs of it beside its shards."""
        return replace(
            self,
            cases=tuple(map(_without_texts, self.cases)),
            anchors=tuple(map(_without_texts, self.anchors)),
        )

    @property
    def requests_per_month(self) -> float | None:
        """The window's logged volume scaled to 30 days, None where no row tells when it was logged.

        Rows that no candidate was tried on (excluded, failed, cut, served from a cache) save
        nothing.
        """
        rows = self._replayable_as_met() if self.replayable is None else self.replayable
        return rows * 30 / self.window.days if rows > 0 and self.window.days > 0 else None

    def _replayable_as_met(self) -> float:
        """The replayable rows where only the rows met were counted, over all strata."""
        if self.cases and all(case.logged_at is None for case in self.cases):
            return 0.0
        met = self.drawn + sum(self.skipped.values())
        return self.frame * self.drawn / met if met else 0.0


_NO_PROMPT = Prompt(messages=())


def _without_texts(case: Case) -> Case:
    return replace(case, prompt=_NO_PROMPT, reference=None, logged_response=None, tool_calls=())
