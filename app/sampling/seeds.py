"""Randomness that is a function of the seed and of names alone, never of the order of calls."""

import hashlib

_SPAN = 2**64


def seeded_key(seed: int, *names: str) -> int:
    """A uniform 64-bit number fixed by the seed and the names.

    Sorting by it shuffles: the same way for the same seed, on every machine, whatever the order
    in which the items arrive.
    """
    text = "\x1f".join((str(seed), *names))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def seeded_fraction(seed: int, *names: str) -> float:
    """A uniform number in [0, 1) fixed by the seed and the names."""
    return (seeded_key(seed, *names) >> 11) / (_SPAN >> 11)
