"""What EXPLAIN says, in a line."""

from collections.abc import Iterator, Mapping, Sequence

_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Foreign Scan")


def plan_sentence(explained: Sequence[Mapping[str, object]]) -> str:
    """How the window will be found and what the planner thinks it costs."""
    top = explained[0]["Plan"]
    assert isinstance(top, Mapping)  # noqa: S101 - EXPLAIN (FORMAT JSON) always has it
    scans = [node for node in nodes(top) if node.get("Node Type") in _SCANS]
    shown = "; ".join(_scan(node) for node in scans) or str(top.get("Node Type"))
    return f"{shown}; planner cost {_number(top.get('Total Cost'))}"


def estimated_rows(explained: Sequence[Mapping[str, object]]) -> int:
    """How many rows the planner expects."""
    top = explained[0]["Plan"]
    assert isinstance(top, Mapping)  # noqa: S101 - as above
    return round(float(str(top.get("Plan Rows", 0))))


def relations_of(explained: Sequence[Mapping[str, object]]) -> list[tuple[str, str]]:
    """Schema and name of every table a statement reads."""
    top = explained[0]["Plan"]
    assert isinstance(top, Mapping)  # noqa: S101 - as above
    found = [
        (str(node["Schema"]), str(node["Relation Name"]))
        for node in nodes(top)
        if "Relation Name" in node and "Schema" in node
    ]
    return list(dict.fromkeys(found))


def nodes(plan: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The node and all below it."""
    yield plan
    below = plan.get("Plans")
    if isinstance(below, list):
        for node in below:
            yield from nodes(node)


def _scan(node: Mapping[str, object]) -> str:
    index = f" with {node['Index Name']}" if "Index Name" in node else ""
    kind = str(node["Node Type"]).lower().replace("seq scan", "full table scan")
    return (
        f"{kind} of {node.get('Relation Name', '?')}{index}, "
        f"about {_number(node.get('Plan Rows'))} rows"
    )


def _number(value: object) -> str:
    return f"{round(float(str(value))):,}" if value is not None else "?"
