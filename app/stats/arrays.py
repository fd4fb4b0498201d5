"""The array types of the numeric layer and the checks every array passes on its way in."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

Labels = Sequence[Hashable] | NDArray[np.generic]
"""One label per row; equal labels mean the same conversation, stratum or anchor."""


class InvalidNumbersError(ValueError):
    """The arrays cannot be what they claim to be; the message says which and why."""


class NotEnoughDataError(ValueError):
    """Too few independent observations to say anything; the message says how many."""


def finite(values: ArrayLike, name: str, *, length: int | None = None) -> FloatArray:
    """Return `values` as a one-dimensional array of finite floats, or refuse.

    >>> finite([1, 2], "cost").tolist()
    [1.0, 2.0]
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InvalidNumbersError(f"{name} must have one dimension, not {array.ndim}")
    if length is not None and array.size != length:
        raise InvalidNumbersError(f"{name} has {array.size} rows where {length} are expected")
    if not np.isfinite(array).all():
        raise InvalidNumbersError(f"{name} holds a value that is not finite; mask it instead")
    return array


def flags(values: ArrayLike | None, name: str, *, length: int, default: bool) -> BoolArray:
    """Return `values` as booleans, `default` everywhere when there are none.

    >>> flags(None, "scored", length=2, default=True).tolist()
    [True, True]
    """
    if values is None:
        return np.full(length, default)
    array = np.asarray(values, dtype=np.bool_)
    if array.shape != (length,):
        raise InvalidNumbersError(f"{name} has shape {array.shape} where ({length},) is expected")
    return array


def codes(labels: Labels | None, name: str, *, length: int) -> IntArray:
    """Number the distinct labels from 0; every row gets its own number when there are none.

    >>> codes(["b", "a", "b"], "conversation", length=3).tolist()
    [1, 0, 1]
    """
    if labels is None:
        return np.arange(length, dtype=np.intp)
    if len(labels) != length:
        raise InvalidNumbersError(f"{name} has {len(labels)} rows where {length} are expected")
    rows = labels.tolist() if isinstance(labels, np.ndarray) else labels
    distinct = sorted(set(rows), key=repr)  # by name, so that the order of rows is irrelevant
    number = {label: code for code, label in enumerate(distinct)}
    return np.fromiter((number[row] for row in rows), np.intp, count=length)


def shares(weights: ArrayLike | None, *, length: int) -> FloatArray:
    """Return positive weights that sum to one; equal ones when there are none.

    >>> shares([1, 3], length=2).tolist()
    [0.25, 0.75]
    """
    if weights is None:
        return np.full(length, 1.0 / length)
    array = finite(weights, "weights", length=length)
    if (array <= 0).any():
        raise InvalidNumbersError("weights must be positive; leave out a row that counts nothing")
    return np.asarray(array / array.sum(), dtype=np.float64)


def weighted_percentile(values: FloatArray, weights: FloatArray, share: float) -> float:
    """Return the smallest value that, with those below it, has this share of the weight.

    >>> weighted_percentile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 6.0]), 0.5)
    2.0
    """
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    position = int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-12)))
    return float(values[order][min(position, values.size - 1)])


def average_ranks(values: ArrayLike) -> FloatArray:
    """Return ranks from 1, equal values sharing the mean of their ranks.

    As `scipy.stats.rankdata`, whose module takes a second to import.

    >>> average_ranks([10.0, 30.0, 10.0]).tolist()
    [1.5, 3.0, 1.5]
    """
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: FloatArray = ends - (counts - 1) / 2
    return means[places]
