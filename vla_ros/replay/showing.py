"""A replay to look at: a page, and a bag for Foxglove, RViz and `ros2 bag`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import ReplayError
from vla_ros.replay.bag_output import write_bag
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.comparison import compare_all
from vla_ros.replay.judging.judgement import Judgement
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

    @property
    def anything(self) -> bool:
        """Whether there is anything to make."""
        return self.page is not None or self.bag is not None

    def check(self) -> None:
        """Raises ReplayError for what would be written over; a replay takes long, and ends with this."""
        if self.bag is not None and self.bag.exists():
            raise ReplayError(f"{self.bag} exists already and is not overwritten: choose another --bag-output")
        if self.has_inputs and self.bag is None:
            raise ReplayError("--with-inputs is for the bag of --bag-output")


@dataclass(frozen=True, eq=False)
class Played:
    """One policy's way through the bag."""

    subject: Subject
    replayed: Replayed
    judgement: Judgement


def show(shown: Shown, terms: Terms, own: Played, rival: Played | None, result: Result, verdict: Verdict) -> None:
    """Make it. Raises DataError and BagError."""
    recording = Recording(terms.bag)
    if shown.bag is not None:
        shown.bag.parent.mkdir(parents=True, exist_ok=True)
        write_bag(shown.bag, own.replayed, recording, terms.namespace, shown.has_inputs)
    if shown.page is not None:
        write_page(shown.page, _content(terms, own, rival, result, verdict, recording))


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
