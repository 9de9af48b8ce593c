"""up: the whole graph in one terminal, where `ros2 launch` is not installed."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections import deque
from typing import Any

from vla_ros.bringup import BringUp, node_processes
from vla_ros.commands.where import RULE, add_where, environment, options
from vla_ros.contract_file import load_contract
from vla_ros.errors import VlaRosError
from vla_ros.resources import named_file
from vla_ros.supervise import Ending, Process, Supervisor

CLEAN, FAILED = 0, 1
_SELF = "up"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UP_TIMEOUT_S = 150.0
_ARM_TIMEOUT_S = 15.0

# What the end of a process means. Nobody starts it again unasked: a robot that moves again by itself surprises people.
_MEANINGS = {
    "guard": "nothing drives the robot now, and its driver's timeout stops it; ending everything",
    "sim": "there is no robot any more; ending everything",
    "policy": "the guard stops the robot; teleop still works; to start the policy again, end this and call up again",
    "teleop": "the guard stops the robot if the human was in command",
    "record": "nothing is recorded from now on",
}
_ESSENTIAL = ("guard", "sim")
# What is said when one of the steps after the start fails, behind that command's own words.
_UNDONE = {
    "wait": "not everything is up",
    "arm": "arming was refused, for the reason above",
    "say": "the instruction did not reach everybody, see above",
}

_DESCRIPTION = """\
Start guard and policy for a robot, each as its own process, and keep watch over them: the same processes with the
same arguments as launch/robot.launch.py. Ctrl-C ends them all. When one dies, up says which and what that means,
and starts nothing again by itself; when the guard (or the simulated robot) dies, all are ended.
The guard starts disarmed: nothing moves before `vla_ros arm`, or --arm."""
_EPILOG = f"""\
examples:
  vla_ros up config/ur5e_servo.yaml --policy my_robot.policies:create
  vla_ros up sawyer_sim --sim --task push-v3 --policy oracle --arm --say "push the puck to the goal"
  vla_ros up base_sim --sim --policy oracle --arm --say "drive to the red box"

{RULE}

