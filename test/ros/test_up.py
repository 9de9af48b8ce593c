"""`vla_ros up` as a user runs it: everything starts, moves when told to, and ends together, whoever dies."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from geometry_msgs.msg import PoseStamped
from helpers import Probe, Process, own_domain, wait_for

CONFIG = Path(__file__).parents[2] / "config"
UP_TIMEOUT_S = 60.0


@contextmanager
def up(env: Mapping[str, str], *words: str) -> Iterator[Process]:
    with Process([sys.executable, "-m", "vla_ros.cli", "up", "sawyer_sim", *words], env) as process:
        yield process


def say_so(process: Process, text: str) -> None:
    wait_for(lambda: text in process.output(), UP_TIMEOUT_S, f"{text!r}; it said:\n{process.output()}")


def family(process: Process) -> dict[str, psutil.Process]:
    """The nodes that it has started, by name, and all that these started."""
    children = psutil.Process(process.pid).children(recursive=True)
    return {f"{child.cmdline()[3]} {child.pid}": child for child in children if len(child.cmdline()) > 3}


def node(process: Process, name: str) -> psutil.Process:
    (found,) = [child for key, child in family(process).items() if key.startswith(f"{name} ")]
    return found


def all_gone(processes: Mapping[str, psutil.Process]) -> bool:
    return not [one for one in processes.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    with own_domain() as env:
        yield env


def test_up_with_the_simulation_moves_the_robot_by_a_sentence_and_ends_cleanly(env: dict[str, str]) -> None:
    words = ("--sim", "--policy", "oracle", "--task", "reach-v3", "--arm", "--say", "reach the goal")
    with up(env, *words) as process, Probe(env) as probe:
        poses = probe.collect(PoseStamped, "ee_pose")

        def moved_m() -> float:
            places = np.array([[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in list(poses)])
            return float(np.linalg.norm(places[-1] - places[0])) if len(places) else 0.0

        wait_for(lambda: moved_m() > 0.05, UP_TIMEOUT_S, f"motion; it said:\n{process.output()}")
        say_so(process, "who is in command")
        children = family(process)
        assert {"sim", "guard", "policy"} <= {key.split()[0] for key in children}
        process.signal(signal.SIGINT)
        assert process.wait(30.0) == 0, process.output()
        assert all_gone(children)
        assert "[up]      ending: policy, guard, sim\n" in process.output()


def test_a_refused_arming_is_said_and_a_policy_that_is_not_started_too(env: dict[str, str]) -> None:
    with up(env, "--no-autostart", "--arm") as process:  # no robot: there is no measured pose
        say_so(process, "not armed: the measured pose is missing or stale")
        say_so(process, "arming was refused, for the reason above\n")
        say_so(process, "disarmed: nothing moves before    vla_ros arm\n")
        say_so(process, "the policy is not loaded; to configure and activate it    vla_ros restart\n")
        assert "not everything is up" not in process.output()
        assert sorted(key.split()[0] for key in family(process)) == ["guard", "policy"], "no worker"
        process.signal(signal.SIGINT)
        assert process.wait(30.0) == 1


def test_nothing_is_started_for_a_wrong_contract(env: dict[str, str], tmp_path: Path) -> None:
    contract = tmp_path / "wrong.yaml"
    contract.write_text("name: wrong\n")
    with Process([sys.executable, "-m", "vla_ros.cli", "up", str(contract)], env) as process:
        assert process.wait() == 2
        assert "[up]" not in process.output()
        assert "Traceback" not in process.output()


def test_a_dead_guard_ends_everything(env: dict[str, str]) -> None:
    with up(env) as process:
        say_so(process, "nothing moves before    vla_ros arm")
        children = family(process)
        node(process, "guard").kill()
        assert process.wait(30.0) == 1
        assert "guard was killed by signal 9 (SIGKILL): nothing drives the robot now" in process.output()
        assert all_gone(children)


def test_a_dead_policy_is_named_and_not_started_again(env: dict[str, str]) -> None:
    with up(env) as process:
        say_so(process, "nothing moves before    vla_ros arm")
        children = family(process)
        node(process, "policy").kill()
        say_so(process, "policy was killed by signal 9 (SIGKILL): the guard stops the robot")
        wait_for(lambda: len(family(process)) == 1, what="the guard alone is left")
        assert node(process, "guard").is_running()
        process.signal(signal.SIGTERM)
        assert process.wait(30.0) == 1
        assert all_gone(children)


def test_kill_9_of_up_leaves_nobody_behind(env: dict[str, str]) -> None:
    with up(env, "--shadow") as process:
        say_so(process, "nothing moves before    vla_ros arm")
        children = family(process)
        assert len(children) >= 2
        process.signal(signal.SIGKILL)
        wait_for(lambda: all_gone(children), what=f"{list(children)} are gone")
