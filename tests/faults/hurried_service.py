"""The program with a service that removes old rows a second after its start, not minutes."""

from app.__main__ import main as _main
from app.daemon import service


def main() -> None:
    """Run one command."""
    service.FIRST_HOUSEKEEPING_S = 1
    _main()
