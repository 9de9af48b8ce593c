"""Tasks that only a memory can do, learned in seconds: the right action depends on what is no longer in sight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vla_ros.model.memory import MemoryAugmentedFusion, MemoryState
from vla_ros.model.memory_file import load_memory, save_memory

CUES, ROOMS, WIDTH, SLOTS = 4, 4, 32, 6
PIXELS = CUES + ROOMS
CHANCE = 1.0 / CUES
Lesson = tuple[Tensor, Tensor]
"""Frames (B, T, PIXELS), of which the last asks for the action, and which that is, (B,)."""


class Robot(nn.Module):
    """As the network does: a frame is encoded, recalls, is decoded to an action, and is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH))
        self.fusion = MemoryAugmentedFusion(WIDTH, SLOTS, dropout=0.0)
        self.decoder = nn.Linear(WIDTH, CUES)

    def empty(self, memories: int) -> MemoryState:
        return self.fusion.external_memory.empty(memories)

    def act(self, frame: Tensor, memory: MemoryState) -> Tensor:
        """(B, PIXELS) -> (B, CUES)"""
        logits: Tensor = self.decoder(self.fusion(self.encoder(frame), memory).fused_features)
        return logits

    def see(self, frame: Tensor, memory: MemoryState) -> MemoryState:
        """(B, PIXELS)"""
        fused = self.encoder(frame)
        recall = self.fusion(fused, memory)
        return self.fusion.store_experience(fused, fused, recall.memory)

    def live(self, frames: Tensor) -> MemoryState:
        """One frame after the other, each sample with a memory of its own. (B, T, PIXELS)"""
        memory = self.empty(len(frames))
        for frame in frames.unbind(dim=1):
            memory = self.see(frame, memory)
        return memory


def frames(rooms: Tensor, cues: Tensor | None, generator: torch.Generator) -> Tensor:
    """Of rooms, (B, T), with cues in sight, (B, T), or none. -> (B, T, PIXELS)"""
    seen = torch.nn.functional.one_hot(rooms, ROOMS).float()
    shown = torch.zeros(*rooms.shape, CUES) if cues is None else torch.nn.functional.one_hot(cues, CUES).float()
    clean = torch.cat([shown, seen], dim=-1)
    return clean + 0.05 * torch.randn(clean.shape, generator=generator)


def one_episode(count: int, generator: torch.Generator) -> Lesson:
    """A cue at its beginning, then frames that look alike."""
    room = torch.zeros(count, 1, dtype=torch.long)
    cue = torch.randint(CUES, (count, 1), generator=generator)
    later = frames(room.expand(-1, 3), None, generator)
    return torch.cat([frames(room, cue, generator), later], dim=1), cue[:, 0]


def several_episodes(count: int, generator: torch.Generator) -> Lesson:
    """A cue in each of the rooms, in any order; then one of these rooms again, without it."""
    rooms = torch.rand(count, ROOMS, generator=generator).argsort(dim=1)
    cues = torch.randint(CUES, (count, ROOMS), generator=generator)
    which = torch.randint(ROOMS, (count, 1), generator=generator)
    again = frames(rooms.gather(1, which), None, generator)
    return torch.cat([frames(rooms, cues, generator), again], dim=1), cues.gather(1, which)[:, 0]


def taught(lesson: Callable[[int, torch.Generator], Lesson], steps: int) -> Robot:
    torch.manual_seed(0)
    robot, generator = Robot(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(robot.parameters(), lr=3e-3)
    for _ in range(steps):
        seen, action = lesson(64, generator)
        loss = nn.functional.cross_entropy(robot.act(seen[:, -1], robot.live(seen[:, :-1])), action)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return robot.eval()


def share_right(logits: Tensor, action: Tensor) -> float:
    return float((logits.argmax(dim=-1) == action).float().mean())


@pytest.mark.timeout(300)
def test_a_cue_that_was_seen_early_in_an_episode_decides_at_its_end() -> None:
    robot = taught(one_episode, 100)
    with torch.no_grad():
        seen, action = one_episode(1000, torch.Generator().manual_seed(2))
        remembering = share_right(robot.act(seen[:, -1], robot.live(seen[:, :-1])), action)
        forgetful = share_right(robot.act(seen[:, -1], robot.empty(1000)), action)
    print(f"right: {remembering:.1%} with what it saw, {forgetful:.1%} without")
    assert remembering > 0.99 and abs(forgetful - CHANCE) < 0.06


@pytest.mark.timeout(300)
def test_what_was_seen_in_earlier_episodes_is_recalled_after_a_restart(tmp_path: Path) -> None:
    robot, generator = taught(several_episodes, 200), torch.Generator().manual_seed(2)
    path, right, astray = tmp_path / "memory.safetensors", [], []
    rooms = torch.arange(ROOMS).unsqueeze(0)
    for _ in range(40):
        cues = torch.randint(CUES, (1, ROOMS), generator=generator)
        with torch.no_grad():
            save_memory(path, robot.live(frames(rooms, cues, generator)))
            restarted = Robot().eval()
            restarted.load_state_dict(robot.state_dict())
            again = frames(rooms, None, generator)[0]
            right.append(share_right(restarted.act(again, load_memory(path, restarted.empty(1))), cues[0]))
            astray.append(share_right(restarted.act(again, restarted.empty(1)), cues[0]))
    print(f"right: {sum(right) / 40:.1%} with the file, {sum(astray) / 40:.1%} without")
    assert sum(right) / 40 > 0.95 and abs(sum(astray) / 40 - CHANCE) < 0.1
