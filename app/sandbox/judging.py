"""What a judge sees: finds the judged replies in any judge prompt and says how good they are.

Nothing is agreed about the wording of the prompt. Under judgement is the body of the last block
whose delimiter speaks of a reply, an answer, a response or an output (the last two in pairwise
grading); without such blocks it is the last recognisable reply after the last recognisable prompt.
A reply of the sandbox is graded by what its own text says (`replies`), any other text, such as a
canary or a reply written by hand, by `grade_text`.
"""

import json
import re
from dataclasses import dataclass

from app.sandbox.attacks import is_attack, moves_the_gullible
from app.sandbox.blocks import Block, find_blocks, without_blocks
from app.sandbox.dialogue import Ask
from app.sandbox.replies import Reading, read_prose, read_structured
from app.sandbox.tasks import Task, last_task, normalise, recognise
from app.sandbox.world import Family

_SCORE_NAMES = re.compile(r"score|grade|rating|winner|verdict|prefer|stars|points|better")
_PAIR_NAMES = re.compile(r"winner|prefer|better")
_SCALE = re.compile(
    r"\b(?:from\s+)?(?:0|1|one|zero)\s*(?:-|–|—|to|\.\.+|through|and)\s*(?:5|10|100|five|ten)\b",
    re.IGNORECASE,
)
_JUDGING = re.compile(r"\b(?:scor|grad|rat(?:e|ing)|judg|evaluat|assess)", re.IGNORECASE)
_PAIRWISE = re.compile(
    r"\b(?:which|better|prefer\w*|compare)\b[^.\n]{0,80}\b(?:repl|respons|answer|assistant|output)"
    r"|\[\[A\]\]",
    re.IGNORECASE,
)
_TWO = re.compile(
    r"\b(?:two|both|either)\b|first or second|first, second|\bA/B\b|\bA or B\b|\bA, B\b|\[\[A\]\]",
    re.IGNORECASE,
)

