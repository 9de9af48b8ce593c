"""The one check for every fault: it stopped in time, it stayed stopped, it said why, and how it came back.

Detection bounds are the contract's. Those in steady time (ages, silences) count from the instant of the fault; those in
simulated time (the end of a chunk, the period of a camera) end when the simulation's clock has come that far, and the
steady ones follow. The hand's times are simulated, since a simulation slower than real time has a slower hand. They
count from the first tick that commands a slower speed for good, which a target that stands still does long before the
guard calls it a stop; but from no earlier than a stop's own time before rest, since a policy's last plan may slow down
for longer than that, and still move.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import wait_for
from rig import AT_CRUISE, CONTRACT, ROOT, Rig, peak_mb, running_rig
from sweeping_policy import SPEED_M_S

from vla_ros.policy.hold import MIN_HORIZON_S
from vla_ros.types import NS_PER_S

# Between a bound and its end as seen from here lie two timers' phases (12.5 ms each), the passage of messages, and
# the scheduling of six processes. Of 130 stops at a load of 5 to 9 on two cores none needed it.
ALLOWANCE_S = 0.1
# Later than that is no matter of scheduling: such a failure is not tried again (test/conftest.py).
LATE_AT_MOST_S = 0.2
HAND_SLOW_M_S = 0.02
HAND_SLOW_WITHIN_S = 0.8
HAND_STAYS_SLOW_S = 1.0
GUARD_AT_MOST_MB = 120.0
TABLE = ROOT / "runs" / "fault_times.json"


@dataclass(frozen=True)
class Outcome:
    """Times [s]. bound: until detection, as the contract promises; zero: from the fault until nothing is commanded.

    hand: from the first tick of the final slow-down, or a stop's time before its end, until the hand stays slower than
    2 cm/s.
    """

    fault: str
    bound_s: float
    zero_s: float
    hand_s: float
    realtime_factor: float
    said: str


@dataclass(frozen=True)
class Bound:
    """Detection: simulated seconds first, then steady ones."""

    steady_s: float
    simulated_s: float = 0.0


def until_the_last_good_plan_ends(rig: Rig) -> Bound:
    """A request that was under way when the fault began is answered well still, and asked a frame period earlier."""
    return Bound(rig.contract.timeouts.policy_s, MIN_HORIZON_S + frame_s(rig))


def frame_s(rig: Rig) -> float:
    """The slowest camera's period."""
    return 1.0 / min(camera.rate_hz for camera in rig.contract.cameras.values())


def expect_stop(
    rig: Rig, fault: str, fault_ns: int, bound: Bound, says: tuple[str, str], speed_m_s: float = SPEED_M_S
) -> Outcome:
    """Wait for the stop and judge it. Raises AssertionError.

    says: a topic and the words expected on it; speed_m_s: as commanded before the stop.
    """
    said = _await_words(rig, says, fault_ns)
    _await(lambda: stop_ticks(rig, fault_ns) and rig.records.zero_since(fault_ns), f"never at rest after {fault}")
    began_ros_ns = max(_slow_down_began(rig, fault_ns, speed_m_s), _stop_began_at_least(rig, fault_ns))
    zero_ns = _settled(rig, fault_ns, began_ros_ns)
    outcome = _outcome(rig, fault, fault_ns, bound, zero_ns, began_ros_ns, said)
    _judge(rig, outcome, fault_ns)
    return outcome


def expect_driver_stop(rig: Rig, fault: str, fault_ns: int, bound: Bound, said: str) -> Outcome:
    """The same where no guard is left and the robot's driver must hold: judged by the pose that it is told to be at."""
    end_ns = rig.records.ros_ns(fault_ns) + round((bound.steady_s + HAND_SLOW_WITHIN_S + 1.2) * NS_PER_S)
    wait_for(lambda: rig.records.steady_ns(end_ns), 30.0, "the hand was watched")
    zero_ns = rig.records.still_since(fault_ns)
    outcome = _outcome(rig, fault, fault_ns, bound, zero_ns, rig.records.ros_ns(zero_ns), said)
    _judge(rig, outcome, fault_ns)
    return outcome


def _await_words(rig: Rig, says: tuple[str, str], fault_ns: int) -> str:
    topic, words = says

    def heard() -> str:
        return next((text for text in rig.records.words(topic, fault_ns) if words in text), "")

    try:
        text: str = _await(heard, words)
    except AssertionError:
        raise AssertionError(f"{topic} never said {words!r} but {rig.records.words(topic, fault_ns)}") from None
    return text


