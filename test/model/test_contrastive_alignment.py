"""The alignment score means something after training, and nothing before."""

from __future__ import annotations

import pytest
import torch

from vla_ros.model.alignment import AlignmentHead, monitor_alignment

WIDTH, INSTRUCTIONS = 16, 4


def batch(seed: int, samples: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two views of the same hidden cause, in spaces that have nothing to do with each other."""
    fixed = torch.Generator().manual_seed(0)
    causes = torch.randn(INSTRUCTIONS, WIDTH, generator=fixed)
    to_vision, to_language = torch.randn(2, WIDTH, WIDTH, generator=fixed)
    generator = torch.Generator().manual_seed(seed)
    instruction = torch.randint(INSTRUCTIONS, (samples,), generator=generator)
    noise = 0.1 * torch.randn(samples, WIDTH, generator=generator)
    return (causes[instruction] + noise) @ to_vision, causes[instruction] @ to_language, instruction


def test_training_with_the_loss_gives_the_score_a_meaning() -> None:
    torch.manual_seed(0)
    head = AlignmentHead(WIDTH)
    vision, language, instruction = batch(1)
    before = monitor_alignment(*head.embed(vision, language), instruction)
    assert abs(before.score) < 0.3
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for step in range(150):
        optimizer.zero_grad()
        head.loss(*batch(step + 10)).backward()
        optimizer.step()
    after = monitor_alignment(*head.embed(vision, language), instruction)
    assert after.score > 0.7 and after.retrieval == 1.0
    swapped = monitor_alignment(*head.embed(vision, language.roll(1, 0)), instruction)
    assert swapped.score < 0.3


def test_different_images_of_one_instruction_are_not_torn_apart() -> None:
    torch.manual_seed(0)
    head = AlignmentHead(WIDTH)
    with torch.no_grad():
        head.language_proj.load_state_dict(head.vision_proj.state_dict())
    instruction = torch.arange(6) // 3
    said = 3.0 * torch.eye(WIDTH)[instruction]
    seen = said + 0.2 * torch.randn(6, WIDTH)
    as_one = float(head.loss(seen, said, instruction).detach())
    as_six = float(head.loss(seen, said, torch.arange(6)).detach())
    assert as_one < 0.3 < 0.5 < as_six


def test_the_loss_is_least_where_every_pair_belongs_together() -> None:
    torch.manual_seed(0)
    head = AlignmentHead(WIDTH)
    with torch.no_grad():
        head.language_proj.load_state_dict(head.vision_proj.state_dict())
    vision = torch.randn(6, WIDTH)
    instruction = torch.arange(6)
    assert head.loss(vision, vision, instruction) < head.loss(vision, vision.roll(1, 0), instruction)


def test_the_report_counts_pairs_and_chance() -> None:
    vision = torch.eye(4)
    report = monitor_alignment(vision, vision, torch.tensor([0, 0, 1, 1]))
    assert report.matched == pytest.approx(0.5) and report.mismatched == pytest.approx(0.0)
    assert report.retrieval == 1.0 and report.chance == pytest.approx(0.5)
    assert "own instruction found for 100% of the images (by chance 50%)" in str(report)


def test_without_names_every_sample_has_its_own_instruction() -> None:
    report = monitor_alignment(torch.eye(3), torch.eye(3).roll(1, 0))
    assert report.matched == 0.0 and report.retrieval == 0.0 and report.score < 0.0
