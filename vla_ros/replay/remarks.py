"""What a reader of a bag's results must know besides the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vla_ros.types import Json

_NAMED = 8


def remarks(facts: Json) -> Iterator[str]:
    """Of one bag, one sentence each, of its damage first and of what is well last. facts: see `facts_of`."""
    yield from _troubles(facts)
    yield from _agreement(facts, is_whole=True)


def remarks_of_many(bags: Mapping[str, Json]) -> Iterator[str]:
    """By name. What is so of several bags is said once, with their names; that all is well is not said."""
    said: dict[str, list[str]] = {}
    for name, facts in bags.items():
        for remark in _troubles(facts):
            said.setdefault(remark, []).append(name)
    for remark, names in said.items():
        yield f"{_listed(names)}: {remark}"


def _troubles(facts: Json) -> Iterator[str]:
    if facts["damage"]:
        yield f"damaged: {facts['damage']}"
    yield from (f"note: {note}" for note in facts["notes"])
    for channel, count in facts["missing"].items():
        yield f"the bag lacks what {count} ticks used of {channel}"
    yield from _agreement(facts, is_whole=False)


def _agreement(facts: Json, is_whole: bool) -> Iterator[str]:
    """Of the nodes whose every tick agrees with the live run's, or of the others."""
    for node, tally in (facts["agreement"] or {}).items():
        if _is_whole(tally) is is_whole:
            yield f"{node}, beside the live run: {_tally(tally)}"


def _is_whole(tally: Json) -> bool:
    return bool(tally["ticks"] == tally["complete"] == tally["agreeing"])


def _tally(tally: Json) -> str:
    whole = f"{tally['complete']} of {tally['ticks']} ticks have all their inputs in the bag, {tally['agreeing']} agree"
    return f"{whole}; first difference {tally['first_difference']}" if tally["first_difference"] else whole


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
