"""Each benchmark runs with the smallest counts, prints its table and bars, and writes its numbers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import own_domain

from bench.episodes import EpisodeLog, Key, Measured
from bench.latency import routes_of
from bench.loop_run import LoopRun
from bench.report import Bar
from bench.ticks import ticks_due
from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.control.joining import PARTS
from vla_ros.learning.evaluation.statistics import Rate
from vla_ros.resources import config_path
from vla_ros.types import Json

ROOT = Path(__file__).parents[2]
FIRST = Measured("ros", "push-v3", "test:0", True, 1.0)
WANTED: list[Key] = [("ros", "push-v3", "test:0"), ("ros", "push-v3", "test:1")]
MS = 1_000_000


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with own_domain() as env:
        yield env


def bench(env: dict[str, str], output: Path, *words: str) -> str:
    """What the benchmark printed. A busy machine may miss a bar; it must not fail to measure."""
    command = [sys.executable, "-m", "bench", *words, "--quick", "--seconds", "1.5", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "rows"),
    [("ticks", ("bare timer", "guard, ticks heard", "policy, ticks heard")), ("latency", ("echo", "without waits"))],
)
def test_quick_run_prints_a_table_and_bars_and_writes_them(
    environment: dict[str, str], tmp_path: Path, name: str, rows: tuple[str, ...]
) -> None:
    printed = bench(environment, tmp_path, name)
    assert all(row in printed for row in rows), printed
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["bars"], printed
    assert all(row["count"] > 5 for row in record["numbers"].values()), printed


def test_chunks_prints_the_networks_parts_and_writes_its_bars(environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    printed = bench(environment, tmp_path, "chunks")
    assert "vision.backbones" in printed and "chunks per second" in printed, printed
    record = json.loads((tmp_path / "chunks.json").read_text())
    assert record["numbers"]["chunk_ms"]["count"] >= 20
    assert 0.0 < record["numbers"]["backbone_share"] < 1.0 and record["numbers"]["parameters"] < 37e6


def test_oracle_prints_all_three_ways_side_by_side(environment: dict[str, str], tmp_path: Path) -> None:
    printed = bench(environment, tmp_path, "oracle", "--tasks", "reach-v3")
    assert "bare robot" in printed and "decision path" in printed and "over ROS" in printed
    assert "only bare: none; only ros: none" in printed, printed
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 3


def test_unknown_benchmark_is_refused_with_the_choices(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "ticks, latency, oracle" in done.stderr


def test_episodes_of_other_code_are_kept_but_do_not_count(tmp_path: Path) -> None:
    contract, path = config_path("sawyer_sim"), tmp_path / "episodes.jsonl"
    log = EpisodeLog(path, contract, WANTED, fresh=False)
    assert log.origin() == "nothing was measured"
    log.add(FIRST)
    other = path.read_text().replace('"code": "', '"code": "0')
    path.write_text(other + path.read_text() + '{"code": "cut sho')
    log = EpisodeLog(path, contract, WANTED, fresh=False)
    assert log.of("ros", ["push-v3"], ["test:0", "test:1"]) == [FIRST]
    assert not len(EpisodeLog(path, contract, WANTED, fresh=True))
    assert path.read_text() == other


def test_episodes_that_were_cut_short_are_gone_on_with_and_a_complete_set_is_measured_again(tmp_path: Path) -> None:
    contract, path = config_path("sawyer_sim"), tmp_path / "episodes.jsonl"
    EpisodeLog(path, contract, WANTED, fresh=False).add(FIRST)
    path.write_text(path.read_text().replace(f'"when": "{time.strftime("%Y")}', '"when": "2001'))
    path.write_text(path.read_text() + '{"code": "cut sho')
    log = EpisodeLog(path, contract, WANTED, fresh=False)
    assert len(log) == 1
    log.add(replace(FIRST, variation="test:1"))
    log = EpisodeLog(path, contract, [*WANTED, ("ros", "push-v3", "test:2")], fresh=False)
    assert len(log) == 2, "a line that was cut short must not spoil the next one"
    assert "2 episodes, measured from 2001" in log.origin() and f"to {time.strftime('%Y')}" in log.origin()

    assert not len(EpisodeLog(path, contract, WANTED, fresh=False))
    assert path.read_text() == ""


def test_ticks_that_were_not_heard_are_counted() -> None:
    heard_ms = [ms for ms in range(0, 1000, 10) if ms not in (300, 310, 700)]
    assert ticks_due([guard_tick(ms, 0, []) for ms in heard_ms], 100.0) == 100 == len(heard_ms) + 3
    assert ticks_due([], 100.0) == 0


def test_a_frames_way_is_read_from_the_traces() -> None:
    frame, first_set, next_set = 1000 * MS, 2000 * MS, 2010 * MS
    contract = load_contract(config_path("sawyer_sim"))
    policy = [
        policy_tick(8, inputs=[heard(channels.camera(view), frame, 0.003) for view in contract.cameras], request=frame),
        policy_tick(20, ros_ns=first_set, t_obs_ns=frame, reply_ended_ms=15),
        policy_tick(30, ros_ns=next_set, t_obs_ns=frame),
    ]
    # The guard misses a part of the first set, so that only the next one leads to a command.
    guard = [
        guard_tick(25, 3000 * MS, [heard(part, first_set, 0.001) for part in PARTS[1:]]),
        guard_tick(37, 3012 * MS, [heard(part, next_set, 0.002) for part in PARTS]),
    ]
    run = LoopRun({frame: 4 * MS}, {3000 * MS: 26 * MS, 3012 * MS: 40 * MS}, policy, guard)
    (route,) = routes_of(run, contract)
    assert route.total == pytest.approx(36.0)
    assert route.camera_to_policy == pytest.approx(1.0)
    assert (route.wait_for_policy, route.wait_for_policy_again, route.wait_for_guard) == pytest.approx((3.0, 5.0, 2.0))
    assert route.work(contract.rates) == pytest.approx(26.0)


def test_a_wait_counts_for_one_period_at_most() -> None:
    contract = load_contract(config_path("sawyer_sim"))
    run = LoopRun(
        {1000 * MS: 0},
        {3000 * MS: 101 * MS},
        [
            policy_tick(
                1, inputs=[heard(channels.camera(view), 1000 * MS, 0.0) for view in contract.cameras], request=1000 * MS
            ),
            policy_tick(2, ros_ns=2000 * MS, t_obs_ns=1000 * MS, reply_ended_ms=2),
        ],
        [guard_tick(100, 3000 * MS, [heard(part, 2000 * MS, 0.098) for part in PARTS])],
    )
    (route,) = routes_of(run, contract)
    assert route.wait_for_guard == pytest.approx(98.0)
    assert route.work(contract.rates) == pytest.approx(101.0 - 12.5)


def test_bar_with_nothing_measured_is_not_met() -> None:
    assert not Bar("stops", float("nan"), 0, "stops").met
    assert not Bar("successes", float("nan"), 95, "episodes", at_least=True).met


def test_wilson_interval_of_98_of_100() -> None:
    low, high = Rate(98, 100).interval
    assert (low, high) == pytest.approx((0.930, 0.9945), abs=5e-4)


def heard(channel: str, stamp_ns: int, receive_age_s: float) -> Json:
    return {"channel": channel, "stamp_ns": stamp_ns, "receive_age_s": receive_age_s}


def policy_tick(
    at_ms: int,
    ros_ns: int = 0,
    inputs: list[Json] | None = None,
    request: int | None = None,
    t_obs_ns: int | None = None,
    reply_ended_ms: int | None = None,
) -> Json:
    return {
        "steady_ns": at_ms * MS,
        "ros_ns": ros_ns,
        "inputs": inputs or [],
        "request": {"id": 1, "t_obs_ns": request} if request is not None else None,
        "replies": [{"id": 1, "ended_ns": reply_ended_ms * MS}] if reply_ended_ms is not None else [],
        "t_obs_ns": t_obs_ns,
    }


def guard_tick(at_ms: int, ros_ns: int, inputs: list[Json]) -> Json:
    return {"steady_ns": at_ms * MS, "ros_ns": ros_ns, "source": "policy", "inputs": inputs}
