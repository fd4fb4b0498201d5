from pathlib import Path

from app.storage.schema_page import schema_page

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "schema.md"


def test_the_schema_page_tells_what_is_declared() -> None:
    assert _PAGE.read_text() == schema_page(), (
        "write it again: python -m app.storage.schema_page > docs/schema.md"
    )
