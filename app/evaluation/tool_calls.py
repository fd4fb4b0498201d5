"""The tool_call check: the right tools with the right arguments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.json_values import JsonObject, canonical
from app.domain.scores import Score, Unscored
from app.evaluation.evaluator import Versioned

_WRONG_ARGUMENTS_WORTH = 0.5


class _Call(NamedTuple):
    tool: str
    arguments: Mapping[str, object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Versioned):
    """Share of the expected tool calls made: 1 each with right arguments, ½ with other ones.

    Needless calls count against the reply: the sum is divided by the larger of the numbers of
    calls expected and made. The order of calls does not matter.

    Attributes:
        tool: Name of the one tool to call, instead of the Case's logged tool calls.
        arguments: Arguments it must be called with; none given means any.
        compare: `equal`: arguments must be equal. `subset`: further arguments are allowed.
            `ignore`: only the tool's name counts.
    """

    name: ClassVar[str] = "tool_call"

    tool: str | None = None
    arguments: Mapping[str, object] | None = None
    compare: Literal["equal", "subset", "ignore"] = "equal"

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Match the calls made with the calls expected."""
        expected = self._expected(case)
        if not expected:
            return Unscored(reason="the Case has no logged tool call to compare with")
        made = [_read(call) for call in completion.tool_calls]
        right, named = self._matches(expected, made)
        worth = right + _WRONG_ARGUMENTS_WORTH * (named - right)
        return Score(
            value=worth / max(len(expected), len(made)),
            reason=f"{len(expected)} calls expected, {len(made)} made: {named} to the right tool, "
            f"{right} with the right arguments",
        )

    def _expected(self, case: Case) -> list[_Call]:
        if self.tool is not None:
            return [_Call(self.tool, self.arguments)]
        return [_read(call) for call in case.tool_calls]

    def _matches(self, expected: Sequence[_Call], made: Sequence[_Call]) -> tuple[int, int]:
        """How many calls match wholly, and how many at least by name."""
        left = list(made)
        missed: list[_Call] = []
        for wanted in expected:
            match = next((call for call in left if self._is_right(wanted, call)), None)
            if match is None:
                missed.append(wanted)
            else:
                left.remove(match)
        right = len(expected) - len(missed)
        named = right
        for wanted in missed:
            match = next((call for call in left if call.tool == wanted.tool), None)
            if match is not None:
                left.remove(match)
                named += 1
        return right, named

    def _is_right(self, wanted: _Call, made: _Call) -> bool:
        if wanted.tool != made.tool:
            return False
        if self.compare == "ignore" or wanted.arguments is None:
            return True
        if made.arguments is None:
            return False
        if self.compare == "subset":
            return all(
                key in made.arguments and _same(value, made.arguments[key])
                for key, value in wanted.arguments.items()
            )
        return _same(wanted.arguments, made.arguments)


def _read(call: JsonObject) -> _Call:
    """A tool call in the shape of either vendor; arguments that are no object become None."""
    function = call.get("function")
    source = function if isinstance(function, Mapping) else call
    arguments = source.get("input", source.get("arguments"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = None
    return _Call(str(source.get("name", "")), arguments if isinstance(arguments, Mapping) else None)


def _same(a: object, b: object) -> bool:
    return canonical(_folded(a)) == canonical(_folded(b))


def _folded(value: object) -> object:
    """The value with whole floats as integers, so that 3.0 equals 3."""
    if isinstance(value, Mapping):
        return {str(key): _folded(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_folded(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
