"""The worker as a real process behind its client: how it loads, answers, misbehaves and dies."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vla_ros.errors import PolicyError, VlaRosError, WorkerError
from vla_ros.policy import messages
from vla_ros.policy.client import WorkerClient
from vla_ros.types import ChunkReply, FailureReply, Observation, Pose, Request, WorkerDied, WorkerReply

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "config" / "sawyer_sim.yaml"
LOAD_S = 30.0
ANSWER_S = 10.0
NOTICE_S = 0.1  # a worker's death is known this soon; the tests allow a busy machine ten times as much

Start = Callable[..., WorkerClient]


def observation(side: int = 16) -> Observation:
    pose = Pose(np.array([0.1, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))
    images = {view: np.full((side, side, 3), 7, np.uint8) for view in ("front", "wrist", "top")}
    return Observation(1_000, "open the drawer", images, pose, pose, np.zeros(9), 0.5)


@pytest.fixture
def lines() -> list[str]:
    """What the workers of a test printed."""
    return []


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> Iterator[Start]:
    """Makes clients of the faulty policy, and closes them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "test" / "plugins"))
    clients: list[WorkerClient] = []

    def make(policy: str = "faulty_policy:create", python: str = sys.executable, **options: str) -> WorkerClient:
        clients.append(WorkerClient(python, policy, CONTRACT, options, lines.append))
        return clients[-1]

    yield make
    for one in clients:
        one.close(0.0)


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    """The file that names the fault of the moment."""
    path = tmp_path / "fault"
    path.write_text("")
    return path


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.002)


def replies(client: WorkerClient, timeout_s: float = ANSWER_S) -> list[WorkerReply]:
    found: list[WorkerReply] = []

    def polled() -> bool:
        found.extend(client.poll())
        return bool(found)

    wait_for(polled, timeout_s, "a reply")
    return found


def ask(client: WorkerClient, request_id: int, what: Observation | None = None) -> WorkerReply:
    client.submit(Request(request_id, what or observation()))
    (reply,) = replies(client)
    return reply


def pid_of(client: WorkerClient) -> int:
    assert client.pid is not None
    return client.pid


def assert_ends(pidfd: int, within_s: float) -> None:
    """The process of a pidfd ends; one that is a zombie of some other process has ended."""
    assert select.select([pidfd], [], [], within_s)[0], f"the process still runs after {within_s} s"


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_loaded_policy_answers_and_the_reply_says_what_was_asked_and_when(client: Start) -> None:
    worker = client("hold")
    assert worker.start(LOAD_S).views == ("front", "wrist", "top")
    what = observation(128)
    before_ns = time.monotonic_ns()
    reply = ask(worker, 5, what)
    assert isinstance(reply, ChunkReply)
    assert reply.request_id == 5
    np.testing.assert_array_equal(reply.chunk.rows[0, :3], what.commanded_pose.position)
    assert reply.observation_sha256 == hashlib.sha256(messages.encode_observation(what)).hexdigest()
    assert before_ns <= reply.started_ns < reply.ended_ns <= time.monotonic_ns()
    assert 0.0 < reply.inference_s < (reply.ended_ns - reply.started_ns) * 1e-9


def test_only_one_request_is_in_flight(client: Start, fault: Path) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    fault.write_text("hang")
    worker.submit(Request(1, observation()))
    with pytest.raises(WorkerError, match="request 1 is still in flight"):
        worker.submit(Request(2, observation()))
    fault.write_text("")
    assert isinstance(replies(worker)[0], ChunkReply)
    assert isinstance(ask(worker, 3), ChunkReply)


def test_a_policy_that_raises_again_and_again_is_explained_once(client: Start, fault: Path, lines: list[str]) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    fault.write_text("raise")
    assert all(isinstance(ask(worker, number), FailureReply) for number in range(1, 4))
    fault.write_text("nothing")
    assert isinstance(ask(worker, 4), FailureReply)
    wait_for(lambda: any("lost its mind" in line for line in lines), ANSWER_S, "the traceback")
    assert sum("Traceback" in line for line in lines) == 1


