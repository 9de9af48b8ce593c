"""A replay to look at: a page, and a bag for Foxglove, RViz and `ros2 bag`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vla_ros.bags import PART
from vla_ros.contract import Contract
from vla_ros.errors import ReplayError
from vla_ros.replay.bag_output import write_bag
from vla_ros.replay.decision_log import logged, read_log
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.comparison import compare_all
from vla_ros.replay.judging.judgement import Judgement, judge
from vla_ros.replay.judging.verdict import Verdict
from vla_ros.replay.recording import Recording
from vla_ros.replay.report.content import Content, Look, Rival
from vla_ros.replay.report.frames import picture_instants, strips
from vla_ros.replay.report.looks import looks
from vla_ros.replay.report.page import write_page
from vla_ros.replay.results import Result
from vla_ros.replay.run import Terms
from vla_ros.replay.subject import Subject

# Each takes a while, and a page must fit into a mail.
_LOOKS = 4


@dataclass(frozen=True)
class Shown:
    """What is to be made besides numbers. page, bag: where; None: not wanted. has_inputs: the bag has them, too."""

    page: Path | None = None
    bag: Path | None = None
    has_inputs: bool = False

    def check(self) -> None:
        """Raises ReplayError for what would be written over; a replay takes long, and ends with this."""
        if self.bag is not None and self.bag.exists():
            raise ReplayError(f"{self.bag} exists already and is not overwritten: choose another --bag-output")
        if self.bag is not None and (part := self.bag.with_name(self.bag.name + PART)).exists():
            raise ReplayError(
                f"{part} is in the way, an unfinished recording: delete it, or choose another --bag-output"
            )
        if self.has_inputs and self.bag is None:
            raise ReplayError("--with-inputs is for the bag of --bag-output")


@dataclass(frozen=True, eq=False)
class Played:
    """One policy's way through the bag."""

    subject: Subject
    replayed: Replayed
    judgement: Judgement

    @classmethod
    def of(cls, subject: Subject, contract: Contract, log: Path) -> Played:
        """As it is in a log. Raises ReplayError."""
        replayed = read_log(log, contract)
        return cls(subject, replayed, judge(contract, logged(log), log.parent, replayed.outcome.damage))


def show_bag(path: Path, terms: Terms, log: Path, has_inputs: bool) -> None:
    """Make the bag of a log. Raises ReplayError and BagError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bag(path, logged(log), terms.contract, Recording(terms.bag), terms.namespace, has_inputs)


def show_page(path: Path, terms: Terms, own: Played, rival: Played | None, result: Result, verdict: Verdict) -> None:
    """Make the page. Raises DataError and BagError."""
    write_page(path, _content(terms, own, rival, result, verdict, Recording(terms.bag)))


def _content(
    terms: Terms, own: Played, rival: Played | None, result: Result, verdict: Verdict, recording: Recording
) -> Content:
    bare = Content(own.subject.name, own.replayed, own.judgement, verdict, result.moments)
    instants = picture_instants((bare.start_ns, bare.end_ns), result.moments)
    return Content(
        bare.name,
        bare.replayed,
        bare.judgement,
        verdict,
        result.moments,
        strips(recording, terms.contract, terms.namespace, instants),
        (*_looks(terms, own, result), *(_looks(terms, rival, result) if rival else ())),
        _rival(rival, result),
    )


def _looks(terms: Terms, played: Played, result: Result) -> tuple[Look, ...]:
    """Where a checkpoint's network looked at the worst moments."""
    subject, instants = played.subject, [moment.at_ns for moment in result.moments[:_LOOKS]]
    if subject.checkpoint is None:
        return ()
    return looks(subject.name, subject.checkpoint, terms, played.replayed, instants)


def _rival(rival: Played | None, result: Result) -> Rival | None:
    if rival is None or result.side is None:
        return None
    return Rival(rival.subject.name, rival.replayed, rival.judgement, compare_all([result.side]))
