"""Wording: figures and verdicts in the words that every output shares."""

from collections.abc import Mapping
from dataclasses import replace

from app.domain.results import VerdictKind
from app.stats.estimates import Estimate

MINUS = "\u2212"
ABSENT = "\u2013"

VERDICTS: Mapping[str, str] = {
    VerdictKind.SWITCH: "switch",
    VerdictKind.WATCH: "promising, not yet shown",
    VerdictKind.KEEP: "keep the primary",
    VerdictKind.WORSE: "worse quality",
    VerdictKind.DEARER: "dearer per quality",
    VerdictKind.SLOWER: "too slow",
    VerdictKind.UNRELIABLE: "fails too often",
    VerdictKind.UNDECIDED: "not enough evidence yet",
    VerdictKind.UNMEASURED: "could not be measured",
}
"""What each verdict means, by its name in documents."""

_ALMOST_ALL = 0.9995
_EXACT = 1e-9


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; never a negative zero.

    >>> signed(-0.0123), signed(0.0004), signed(0.05)
    ('−0.01', '0.00', '+0.05')
    """
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+") + text


def number(value: float | None, digits: int = 2) -> str:
    """A plain number."""
    return ABSENT if value is None else signed(value, digits).removeprefix("+")


def whole(value: int | None) -> str:
    """A count with thousands marked."""
    return ABSENT if value is None else f"{value:,}"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "week"), count(1400, "pair")
    ('1 week', '1,400 pairs')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def percent(share: float, digits: int = 0) -> str:
    """A share as per cent, e.g. `31 %`."""
    text = f"{abs(share) * 100:.{digits}f}"
    sign = MINUS if share < 0 and float(text) != 0 else ""
    return f"{sign}{text} %"


def share(value: float | None) -> str:
    """A share as per cent; one digit more where rounding would hide a loss.

    >>> share(0.9), share(0.991), share(0.9999), share(1.0)
    ('90 %', '99.1 %', '>99.9 %', '100 %')
    """
    if value is None:
        return ABSENT
    if _ALMOST_ALL <= value < 1 - _EXACT:
        return ">99.9 %"
    return percent(value, 1 if 0.985 <= value < _ALMOST_ALL else 0)


def change_range(change: Estimate | None) -> str:
    """An interval of relative changes, each end with its direction in words.

    >>> change_range(Estimate(point=-0.4, low=-0.44, high=-0.31, confidence=0.95, n=9))
    '31–44 % lower'
    >>> change_range(Estimate(point=-0.99, low=-0.993, high=-0.986, confidence=0.95, n=9))
    '98.6–99.3 % lower'
    >>> change_range(Estimate(point=0.1, low=-0.02, high=0.22, confidence=0.95, n=9))
    'between 2 % lower and 22 % higher'
    """
    if change is None:
        return ABSENT
    low, high = change.low * 100, change.high * 100
    if low >= 0:
        return f"{_ends(low, high)} % higher"
    if high <= 0:
        return f"{_ends(-high, -low)} % lower"
    return f"between {-low:.0f} % lower and {high:.0f} % higher"


def complement(estimate: Estimate) -> Estimate:
    """One less the estimate: a ratio of bills as the saving it means."""
    return replace(estimate, point=1 - estimate.point, low=1 - estimate.high, high=1 - estimate.low)


def _ends(low: float, high: float) -> str:
    """Both ends with the digits that tell them apart, one end where none does."""
    for digits in (0, 1):
        ends = f"{low:.{digits}f}", f"{high:.{digits}f}"
        if ends[0] != ends[1]:
            return "–".join(ends)
    return f"{low:.1f}".removesuffix(".0")
