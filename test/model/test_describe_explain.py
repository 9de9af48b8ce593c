"""The description in words, and the picture of what a network looks at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import config, image, model, observation
from PIL import Image
from torch import Tensor

from vla_ros.deploy.describe import describe
from vla_ros.deploy.profiling import Duration, PartProfile, Profile
from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.explain import Explanation, draw, explain, save_picture
from vla_ros.model.fusion import FusedFeatures
from vla_ros.model.vla import VLAModel
from vla_ros.types import GRIPPER, QUATERNION

IDENTITY = ActionStatistics.identity()
SIZE = config().vision.image_size
SIDE = SIZE // 16  # film_conv's patches
LOOKED_AT = (SIDE - 1, SIDE - 2)  # row, column


def a_part(name: str, parameters: int, trainable: int, flops: int, median_ms: float) -> PartProfile:
    duration = Duration(median_ms, 2 * median_ms)
    return PartProfile(name, "Kind", "tokens 1x2x3", parameters, trainable, flops, duration)


PROFILE = Profile(
    device="cpu",
    threads=2,
    batch=1,
    runs=20,
    parts=(
        a_part("vision.backbones", 3_000_000, 0, 700_000_000, 30.0),
        a_part("language.encoder", 2_000, 500, 0, 0.0),
        a_part("decoder", 1_234, 1_234, 50_000_000, 10.0),
    ),
    whole=Duration(40.0, 44.0),
    reading=Duration(12.5, 13.0),
    reading_flops=106_000_000,
    peak_memory_bytes=None,
)


def test_a_description_has_a_row_per_part_and_one_for_everything() -> None:
    rows = {line.split()[0]: line.split() for line in describe(config(), PROFILE).splitlines()[:5]}
    assert rows["vision.backbones"][1:] == ["Kind", "tokens", "1x2x3", "3,000,000", "0", "700.0", "30.00", "60.00"]
    assert rows["everything"][1:] == ["3,003,234", "1,734", "750.0", "40.00", "44.00"]


def test_a_description_says_what_is_frozen_how_fast_it_is_and_of_what_it_is_made() -> None:
    text = describe(config(views=("front", "top")), PROFILE)
    assert "frozen: vision.backbones, 1,500 of language.encoder\n" in text
    assert "measured on cpu with 2 threads, 20 runs, batch 1" in text
    assert "25.0 chunks per second; 75% of the time in vision.backbones" in text
    assert "a new instruction is read once: 12.50 ms and 106.0 MFLOP" in text
    assert "  views: front, top\n" in text
    assert "  vision: backbone film_conv, source none, image_size " in text
    assert "MiB" not in text
    assert "at most 5 MiB of the device's memory" in describe(config(), replace(PROFILE, peak_memory_bytes=5 * 2**20))


@pytest.fixture(scope="module")
def built() -> VLAModel:
    return model()


def test_all_that_is_looked_at_is_accounted_for(built: VLAModel) -> None:
    explanation = explain(built, observation(0, "Open the drawer."))
    assert list(explanation.frames) == list(explanation.heats) == ["front", "wrist"]
    heat = sum(heat.sum() for heat in explanation.heats.values())
    assert 0.0 < heat < 1.0  # the robot's state gets some
    assert all(heat.shape == (SIDE, SIDE) and (heat >= 0.0).all() for heat in explanation.heats.values())
    assert 0.0 < sum(share for _, share in explanation.words) < 1.0  # so do [CLS], [SEP] and the sentence
    assert np.allclose(explanation.between_views.sum(axis=1), 1.0)


def test_a_plan_is_told_with_what_each_step_proposes(built: VLAModel) -> None:
    assert explain(built, observation(0)).plan == ()
    words = ("lower to the puck", "push the puck")
    torch.manual_seed(0)
    planning = VLAModel(replace(config(), reasoning="plan", subtasks=words), IDENTITY, IDENTITY).eval()
    assert planning.reasoning.planner is not None
    with torch.no_grad():
        planning.reasoning.planner.next_subtask.bias.copy_(torch.tensor([1e3, 0.0, 0.0]))
    plan = explain(planning, observation(0)).plan
    assert [step for step, _ in plan] == [words[0]] * planning.reasoning.planner.longest
    assert all(row.shape == (14,) and 0.0 <= row[GRIPPER] <= 1.0 for _, row in plan)
    assert np.allclose([np.linalg.norm(row[QUATERNION]) for _, row in plan], 1.0, atol=1e-5)


def test_pieces_of_a_word_are_one_word() -> None:
    assert [word for word, _ in explain(model(), observation(0, "Grab  the Hexahedrons, 5 cm up!")).words] == [
        "Grab", "the", "Hexahedrons", ",", "5", "cm", "up", "!",
    ]  # fmt: skip


@pytest.fixture
def staring(built: VLAModel) -> Iterator[None]:
    """Words look at one patch of the wrist's, [CLS] at another; patches look at the second word."""

    def stare(_module: object, _given: object, fused: FusedFeatures) -> FusedFeatures:
        level = fused.levels[-1]
        to_vision, to_language = torch.zeros_like(level.language_to_vision), torch.zeros_like(level.vision_to_language)
        to_vision[:, :, SIDE**2 + SIDE * LOOKED_AT[0] + LOOKED_AT[1]] = 1.0
        to_vision[:, 0] = torch.eye(to_vision.shape[2])[3]
        to_language[:, :, 2] = 0.75
        to_language[:, -1] = torch.eye(to_language.shape[2])[1]  # the robot's state is no patch
        looked = replace(level, language_to_vision=to_vision, vision_to_language=to_language)
        return replace(fused, levels=(*fused.levels[:-1], looked))

    hook = built.fusion.register_forward_hook(stare)
    yield
    hook.remove()


