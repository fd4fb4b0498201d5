"""Texts are cleaned when a Run is final; the data of images is not text."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from app.domain.cases import Message
from app.domain.runs import RunStatus
from app.ports import Scrub
from app.sampling.redaction import KINDS, Redactor
from app.storage.case_rows import case_row
from app.storage.engine import Database
from app.storage.result_store import PostgresResults
from app.storage.tables import CASES
from tests.fakes.work import begin_run, ending

IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "4111111111111111"},
}


async def test_image_data_that_looks_like_a_card_is_left_alone(database_url: str) -> None:
    database = Database(database_url)
    runs = PostgresResults(database, lambda: datetime(2026, 3, 29, 7, tzinfo=UTC))
    begun = await begin_run(runs, n=1)
    run, (case,) = begun.run, begun.sample.cases
    text = {"type": "text", "text": "my card is 4111 1111 1111 1111"}
    message = Message(role="user", content=(IMAGE, text))
    case = replace(case, prompt=replace(case.prompt, messages=(message,)))
    async with database.transaction() as connection:
        body = case_row(case, run.run_id)["body"]
        await connection.execute(
            update(CASES).where(CASES.c.run_id == run.run_id).values(body=body)
        )
    await runs.scrub(run.run_id, Redactor(list(KINDS)).text)
    stored = await runs.sample(run.run_id)
    await database.close()
    assert stored is not None
    content = stored.cases[0].prompt.messages[0].content
    assert content[0] == IMAGE
    assert content[1] == {"type": "text", "text": "my card is [card]"}


class CannotBeCleaned(Exception):
    """A bug in what cleans."""


async def test_a_run_whose_texts_cannot_be_cleaned_does_not_become_final(database_url: str) -> None:
    def break_off(_text: str) -> str:
        raise CannotBeCleaned

    database = Database(database_url)
    runs = PostgresResults(database, lambda: datetime(2026, 3, 29, 7, tzinfo=UTC))
    begun = await begin_run(runs, n=1)
    with pytest.raises(CannotBeCleaned):
        await runs.finish(ending(begun.run, scrub=Scrub(clean=break_off)))
    stored = await runs.run(begun.run.run_id)
    await database.close()
    assert stored is not None
    assert stored.status is RunStatus.RUNNING
