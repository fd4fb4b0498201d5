"""How Cases get their ids."""

import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:switchwise:case")


def case_id_of(run_id: str, ordinal: int) -> str:
    """The UUID of the Case at this position of the Run's Sample: the same whenever it is drawn."""
    return str(uuid.uuid5(_NAMESPACE, f"{run_id}/{ordinal}"))
