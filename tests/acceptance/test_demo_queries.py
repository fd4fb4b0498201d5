"""What the docs and the dashboard show, on the database that the demo leaves behind."""

from pathlib import Path

import pytest

from tests.fixtures.documented_sql import PANELS, QUERIES, as_reader, filled_in
from tests.processes import switchwise


@pytest.mark.slow
def test_every_documented_query_and_panel_returns_rows_after_the_demo(
    empty_database_url: str, tmp_path: Path
) -> None:
    demo = switchwise("demo", cwd=tmp_path, env={"DATABASE_URL": empty_database_url}, timeout_s=900)
    assert demo.returncode == 0, demo.stderr[-2000:]

    told = {
        title: len(as_reader(empty_database_url, filled_in(query, plan="demo")))
        for title, query in (*QUERIES, *PANELS)
    }

    assert [title for title, rows in told.items() if rows == 0] == []
