"""What a request asks and what the reply holds, in no vendor's shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from app.sandbox.draws import fingerprint
from app.sandbox.tasks import Task, recognise

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message as plain text; tool calls and results are rendered into it."""

    role: str
    text: str
    is_tool_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool the model may call."""

    name: str
    description: str = ""
    schema: Schema = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request to a model.

    Attributes:
        model: The name asked for.
        system: The system prompt, empty when there is none.
        turns: The conversation.
        tools: What may be called.
        tool_choice: "auto", "any", "none", or the name of the one tool to call.
        schema: The JSON schema the reply must meet, if any.
        wants_json: Whether a JSON object is demanded without a schema.
        max_tokens: Where the reply is cut.
        stop: Sequences that end the reply.
        is_stream: Whether the reply comes as events.
        wants_usage: Whether a stream reports usage.
        features: Request features an endpoint might refuse.
        wants_vectors: Whether the turns are texts to embed, not a conversation.
    """

    model: str
    system: str = ""
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    schema: Schema | None = None
    wants_json: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    is_stream: bool = False
    wants_usage: bool = True
    features: frozenset[str] = frozenset()
    wants_vectors: bool = False

    @cached_property
    def case(self) -> str:
        """The fingerprint of system prompt and conversation."""
        return fingerprint(self.system, *(f"{turn.role}\x1e{turn.text}" for turn in self.turns))

    @cached_property
    def key(self) -> str:
        """The fingerprint of model, system prompt and conversation."""
        return fingerprint(self.model, self.case)

    @cached_property
    def prompt(self) -> str:
        """All text of the request."""
        return "\n\n".join([self.system, *(turn.text for turn in self.turns)]).strip()

    @property
    def last(self) -> str:
        """The last turn's text."""
        return self.turns[-1].text if self.turns else ""

    @cached_property
    def task(self) -> Task:
        """What the last user turn asks for."""
        return recognise([turn.text for turn in self.turns if turn.role == "user"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A model's reply before a vendor's shape and before any fault.

    Attributes:
        text: The reply's text; empty with a tool call.
        tool: Name of the tool called, if any.
        tool_input: Its arguments as JSON text.
        stop_reason: Why the reply ended.
        stop_sequence: The sequence that ended it, if one did.
        input_tokens: Tokens of the request, without those read from the cache.
        cache_read_tokens: Tokens of the request read from the cache.
        output_tokens: All tokens billed as output, hidden ones included.
        thinking_tokens: The hidden ones.
        ttft_s: Time to the first token.
        latency_s: Time to the last one.
        quality: True quality of an ordinary reply.
        judged: Fingerprint of what was graded, for a grading.
        grade: What a judge answered, for a grading.
    """

    text: str = ""
    tool: str | None = None
    tool_input: str = ""
    stop_reason: StopReason = "end_turn"
    stop_sequence: str | None = None
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    ttft_s: float = 0.0
    latency_s: float = 0.0
    quality: float | None = None
    judged: str | None = None
    grade: str | None = None
