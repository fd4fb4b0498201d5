from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.domain.cases import Case, Message, Prompt
from app.sampling.anchors import choose_anchors, is_new_month, repeated


def case(name: str, *, ordinal: int = 0, weight: float = 0.1, anchor_of: str | None = None) -> Case:
    prompt = Prompt(messages=(Message(role="user", content=f"prompt {anchor_of or name}"),))
    return Case(
        case_id=name,
        source_id=name,
        ordinal=ordinal,
        prompt=prompt,
        weight=weight,
        anchor_of=anchor_of,
    )


POOL = [case(f"pool-{n}") for n in range(50)]
IN_USE = [
    case(f"in-use-{n}", ordinal=100 + n, weight=0.0, anchor_of=f"first-{n}") for n in range(8)
]


def test_the_first_anchors_are_drawn_from_earlier_cases() -> None:
    chosen = choose_anchors((), POOL, wanted=20, seed=3)
    assert len({anchor.case_id for anchor in chosen}) == 20


def test_anchors_in_use_stay_until_the_month_turns() -> None:
    assert choose_anchors(IN_USE, POOL, wanted=8, seed=3) == tuple(IN_USE)


def test_a_new_month_rotates_the_longest_serving_quarter_out() -> None:
    chosen = choose_anchors(IN_USE, POOL, wanted=8, seed=3, rotate=True)
    assert chosen[:6] == tuple(IN_USE[2:])
    assert all(new.case_id.startswith("pool-") for new in chosen[6:])
    assert len(chosen) == 8


def test_a_rotated_anchor_does_not_come_back_at_once() -> None:
    pool = [case("first-0"), case("first-1"), case("other")]
    chosen = choose_anchors(IN_USE, pool, wanted=8, seed=3, rotate=True)
    assert [new.case_id for new in chosen[6:]] == ["other"]


def test_an_anchor_is_never_repeated_twice() -> None:
    pool = [case("a"), case("b", anchor_of="a", weight=0.0), case("c")]
    assert {new.case_id for new in choose_anchors((), pool, wanted=5, seed=1)} == {"a", "c"}


def test_frequent_prompts_are_likelier_anchors() -> None:
    pool = [case("heavy", weight=0.5), *(case(f"light-{n}", weight=0.05) for n in range(10))]
    firsts = Counter(choose_anchors((), pool, wanted=1, seed=s)[0].case_id for s in range(800))
    assert 340 < firsts["heavy"] < 460  # half of the draws, ±4 standard deviations


def test_fewer_anchors_wanted_keep_the_longest_serving() -> None:
    assert choose_anchors(IN_USE, POOL, wanted=3, seed=1) == tuple(IN_USE[:3])


def test_repeated_anchors_weigh_nothing_and_point_at_their_first_appearance() -> None:
    anchors = repeated([POOL[0], IN_USE[1]], run_id="run", first_ordinal=40)
    assert [anchor.anchor_of for anchor in anchors] == ["pool-0", "first-1"]
    assert [anchor.weight for anchor in anchors] == [0.0, 0.0]
    assert [anchor.ordinal for anchor in anchors] == [40, 41]
    assert len({anchor.case_id for anchor in (*anchors, POOL[0], IN_USE[1])}) == 4


def test_the_month_turns_on_the_local_calendar() -> None:
    before = datetime(2026, 3, 31, 20, tzinfo=UTC)
    after = datetime(2026, 3, 31, 23, tzinfo=UTC)
    assert is_new_month(before, after, ZoneInfo("Europe/Berlin"))
    assert not is_new_month(before, after, ZoneInfo("UTC"))
