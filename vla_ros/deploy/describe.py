"""A network and its profile as plain text: what there is, what it gives, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from vla_ros.deploy.profiling import BACKBONES, ENCODER, Duration, PartProfile, Profile
from vla_ros.model.config import VLAConfig

_HEADER = ("part", "module", "gives", "parameters", "trainable", "MFLOP", "ms", "p95")
_TEXT_COLUMNS = 3
_GAP = "  "


def describe(config: VLAConfig, profile: Profile) -> str:
    """Many lines: a row per part and one for all, what is frozen, how fast it is, and the configuration."""
    return "\n".join((*_table(profile), "", *_in_words(profile), "", *_configuration(config))) + "\n"


def _table(profile: Profile) -> Iterator[str]:
    rows = [_HEADER, *(_row(part) for part in profile.parts), _total(profile)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row in rows:
        cells = (
            cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield _GAP.join(cells)


def _row(part: PartProfile) -> tuple[str, ...]:
    return (
        part.name,
        part.module,
        part.output or "-",
        f"{part.parameters:,}",
        f"{part.trainable:,}",
        *_costs(part.flops, part.duration),
    )


def _total(profile: Profile) -> tuple[str, ...]:
    # Timed by itself, without waiting between the parts: not their sum.
    costs = _costs(profile.flops, profile.whole)
    return ("everything", "", "", f"{profile.parameters:,}", f"{profile.trainable:,}", *costs)


def _costs(flops: int, duration: Duration) -> tuple[str, ...]:
    return f"{flops / 1e6:,.1f}", f"{duration.median_ms:.2f}", f"{duration.p95_ms:.2f}"


def _in_words(profile: Profile) -> Iterator[str]:
    yield f"frozen: {', '.join(_frozen(profile.parts)) or 'nothing'}"
    threads, runs = _counted(profile.threads, "thread"), _counted(profile.runs, "run")
    yield (
        f"measured on {profile.device} with {threads}, {runs}, batch {profile.batch}, the instruction "
        f"read before; median and 95th percentile"
    )
    yield f"{profile.chunks_per_second:.1f} chunks per second; {profile.backbone_share:.0%} of the time in {BACKBONES}"
    yield (
        f"a new instruction is read once: {profile.reading.median_ms:.2f} ms and {profile.reading_flops / 1e6:,.1f} "
        f"MFLOP, most of it in {ENCODER}"
    )
    if profile.peak_memory_bytes is not None:
        yield f"at most {profile.peak_memory_bytes / 2**20:,.0f} MiB of the device's memory allocated"
    yield "FLOP: of matrix products and convolutions; a multiplication and its addition are two"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'s' if count > 1 else ''}"


def _frozen(parts: Sequence[PartProfile]) -> Iterator[str]:
    for part in parts:
        frozen = part.parameters - part.trainable
        if frozen:
            yield part.name if frozen == part.parameters else f"{frozen:,} of {part.name}"


def _configuration(config: VLAConfig) -> Iterator[str]:
    yield "configuration"
    for name, value in asdict(config).items():
        if isinstance(value, dict):
            yield f"  {name}: {', '.join(f'{key} {_plain(inner)}' for key, inner in value.items())}"
        else:
            yield f"  {name}: {_plain(value)}"


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value in (None, "") else str(value)
