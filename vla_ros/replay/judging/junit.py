"""Verdicts as JUnit XML, as Jenkins, GitLab and GitHub's report actions read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from vla_ros.data.files import replacing
from vla_ros.replay.judging.verdict import Verdict

# XML 1.0 has no way to write these, escaped or not.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, verdicts: Sequence[Verdict], duration_s: float = 0.0) -> None:
    """One test suite for each verdict, one case for each check, whole or not at all. Raises DataError."""
    with replacing(path) as draft:
        draft.write_bytes(junit(verdicts, duration_s))


def junit(verdicts: Sequence[Verdict], duration_s: float = 0.0) -> bytes:
    """The file's bytes. duration_s: of everything, by the wall clock."""
    total = sum(len(verdict.checks) for verdict in verdicts)
    failed = sum(len(verdict.failures) for verdict in verdicts)
    root = ElementTree.Element("testsuites", _counts("vla_ros replay", total, failed, duration_s))
    for verdict in verdicts:
        suite = _counts(_clean(verdict.subject), len(verdict.checks), len(verdict.failures), 0.0)
        parent = ElementTree.SubElement(root, "testsuite", suite)
        for check in verdict.checks:
            names = {"classname": f"vla_ros.replay.{_clean(verdict.subject)}", "name": _clean(check.name)}
            case = ElementTree.SubElement(parent, "testcase", {**names, "time": "0.000"})
            if check.passed:
                ElementTree.SubElement(case, "system-out").text = _clean(check.text)
            else:
                message = {"message": _clean(check.text), "type": "ReplayFailure"}
                ElementTree.SubElement(case, "failure", message).text = _clean(check.text)
        if verdict.remarks:
            ElementTree.SubElement(parent, "system-out").text = _clean("\n".join(verdict.remarks))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _counts(name: str, tests: int, failures: int, duration_s: float) -> dict[str, str]:
    return {
        "name": name,
        "tests": str(tests),
        "failures": str(failures),
        "errors": "0",
        "skipped": "0",
        "time": f"{duration_s:.3f}",
    }


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