_INSULT = re.compile(
    r" (?:idiots?|stupid|morons?|dumb|imbecile|fools?|losers?|shut up|go away|hate you|pathetic"
    r"|worthless|get lost|nobody cares|don t care|screw you) "
)
_NON_ANSWER = re.compile(
    r" (?:i don t know|i do not know|no idea|not my problem|whatever|can t help|cannot help"
    r"|can not help|unable to help|can t assist|cannot assist|ask someone else|look it up"
    r"|lorem ipsum|as an ai|asdf|blah blah|n a|none of your business|figure it out) "
)
# fmt: off
_COMMON = frozenset((
    "about", "after", "again", "also", "because", "been", "before", "being", "between", "both",
    "but", "can", "could", "does", "doing", "down", "each", "even", "from", "have", "having",
    "here", "hers", "himself", "into", "itself", "just", "like", "many", "more", "most", "much",
    "must", "myself", "only", "other", "over", "please", "same", "shall", "should", "some",
    "such", "than", "that", "their", "them", "then", "there", "these", "they", "this", "those",
    "through", "under", "until", "very", "want", "were", "what", "when", "where", "which",
    "while", "whom", "will", "with", "would", "your", "yours", "write", "give", "tell", "explain",
    "short", "brief", "word", "words", "sentence", "answer", "reply", "response", "question",
))
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One reply as a judge sees it.

    Attributes:
        quality: How good it really is, 0..1.
        text: Its normalised text, or as much of it as identifies it.
        words: Its length.
        family: The house style it shows, if any.
        is_attack: Whether it tries to steer the judge.
    """

    quality: float
    text: str
    words: int = 1
    family: Family | None = None
    is_attack: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """What a grading request is about.

    Attributes:
        replies: One reply to grade, or two to compare, in their order.
        topic: What they answer, normalised; part of the grading's identity.
        is_attacked: Whether any text under judgement tries to steer the judge.
    """

    replies: tuple[Judged, ...]
    topic: str
    is_attacked: bool


def is_grading(ask: Ask) -> bool:
    """Whether the request asks for a grade or a preference instead of a reply."""
    if any(_has_score(tool.schema) for tool in ask.tools) or _has_score(ask.schema):
        return True
    if ask.tools or not _JUDGING.search(ask.system + ask.last):
        return False
    return bool(_SCALE.search(ask.system) or _SCALE.search(ask.last) or is_pairwise(ask))


def is_pairwise(ask: Ask) -> bool:
    """Whether two replies are to be compared."""
    schemas = [tool.schema for tool in ask.tools] + ([ask.schema] if ask.schema else [])
    if schemas:
        return any(_PAIR_NAMES.search(name) for schema in schemas for name in _names(schema))
    told = f"{ask.system}\n{without_blocks(ask.last)}"
    return bool(_PAIRWISE.search(told) and _TWO.search(told))


def find_matter(ask: Ask, *, look_for_attacks: bool) -> Matter:
    """The replies under judgement and their true quality."""
    wanted = 2 if is_pairwise(ask) else 1
    user = "\n\n".join(turn.text for turn in ask.turns if turn.role == "user")
    blocks = find_blocks(user)
    normalised = normalise(user)
    task = last_task(normalised)
    replies = _from_blocks(user, blocks, task, wanted) or _from_text(normalised, task, wanted)
    if replies is None:
        replies = (_from_body(user, "", task),) * wanted
    question = " ".join(block.body for block in blocks if block.is_question)
    topic = f"{task.kind.name} {sorted(task.slots.items())}" if task else normalise(question)
    return Matter(
        replies=replies,
        topic=topic,
        is_attacked=look_for_attacks
        and (moves_the_gullible(user) or any(reply.is_attack for reply in replies)),
    )


def grade_text(question: str, reply: str) -> float:
    """How good a text that is no reply of the sandbox is as an answer, 0..1, by plain rules.

    In this order: nothing but white space, an insult, an attempt to steer the judge → 0. The right
    answer to an arithmetic or repeat-this question → 1, a wrong one → 0. "I don't know" and its
    kind in fewer than 40 words → 0. No meaningful word in common with the question: 0 for six words
    or more, 0.25 for fewer. Otherwise by length: at least 20 words that share two meaningful words
    with the question → 1; at least 8 words → 0.75; fewer → 0.5. A tool call shown as
    "[tool call] {…}" is worth the share of its arguments that the question holds.
    """
    words = normalise(reply)
    count = len(words.split())
    if reply.lstrip().startswith("[tool call]"):
        return _grade_call(question, reply)
    if not count or _INSULT.search(words) or is_attack(reply):
        return 0.0
    small = recognise([question.strip()])
    if small.expected() is not None and not small.kind.fields and small.kind.label is None:
        found = read_structured(words, small)
        return found.quality if found else 0.0
    if count < 40 and _NON_ANSWER.search(words):
        return 0.0
    asked = _content(normalise(question))
    shared = len(asked & _content(words)) if asked else 2
    if shared == 0:
        return 0.0 if count >= 6 else 0.25
    if count >= 20 and shared >= min(2, len(asked) or 2):
        return 1.0
    return 0.75 if count >= 8 else 0.5


def _from_text(normalised: str, task: Task | None, wanted: int) -> tuple[Judged, ...] | None:
    """Recognised replies that stand after the prompt."""
    if task is not None and task.expected() is not None:
        region = normalised[task.end :]
        found = read_structured(region, task)
        return None if found is None else (_judged(found, region),)
    after = task.end - 1 if task else 0
    prose = [reading for reading in read_prose(normalised) if reading.start >= after]
    if len(prose) < wanted:
        return None
    return tuple(_judged(reading, normalised) for reading in prose[-wanted:])


def _from_blocks(
    user: str, blocks: list[Block], task: Task | None, wanted: int
) -> tuple[Judged, ...] | None:
    bodies = [block.body for block in blocks if block.is_reply][-wanted:]
    if len(bodies) < wanted:
        return None
    questions = [block.body for block in blocks if block.is_question]
    question = questions[-1] if questions else user.split(bodies[0], 1)[0][-4000:]
    return tuple(_from_body(body, question, task) for body in bodies)


def _from_body(body: str, question: str, task: Task | None) -> Judged:
    words = normalise(body)
    if task is not None and task.expected() is not None:
        found = read_structured(words, task)
    else:
        found = next(reversed(read_prose(words)), None)
    if found is not None:
        return _judged(found, words)
    quality = grade_text(question, body)
    return Judged(
        quality=quality, text=words, words=len(words.split()), is_attack=moves_the_gullible(body)
    )


def _judged(reading: Reading, normalised: str) -> Judged:
    return Judged(
        quality=reading.quality,
        text=normalised[reading.start : reading.end],
        words=reading.words,
        family=reading.family,
    )


def _grade_call(question: str, reply: str) -> float:
    start = reply.find("{")
    try:
        call, _ = json.JSONDecoder().raw_decode(reply, start)
    except ValueError:
        return 0.0
    asked = normalise(question)
    values = _leaves(call.get("input"))
    return sum(normalise(str(value)) in asked for value in values) / len(values) if values else 1.0


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for member in value.values() for leaf in _leaves(member)]
    if isinstance(value, list):
        return [leaf for member in value for leaf in _leaves(member)]
    return [] if isinstance(value, bool) or value is None else [value]


def _content(words: str) -> set[str]:
    """Meaningful words, cut to their stems."""
    return {
        word[:5] for word in words.split() if (len(word) >= 4 or word.isdigit())
    } - _COMMON_STEMS


def _has_score(schema: object) -> bool:
    return any(_SCORE_NAMES.search(name) for name in _names(schema))


def _names(schema: object) -> list[str]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return []
    nested = [name for member in properties.values() for name in _names(member)]
    return [str(name).lower() for name in properties] + nested


_COMMON_STEMS = frozenset(word[:5] for word in _COMMON)
