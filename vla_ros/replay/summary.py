"""All bags together: one verdict, the numbers over all of them, and the worst moments first, each with its bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from vla_ros.replay.judging.catalogue import measure
from vla_ros.replay.judging.comparison import Comparison, compare_all, comparison_json
from vla_ros.replay.judging.conditions import Condition
from vla_ros.replay.judging.moments import Moment, rank
from vla_ros.replay.judging.samples import Pooled
from vla_ros.replay.judging.verdict import Check, Verdict, check_all, to_json, together
from vla_ros.replay.one_bag import read_performed
from vla_ros.replay.pool import Ended
from vla_ros.replay.remarks import remarks_of_many
from vla_ros.replay.results import Result
from vla_ros.types import Json

PASSED, FAILED, UNREADABLE = 0, 1, 2
_REPLAYED = "can be replayed"
_MOMENTS = 20


@dataclass(frozen=True, eq=False)
class Bag:
    """One of them. result: None where it could not be replayed."""

    name: str
    verdict: Verdict
    result: Result | None


@dataclass(frozen=True, eq=False)
class Summary:
    """verdicts: of all bags together, where there are several, and of each; metrics: over all samples of all bags.

    moments: (bag, moment), the worst first.
    """

    bags: tuple[Bag, ...]
    verdicts: tuple[Verdict, ...]
    metrics: Mapping[str, float | None]
    interventions: Mapping[str, int]
    comparison: Comparison | None
    moments: tuple[tuple[str, Moment], ...]

    @property
    def overall(self) -> Verdict:
        """All checks."""
        if len(self.verdicts) == 1:
            return self.verdicts[0]
        return together(f"{len(self.bags)} bags", self.verdicts)

    @property
    def status(self) -> int:
        """Of the command's end."""
        if any(bag.result is None for bag in self.bags):
            return UNREADABLE
        return PASSED if self.overall.passed else FAILED


def summarize(ended: Sequence[Ended], conditions: Sequence[Condition]) -> Summary:
    """conditions: for all bags together. Of a single bag they are its own already. Raises ReplayError."""
    bags = [_bag(one) for one in sorted(ended, key=lambda one: one.order.name)]
    results = [bag.result for bag in bags if bag.result is not None]
    metrics = measure(Pooled([result.quantities for result in results]))
    verdicts = [bag.verdict for bag in bags]
    said = tuple(remarks_of_many({bag.name: bag.result.facts for bag in bags if bag.result is not None}))
    if len(bags) > 1:
        own = Verdict("all together", check_all(metrics, conditions), said)
        verdicts = [*([own] if own.checks else []), *(verdict for verdict in verdicts if verdict.checks)]
    causes: Counter[str] = Counter()
    for result in results:
        causes.update(result.facts["interventions"])
    sides = [result.side for result in results if result.side is not None]
    moments = [(bag.name, moment) for bag in bags if bag.result for moment in bag.result.moments]
    return Summary(
        tuple(bags),
        tuple(verdicts) or (Verdict(f"{len(bags)} bags", (), said),),
        metrics,
        dict(causes.most_common()),
        compare_all(sides) if sides else None,
        tuple(sorted(moments, key=lambda pair: rank(pair[1]))[:_MOMENTS]),
    )


def summary_json(summary: Summary) -> Json:
    """For programs."""
    return {
        "passed": summary.status == PASSED,
        "status": summary.status,
        "verdicts": [to_json(verdict) for verdict in summary.verdicts],
        "metrics": summary.metrics,
        "interventions": summary.interventions,
        "against": None if summary.comparison is None else comparison_json(summary.comparison),
        "moments": [{"bag": name, **asdict(moment)} for name, moment in summary.moments],
        "bags": [_bag_json(bag) for bag in summary.bags],
    }


def _bag(ended: Ended) -> Bag:
    name = ended.order.name
    if ended.verdict is None:
        return Bag(name, Verdict(name, (Check(_REPLAYED, False, ended.failure),)), None)
    return Bag(name, ended.verdict, read_performed(ended.order))


def _bag_json(bag: Bag) -> Json:
    if bag.result is None:
        return {"name": bag.name, "failure": bag.verdict.checks[0].text}
    return {**{key: value for key, value in bag.result.facts.items() if key != "key"}, "name": bag.name}
