"""From a dataset to batches: pictures decoded once, sentences of the task, places seen from the tool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dataset_builders
import numpy as np
import pytest
from learning_builders import experience, tiny_schema, write_demonstrations
from PIL import Image

from vla_ros.errors import DataError, LearningError
from vla_ros.policy.sentences import load_sentences

pytest.importorskip("torch", reason="torch is not installed")

import torch

from vla_ros.learning.batches import Batch, BatchMaker, measured_statistics
from vla_ros.learning.experience import Experience
from vla_ros.learning.loading import load_experience, open_datasets
from vla_ros.learning.recipe import AugmentationConfig
from vla_ros.model.config import DecoderConfig, VLAConfig
from vla_ros.model.past import Look
from vla_ros.model.preprocessing import Preprocessing

BLACK_BARS = Preprocessing(16, Image.Resampling.BILINEAR, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WHITE_BARS = replace(BLACK_BARS, mean=(1.0, 1.0, 1.0))
TABLE = load_sentences()


def maker(data: Any, history: int = 0, memory: str = "none", foresees: bool = False, axes: str = "base") -> BatchMaker:
    """Of a network that only says what it wants, and takes sentences as they are; cameras at 10 Hz."""
    decoder, fusion = SimpleNamespace(horizon=4, dt_s=0.05), SimpleNamespace(history=history)
    others = {"axes": axes, "plans": False, "foresees": foresees, "subtasks": (), "tasks": (), "classes": ()}
    config = SimpleNamespace(views=tuple(data.images), decoder=decoder, fusion=fusion, memory=memory, **others)
    language = SimpleNamespace(tokenize_commands=lambda sentences: sentences)
    return BatchMaker(data, SimpleNamespace(config=config, language=language), TABLE, 10.0)  # type: ignore[arg-type]


def with_noise(data: Experience) -> Experience:
    """Every picture another."""
    return replace(data, images={"front": np.random.default_rng(0).integers(0, 256, (len(data), 8, 8, 3), np.uint8)})


def front(batch: Batch) -> torch.Tensor:
    """(B, 3, S, S)"""
    images = batch.inputs.images["front"]
    assert isinstance(images, torch.Tensor)
    return images


def test_a_batch_follows_from_its_frames_and_seed() -> None:
    data = with_noise(experience([20, 20], tasks=("push-v3", "reach-v3")))
    frames = np.array([0, 25, 3, 39])
    one, again, other = (maker(data).make(frames, (seed, 5), AugmentationConfig()) for seed in (0, 0, 1))
    assert torch.equal(front(one), front(again))
    assert torch.equal(one.inputs.state, again.inputs.state)
    assert one.inputs.command == again.inputs.command
    assert not torch.equal(front(one), front(other))
    assert not torch.equal(one.inputs.state, other.inputs.state)
    assert torch.equal(one.targets, other.targets)
    assert data.states.any() == np.False_  # the recording itself is left alone


def test_unless_told_otherwise_nothing_is_changed_but_the_sentence() -> None:
    data = with_noise(experience([20]))
    batch = maker(data).make(np.array([4, 2]), (0,))
    assert np.array_equal(front(batch).permute(0, 2, 3, 1).numpy(), data.images["front"][np.array([4, 2])])
    assert batch.inputs.present["front"].all()


def test_every_sentence_is_one_to_learn_from_of_the_frames_task() -> None:
    data = experience([50, 50], tasks=("push-v3", "reach-v3"))
    told: Any = maker(data).make(np.arange(100), (0,)).inputs.command
    assert set(told[:50]) <= set(TABLE.training("push-v3"))
    assert set(told[50:]) <= set(TABLE.training("reach-v3"))
    assert len(set(told[:50])) > 5


def test_places_are_seen_from_the_tool() -> None:
    data = experience([4])
    data.states[:, :3] = (0.1, 0.6, 0.2)
    data.places[:, :6] = (0.1, 0.7, 0.0, 0.0, 0.0, 0.0)
    batch = maker(data).make(np.array([2]), (0,))
    assert batch.places.positions[0] == pytest.approx([0.0, 0.1, -0.2] + [-0.1, -0.6, -0.2] * 2)


def test_along_the_tools_axes_noise_tells_nothing_of_where_it_is_either() -> None:
    data = experience([4])
    data.states[:, :3], data.states[:, 6] = (0.1, 0.6, 0.2), 1.0
    batch = maker(data, axes="tool").make(np.array([2, 3]), (0,), AugmentationConfig())
    assert batch.inputs.state[:, :7].tolist() == [[0.0] * 6 + [1.0]] * 2
    assert batch.inputs.state[:, 7:10].all(), "how far it is led is noisy"
    config = VLAConfig(axes="tool", decoder=DecoderConfig(horizon=4, dt_s=0.05))
    _, states = measured_statistics(data, np.arange(4), config)
    assert not states.mean[:3].any() and states.normalise(batch.inputs.state)[:, :7].abs().max() == 0.0


def test_statistics_are_of_the_rows_that_count() -> None:
    velocities = np.zeros((8, 3))
    velocities[4:] = 9.0  # another episode
    data = experience([4, 4], velocities)
    data.states[:, 6] = data.actions[:, 6] = 1.0
    actions, states = measured_statistics(data, np.arange(4), VLAConfig(decoder=DecoderConfig(horizon=4, dt_s=0.05)))
    assert actions.mean[7:10].abs().max() == 0.0
    assert states.mean[6] == 1.0


def test_pictures_are_decoded_once_for_each_way_of_preparing_them(tmp_path: Path) -> None:
    folder = write_demonstrations(tmp_path / "data", 2, schema=tiny_schema(image_size=(16, 12)))
    datasets = open_datasets([folder], ("front",))
    black, white = (
        np.asarray(load_experience(datasets, {"front": how}).images["front"]) for how in (BLACK_BARS, WHITE_BARS)
    )
    assert black.shape == (20, 16, 16, 3)
    assert (black[:, 0] == 0).all()
    assert (white[:, 0] == 255).all()
    assert np.array_equal(black[:, 2:14], white[:, 2:14])
    files = {path: path.stat().st_mtime_ns for path in (folder / ".decoded").iterdir()}
    load_experience(datasets, {"front": BLACK_BARS})
    assert {path: path.stat().st_mtime_ns for path in (folder / ".decoded").iterdir()} == files
    assert len(files) == 2


def test_a_dataset_that_grew_is_decoded_again(tmp_path: Path) -> None:
    folder = write_demonstrations(tmp_path / "data", 2)
    before = load_experience(open_datasets([folder], ("front",)), {"front": BLACK_BARS})
    grown = write_demonstrations(tmp_path / "more", 4)
    (folder / ".decoded").rename(grown / ".decoded")
    after = load_experience(open_datasets([grown], ("front",)), {"front": BLACK_BARS})
    assert len(before.images["front"]) == 20
    assert len(after.images["front"]) == len(after) == 40


@pytest.mark.parametrize(
    ("views", "said"),
    [
        (("front", "top"), "has no view 'top'; it has front, wrist"),
        (("front",), r"has no column 'observation\.environment_state'; it has observation\.state, action"),
    ],
)
def test_a_dataset_that_lacks_something_is_refused(views: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=said):
        open_datasets([dataset_builders.write(tmp_path / "data", 1)], views)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        open_datasets([tmp_path / "nowhere"], ("front",))


def test_single_frames_have_no_past_and_the_present_is_the_same_with_one() -> None:
    data = with_noise(experience([20, 20], tasks=("push-v3", "reach-v3")))
    frames = np.array([7, 25, 12, 39])
    batches = [
        maker(data, history, memory).make(frames, (3,), AugmentationConfig())
        for history, memory in ((0, "none"), (2, "none"), (0, "external"))
    ]
    assert [(len(batch.past.recent), len(batch.past.remembered)) for batch in batches] == [(0, 0), (2, 0), (0, 5)]
    for batch in batches[1:]:
        assert torch.equal(front(batch), front(batches[0])) and batch.inputs.command == batches[0].inputs.command
        assert torch.equal(batch.inputs.state, batches[0].inputs.state)


def shown(look: Look) -> list[int]:
    """The grey level of each sample's picture."""
    images = look.inputs.images["front"]
    assert isinstance(images, torch.Tensor)
    levels: list[int] = images[:, 0, 0, 0].tolist()
    return levels