def test_a_large_observation_passes(client: Start) -> None:
    worker = client("hold")
    worker.start(LOAD_S)
    assert isinstance(ask(worker, 1, observation(1500)), ChunkReply)  # 20 MB, many times the socket's buffer


@pytest.mark.parametrize(
    ("policy", "options", "kind", "words"),
    [
        ("hodl", {}, PolicyError, "there is no policy 'hodl'; choose one of hold, oracle"),
        ("hold", {"speed": "3"}, PolicyError, "no option 'speed'"),
        ("faulty_policy:create", {"load": "raise"}, PolicyError, "cannot be loaded: RuntimeError: no weights at all"),
        ("faulty_policy:create", {"load": "exit"}, WorkerError, "ended with exit status 7"),
        ("no_such_module:create", {}, PolicyError, "No module named 'no_such_module'"),
    ],
)
def test_a_policy_that_cannot_be_loaded_is_an_error_in_words(
    client: Start, policy: str, options: dict[str, str], kind: type[VlaRosError], words: str
) -> None:
    worker = client(policy, **options)
    with pytest.raises(kind) as caught:
        worker.start(LOAD_S)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(WorkerError, match="no running worker"):
        worker.submit(Request(1, observation()))


def test_a_policy_that_loads_for_ever_is_given_up(client: Start) -> None:
    worker = client(load="hang")
    with pytest.raises(WorkerError, match=r"was not loaded within 0\.5 s"):
        worker.start(0.5)
    assert no_children()


def test_an_interpreter_that_does_not_exist_is_named(client: Start, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"/python' cannot be run: No such file"):
        client("hold", python=str(tmp_path / "python")).start(LOAD_S)


def test_another_interpreter_borrows_vla_ros_and_is_told_what_else_it_lacks(client: Start, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    with pytest.raises(WorkerError) as caught:
        client("hold", python=str(tmp_path / "bare" / "bin" / "python")).start(LOAD_S)
    assert "ended with exit status 1; it printed last:" in str(caught.value)
    assert "No module named 'vla_ros'" not in str(caught.value)
    assert "ModuleNotFoundError" in str(caught.value)


def test_what_the_worker_prints_is_logged_line_by_line(client: Start, lines: list[str]) -> None:
    worker = client(load="print")
    worker.start(LOAD_S)
    wait_for(lambda: "loading the weights" in lines, ANSWER_S, "the worker's output")
    os.kill(pid_of(worker), signal.SIGKILL)
    replies(worker)
    assert lines == ["loading the weights", "half a line"]


def test_a_log_that_fails_is_the_worker_s_death_and_not_a_silent_link(client: Start) -> None:
    def full(_line: str) -> None:
        raise OSError("no space left")

    worker = WorkerClient(sys.executable, "faulty_policy:create", CONTRACT, {"load": "print"}, full)
    with pytest.raises(WorkerError, match="the link to the worker failed: OSError: no space left"):
        worker.start(LOAD_S)
    assert no_children()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raise", "raised RuntimeError: the policy lost its mind"),
        ("nothing", "answered NoneType, not a Chunk"),
        ("flat", "rows have the shape (14,)"),
        ("unheard of", "raised KeyError"),
    ],
)
def test_a_policy_that_fails_is_a_reply_and_the_next_request_is_served(
    client: Start, fault: Path, name: str, words: str
) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    fault.write_text(name)
    reply = ask(worker, 1)
    assert isinstance(reply, FailureReply)
    assert reply.request_id == 1
    assert words in reply.text
    fault.write_text("")
    assert isinstance(ask(worker, 2), ChunkReply)


@pytest.mark.parametrize(
    ("name", "rows", "t_obs_ns"),
    [("nan", 41, 1_000), ("jump", 41, 1_000), ("past", 41, 1_000 - 10**10), ("empty", 0, 1_000), ("narrow", 41, 1_000)],
)
def test_bad_rows_come_through_as_they_are_for_others_to_judge(
    client: Start, fault: Path, name: str, rows: int, t_obs_ns: int
) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    fault.write_text(name)
    reply = ask(worker, 1)
    assert isinstance(reply, ChunkReply)
    assert (len(reply.chunk.rows), reply.chunk.t_obs_ns) == (rows, t_obs_ns)