def _await(condition: Callable[[], Any], otherwise: str) -> Any:
    """A wait so long that its end is no matter of timing: not one to be tried again."""
    try:
        return wait_for(condition, 20.0)
    except AssertionError:
        raise AssertionError(otherwise) from None


def _settled(rig: Rig, fault_ns: int, began_ros_ns: int) -> int:
    """Watch until the hand's time is over; returns since when the command has been zero."""
    end_ns = began_ros_ns + round((HAND_SLOW_WITHIN_S + HAND_STAYS_SLOW_S) * NS_PER_S)
    wait_for(lambda: rig.records.steady_ns(end_ns), 30.0, "the hand was watched")
    zero_ns = rig.records.zero_since(fault_ns)
    assert zero_ns is not None, "it moved again by itself"
    return zero_ns


def stop_ticks(rig: Rig, fault_ns: int) -> list[dict[str, Any]]:
    """The guard's ticks since it last began to stop after an instant."""
    ticks = rig.records.traces("guard/trace", fault_ns)
    moving = [index for index, tick in enumerate(ticks) if "in command: " not in tick["text"]]
    return ticks[moving[-1] + 1 :] if moving else ticks


def _stop_decided(rig: Rig, fault_ns: int) -> int:
    return int(stop_ticks(rig, fault_ns)[0]["ros_ns"])


