"""Process supervision: prefixed output, endings in words, everybody ended, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from vla_ros import supervise
from vla_ros.supervise import Ending, Process, Supervisor

TIMEOUT_S = 20.0
SLEEP = "import time; print('up'); time.sleep(600)"
DEAF = "import signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN); " + SLEEP


class Desk:
    """A supervisor, and what its processes printed."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.supervisor = Supervisor(os.environ, lambda name, line: self.lines.append((name, line)))
        self.endings: list[Ending] = []

    def start(self, name: str, code: str) -> int:
        return self.supervisor.start(Process(name, (sys.executable, "-c", code)))

    def poll_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"timeout; heard {self.lines}, ended {self.endings}"
            self.endings += self.supervisor.poll(0.02)

    def poll_until_said(self, name: str, line: str) -> None:
        self.poll_until(lambda: (name, line) in self.lines)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.supervisor.stop()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.02)


def test_output_of_both_kinds_is_passed_on_line_by_line_with_the_name(desk: Desk) -> None:
    desk.start("talker", "import sys; print('one'); print('two', file=sys.stderr); print('three', end='')")
    desk.poll_until(lambda: bool(desk.endings))
    assert desk.lines == [("talker", "one"), ("talker", "two"), ("talker", "three")]


def test_an_exit_status_and_a_signal_are_told_apart_in_words(desk: Desk) -> None:
    desk.start("a", "raise SystemExit(3)")
    desk.start("b", "import os; os.kill(os.getpid(), 9)")
    desk.poll_until(lambda: len(desk.endings) == 2)
    assert sorted(map(str, desk.endings)) == ["a ended with exit status 3", "b was killed by signal 9 (SIGKILL)"]
    assert desk.supervisor.running == ()


def test_stop_interrupts_everybody_and_waits_for_clean_ends(desk: Desk) -> None:
    code = """
        import time
        try:
            print("up"); time.sleep(600)
        except KeyboardInterrupt:
            print("cleaned up")
    """
    for name in ("first", "second"):
        desk.start(name, textwrap.dedent(code))
        desk.poll_until_said(name, "up")
    endings = desk.supervisor.stop()
    assert {ending.name: ending.status for ending in endings} == {"first": 0, "second": 0}
    assert [name for name, line in sorted(desk.lines) if line == "cleaned up"] == ["first", "second"]


def test_who_ignores_both_signals_is_killed_with_what_it_started(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s = (0.1, 0.1, 0.2, float("inf"))
    rounds = [(number, who, wait_s) for (number, who, _), wait_s in zip(supervise._ROUNDS, waits_s, strict=True)]
    monkeypatch.setattr(supervise, "_ROUNDS", rounds)
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print(p.pid); "
    pid = desk.start("deaf", child + DEAF)
    desk.poll_until_said("deaf", "up")
    grandchild = next(int(line) for _, line in desk.lines if line.isdigit())
    (ending,) = desk.supervisor.stop()
    assert ending.status == -signal.SIGKILL
    wait_until(lambda: gone(pid) and gone(grandchild))


def test_what_a_dead_process_left_in_its_group_is_ended(desk: Desk) -> None:
    desk.start("parent", f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid)")
    desk.poll_until(lambda: bool(desk.endings))
    grandchild = next(int(line) for _, line in desk.lines if line.isdigit())
    wait_until(lambda: gone(grandchild))


def test_kill_9_of_the_supervisor_leaves_no_orphan() -> None:
    code = f"""
        import os, sys
        from vla_ros.supervise import Process, Supervisor
        supervisor = Supervisor(os.environ, lambda name, line: print(line, flush=True))
        print(supervisor.start(Process("sleeper", (sys.executable, "-c", {SLEEP!r}))), flush=True)
        while True:
            supervisor.poll(1.0)
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "up\n"
        assert not gone(pid)
        process.kill()
        process.wait(TIMEOUT_S)
        wait_until(lambda: gone(pid))


def test_a_line_without_end_does_not_fill_the_memory(desk: Desk) -> None:
    desk.start("flood", "print('x' * 300_000, end='')")
    desk.poll_until(lambda: bool(desk.endings))
    assert sum(len(line) for _, line in desk.lines) == 300_000
    assert len(desk.lines) > 1


def test_a_ctrl_c_reaches_who_shares_the_terminal_once() -> None:
    child = """
        import signal, time
        count = 0
        def on_signal(number, frame):
            global count
            count += 1
        signal.signal(signal.SIGINT, on_signal)
        print("up", flush=True)
        while not count:
            time.sleep(0.01)
        time.sleep(0.3)
        print(f"interrupted {count} times", flush=True)
    """
    code = f"""
        import os, signal, sys
        from vla_ros.supervise import Process, Supervisor
        asked = []
        signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
        supervisor = Supervisor(os.environ, lambda name, line: None)
        supervisor.start(Process("keys", (sys.executable, "-c", {textwrap.dedent(child)!r}), owns_terminal=True))
        while not asked:
            supervisor.poll(0.05)
        print(*supervisor.stop(), flush=True)
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.communicate(timeout=TIMEOUT_S)[0] == "interrupted 1 times\nkeys ended with exit status 0\n"
