"""The page itself: one HTML file with everything in it, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from vla_ros.data.files import replacing
from vla_ros.replay.judging.moments import Moment
from vla_ros.replay.report import tables
from vla_ros.replay.report.content import Content, Look
from vla_ros.replay.report.html import data_uri, quiet
from vla_ros.replay.report.timeline import timeline


def write_page(path: Path, content: Content) -> None:
    """Raises DataError if it cannot be written."""
    text = page(content)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def page(content: Content) -> str:
    """The HTML."""
    title = escape(f"Replay of {content.verdict.subject}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><link rel="icon" href="data:,"><style>{_file("page.css")}</style></head><body><main>'
        + "\n".join(_sections(content, title))
        + f"</main><script>{_file('page.js')}</script></body></html>\n"
    )


def _sections(content: Content, title: str) -> Iterator[str]:
    judged, names = content.judgement, [content.name]
    yield f"<header><h1>{title}</h1>{_badge(content)}</header>{_facts(content)}"
    yield tables.checks(content.verdict)
    yield tables.cards(content)
    yield f"<h2>Time line</h2>{timeline(content)}"
    yield f"<h2>Worst moments</h2>{_moments(content)}"
    if content.looks:
        yield f"<h2>Where the network looks</h2>{_looks(content)}"
    if content.rival is not None:
        yield f"<h2>Side by side</h2>{tables.comparison(content.name, content.rival)}"
    yield "<h2>Guard and inputs</h2>"
    yield tables.causes("what the guard did, or nearly", "times", content, "interventions")
    yield tables.causes("why the policy was silent", "ticks", content, "silences")
    yield tables.causes("inputs missing or too old", "ticks", content, "stale")
    missing = content.replayed.outcome.missing
    yield tables.counted("messages that the live run used and the bag lacks", "ticks", names, [missing])
    yield f"<h2>Latency</h2>{tables.latencies(content)}"
    yield f"<h2>Error over the horizon</h2>{tables.horizon(judged.horizon)}"
    yield f"<h2>All metrics</h2><details><summary>{len(judged.metrics)} metrics, with their meaning</summary>"
    yield f"{tables.metrics(content)}</details>"
    yield f"<h2>Identity</h2>{tables.identity(content)}"


def _badge(content: Content) -> str:
    if not content.verdict.checks:
        return '<span class="badge">measured</span>'
    css, word = ("good", "passed") if content.verdict.passed else ("bad", "FAILED")
    return f'<span class="badge {css}">{word}</span>'


def _facts(content: Content) -> str:
    replayed = content.replayed
    against = f", against {content.rival.name}" if content.rival is not None else ""
    counts = f"{len(replayed.policy)} ticks of the policy, {len(replayed.guard)} of the guard"
    facts = [
        f"Policy {content.name}{against}; robot {replayed.contract.name}; {content.end_s:.1f} s, {counts}.",
        *(f"{note[:1].upper()}{note[1:]}." for note in replayed.outcome.notes),
    ]
    if replayed.outcome.damage:
        facts.append(f"Damaged bag: {replayed.outcome.damage}")
    return "".join(quiet(fact) for fact in facts)


def _moments(content: Content) -> str:
    if not content.moments:
        return quiet("None.")
    cards = (
        f'<div class="moment {moment.kind.replace(" ", "-")}"><a href="#now" data-at="{moment.after_s:.3f}">'
        f"{moment.after_s:.2f} s</a> <b>{escape(moment.kind)}</b><p>{escape(moment.text)}</p>"
        f"{_at_moment(content, moment)}</div>"
        for moment in content.moments
    )
    return f'<div class="moments">{"".join(cards)}</div>'


def _at_moment(content: Content, moment: Moment) -> str:
    """The picture of each view that is nearest."""
    nearest = {
        view: min(pictures, key=lambda one: abs(one.at_ns - moment.at_ns))
        for view, pictures in (content.strips or {}).items()
    }
    return "".join(f'<img src="{data_uri(one.jpeg)}" alt="{escape(view)}">' for view, one in nearest.items())


def _looks(content: Content) -> str:
    explained = quiet(
        "Bright: where the words of the instruction look, on one scale for the views of a moment; what no view gets "
        "goes to the robot's state. Below: how much the pictures look at each word. Attention says where information "
        "came from, not why an action was chosen."
    )
    toggle = '<label><input type="checkbox" id="heat" checked> attention over the pictures</label>'
    return f'{explained}{toggle}<div id="looks">{"".join(_look(content, look) for look in content.looks)}</div>'


def _look(content: Content, look: Look) -> str:
    after_s = content.seconds(look.at_ns)
    views = "".join(
        f'<figure><div class="glance"><img src="{data_uri(one.picture)}" alt="{escape(view)}">'
        f'<img class="heat" src="{data_uri(one.heat, "png")}" alt=""></div>'
        f"<figcaption>{escape(view)} {one.share:.0%}</figcaption></figure>"
        for view, one in look.glances.items()
    )
    most = max((share for _, share in look.words), default=0.0) or 1.0
    words = " ".join(
        f'<span style="--share:{share / most:.2f}">{escape(word)}<small>{share:.0%}</small></span>'
        for word, share in look.words
    )
    return (
        f'<div class="look"><a href="#now" data-at="{after_s:.3f}">{after_s:.2f} s</a> {escape(look.policy)}'
        f'<div class="glances">{views}</div><div class="words">{words}</div></div>'
    )


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
