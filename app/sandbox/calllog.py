"""The gateway's append-only record of every call, for reconciling with what a client believes."""

import json
import os
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path

_ROWS_KEPT = 200_000


class CallLog:
    """Keeps one JSON line per call, in memory and in a file that survives a kill.

    A line is written when the call has ended, however it ended; `received` counts calls when
    they arrive.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = (
            None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        )
        self.clear()

    def clear(self) -> None:
        """Forgets everything counted so far; the file stays as it is."""
        self._rows: deque[bytes] = deque(maxlen=_ROWS_KEPT)
        self._by: dict[str, Counter[str]] = {
            field: Counter() for field in ("model", "status", "outcome")
        }
        self._paid: Counter[str] = Counter()
        self._judged: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._peak = 0
        self._finished = 0

    def receive(self, key: str, model: str) -> int:
        """Counts a call that has arrived; returns how many calls of this key there were by now."""
        self._received[key] += 1
        self._in_flight[model] += 1
        self._peak = max(self._peak, self._in_flight.total())
        return self._received[key]

    def in_flight(self, model: str) -> int:
        """How many calls of the model have arrived and not ended."""
        return self._in_flight[model]

    def finish(self, row: Mapping[str, object]) -> None:
        """Records a call that has ended."""
        self._finished += 1
        self._in_flight[str(row["model"])] -= 1
        for field, counter in self._by.items():
            counter[str(row[field])] += 1
        if row["is_paid"]:
            self._paid[str(row["key"])] += 1
            if row.get("judged"):
                self._judged[f"{row['model']}/{row['judged']}/{row['week']}"] += 1
        line = json.dumps(row).encode() + b"\n"
        self._rows.append(line)
        if self._file is not None:
            os.write(self._file, line)

    def counts(self) -> dict[str, object]:
        """Totals: calls received, finished, in flight, by model, status and outcome, and repeats.

        A paid call is one that got as far as generating a reply. `repeated` counts paid calls of a
        key beyond its first, `judged_again` gradings of a matter beyond its first in a week.
        """
        return {
            "received": self._received.total(),
            "finished": self._finished,
            "in_flight": self._in_flight.total(),
            "peak_in_flight": self._peak,
            "paid": self._paid.total(),
            "distinct_paid": len(self._paid),
            "repeated": self._paid.total() - len(self._paid),
            "judged": self._judged.total(),
            "judged_again": self._judged.total() - len(self._judged),
            **{f"by_{field}": dict(counter) for field, counter in self._by.items()},
        }

    def rows(self, since: int = 0) -> list[dict[str, object]]:
        """The rows recorded, without the first `since` of them."""
        return [json.loads(line) for line in list(self._rows)[since:]]

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
