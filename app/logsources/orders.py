"""The seeded order of rows that no database sorts for us, and the strata they are in."""

import hashlib
from collections.abc import Mapping, Sequence


def place_of(source_id: str, seed: int) -> bytes:
    """Where the row stands in the order of the seed: uniform, and the same on every machine."""
    text = f"{seed}\x1f{source_id}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


def stratum_of(segments: Mapping[str, str], by: Sequence[str]) -> str:
    """The stratum of a row with these segments; "" when nothing is stratified."""
    return " / ".join(segments.get(name, "") for name in by)