@pytest.mark.usefixtures("staring")
def test_heat_lies_where_the_words_look_and_on_the_word_that_is_looked_at(built: VLAModel) -> None:
    explanation = explain(built, observation(0, "open the drawer"))
    expected = np.zeros((SIDE, SIDE))
    assert np.allclose(explanation.heats["front"], expected)
    expected[LOOKED_AT] = 1.0
    assert np.allclose(explanation.heats["wrist"], expected)
    assert explanation.words == (("open", 0.0), ("the", 0.75), ("drawer", 0.0))


def test_frames_are_shown_as_the_network_sees_them(built: VLAModel) -> None:
    wide = replace(observation(0), images={"wrist": image(1, height=32, width=64)})
    explanation = explain(built, wide)
    assert list(explanation.frames) == ["wrist"]
    frame = explanation.frames["wrist"]
    assert frame.shape == (SIZE, SIZE, 3) and frame.dtype == np.uint8
    bar = SIZE // 4
    assert (frame[:bar] == frame[0, 0]).all() and (frame[-bar:] == frame[0, 0]).all()
    assert frame[bar:-bar].std() > 15.0
    assert len(draw(explanation).axes) == 1 + 2


@pytest.mark.parametrize("sentence", ["", "   "])
def test_nothing_said_is_nothing_to_look_with(built: VLAModel, sentence: str) -> None:
    with pytest.raises(ModelError, match="an instruction without words"):
        explain(built, observation(0, sentence))


def an_explanation(views: int, words: int = 3) -> Explanation:
    rng = np.random.default_rng(0)
    names = [f"view_{index}" for index in range(views)]
    return Explanation(
        instruction=r"pay $5 \frac{ for _^ it",
        frames={name: image(1, 32, 32) for name in names},
        heats={name: rng.uniform(size=(4, 4)) / (20 * views) for name in names},
        words=tuple((f"$word_{index}", 0.5 / words) for index in range(words)),
        between_views=np.full((views, views), 1 / views),
    )


@pytest.mark.parametrize("views", [1, 3, 6])
def test_a_picture_has_a_panel_per_view_one_for_all_and_one_for_the_words(views: int, tmp_path: Path) -> None:
    explanation = an_explanation(views)
    figure = draw(explanation)
    assert len(figure.axes) == views + 2
    save_picture(explanation, tmp_path / "look.png")
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == tuple(math.floor(100 * inches) for inches in figure.get_size_inches())
    assert [path.name for path in tmp_path.iterdir()] == ["look.png"]


def test_many_words_take_several_lines_within_the_picture() -> None:
    figure = draw(an_explanation(1, words=60))
    words = [text for text in figure.axes[-1].texts if text.get_text().startswith("$word_")]
    figure.canvas.draw()
    assert len(words) == 60 and len({text.get_position()[1] for text in words}) > 2
    boxes = [text.get_window_extent() for text in words]
    assert min(box.x0 for box in boxes) >= 0 and max(box.x1 for box in boxes) <= figure.bbox.x1
    for left, right in pairwise(boxes):
        assert right.x0 > left.x1 or right.y1 < left.y1


def test_a_picture_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        save_picture(an_explanation(1), tmp_path / "no_folder" / "look.png")
    path = tmp_path / "look.png"
    path.write_text("before")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(ModelError, match="full"):
        save_picture(an_explanation(1), path)
    assert [found.read_text() for found in tmp_path.iterdir()] == ["before"]


def test_explaining_changes_no_weight_and_no_mode(built: VLAModel) -> None:
    before: dict[str, Tensor] = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    explain(built, observation(0))
    assert not built.training
    assert all(torch.equal(before[name], tensor) for name, tensor in built.state_dict().items())