def _slow_down_began(rig: Rig, fault_ns: int, speed_m_s: float) -> int:
    """ROS time of the guard's first tick after the last one at full speed. The command must be at rest by now."""
    ticks = rig.records.traces("guard/trace", fault_ns - NS_PER_S // 2)
    fast = [index for index, tick in enumerate(ticks) if speed(tick) >= AT_CRUISE * speed_m_s]
    assert fast, "there is something to stop"
    return int(ticks[fast[-1] + 1]["ros_ns"])


def _stop_began_at_least(rig: Rig, fault_ns: int) -> int:
    """ROS time at which a stop begins at the earliest, by when it ended. The command must be at rest by now."""
    zero_ns = rig.records.zero_since(fault_ns)
    assert zero_ns is not None, "it moved again by itself"
    return rig.records.ros_ns(zero_ns) - round(rig.contract.stop_time_s * NS_PER_S)


def speed(tick: dict[str, Any]) -> float:
    """Commanded, linear [m/s]."""
    return float(np.linalg.norm(tick["command"]["linear"])) if tick["command"] else 0.0


def _outcome(rig: Rig, fault: str, fault_ns: int, bound: Bound, zero_ns: int, began_ros_ns: int, said: str) -> Outcome:
    records = rig.records
    simulated_end_ns = records.ros_ns(fault_ns) + round(bound.simulated_s * NS_PER_S)
    simulated_ns = records.steady_ns(simulated_end_ns) if bound.simulated_s else fault_ns
    assert simulated_ns is not None, "the clock came that far"
    hand = [entry for entry in records.since("ee_twist", fault_ns) if entry.stamp_ns >= began_ros_ns]
    fast = [entry.stamp_ns for entry in hand if entry.value >= HAND_SLOW_M_S]
    return Outcome(
        fault,
        (simulated_ns - fault_ns) / NS_PER_S + bound.steady_s,
        (zero_ns - fault_ns) / NS_PER_S,
        (fast[-1] - began_ros_ns) / NS_PER_S if fast else 0.0,
        rig.realtime_factor(fault_ns),
        said,
    )


def _judge(rig: Rig, outcome: Outcome, fault_ns: int) -> None:
    try:
        _assert_in_time(rig, outcome)
    except AssertionError:
        print("\n".join(timeline(rig, fault_ns)))
        raise


def timeline(rig: Rig, fault_ns: int) -> Iterator[str]:
    """The guard's ticks around a fault, for whoever must find out what went wrong."""
    for tick in rig.records.traces("guard/trace", fault_ns - NS_PER_S // 5):
        heard = ", ".join(f"{entry['channel']} {entry['receive_age_s']:.3f}" for entry in tick["inputs"])
        yield f"{(tick['steady_ns'] - fault_ns) / NS_PER_S:.3f} s: {speed(tick):.3f} m/s, {tick['text']}; heard {heard}"


def _assert_in_time(rig: Rig, outcome: Outcome) -> None:
    expect_standstill(rig, outcome.bound_s, outcome.zero_s)
    _expect_in_time(outcome.hand_s - HAND_SLOW_WITHIN_S, f"the hand: {outcome}")


def expect_standstill(rig: Rig, bound_s: float, zero_s: float) -> None:
    """The command was at zero in time, whenever it began to slow down."""
    _expect_in_time(zero_s - (bound_s + rig.contract.stop_time_s + ALLOWANCE_S), f"zero after {zero_s:.3f} s")


def _expect_in_time(late_s: float, what: str) -> None:
    assert late_s <= LATE_AT_MOST_S, f"moves on, far beyond its time: {what}"
    assert late_s <= 0.0, f"moves {late_s:.3f} s too long: {what}"


def expect_reobservation(rig: Rig, stopped_ros_ns: int, from_ns: int) -> list[dict[str, Any]]:
    """The first tick that follows the policy again uses an observation made after the stop. Returns those before it."""

    def ticks() -> list[dict[str, Any]]:
        return rig.records.traces("guard/trace", from_ns)

    wait_for(lambda: any(_follows(tick) for tick in ticks()), 20.0, "the guard follows the policy again")
    heard = ticks()
    first = next(index for index, tick in enumerate(heard) if _follows(tick))
    # What a tick used may have come in parts, some with the ticks before.
    used_ns = _newest_set(rig.records.traces("guard/trace", from_ns - NS_PER_S), heard[first]["steady_ns"])

    def observed_ns() -> int | None:
        lines = rig.records.traces("policy/trace", from_ns - NS_PER_S)
        return next((line["t_obs_ns"] for line in lines if line["ros_ns"] == used_ns), None)

    used_t_obs_ns = wait_for(observed_ns, 5.0, "the policy's trace of the tick that the guard followed")
    assert used_t_obs_ns > stopped_ros_ns, f"moved on an observation from before the stop: {heard[first]}"
    return heard[:first]


def _follows(tick: dict[str, Any]) -> bool:
    return bool(tick["text"] == "policy in command")


def _newest_set(ticks: list[dict[str, Any]], until_ns: int) -> int:
    """The stamp of the newest complete set of the policy that the guard had heard by a tick."""
    inputs = [entry for tick in ticks if tick["steady_ns"] <= until_ns for entry in tick["inputs"]]
    parts = ("policy/target_pose", "policy/gripper", "policy/instruction")
    stamps = [{entry["stamp_ns"] for entry in inputs if entry["channel"] == part} for part in parts]
    return int(max(set.intersection(*stamps)))


def expect_recovery(rig: Rig, fault_ns: int, lifted_ns: int) -> None:
    """It goes on by itself once the fault is lifted, from rest, and after observing again."""
    before = expect_reobservation(rig, _stop_decided(rig, fault_ns), lifted_ns)
    assert all(speed(tick) == 0.0 for tick in before), "from rest"
    rig.await_motion()


def _rounded(row: Outcome) -> dict[str, Any]:
    values = {name: value for name, value in asdict(row).items() if name != "fault"}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}


class Table:
    """Measured outcomes: printed past pytest's capture, and merged into TABLE."""

    def __init__(self) -> None:
        self._rows: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self._rows.append(outcome)

    def write(self, path: Path = TABLE) -> None:
        """Merge into the file by the fault's name."""
        path.parent.mkdir(exist_ok=True)
        before = json.loads(path.read_text()) if path.exists() else {}
        rows = {row.fault: _rounded(row) for row in self._rows}
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps({**before, **rows}, indent=2) + "\n")
        draft.replace(path)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{'fault':<42}{'bound s':>9}{'zero s':>8}{'hand s':>8}{'rtf':>6}  said"
        for row in self._rows:
            times = f"{row.bound_s:>9.3f}{row.zero_s:>8.3f}{row.hand_s:>8.3f}{row.realtime_factor:>6.2f}"
            yield f"{row.fault:<42}{times}  {row.said}"


def rig_of_module(request: pytest.FixtureRequest, contract: Path = CONTRACT) -> Iterator[tuple[Rig, Table]]:
    """For a module-scoped fixture: a running loop, and a table that is told when the module's tests are over.

    A guard that lived through them must still be small.
    """
    table = Table()
    with running_rig(contract) as rig:
        yield rig, table
        megabytes = peak_mb(rig.pid("guard"))
    table.write()
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + "\n".join(table.lines()))
        print(f"the guard's peak: {megabytes:.0f} MB")
    assert megabytes < GUARD_AT_MOST_MB, f"the guard has grown to {megabytes:.0f} MB"
