"""Replies of a set quality: written so that the quality can be read from the text alone.

Prose carries its quality in twentieths in its first and last sentence (`replybook`), and looks the
part: a good reply states the right facts, a poor one wrong or no facts and empty talk. Structured
answers carry it in their content: the share of right fields of a JSON object (a useless one is cut
and does not parse), the right or a wrong label, the right or a wrong number.
"""

import json
import random
from dataclasses import dataclass

from app.sandbox.replybook import CLOSERS, EMPTY_TALK, FILLERS, OPENERS, TICS
from app.sandbox.tasks import Task, altered, fill, normalise
from app.sandbox.world import Family

PROSE_STEPS = 20
CHARS_PER_TOKEN = 4
_STEPS_PER_BAND = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader of the books finds in a text.

    Attributes:
        quality: True quality 0..1.
        words: Length of the reply in words.
        family: The house style, where the reply shows one.
        start: Where the reply begins in the normalised text.
        end: Where it ends.
    """

    quality: float
    words: int = 1
    family: Family | None = None
    start: int = 0
    end: int = 0


def steps(task: Task) -> int:
    """How many quality steps a reply to this task can show."""
    if task.kind.fields:
        return len(task.kind.fields)
    return 1 if task.expected() is not None else PROSE_STEPS


def write(task: Task, level: int, *, rng: random.Random, family: Family, tokens: int) -> str:
    """A reply to the task whose true quality is level/steps(task)."""
    if task.kind.fields:
        return _json_reply(task, level, rng)
    if task.kind.label is not None:
        return task.kind.label if level else rng.choice(_other_labels(task))
    if task.expected() is not None:
        return _short_reply(task, right=level > 0, rng=rng)
    return _prose(task, level, rng=rng, family=family, tokens=tokens)


def read(text: str, task: Task | None = None) -> float | None:
    """The true quality of a reply's text; None when it is no reply of the sandbox.

    Structured replies can only be read with the task they answer.
    """
    normalised = normalise(text)
    if task is not None and task.expected() is not None:
        found = read_structured(normalised, task)
        return None if found is None else found.quality
    prose = read_prose(normalised)
    return prose[-1].quality if prose else None


def read_prose(normalised: str) -> list[Reading]:
    """Every prose reply in a normalised text, in order."""
    opened = sorted(_occurrences(normalised, _OPENERS))
    closed = sorted(_occurrences(normalised, _CLOSERS))
    readings: list[Reading] = []
    for index, (start, band, _) in enumerate(opened):
        limit = opened[index + 1][0] if index + 1 < len(opened) else len(normalised)
        close = next(((s, sub, end) for s, sub, end in closed if start < s < limit), None)
        end = close[2] if close else limit
        level = band * _STEPS_PER_BAND + (close[1] if close else 0)
        cut = 1.0 if close else 0.5
        body = normalised[start:end]
        readings.append(
            Reading(
                quality=min(level / PROSE_STEPS * cut, 1.0),
                words=body.count(" "),
                family=next((name for name, tic in _TICS.items() if tic in body), None),
                start=start,
                end=end,
            )
        )
    return readings


def read_structured(normalised: str, task: Task) -> Reading | None:
    """The last JSON object, label or short answer to the task in a normalised text."""
    if task.kind.fields:
        return _read_fields(normalised, task)
    if task.kind.label is not None:
        return _read_label(normalised, task)
    answer = normalise(task.expected_text() or "")
    found = normalised.rfind(answer)
    if found >= 0:
        return Reading(quality=1.0, start=found, end=found + len(answer))
    return Reading(quality=0.0, end=len(normalised)) if normalised.strip() else None


def _prose(task: Task, level: int, *, rng: random.Random, family: Family, tokens: int) -> str:
    band = min(level // _STEPS_PER_BAND, 4)
    group = task.route if task.route in OPENERS else "open"
    opener = rng.choice(OPENERS[group][band])
    closer = rng.choice(CLOSERS[level - band * _STEPS_PER_BAND])
    quality = level / PROSE_STEPS
    sentences = [*_facts(task, quality, rng)]
    pool = list(FILLERS[group] if band >= 2 else EMPTY_TALK)
    rng.shuffle(pool)
    code = _code_block(task, quality)
    length = len(opener) + len(closer) + len(code) + sum(map(len, sentences)) + 30
    index = 0
    while length < tokens * CHARS_PER_TOKEN and index < 400:
        sentence = fill(pool[index % len(pool)], task.slots)
        sentences.append(sentence)
        length += len(sentence) + 1
        index += 1
    paragraphs = [f"{opener} {TICS[family]}", code, " ".join(sentences), closer]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _facts(task: Task, quality: float, rng: random.Random) -> list[str]:
    """As many right facts as the quality grants; the others are left out or wrong."""
    facts = list(task.kind.facts) or [_echo_fact(task)]
    right = round(quality * len(facts))
    wrong_slots = altered(rng, task.slots)
    order = list(range(len(facts)))
    rng.shuffle(order)
    kept, spoiled = set(order[:right]), set(order[right:][: 2 if quality < 0.7 else 1])
    return [
        fill(fact, task.slots if index in kept else wrong_slots)
        for index, fact in enumerate(facts)
        if index in kept or (index in spoiled and task.slots)
    ]


def _echo_fact(task: Task) -> str:
    topic = task.slots.get("topic", "")
    return f"Your question is about {topic}." if topic else "This answers what you asked."


def _code_block(task: Task, quality: float) -> str:
    if task.kind.code is None:
        return ""
    right, buggy, evasive = task.kind.code
    source = right if quality >= 0.7 else buggy if quality >= 0.35 else evasive
    return f"```python\n{fill(source, task.slots)}```"


def _json_reply(task: Task, level: int, rng: random.Random) -> str:
    expected = task.expected()
    if not isinstance(expected, dict):
        raise TypeError("a task with fields expects an object")
    keys = list(expected)
    if level == 0:
        return f'Here is the data you asked for:\n```json\n{{\n  "{keys[0]}": "'
    wrong = dict(zip(keys, _wrong_values(task, rng), strict=True))
    spoiled = set(rng.sample(keys, len(keys) - level))
    answer: dict[str, object] = {}
    for key in keys:
        if key not in spoiled:
            answer[key] = expected[key]
        elif rng.random() < 0.6:
            answer[key] = wrong[key]
    text = json.dumps(answer, ensure_ascii=False)
    return f"```json\n{text}\n```" if rng.random() < 0.15 else text


def _wrong_values(task: Task, rng: random.Random) -> list[object]:
    wrong = Task(kind=task.kind, slots=altered(rng, task.slots)).expected()
    return list(wrong.values()) if isinstance(wrong, dict) else []


def _short_reply(task: Task, *, right: bool, rng: random.Random) -> str:
    answer = task.expected_text() or ""
    if right:
        return answer
    if answer.lstrip("-").isdigit():
        return str(int(answer) + rng.choice((-10, -3, 7, 11)))
    return "something else entirely"


def _other_labels(task: Task) -> list[str]:
    return [label for label in task.kind.labels if label != task.kind.label]


def _read_fields(normalised: str, task: Task) -> Reading | None:
    """Walks the keys from the end until one comes twice: that is the last object."""
    expected = task.expected()
    if not isinstance(expected, dict):
        return None
    keys = {normalise(key): normalise(json.dumps(value)) for key, value in expected.items()}
    places = sorted(
        (start, key, end) for key in keys for start, _, end in _occurrences(normalised, ((key, 0),))
    )
    seen: set[str] = set()
    right, start, stop = 0, 0, 0
    for begin, key, end in reversed(places):
        if key in seen:
            break
        seen.add(key)
        start = begin
        is_right = normalised.startswith(keys[key], end - 1)
        right += is_right
        stop = max(stop, end + (len(keys[key]) if is_right else 0))
    if not seen:
        return None
    words = normalised.count(" ", start, stop)
    return Reading(quality=right / len(keys), words=words, start=start, end=stop)


def _read_label(normalised: str, task: Task) -> Reading | None:
    places = [
        (normalised.rfind(normalise(label)), label)
        for label in task.kind.labels
        if normalise(label) in normalised
    ]
    if not places:
        return None
    start, label = max(places)
    end = start + len(normalise(label))
    return Reading(quality=float(label == task.kind.label), start=start, end=end)


def _occurrences(
    normalised: str, phrases: tuple[tuple[str, int], ...]
) -> list[tuple[int, int, int]]:
    """(start, mark, end) of every phrase in the text; phrases begin and end with a space."""
    found = []
    for phrase, mark in phrases:
        start = normalised.find(phrase)
        while start >= 0:
            found.append((start, mark, start + len(phrase)))
            start = normalised.find(phrase, start + len(phrase) - 1)
    return found


_OPENERS = tuple(
    (normalise(text), band)
    for group in OPENERS.values()
    for band, texts in enumerate(group)
    for text in texts
)
_CLOSERS = tuple((normalise(text), sub) for sub, texts in enumerate(CLOSERS) for text in texts)
_TICS: dict[Family, str] = {family: normalise(text) for family, text in TICS.items()}
