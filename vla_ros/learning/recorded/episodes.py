"""Moments -> episodes: what hangs together, for one instruction, without a gap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from vla_ros.control.arbiter import Source
from vla_ros.errors import MessageError
from vla_ros.images import COMPRESSED, encode, frame_to_rgb
from vla_ros.learning.recorded.alignment import Gap, Moment
from vla_ros.types import Frame, Sample

LEAST_S = 0.5  # a chunk's worth; less shows nothing
_MOST_BYTES = 256_000_000  # of pictures in one episode, which is in memory until it is written


@dataclass(frozen=True, eq=False)
class Episode:
    """moments: at a fixed rate, of one span, without their pictures; images: view -> PNG or JPEG files, one each."""

    moments: tuple[Moment, ...]
    images: dict[str, list[bytes]]

    @property
    def takeovers(self) -> int:
        """How often a human came into command in it, at its start included."""
        human = [moment.source is Source.TELEOP for moment in self.moments]
        return sum(now and not before for before, now in zip([False, *human], human, strict=False))


@dataclass
class Harvest:
    """What was made of a recording, counted. gaps: why moments ended, or did not begin, by cause.

    refused: messages that could not be used, by "channel: why".
    """

    episodes: int = 0
    frames: int = 0
    human_frames: int = 0
    takeovers: int = 0
    short_episodes: int = 0
    short_frames: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def count(self, episode: Episode) -> None:
        """One more episode that is kept."""
        self.episodes += 1
        self.frames += len(episode.moments)
        self.human_frames += sum(moment.source is Source.TELEOP for moment in episode.moments)
        self.takeovers += episode.takeovers

    def add(self, other: Harvest) -> None:
        """What was made of one more recording."""
        for name in ("episodes", "frames", "human_frames", "takeovers", "short_episodes", "short_frames"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.gaps.update(other.gaps)
        self.refused.update(other.refused)


def episodes_of(aligned: Iterable[Moment | Gap], fps: int, harvest: Harvest) -> Iterator[Episode]:
    """Split at gaps, at new instructions, and where the pictures become too many; drop what is too short.

    harvest: is told what was kept and what was not.
    """
    least = max(2, round(LEAST_S * fps))
    for episode in _pieces(aligned, harvest):
        if len(episode.moments) < least:
            harvest.short_episodes += 1
            harvest.short_frames += len(episode.moments)
        else:
            harvest.count(episode)
            yield episode


def _pieces(aligned: Iterable[Moment | Gap], harvest: Harvest) -> Iterator[Episode]:
    piece = _Piece()
    for item in aligned:
        if isinstance(item, Gap):
            harvest.gaps[item.cause] += 1
            yield from piece.cut()
            continue
        if piece.moments and (piece.moments[-1].span != item.span or piece.size >= _MOST_BYTES):
            is_told = piece.moments[-1].span != item.span
            harvest.gaps["another instruction, or the world was put back" if is_told else "too many pictures"] += 1
            yield from piece.cut()
        broken = piece.add(item)
        if broken:
            harvest.gaps[broken] += 1
            yield from piece.cut()
    yield from piece.cut()


@dataclass(eq=False)
class _Piece:
    """The episode that is being put together. size: of its pictures, in bytes."""

    moments: list[Moment] = field(default_factory=list)
    images: dict[str, list[bytes]] = field(default_factory=dict)
    size: int = 0
    encoded: dict[str, tuple[Sample[Frame], bytes]] = field(default_factory=dict)

    def add(self, moment: Moment) -> str:
        """Append a moment; or leave it out and say why."""
        try:
            files = {view: self._file(view, sample) for view, sample in moment.pictures.items()}
        except MessageError as error:
            return f"a picture cannot be decoded ({error.kind})"
        for view, data in files.items():
            self.images.setdefault(view, []).append(data)
        self.size += sum(map(len, files.values()))
        self.moments.append(replace(moment, pictures={}))
        return ""

    def cut(self) -> Iterator[Episode]:
        """What there is, if anything; begin anew."""
        if self.moments:
            yield Episode(tuple(self.moments), self.images)
        self.moments, self.images, self.size = [], {}, 0

    def _file(self, view: str, sample: Sample[Frame]) -> bytes:
        """A picture as a file: a JPEG or PNG as it is, once it has been decoded; anything else as a PNG."""
        known = self.encoded.get(view)
        if known is not None and known[0] is sample:
            return known[1]
        rgb = frame_to_rgb(sample.value)
        frame = sample.value if sample.value.encoding in COMPRESSED else encode(rgb, "png")
        data = frame.pixels.tobytes()
        self.encoded[view] = (sample, data)
        return data
