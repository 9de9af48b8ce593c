"""One bag, from end to end: replayed unless that was done before, measured, checked, and shown if asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vla_ros.contract_file import load_contract
from vla_ros.errors import ReplayError
from vla_ros.replay.decision_log import DecisionLog, logged
from vla_ros.replay.decisions import PolicyDecision
from vla_ros.replay.golden import check_golden, update_golden
from vla_ros.replay.judging.action_errors import chunks_of
from vla_ros.replay.judging.catalogue import measure
from vla_ros.replay.judging.comparison import Answers, side_by_side
from vla_ros.replay.judging.conditions import Condition
from vla_ros.replay.judging.judgement import Judge, Judgement
from vla_ros.replay.judging.verdict import Verdict, check_all
from vla_ros.replay.policy_player import MEASURED, Latency
from vla_ros.replay.recording import Recording
from vla_ros.replay.remarks import remarks
from vla_ros.replay.results import LOG, RIVALS_LOG, Result, facts_of, read_result, write_result
from vla_ros.replay.run import Replay, Terms
from vla_ros.replay.showing import Played, Shown, show_bag, show_page
from vla_ros.replay.subject import Subject, code_digest, identity
from vla_ros.types import Json

Progress = Callable[[float, float], None]
"""Is told how far it is, and how far there is to go, in seconds of the bag."""


@dataclass(frozen=True)
class Part:
    """What of a bag is replayed, and how: see `Terms`."""

    latency: Latency | None = None
    from_s: float | None = None
    to_s: float | None = None
    namespace: str = ""
    instruction: str | None = None

    def terms(self, bag: Path, subject: Subject) -> Terms:
        """The same of a bag, on the subject's robot. Raises ContractError."""
        contract = load_contract(subject.contract)
        return Terms(bag, contract, self.latency, self.from_s, self.to_s, self.namespace, self.instruction)

    def identity(self) -> Json:
        """What decisions depend on besides latency."""
        return {
            "from_s": self.from_s,
            "to_s": self.to_s,
            "namespace": self.namespace,
            "instruction": self.instruction,
        }


@dataclass(frozen=True)
class Order:
    """What is to be done with one bag. name: in results; folder: of its results; rival: whom to compare with.

    conditions: under which this bag fails by itself; golden: the log that it must equal, which `updates_golden`
    replaces; is_fresh: replay it again in any case.
    """

    name: str
    bag: Path
    folder: Path
    subject: Subject
    part: Part = field(default_factory=Part)
    rival: Subject | None = None
    conditions: tuple[Condition, ...] = ()
    golden: Path | None = None
    updates_golden: bool = False
    is_fresh: bool = False
    shown: Shown = field(default_factory=Shown)


def check_order(order: Order) -> None:
    """Raises ReplayError for what contradicts itself, before anything is replayed."""
    if order.golden is not None and order.part.latency == MEASURED:
        raise ReplayError("a measured latency is never the same twice: with --golden, choose recorded, or seconds")
    if order.updates_golden and order.golden is None:
        raise ReplayError("--update-golden needs --golden, which says where it is")
    order.shown.check()


def perform(order: Order, progress: Progress = lambda _done, _all: None) -> Verdict:
    """Do it, and say what passed. Raises VlaRosError for a bag that cannot be replayed."""
    key = _key(order)
    result = None if order.is_fresh else read_result(order.folder, key)
    if result is None:
        result = _replayed(order, key, progress)
    log = order.folder / LOG
    if order.golden is not None and order.updates_golden:
        update_golden(order.golden, log)
    exact = () if order.golden is None else check_golden(order.golden, log)
    checks = (*exact, *check_all(measure(result.quantities), order.conditions))
    verdict = Verdict(order.name, checks, tuple(remarks(result.facts)))
    _show(order, result, verdict)
    return verdict


def _show(order: Order, result: Result, verdict: Verdict) -> None:
    """From the logs, so that it makes no difference when they were written."""
    terms, shown = order.part.terms(order.bag, order.subject), order.shown
    if shown.bag is not None:
        show_bag(shown.bag, terms, order.folder / LOG, shown.has_inputs)
    if shown.page is not None:
        own = Played.of(order.subject, terms.contract, order.folder / LOG)
        rival = None if order.rival is None else Played.of(order.rival, terms.contract, order.folder / RIVALS_LOG)
        show_page(shown.page, terms, own, rival, result, verdict)


def read_performed(order: Order) -> Result:
    """What an order left behind. Raises ReplayError."""
    result = read_result(order.folder)
    if result is None:
        raise ReplayError(f"the results in {order.folder} are gone")
    return result


def _key(order: Order) -> Json:
    """What a kept result must share with an order to be used again."""
    rival = None if order.rival is None else order.rival.identity()
    return {**_identity(order, order.subject), "against": rival, "code": code_digest()}


def _identity(order: Order, subject: Subject) -> Json:
    return identity(subject, order.bag, order.part.latency, order.part.identity())


def _replayed(order: Order, key: Json, progress: Progress) -> Result:
    began_s, passes = time.monotonic(), 1 if order.rival is None else 2
    own = _decide(order, order.subject, order.folder / LOG, lambda done_s, all_s: progress(done_s, passes * all_s))
    side = None
    if order.rival is not None:
        rival = _decide(
            order,
            order.rival,
            order.folder / RIVALS_LOG,
            lambda done_s, all_s: progress(all_s + done_s, passes * all_s),
        )
        side = side_by_side(_answers(own, order.folder / LOG), _answers(rival, order.folder / RIVALS_LOG))
    about = {
        "name": order.name,
        "bag": str(order.bag),
        "policy": order.subject.name,
        "against": None if order.rival is None else order.rival.name,
        "duration_s": own.duration_s,
        "took_s": time.monotonic() - began_s,
        "key": key,
        **own.told,
    }
    result = Result(facts_of(own.judged, about), own.judged.quantities, side)
    write_result(order.folder, result)
    return result


@dataclass(frozen=True, eq=False)
class _Decided:
    """One policy's way through the bag. told: what was replayed and how it ended, for `facts_of`."""

    told: Json
    judged: Judgement
    duration_s: float


def _decide(order: Order, subject: Subject, log_path: Path, progress: Progress) -> _Decided:
    """Replay; write down every decision, and measure, as it is made: no bag is held in memory."""
    Recording(order.bag)  # before a network is loaded: what is no bag is refused at once
    terms = order.part.terms(order.bag, subject)
    replay = Replay(terms, subject.policy, subject.load(terms.contract))
    named = _identity(order, subject)
    reached_s = 0.0

    def reach(done_s: float) -> None:
        nonlocal reached_s
        reached_s = max(reached_s, done_s)
        progress(done_s, replay.duration_s)

    with DecisionLog(log_path, named) as log:
        judging = Judge(terms.contract, log_path.parent)
        for decision in replay.decisions(reach):
            log.write(decision)
            judging.hear(decision)
        outcome = replay.outcome()
        judged = judging.end(outcome.damage)
        log.end(outcome)
    agreement = None if replay.agreement is None else replay.agreement.tallies()
    told = {"identity": named, **asdict(outcome), "agreement": agreement}
    return _Decided(told, judged, replay.duration_s if outcome.damage is None else reached_s)


def _answers(decided: _Decided, log: Path) -> Answers:
    ticks = (decision for decision in logged(log) if isinstance(decision, PolicyDecision))
    return Answers(decided.judged.quantities, chunks_of(ticks))
