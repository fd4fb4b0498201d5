import json
import random
from itertools import combinations

import pytest

from app.sandbox.phrasebook import KINDS, TANGLES, Kind
from app.sandbox.replies import read, steps, write
from app.sandbox.replybook import CLOSERS, EMPTY_TALK, FILLERS, OPENERS, TICS
from app.sandbox.tasks import Task, fill, last_task, make_slots, normalise, recognise


def request(kind: Kind, seed: int = 1, phrasing: int = 0) -> tuple[str, dict[str, str]]:
    texts = (*kind.phrasings, *kind.facts, *kind.follow_ups)
    slots = make_slots(random.Random(seed), texts, year=2026)
    return fill(kind.phrasings[phrasing], slots), slots


def task_of(kind: Kind, seed: int = 1) -> Task:
    return recognise([request(kind, seed)[0]])


def reply(task: Task, level: int, seed: int = 1, tokens: int = 120) -> str:
    return write(task, level, rng=random.Random(seed), family="cedar", tokens=tokens)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_phrasing_is_recognised_with_the_values_it_was_filled_with(kind: Kind) -> None:
    for seed in range(12):
        for phrasing in range(len(kind.phrasings)):
            text, slots = request(kind, seed, phrasing)
            task = recognise([f"Hello, {text} Thanks!"])
            assert task.kind is kind
            named = {
                name: value for name, value in task.slots.items() if f"{{{name}}}" in kind.facts
            }
            assert named == {name: slots[name] for name in named}
            if kind.fields:
                assert {name: task.slots[name] for _, name, _ in kind.fields} == {
                    name: slots[name] for _, name, _ in kind.fields
                }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_right_answer_can_be_derived_from_a_prompt_quoted_in_another_text(kind: Kind) -> None:
    for seed in range(6):
        text, _ = request(kind, seed)
        quoted = normalise(f"Rubric first.\n{json.dumps({'conversation': text})}\nthe reply: x")
        found = last_task(quoted)
        assert found is not None
        assert found.kind is kind
        expected, derived = recognise([text]).expected(), found.expected()
        if isinstance(expected, dict) and isinstance(derived, dict):
            assert {key: normalise(str(value)) for key, value in derived.items()} == {
                key: normalise(str(value)) for key, value in expected.items()
            }
        else:
            assert derived == expected


def test_later_turns_take_their_values_from_earlier_ones() -> None:
    kind = next(kind for kind in KINDS if kind.name == "late_order")
    text, slots = request(kind)
    task = recognise([text, fill(kind.follow_ups[0], slots)])
    assert task.kind is kind
    assert task.slots["item"] == slots["item"]


def test_a_tangled_request_is_seen_to_be_hard() -> None:
    for kind in KINDS:
        text, _ = request(kind)
        assert not recognise([text]).hard
        assert recognise([f"{text} {TANGLES[kind.route][0]}"]).hard


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_quality_of_a_reply_can_be_read_from_its_text(kind: Kind) -> None:
    task = task_of(kind)
    for level in range(steps(task) + 1):
        text = reply(task, level, seed=level)
        marked = "\n".join(f"> {line}" for line in text.splitlines())
        for shown in (text, f"x {json.dumps(text)} y", marked, text.replace(" ", "ˆ")):
            assert read(shown, task) == pytest.approx(level / steps(task))


def test_a_text_from_elsewhere_has_no_quality_to_read() -> None:
    assert read("The capital of France is Paris, as everyone knows.") is None
    assert read("") is None


def test_a_cut_reply_is_worth_at_most_half() -> None:
    task = task_of(KINDS[0])
    text = reply(task, 20)
    assert (read(text[: len(text) // 2]) or 0) <= 0.5


def test_a_better_reply_states_more_right_facts() -> None:
    kind = next(kind for kind in KINDS if kind.name == "late_order")
    task = task_of(kind)
    facts = [fill(fact, task.slots) for fact in kind.facts]

    def right(level: int) -> int:
        return sum(fact in reply(task, level) for fact in facts)

    assert right(20) == len(facts)
    assert right(0) == 0
    assert right(20) > right(10) > right(0)


def test_a_useless_extraction_does_not_parse_and_a_perfect_one_holds_every_value() -> None:
    kind = next(kind for kind in KINDS if kind.name == "contract")
    task = task_of(kind)
    for seed in range(20):
        useless = reply(task, 0, seed=seed)
        with pytest.raises(ValueError, match=r"."):
            json.loads(useless)
        perfect = reply(task, 5, seed=seed).removeprefix("```json\n").removesuffix("\n```")
        assert json.loads(perfect) == task.expected()


def test_a_poor_extraction_has_wrong_or_missing_values() -> None:
    task = task_of(next(kind for kind in KINDS if kind.name == "invoice"))
    expected = task.expected()
    assert isinstance(expected, dict)
    for seed in range(20):
        text = reply(task, 2, seed=seed).removeprefix("```json\n").removesuffix("\n```")
        answer = json.loads(text)
        assert sum(answer.get(key) == value for key, value in expected.items()) == 2


def test_a_wrong_classification_is_another_label_of_the_list() -> None:
    kind = next(kind for kind in KINDS if kind.name == "data_loss")
    task = task_of(kind)
    assert reply(task, 1) == "data_loss"
    assert {reply(task, 0, seed=seed) for seed in range(30)} <= set(kind.labels) - {"data_loss"}


def test_the_right_code_works_and_the_buggy_one_does_not() -> None:
    kind = next(kind for kind in KINDS if kind.name == "chunks")
    task = task_of(kind)

    def batches(level: int) -> list[list[int]]:
        source = reply(task, level).split("```python\n")[1].split("```")[0]
        scope: dict[str, object] = {}
        exec(source, scope)
        split = scope[task.slots["function"]]
        assert callable(split)
        return list(split(range(int(task.slots["number"]) * 2 + 1)))

    assert [len(batch) for batch in batches(20)][-1] == 1
    assert sum(len(batch) for batch in batches(9)) < int(task.slots["number"]) * 2 + 1


def test_small_questions_have_right_and_wrong_answers() -> None:
    arithmetic = recognise(["What is 17 + 25?"])
    assert reply(arithmetic, 1) == "42"
    assert reply(arithmetic, 0) != "42"
    echo = recognise(["Reply with exactly the word: PONG"])
    assert reply(echo, 1) == "PONG"


def test_length_follows_the_verbosity() -> None:
    task = task_of(KINDS[0])
    assert len(reply(task, 18, tokens=400)) > 1500
    assert len(reply(task, 18, tokens=40)) < 900


def test_no_sentence_of_the_books_hides_in_another() -> None:
    sentences = [
        normalise(text)
        for text in (
            *(text for bands in OPENERS.values() for band in bands for text in band),
            *(text for closers in CLOSERS for text in closers),
            *(text for fillers in FILLERS.values() for text in fillers),
            *EMPTY_TALK,
            *TICS.values(),
        )
    ]
    assert len(set(sentences)) == len(sentences)
    assert [pair for pair in combinations(sentences, 2) if pair[0] in pair[1]] == []
    facts = normalise(" ".join(fact for kind in KINDS for fact in kind.facts))
    assert [sentence for sentence in sentences if sentence in facts] == []
