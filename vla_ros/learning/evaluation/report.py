"""What an evaluation leaves: numbers, tables and plots, each file whole or absent."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.contract_file import load_contract
from vla_ros.data.files import replacing
from vla_ros.learning.evaluation.log import OutcomeLog
from vla_ros.learning.evaluation.metaworld_protocol import differences, group_rates
from vla_ros.learning.evaluation.names import METAWORLD
from vla_ros.learning.evaluation.plots import draw_all
from vla_ros.learning.evaluation.subject import Subject
from vla_ros.learning.evaluation.summary import summarise
from vla_ros.learning.evaluation.table import table

FOLDER = "evaluation"
_OWN, _PUBLISHED = "evaluation", "evaluation-metaworld-mt50"


def write_report(output: Path, log: OutcomeLog) -> str:
    """All of the log's own suites: output/evaluation.json, and tables and plots beside the log. Returns the tables."""
    outcomes = [outcome for outcome in log.outcomes if outcome.suite != METAWORLD]
    summary = summarise(outcomes)
    _write(output, _OWN, log, summary, text := table(summary))
    draw_all(summary, outcomes, output / FOLDER, _OWN)
    return text


def write_published(output: Path, subject: Subject, log: OutcomeLog) -> str:
    """The published protocol's suite, with what differs from it: a report of its own. Returns the tables."""
    outcomes = [outcome for outcome in log.outcomes if outcome.suite == METAWORLD]
    summary = summarise(outcomes)
    rates = group_rates(summary["suites"][METAWORLD]["tasks"])
    groups = {group: {"successes": rate.successes, "episodes": rate.episodes} for group, rate in rates.items()}
    differing = differences(subject, load_contract(subject.contract), log.latency)
    text = "\n".join(
        [
            table(summary),
            *(f"{group}: {rate} ({rate.share:.1%})" for group, rate in rates.items()),
            "\nNot as published:",
            *(f"- {sentence}" for sentence in differing),
            "",
        ]
    )
    _write(output, _PUBLISHED, log, {**summary, "groups": groups, "differences": differing}, text)
    draw_all(summary, outcomes, output / FOLDER, _PUBLISHED)
    return text


def _write(output: Path, name: str, log: OutcomeLog, numbers: Mapping[str, Any], text: str) -> None:
    head = {"when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "subject": log.subject, "latency": log.latency}
    with replacing(output / f"{name}.json") as draft:
        draft.write_text(json.dumps({**head, **numbers}, indent=2) + "\n", encoding="utf-8")
    with replacing(output / FOLDER / f"{name}.md") as draft:
        draft.write_text(text, encoding="utf-8")
