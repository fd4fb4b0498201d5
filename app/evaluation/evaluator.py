"""What every Evaluator offers, and how one is attached to a Plan."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import ClassVar, Protocol

from pydantic import ConfigDict

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.json_values import fingerprint
from app.domain.scores import Score, ScoreRecord, Unscored


class Evaluator(Protocol):
    """Turns a Case and a successful Completion into a Score, or says why it cannot."""

    @property
    def name(self) -> str:
        """What it is called in a Plan."""

    @property
    def version(self) -> str:
        """Changes whenever its scores might."""

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Score one reply, from 0 to 1."""


class Versioned:
    """Derives an Evaluator's version from its parameters and the version of its code.

    Raise `code_version` whenever the same parameters would give other scores than before.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: ClassVar[str]
    code_version: ClassVar[int] = 1

    @property
    def version(self) -> str:
        """Changes with any parameter and with the code."""
        return fingerprint([self.name, self.code_version, parameters(self)])


def parameters(evaluator: object) -> dict[str, object]:
    """The parameters of an Evaluator that is a dataclass, as JSON values; else nothing."""
    if not is_dataclass(evaluator):
        return {}
    return {item.name: _plain(getattr(evaluator, item.name)) for item in fields(evaluator)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredEvaluator:
    """An Evaluator as a Plan uses it.

    Attributes:
        label: How its scores are named.
        is_gate: Whether a score below 1 makes the response unsuccessful.
        weight: Its weight in the quality of a reply.
        when: Segments a Case must have for it to apply.
    """

    label: str
    evaluator: Evaluator
    is_gate: bool = False
    weight: float = 1.0
    when: Mapping[str, str] = field(default_factory=dict)

    def applies_to(self, case: Case) -> bool:
        """Whether the Case lies in the segments it is limited to."""
        return is_within(case, self.when)

    def record(self, case: Case, model_name: str, completion: Completion) -> ScoreRecord:
        """Score one reply; whatever the Evaluator raises becomes an Unscored value."""
        return ScoreRecord(
            case_id=case.case_id,
            model_name=model_name,
            evaluator=self.label,
            evaluator_version=self.evaluator.version,
            result=_scored(self.evaluator, case, completion),
            is_gate=self.is_gate,
            weight=0.0 if self.is_gate else self.weight,
        )


def is_within(case: Case, when: Mapping[str, str]) -> bool:
    """Whether the Case has all the named segment values."""
    return all(case.segments.get(name) == value for name, value in when.items())


def passed(is_right: bool, reason: str) -> Score:
    """The Score of a yes-or-no check."""
    return Score(value=1.0 if is_right else 0.0, reason=reason)


def _scored(evaluator: Evaluator, case: Case, completion: Completion) -> Score | Unscored:
    try:
        result: object = evaluator.score(case, completion)
    except Exception as error:  # noqa: BLE001 an own evaluator may raise anything; the Run goes on
        name = type(error).__name__  # the message may quote the prompt, so only the class is kept
        return Unscored(reason=f"the evaluator raised {name}", detail={"error": name})
    if isinstance(result, Score | Unscored):
        return result
    if inspect.iscoroutine(result):
        result.close()
    name = type(result).__name__
    return Unscored(reason=f"the evaluator returned {name} instead of a Score", detail={})


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        members = [_plain(member) for member in value]
        return sorted(members, key=str) if isinstance(value, set | frozenset) else members
    return value if isinstance(value, str | int | float | None) else repr(value)
