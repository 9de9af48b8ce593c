"""What is kept of a replay, and what becomes of it when files are gone, cut short or damaged, or a disk is full."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_runs import LiveRun, eventful
from replay_builders import judged, perfect, sides
from replay_policies import write_small_contract

from vla_ros import cli
from vla_ros.errors import ReplayError
from vla_ros.replay.decision_log import DecisionLog
from vla_ros.replay.decisions import Outcome
from vla_ros.replay.judging.action_errors import LEAD
from vla_ros.replay.judging.catalogue import METRICS, measure
from vla_ros.replay.judging.samples import Pooled
from vla_ros.replay.judging.spool import Spool
from vla_ros.replay.results import LOG, MEASURED, SAMPLES, Result, read_result, write_result

KEY = {"code": "abc"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The results of a replay beside a rival."""
    (tmp_path / LOG).write_text("{}\n")
    replayed = perfect(800)
    write_result(tmp_path, Result({"key": KEY}, judged(replayed).quantities, sides(replayed, replayed)))
    return tmp_path


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """Files of this process can grow no further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_what_is_kept_is_what_was_measured(folder: Path) -> None:
    kept, whole = read_result(folder, KEY), judged(perfect(800)).quantities
    assert kept is not None and kept.side is not None and kept.side.distances_m.max() == 0.0
    assert set(kept.quantities.names) == set(whole.names) - {LEAD}
    assert measure(kept.quantities) == measure(whole)
    assert kept.quantities.at_ns("latency").tolist() == whole.at_ns("latency").tolist()
    assert measure(Pooled([kept.quantities, kept.quantities]))["compared_rows"] == 2 * len(
        whole.values("position_error")
    )
    assert {metric.quantity for metric in METRICS.values()} <= set(kept.quantities.names)


@pytest.mark.parametrize("name", [SAMPLES, MEASURED])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_results_that_are_cut_short_are_none(folder: Path, name: str, share: float) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * len(data))])
    assert read_result(folder, KEY) is None


def test_results_with_a_damaged_byte_are_none(folder: Path) -> None:
    data = (folder / SAMPLES).read_bytes()
    for place in range(0, len(data), len(data) // 60):
        (folder / SAMPLES).write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        result = read_result(folder, KEY)
        if result is not None:  # a byte that says nothing, such as a date
            assert measure(result.quantities) == measure(judged(perfect(800)).quantities)


def test_results_that_are_gone_when_they_are_looked_at_are_an_error(folder: Path) -> None:
    result = read_result(folder, KEY)
    assert result is not None
    (folder / SAMPLES).unlink()
    with pytest.raises(ReplayError, match=r"the results in .* are gone"):
        measure(result.quantities)


def test_a_full_disk_is_an_error_of_the_spool(tmp_path: Path) -> None:
    spool, some = Spool(tmp_path), judged(perfect(80)).quantities.samples("silent")
    with full_disk(3_000), pytest.raises(ReplayError, match=f"cannot be written to {tmp_path}"):
        for _ in range(10):
            spool.add({"silent": some})
    assert len(spool.values("silent")) % len(some.values) == 0, "what is there is whole"


@pytest.mark.parametrize("most_bytes", [10, 2_000])
def test_a_full_disk_leaves_no_log(tmp_path: Path, most_bytes: int) -> None:
    with full_disk(most_bytes), pytest.raises(ReplayError, match="cannot be written"):  # noqa: SIM117
        with DecisionLog(tmp_path / LOG, {"bag": "x" * 5_000}) as log:
            log.end(Outcome())
    assert not list(tmp_path.iterdir())


def test_a_replay_on_a_full_disk_says_so_and_keeps_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = write_small_contract(tmp_path / "robot.yaml")
    eventful(LiveRun()).write(tmp_path / "lived")
    command = ("replay", str(tmp_path / "lived"), "--policy", "hold", "--contract", str(contract))
    output = ("--output", str(tmp_path / "results"))
    assert cli.main((*command, *output)) == 0
    before = {path: path.read_bytes() for path in sorted((tmp_path / "results").rglob("*")) if path.is_file()}
    capsys.readouterr()
    with full_disk(20_000):
        assert cli.main((*command, *output, "--fresh")) == 2
    said = capsys.readouterr()
    assert "cannot be written" in said.err + said.out and "Traceback" not in said.err
    after = {path: path.read_bytes() for path in sorted((tmp_path / "results").rglob("*")) if path.is_file()}
    assert {path: data for path, data in after.items() if path.name in (LOG, MEASURED, SAMPLES)} == {
        path: data for path, data in before.items() if path.name in (LOG, MEASURED, SAMPLES)
    }
