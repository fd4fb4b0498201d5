"""Which logged time a Run draws from."""

from collections.abc import Iterable
from datetime import timedelta

from app.domain.cases import Window
from app.domain.runs import Run


def window_of(run: Run, length: timedelta, earlier: Iterable[Run]) -> Window:
    """Return the time before the Run's slot, cut where an earlier week has drawn already.

    Weeks are pooled as independent of each other; the same row asked in two of them would count
    twice. Runs of one week may draw it again: they are joined by rows. A Run by hand pools nothing.

    Args:
        run: The Run that draws.
        length: How far back the Plan looks.
        earlier: Complete Runs of the Plan.
    """
    end = run.slot.at
    start = end - length
    if not run.trigger.counts:
        return Window(start=start, end=end)
    drawn = [
        one.window.end
        for one in earlier
        if one.trigger.counts and one.window is not None and one.slot.iso_week < run.slot.iso_week
    ]
    return Window(start=max([start, *(until for until in drawn if until < end)]), end=end)
