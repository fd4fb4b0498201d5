from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.cases import Sample, Window
from app.domain.errors import NothingToReplay
from app.domain.plans import Privacy, SampleSettings
from app.ports import LogRow
from app.sampling.draw import DrawRequest, draw_sample
from tests.fakes.log_sources import MemoryLogs

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=7))
BY_ROUTE = SampleSettings(n=40, strategy="stratified", by=("route",))
ROUTES = {"chat": 0.7, "extract": 0.25, "rare": 0.05}


def row(n: int, prompt: str | None = None, *, route: str = "chat", **fields: object) -> LogRow:
    return LogRow(
        source_id=f"row-{n}",
        created_at=START + timedelta(minutes=n),
        segments={"route": route},
        fields={"prompt": f"prompt {n}" if prompt is None else prompt, **fields},
    )


def traffic(count: int) -> list[LogRow]:
    routes = [route for route, share in ROUTES.items() for _ in range(round(share * 20))]
    return [row(n, route=routes[n % 20]) for n in range(count)]


def request(**changes: object) -> DrawRequest:
    whole = DrawRequest(run_id="run", window=WINDOW, seed=7, settings=SampleSettings(n=40))
    return replace(whole, **changes)  # type: ignore[arg-type]


async def draw(rows: list[LogRow], **changes: object) -> Sample:
    return await draw_sample(MemoryLogs(rows=rows), request(**changes))


async def test_the_rows_asked_for_are_drawn() -> None:
    sample = await draw(traffic(400))
    assert (sample.frame, sample.requested, sample.drawn) == (400, 40, 40)


async def test_the_same_seed_draws_the_same_cases() -> None:
    assert await draw(traffic(400)) == await draw(traffic(400))


async def test_another_seed_draws_other_cases() -> None:
    first, second = await draw(traffic(400)), await draw(traffic(400), seed=8)
    assert {c.source_id for c in first.cases} != {c.source_id for c in second.cases}


async def test_the_order_of_rows_in_the_log_does_not_matter() -> None:
    rows = traffic(400)
    shuffled = list(rows)
    Random(1).shuffle(shuffled)
    assert await draw(rows, settings=BY_ROUTE) == await draw(shuffled, settings=BY_ROUTE)


async def test_only_rows_of_the_half_open_window_are_drawn() -> None:
    edge = [replace(row(0), created_at=WINDOW.start), replace(row(1), created_at=WINDOW.end)]
    assert [case.source_id for case in (await draw(edge)).cases] == ["row-0"]


PROMPTS = st.sampled_from(["", "same", "other", "third", "{}"])


@given(
    prompts=st.lists(st.tuples(PROMPTS, st.sampled_from(sorted(ROUTES))), min_size=1, max_size=80),
    wanted=st.integers(1, 60),
    is_stratified=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=60, deadline=None)
async def test_weights_sum_to_one_and_every_row_is_accounted_for(
    prompts: list[tuple[str, str]], wanted: int, is_stratified: bool, seed: int
) -> None:
    rows = [row(n, prompt, route=route) for n, (prompt, route) in enumerate(prompts)]
    how = SampleSettings(n=wanted, strategy="stratified", by=("route",))
    how = how if is_stratified else SampleSettings(n=wanted)
    replayable = sum(prompt != "" for prompt, _ in prompts)
    if not replayable:
        with pytest.raises(NothingToReplay):
            await draw(rows, settings=how, seed=seed)
        return
    sample = await draw(rows, settings=how, seed=seed)
    assert sum(case.weight for case in sample.cases) == pytest.approx(1.0)
    assert sum(case.copies for case in sample.cases) == sample.drawn == min(wanted, replayable)
    if sample.drawn < wanted:
        assert sample.drawn + sum(sample.skipped.values()) == len(rows)