@pytest.mark.parametrize("busy", [False, True])
def test_a_killed_worker_is_noticed_named_and_reaped(client: Start, fault: Path, busy: bool) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    pid = pid_of(worker)
    if busy:
        fault.write_text("hang")
        worker.submit(Request(1, observation()))
    os.kill(pid, signal.SIGKILL)
    assert replies(worker, 10 * NOTICE_S) == [WorkerDied("the worker was killed by signal 9 (SIGKILL)")]
    assert not Path(f"/proc/{pid}").exists()
    assert (worker.pid, worker.poll()) == (None, [])
    with pytest.raises(WorkerError, match="no running worker"):
        worker.submit(Request(2, observation()))


def test_a_policy_that_exits_takes_its_worker_along(client: Start, fault: Path) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    fault.write_text("exit")
    assert ask(worker, 1) == WorkerDied("the worker ended with exit status 3")


def test_a_stopped_worker_never_blocks_its_caller_and_recovers(client: Start) -> None:
    worker = client("hold")
    worker.start(LOAD_S)
    os.kill(pid_of(worker), signal.SIGSTOP)
    started_s = time.monotonic()
    worker.submit(Request(1, observation(600)))  # more than the socket holds
    for _ in range(100):
        assert worker.poll() == []
    assert time.monotonic() - started_s < 0.5
    os.kill(pid_of(worker), signal.SIGCONT)
    (reply,) = replies(worker)
    assert isinstance(reply, ChunkReply)


def test_close_ends_a_stopped_worker(client: Start) -> None:
    worker = client("hold")
    worker.start(LOAD_S)
    pid = pid_of(worker)
    os.kill(pid, signal.SIGSTOP)
    worker.close(0.1)
    assert not Path(f"/proc/{pid}").exists()
    worker.close(0.1)


@pytest.mark.parametrize("name", ["", "hang", "hang_in_c"])
def test_close_is_quick_and_leaves_nothing(client: Start, fault: Path, name: str) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    pid = pid_of(worker)
    fault.write_text(name)
    worker.submit(Request(1, observation()))
    started_s = time.monotonic()
    worker.close(5.0)
    assert time.monotonic() - started_s < 2.0
    assert not Path(f"/proc/{pid}").exists()
    assert len(list(Path("/proc/self/fd").iterdir())) < descriptors
    assert worker.poll() == []


def test_ctrl_c_in_the_terminal_is_the_client_s_to_act_on(client: Start) -> None:
    worker = client("hold")
    worker.start(LOAD_S)
    os.kill(pid_of(worker), signal.SIGINT)
    assert isinstance(ask(worker, 1), ChunkReply)


def test_sigterm_ends_a_worker_without_a_traceback(client: Start, fault: Path, lines: list[str]) -> None:
    worker = client(file=str(fault))
    worker.start(LOAD_S)
    fault.write_text("hang_in_c")
    worker.submit(Request(1, observation()))
    os.kill(pid_of(worker), signal.SIGTERM)
    assert replies(worker) == [WorkerDied("the worker was killed by signal 15 (SIGTERM)")]
    assert lines == []


PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
from test_worker import *
worker = WorkerClient(sys.executable, "faulty_policy:create", CONTRACT, dict(file={fault!r}))
worker.start(LOAD_S)
worker.submit(Request(1, observation()))
print(worker.pid, flush=True)
time.sleep(60.0)
"""


@pytest.mark.parametrize("name", ["", "hang", "hang_in_c"])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_never_outlives_its_client(client: Start, fault: Path, name: str, stopped: bool) -> None:
    fault.write_text(name)
    text = PARENT.format(tests=str(Path(__file__).parent), fault=str(fault))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'test' / 'plugins'}"}
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        pidfd = os.pidfd_open(pid)
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    assert_ends(pidfd, within_s=2.0)
    os.close(pidfd)


def test_a_worker_behind_a_wrapper_script_ends_with_its_client(client: Start, tmp_path: Path) -> None:
    worker = client("hold", python=script(tmp_path / "python", f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n'))
    worker.start(LOAD_S)
    pidfd = os.pidfd_open(pid_of(worker))
    assert isinstance(ask(worker, 1), ChunkReply)
    worker.close(1.0)
    assert_ends(pidfd, within_s=2.0)
    os.close(pidfd)


LIAR = """#!{python}
import os, socket, sys, time
sys.path.insert(0, {root!r})
from vla_ros.policy import messages, wire
from vla_ros.types import Needs
from vla_ros.types import Chunk
words = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--"))
connection = socket.socket(fileno=int(words["socket-fd"]))
hello = wire.frame(0, messages.encode_answer(messages.Hello("liar", Needs(()), os.getpid())))
{lie}
time.sleep(60.0)
"""


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ('connection.sendall(b"HTTP/1.1 200 OK")', "broke the protocol: a frame claims"),
        ('connection.sendall(wire.frame(0, b"garbage"))', "broke the protocol: the message is not"),
        ('connection.sendall(wire.frame(0, wire.encode({"type": "bye"})))', "not one of hello, failure, chunk"),
        ('connection.sendall(wire.frame(9, b"\\x80"))', "broke the protocol"),
        ("connection.close()", "closed its connection"),
        (
            'connection.sendall(wire.frame(0, messages.encode_answer(messages.Hello("", Needs(()), 1, protocol=99))))',
            "speaks protocol 99, not 1",
        ),
    ],
)
def test_a_stranger_s_greeting_is_refused(client: Start, tmp_path: Path, lie: str, words: str) -> None:
    path = script(tmp_path / "liar", LIAR.format(python=sys.executable, root=str(ROOT), lie=lie))
    with pytest.raises(WorkerError) as caught:
        client("hold", python=path).start(LOAD_S)
    assert words in str(caught.value)
    assert no_children()


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("b'garbage garbage'", "a frame claims"),
        ("hello", "which is not in flight"),
        ("wire.frame(2, messages.encode_answer(messages.Failure('mine')))", "answered request 2, which is not in fl"),
        ("wire.frame(1, wire.encode({'type': 'chunk', 'rows': 3}))", "'rows' is not an array"),
        ("2 * wire.frame(1, messages.encode_answer(messages.Failure('no')))", "which is not in flight"),
    ],
)
def test_a_worker_that_answers_garbage_is_ended(client: Start, tmp_path: Path, lie: str, words: str) -> None:
    lie = f"connection.sendall(hello)\nconnection.recv(1)\nconnection.sendall({lie})"
    path = script(tmp_path / "liar", LIAR.format(python=sys.executable, root=str(ROOT), lie=lie))
    worker = client("hold", python=path)
    worker.start(LOAD_S)
    pid = pid_of(worker)
    worker.submit(Request(1, observation()))
    death = replies(worker)[-1]
    if not isinstance(death, WorkerDied):  # one of the lies begins with an honest answer
        (death,) = replies(worker)
    assert isinstance(death, WorkerDied)
    assert words in death.text
    assert not Path(f"/proc/{pid}").exists()


def test_a_worker_that_answers_half_a_question_is_ended(client: Start, tmp_path: Path) -> None:
    lie = (
        "connection.sendall(hello)\nconnection.recv(1)\n"
        "connection.sendall(wire.frame(1, messages.encode_answer(messages.Failure('whatever'))))\n"
        "import time\ntime.sleep(30)"
    )
    path = script(tmp_path / "liar", LIAR.format(python=sys.executable, root=str(ROOT), lie=lie))
    worker = client("hold", python=path)
    worker.start(LOAD_S)
    worker.submit(Request(1, observation(1500)))
    (death,) = replies(worker)
    assert isinstance(death, WorkerDied)
    assert "answered request 1 before it had all of it" in death.text


def no_children() -> bool:
    """True if this process has no child, not even a zombie, but the one that multiprocessing keeps once it was used."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return all(b"resource_tracker" in Path(f"/proc/{child}/cmdline").read_bytes() for child in children)