def test_earlier_frames_are_of_the_own_episode_and_at_the_cameras_rate() -> None:
    grey = np.arange(40, dtype=np.uint8)[:, None, None, None]
    data = replace(experience([20, 20]), images={"front": np.broadcast_to(grey, (40, 8, 8, 3))})
    past = maker(data, 2, "external").make(np.array([7, 22]), (3,)).past
    assert [shown(look) for look in past.recent] == [[3, 22], [5, 20]], "at 20 frames/s and 10 pictures/s"
    assert [look.here.tolist() for look in past.recent] == [[True, False], [True, True]]
    for look in past.remembered:
        for here, number, first, frame in zip(look.here.tolist(), shown(look), (0, 20), (7, 22), strict=True):
            assert first <= number < frame if here else number == frame
    again = maker(data, 2, "external").make(np.array([7, 22]), (3,)).past
    assert [shown(look) for look in again.remembered] == [shown(look) for look in past.remembered]


def test_a_row_later_is_shown_as_changed_as_now_with_a_look_back_of_its_own() -> None:
    """Of pictures that are all the same, only what is done to them tells two instants apart."""
    data = experience([20, 20])
    noise = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    data = replace(data, images={view: np.broadcast_to(noise, (40, 8, 8, 3)) for view in ("front", "wrist")})
    strong = AugmentationConfig(shift_px=3, colour=0.5, view_dropout=0.5, state_noise_m=0.01)
    batch = maker(data, 2, foresees=True).make(np.array([7, 22, 30]), (3,), strong)
    assert batch.lessons.outcome is not None
    later = batch.lessons.outcome.later
    for view, picture in batch.inputs.images.items():
        assert torch.equal(picture, later.images[view])  # type: ignore[arg-type]
        assert torch.equal(batch.inputs.present[view], later.present[view])
    assert torch.equal(batch.inputs.state, later.state)
    for one, other in zip(batch.past.recent, batch.past.recent_later, strict=True):
        assert torch.equal(one.inputs.state, other.inputs.state)
    assert not torch.equal(front(batch)[0], front(batch)[1])


def test_from_a_row_later_it_is_looked_back_at_frames_a_row_later() -> None:
    grey = np.arange(40, dtype=np.uint8)[:, None, None, None]
    data = replace(experience([20, 20]), images={"front": np.broadcast_to(grey, (40, 8, 8, 3))})
    past = maker(data, 2, "external", foresees=True).make(np.array([7, 22]), (3,)).past
    assert [shown(look) for look in past.recent_later] == [[4, 23], [6, 21]]
    assert [look.here.tolist() for look in past.recent_later] == [[True, False], [True, True]]
    assert maker(data, 2, "external").make(np.array([7, 22]), (3,)).past.recent_later == ()
