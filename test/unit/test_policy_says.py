"""What a policy says besides rows reaches status, trace and replay; and one that asks not to be followed is not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_runs import SENTENCE, LightSeeker, LiveRun, small_contract
from policy_bench import ROW_DT_S, PolicyBench, rows

from vla_ros.control.policy_report import chunk_sha256
from vla_ros.control.policy_state import PolicyReason
from vla_ros.errors import WorkerError
from vla_ros.policy import messages, wire
from vla_ros.replay.decision_log import gather, read_log, write_log
from vla_ros.replay.run import Replay, Terms
from vla_ros.types import Chunk, ChunkReply, Observation


def chunk(**said: Any) -> Chunk:
    return Chunk(0, ROW_DT_S, rows(), **said)


def answered(bench: PolicyBench, **said: Any) -> PolicyBench:
    made = replace(chunk(**said), t_obs_ns=bench.observation.t_obs_ns)
    bench.answer(ChunkReply(bench.requests[-1].id, b"asked", 1, 2, made, 0.01)).tick()
    return bench


def test_a_subtask_and_a_surprise_are_told_in_words_and_values() -> None:
    bench = answered(PolicyBench().asked(), subtask="lower to the puck", surprise=1.234)
    status, trace = bench.result.status, bench.result.trace
    assert bench.result.output is not None
    assert status.text == "commanding (lower to the puck)"
    assert (status.values["subtask"], status.values["surprise"]) == ("lower to the puck", "1.23")
    [reply] = trace["replies"]
    assert (reply["subtask"], reply["surprise"]) == ("lower to the puck", 1.234) and "stop_because" not in reply


def test_a_policy_that_says_nothing_is_told_of_as_before() -> None:
    bench = answered(PolicyBench().asked())
    assert bench.result.status.text == "commanding"
    assert not {"subtask", "surprise", "asks for a stop"} & set(bench.result.status.values)
    assert set(bench.result.trace["replies"][0]) == {
        "id", "observation_sha256", "started_ns", "ended_ns", "inference_s", "chunk_sha256",
    }  # fmt: skip


def test_a_policy_that_asks_not_to_be_followed_is_silent_until_it_no_longer_asks() -> None:
    bench = answered(PolicyBench().asked(), surprise=7.0, stop_because="7.0 times as far as usual")
    assert bench.result.output is None and bench.reason is PolicyReason.SURPRISED
    assert bench.result.status.reason.is_fault
    assert bench.result.status.text == "silent: surprised (7.0 times as far as usual)"
    while len(bench.requests) < 2:
        bench.tick()
    assert bench.result.output is None, "it goes on looking"
    answered(bench)
    assert bench.result.output is not None and bench.reason is PolicyReason.NONE


def test_a_new_instruction_ends_what_the_old_one_was_stopped_for() -> None:
    bench = answered(PolicyBench().asked(), stop_because="surprised")
    bench.say("something else").tick()
    assert bench.reason is PolicyReason.CHUNK_AWAITED


@pytest.mark.parametrize("said", [{"subtask": "a"}, {"surprise": 1.0}, {"stop_because": "b"}])
def test_what_is_said_has_a_part_in_a_chunks_name(said: dict[str, Any]) -> None:
    assert chunk_sha256(chunk(**said)) != chunk_sha256(chunk())


@pytest.mark.parametrize(
    "said",
    [{}, {"subtask": "lift it"}, {"surprise": 0.0}, {"subtask": "lift it", "surprise": 2.5, "stop_because": "odd"}],
)
def test_what_is_said_survives_the_wire(said: dict[str, Any]) -> None:
    back = messages.decode_answer(messages.encode_answer(messages.Plan(chunk(**said), 0.1)))
    assert isinstance(back, messages.Plan) and back.chunk.said == said
    assert chunk_sha256(back.chunk) == chunk_sha256(chunk(**said))


@pytest.mark.parametrize(
    "said",
    [
        {"subtask": 3},
        {"surprise": "very"},
        {"surprise": math.nan},
        {"surprise": math.inf},
        {"stop_because": ["a"]},
        {"subtask": "a" * (messages.MAX_SAID + 1)},
    ],
    ids=str,
)
def test_what_is_malformed_is_neither_sent_nor_believed(said: dict[str, Any]) -> None:
    with pytest.raises(WorkerError):
        messages.encode_answer(messages.Plan(chunk(**said), 0.1))
    fields = {"type": "chunk", "inference_s": 0.1, "t_obs_ns": 0, "dt_s": 0.1, "rows": rows(), **said}
    with pytest.raises(WorkerError):
        messages.decode_answer(wire.encode(fields))


@dataclass
class WarySeeker(LightSeeker):
    """Says what it does, and asks for a stop half of the time."""

    looks: int = 0

    def predict(self, observation: Observation) -> Chunk:
        self.looks += 1
        surprise = float(np.sin(self.looks)) + 1.0
        stop_because = "too bright" if self.looks % 12 >= 6 else ""
        return replace(super().predict(observation), subtask="seek", surprise=surprise, stop_because=stop_because)


def test_a_replay_says_and_stops_as_it_was_lived(tmp_path: Path) -> None:
    run = LiveRun(WarySeeker()).run(3.0, {0.2: LiveRun.say, 0.25: LiveRun.arm})
    replay = Replay(Terms(run.write(tmp_path / "bag"), small_contract()), "wary seeker", WarySeeker())
    replayed = gather(small_contract(), {"bag": "lived"}, list(replay.decisions()), replay.outcome())
    assert replay.agreement is not None
    for tally in (replay.agreement.policy, replay.agreement.guard):
        assert (tally.first_difference, tally.agreeing) == ("", run.ticks)
    texts = {tick.text for tick in replayed.policy}
    assert {"commanding (seek)", "silent: surprised (too bright)"} <= texts, SENTENCE
    stopped = [tick.text for tick in replayed.guard if tick.source == "nobody" and tick.mode == "armed"]
    assert stopped, "a policy that falls silent is stopped by the guard"
    write_log(tmp_path / "log", replayed)
    again = read_log(tmp_path / "log", small_contract())
    said = [
        [reply.chunk.said for tick in one.policy for reply in tick.replies if reply.chunk] for one in (replayed, again)
    ]
    assert said[0] == said[1] and all("surprise" in words for words in said[0])