Exit status: 0 ended by you and cleanly, 1 a process died or had to be killed, 2 wrong arguments."""


def add_parsers(subparsers: Any) -> None:
    """The command `up`."""
    parser = subparsers.add_parser(
        "up",
        help="start guard and policy (and the simulated robot) and keep watch over them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("contract", help="the robot's contract: a YAML file, or the name of one in config/")
    parser.add_argument("--policy", default="hold", metavar="NAME", help="`vla_ros policies` lists them (hold)")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="for the policy; repeatable")
    parser.add_argument("--checkpoint", default="", metavar="DIR", help="short for --option checkpoint=DIR")
    parser.add_argument("--policy-python", default="", metavar="PATH", help="Python interpreter of the policy's worker")
    parser.add_argument(
        "--autostart", action=argparse.BooleanOptionalAction, default=True, help="configure and activate the policy"
    )
    parser.add_argument("--teleop", choices=("keyboard", "joy"), help="also a human's controls")
    parser.add_argument("--record", default="", metavar="DIR", help="also record a bag into DIR")
    parser.add_argument("--shadow", action="store_true", help="decide and tell, but send the robot nothing")
    parser.add_argument("--use-sim-time", action="store_true", help="take the time from /clock; --sim implies it")
    parser.add_argument("--arm", action="store_true", help="arm when everything is up: the robot may move at once")
    parser.add_argument("--say", default="", metavar="SENTENCE", help="then give this instruction")
    parser.add_argument("--task", default="", help="with --sim: a task of the robot (reach-v3; drive-red-box)")
    parser.add_argument("--variation", default="", help="with --sim: where things are, such as test:3 (test:0)")
    parser.add_argument("--realtime-factor", type=float, metavar="X", help="with --sim: its seconds per second (1.0)")
    add_where(parser, "also start the simulated robot, in a graph of its own")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    contract = named_file(args.contract)
    load_contract(contract)
    _refuse_contradictions(args)
    plan = BringUp(
        contract=contract,
        policy=args.policy,
        policy_options=(*args.option, *([f"checkpoint={args.checkpoint}"] if args.checkpoint else [])),
        policy_python=args.policy_python,
        autostart=args.autostart,
        namespace=args.namespace,
        sim=args.sim,
        task=args.task,
        variation=args.variation,
        realtime_factor=args.realtime_factor,
        teleop=args.teleop or "",
        record=args.record,
        shadow=args.shadow,
        use_sim_time=args.use_sim_time or args.sim,
    )
    return _Up(args).run(node_processes(plan))


def _refuse_contradictions(args: argparse.Namespace) -> None:
    if (args.task or args.variation or args.realtime_factor is not None) and not args.sim:
        raise VlaRosError("--task, --variation and --realtime-factor are for the simulated robot: add --sim")
    if args.say and not args.autostart:
        raise VlaRosError("--say is for a policy that is active: leave out --no-autostart")
    for option in args.option:
        if not option.partition("=")[1]:
            raise VlaRosError(f"policy option {option!r} is not of the form key=value")


class _Up:
    """One run: start, wait, arm and speak if told to, keep watch, end."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._where = options(args)
        self._autostart = args.autostart
        self._is_armed = False
        self._supervisor = Supervisor(environment(args), _tell)
        self._steps = deque(_steps(args))
        self._step = ""
        self._asked_to_end = False
        self._failed = False

    def run(self, processes: tuple[Process, ...]) -> int:
        """Until a signal, or until an essential process died. Returns the exit status."""
        previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            for process in processes:
                pid = self._supervisor.start(process)
                _tell(_SELF, f"started {process.name} (process {pid})")
            self._next_step()
            while not self._asked_to_end and self._supervisor.running:
                for ending in self._supervisor.poll(0.2):
                    self._on_ending(ending)
            return self._end()
        finally:
            self._supervisor.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._asked_to_end = True

    def _on_ending(self, ending: Ending) -> None:
        if ending.name == _SELF:
            self._on_step(ending.status == 0)
            return
        if self._asked_to_end:
            return
        self._failed = True
        _tell(_SELF, f"{ending}: {_MEANINGS[ending.name]}")
        self._asked_to_end = ending.name in _ESSENTIAL

    def _on_step(self, is_done: bool) -> None:
        if is_done:
            self._is_armed = self._is_armed or self._step == "arm"
        else:
            self._steps.clear()
            self._failed = True
            _tell(_SELF, _UNDONE[self._step])
        self._next_step()

    def _next_step(self) -> None:
        if self._steps:
            self._step, *rest = self._steps.popleft()
            words = (sys.executable, "-m", "vla_ros.cli", self._step, *rest, *self._where)
            self._supervisor.start(Process(_SELF, words))
            return
        if not self._autostart:
            _tell(
                _SELF, f"the policy is not loaded; to configure and activate it    {_command('restart', self._where)}"
            )
        if not self._is_armed:
            _tell(_SELF, f"disarmed: nothing moves before    {_command('arm', self._where)}")
        _tell(_SELF, f'an instruction:    {_command("say", self._where)} "..."')
        _tell(_SELF, f"who is in command:    {_command('status', self._where)}    ctrl-c ends everything")

    def _end(self) -> int:
        _tell(_SELF, "ending: " + (", ".join(reversed(self._supervisor.running)) or "nothing is left to end"))
        unclean = [ending for ending in self._supervisor.stop() if ending.status != 0 and ending.name != _SELF]
        for ending in unclean:
            _tell(_SELF, f"not a clean end: {ending}")
        return FAILED if unclean or self._failed else CLEAN


def _steps(args: argparse.Namespace) -> list[tuple[str, ...]]:
    """Commands to run one after the other when the nodes have been started, as a user would in another terminal."""
    patience = ("--timeout", f"{_UP_TIMEOUT_S:g}")
    steps: list[tuple[str, ...]] = []
    if args.autostart:
        steps.append(("wait", *patience))
    if args.arm:
        steps.append(("arm", *patience, "--wait", f"{_ARM_TIMEOUT_S:g}"))
    if args.say:
        steps.append(("say", args.say))
    return steps


def _command(name: str, where: tuple[str, ...]) -> str:
    return shlex.join(("vla_ros", name, *where))


def _tell(name: str, line: str) -> None:
    # A keyboard teleop draws its line on the same terminal.
    start = "\r\x1b[K" if sys.stdout.isatty() else ""
    sys.stdout.write(f"{start}{f'[{name}]':<9} {line}\n")
    sys.stdout.flush()