async def test_every_row_is_equally_likely_to_be_drawn() -> None:
    rows = traffic(200)
    hits: Counter[int] = Counter()
    for seed in range(150):
        sample = await draw(rows, seed=seed, settings=SampleSettings(n=40))
        hits.update(int(case.source_id.removeprefix("row-")) // 20 for case in sample.cases)
    expected = 150 * 40 / 10
    chi_square = sum((hits[decile] - expected) ** 2 / expected for decile in range(10))
    assert chi_square < 33.7  # 9 degrees of freedom, 99.99 %


async def test_strata_are_drawn_in_proportion_and_weigh_their_traffic() -> None:
    sample = await draw(traffic(400), settings=BY_ROUTE)
    drawn = Counter(case.stratum for case in sample.cases)
    assert drawn == {"chat": 28, "extract": 10, "rare": 2}
    for route, share in ROUTES.items():
        weight = sum(case.weight for case in sample.cases if case.stratum == route)
        assert weight == pytest.approx(share)


async def test_an_oversampled_rare_stratum_is_weighted_back() -> None:
    rows = [row(n, route="rare" if n < 2 else "chat") for n in range(500)]
    sample = await draw(rows, settings=replace(BY_ROUTE, n=10))
    rare = [case.weight for case in sample.cases if case.stratum == "rare"]
    assert len(rare) == 2
    assert sum(rare) == pytest.approx(2 / 500)


async def test_a_stratum_of_unreplayable_rows_loses_its_share_of_the_traffic() -> None:
    """Half of `extract` keeps no prompt: its replayable traffic is half of what the log counts."""
    rows = [
        row(n, "" if n % 4 == 0 else None, route="extract" if n % 2 == 0 else "chat")
        for n in range(4_000)
    ]
    sample = await draw(rows, settings=replace(BY_ROUTE, n=600))
    weight = sum(case.weight for case in sample.cases if case.stratum == "extract")
    assert weight == pytest.approx(1 / 3, abs=0.03)


async def test_the_monthly_volume_adds_up_the_replayable_rows_of_every_stratum() -> None:
    """All of `chat` and a twentieth of `extract` can be replayed: 9,050 rows in 7 days."""
    rows = [
        row(n, "" if n >= 9_000 and n % 20 else None, route="chat" if n < 9_000 else "extract")
        for n in range(10_000)
    ]
    sample = await draw(rows, settings=replace(BY_ROUTE, n=200))
    assert sum(sample.skipped.values()) > 200  # far more of the rare kind are met than it has share
    assert sample.requests_per_month == pytest.approx(9_050 * 30 / 7, rel=0.01)


async def test_rows_without_a_time_have_no_monthly_volume() -> None:
    suite = [replace(one, created_at=None) for one in traffic(400)]
    assert (await draw(suite)).requests_per_month is None


async def test_only_rows_with_a_time_add_to_the_monthly_volume() -> None:
    rows = [
        replace(one, created_at=None) if n >= 300 else one for n, one in enumerate(traffic(400))
    ]
    sample = await draw(rows, settings=SampleSettings(n=400))
    assert sample.requests_per_month == pytest.approx(300 * 30 / 7)


async def test_what_one_stratum_cannot_give_the_others_do() -> None:
    rows = [row(n, "" if n < 200 else None, route="a" if n < 200 else "b") for n in range(400)]
    sample = await draw(rows, settings=BY_ROUTE)
    assert sample.drawn == 40
    assert {case.stratum for case in sample.cases} == {"b"}


async def test_too_many_strata_for_two_rows_each_fall_back_to_a_uniform_draw() -> None:
    rows = [row(n, route=f"route-{n % 30}") for n in range(300)]
    sample = await draw(rows, settings=BY_ROUTE)
    assert sample.drawn == 40
    assert {case.stratum for case in sample.cases} == {""}


async def test_the_log_is_asked_only_a_few_times_even_if_most_rows_are_unreplayable() -> None:
    logs = MemoryLogs(rows=[row(n, "" if n % 10 else None) for n in range(3_000)])
    sample = await draw_sample(logs, request())
    assert sample.drawn == 40
    assert len(logs.draws) <= 4


async def test_a_log_full_of_unreplayable_rows_is_given_up() -> None:
    logs = MemoryLogs(rows=[row(n, "") for n in range(9_000)])
    with pytest.raises(NothingToReplay, match="keeps no prompts"):
        await draw_sample(logs, request())
    assert sum(quota[""] for quota in logs.draws) < 5_000


async def test_an_empty_window_says_so() -> None:
    with pytest.raises(NothingToReplay, match="no rows from 2026-03-02"):
        await draw([])


async def test_duplicates_are_asked_once_and_weigh_what_they_stand_for() -> None:
    sample = await draw([*(row(n, "same") for n in range(30)), *(row(n) for n in range(30, 40))])
    same = next(case for case in sample.cases if case.copies > 1)
    assert (len(sample.cases), same.copies, sample.drawn) == (11, 30, 40)
    assert same.weight == pytest.approx(0.75)


async def test_equal_prompts_with_different_expected_answers_stay_apart() -> None:
    sample = await draw([row(1, "same", reference="yes"), row(2, "same", reference="no")])
    assert sorted(str(case.reference) for case in sample.cases) == ["no", "yes"]


async def test_equal_prompts_of_different_segments_stay_apart() -> None:
    sample = await draw([row(1, "same", route="a"), row(2, "same", route="b")])
    assert sorted(case.segments["route"] for case in sample.cases) == ["a", "b"]


async def test_ordinals_count_through_the_blocks() -> None:
    cases = (await draw(traffic(400))).cases
    assert [case.ordinal for case in cases] == list(range(40))
    assert [case.block for case in cases] == sorted(case.block for case in cases)
    assert {case.block for case in cases} == {0, 1}


async def test_without_adaptive_spending_all_cases_are_one_block() -> None:
    sample = await draw(traffic(400), settings=SampleSettings(n=60, adaptive=False))
    assert {case.block for case in sample.cases} == {0}


async def test_conversations_are_kept_together() -> None:
    rows = [row(n, conversation=f"talk {n // 4}") for n in range(100)]
    sample = await draw(rows, settings=SampleSettings(n=100))
    blocks: dict[str | None, set[int]] = {}
    for case in sample.cases:
        blocks.setdefault(case.conversation, set()).add(case.block)
    assert all(len(found) == 1 for found in blocks.values())


async def test_case_ids_depend_on_the_run_and_the_ordinal_alone() -> None:
    first = await draw(traffic(400))
    second = await draw(traffic(300), seed=99)
    other_run = await draw(traffic(400), run_id="another")
    ids = [case.case_id for case in first.cases]
    assert ids == [case.case_id for case in second.cases]
    assert not set(ids) & {case.case_id for case in other_run.cases}


async def test_excluded_segments_are_never_drawn() -> None:
    privacy = Privacy(exclude_segments={"route": ("extract", "rare")})
    sample = await draw(traffic(400), privacy=privacy)
    assert {case.segments["route"] for case in sample.cases} == {"chat"}
    assert sample.skipped["excluded_segment"] > 0


async def test_long_prompts_are_skipped_and_counted() -> None:
    how = SampleSettings(n=40, max_input_tokens=100)
    sample = await draw([row(1), row(2, "word " * 200)], settings=how)
    assert sample.skipped == {"too_long": 1}


async def test_the_logged_token_count_wins_when_it_is_larger_than_the_estimate() -> None:
    how = SampleSettings(n=40, max_input_tokens=100)
    sample = await draw([row(1), row(2, "short", input_tokens="5000")], settings=how)
    assert sample.skipped == {"too_long": 1}


async def test_quarantined_prompts_are_skipped_and_counted() -> None:
    first = (await draw([row(1)])).cases[0]
    sample = await draw([row(1), row(2)], quarantined=frozenset({first.prompt.fingerprint}))
    assert sample.skipped == {"quarantined": 1}


async def test_prompts_are_redacted_before_replay_when_asked() -> None:
    privacy = Privacy(redact=("email",), redact_before_replay=True)
    rows = [row(1, "write to ann@example.org", response="ok ann@example.org")]
    case = (await draw(rows, privacy=privacy)).cases[0]
    assert case.prompt.last_user_text == "write to [email]"
    assert case.logged_response == "ok [email]"


async def test_prompts_are_replayed_as_logged_unless_asked() -> None:
    privacy = Privacy(redact=("email",))
    case = (await draw([row(1, "write to ann@example.org")], privacy=privacy)).cases[0]
    assert case.prompt.last_user_text == "write to ann@example.org"


async def test_anchors_are_added_to_the_sample_and_weigh_nothing() -> None:
    earlier = (await draw(traffic(400), run_id="earlier")).cases[:5]
    sample = await draw(traffic(400), anchors=earlier)
    assert [anchor.anchor_of for anchor in sample.anchors] == [case.case_id for case in earlier]
    assert sum(case.weight for case in (*sample.cases, *sample.anchors)) == pytest.approx(1.0)


async def test_nothing_is_repeated_where_no_bodies_are_stored() -> None:
    earlier = (await draw(traffic(400), run_id="earlier")).cases[:5]
    sample = await draw(traffic(400), anchors=earlier, privacy=Privacy(store_bodies="none"))
    assert sample.anchors == ()


async def test_the_mean_of_logged_output_tokens_is_taken_where_the_log_tells() -> None:
    rows = [row(1, output_tokens="100"), row(2, output_tokens=300), row(3)]
    assert (await draw(rows)).mean_logged_output_tokens == 200


async def test_no_output_tokens_in_the_log_is_no_mean() -> None:
    assert (await draw([row(1)])).mean_logged_output_tokens is None


async def test_odd_rows_never_stop_a_draw() -> None:
    odd: dict[str, object] = {
        "null": None,
        "nul": "a\x00b",
        "surrogate": "\ud83d",
        "bytes": b"\xff\xfe",
        "binary": "\x01\x02\x03\x04text",
        "huge": "x" * 1_000_000,
        "emoji": "👩‍👩‍👧 ok?",
        "deep": "[" * 200_000,
    }
    rows = [replace(row(n), fields={"prompt": value}) for n, value in enumerate(odd.values())]
    sample = await draw(rows)
    assert sample.skipped == {
        "empty": 1,
        "binary": 2,
        "unreadable": 2,
        "too_long": 2,
    }
    assert [case.prompt.last_user_text for case in sample.cases] == ["👩‍👩‍👧 ok?"]
