"""Views that lie in videos: written, read, and checked like those that lie in the table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_builders import FPS, HEIGHT, SCHEMA, VIDEO_SCHEMA, WIDTH, lengths, picture, records, write

from vla_ros.data import writer as writer_module
from vla_ros.data.checks import check_dataset
from vla_ros.data.reader import Dataset
from vla_ros.errors import DataError
from vla_ros.images import encode, frame_to_rgb
from vla_ros.types import Frame, ImageArray

VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"
# Of 255; h264 keeps half as many colours as pixels, and blocks of one colour nearly as they are.
NEAR = 12

pytest.importorskip("av", reason="PyAV is not installed (extra video)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


def pixels(data: bytes) -> ImageArray:
    return frame_to_rgb(Frame(np.frombuffer(data, np.uint8), "png"))


def pictures(count: int) -> list[ImageArray]:
    """Of the front view in the first so many episodes."""
    return [picture(100 * seed + frame) for seed, length in enumerate(lengths(count)) for frame in range(length)]


def test_pictures_come_out_in_order_and_nearly_as_they_were(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_FILE_EPISODES", 2)
    write(folder, 5, VIDEO_SCHEMA)
    dataset = Dataset.open(folder)
    check_dataset(dataset)
    found = [pixels(data) for data in dataset.images("front")]
    expected = pictures(5)
    assert len(found) == len(expected) == dataset.frames
    for number, (seen, original) in enumerate(zip(found, expected, strict=True)):
        assert np.abs(seen[:, 2:-2].astype(int) - original[:, 2:-2]).mean() < NEAR, number
        others = [np.abs(seen.astype(int) - other).mean() for other in expected]
        assert int(np.argmin(others)) == number


def test_the_other_view_stays_in_the_table(folder: Path) -> None:
    dataset = Dataset.open(write(folder, 2, VIDEO_SCHEMA))
    assert list(dataset.images("wrist")) == [data for item in records(2) for data in item.images["wrist"]]
    names = pq.read_schema(folder / "data/chunk-000/file-000.parquet").names
    assert "observation.images.wrist" in names
    assert "observation.images.front" not in names


def test_episodes_say_where_they_lie_in_their_video(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_FILE_EPISODES", 2)
    dataset = Dataset.open(write(folder, 3, VIDEO_SCHEMA))
    places = [episode.videos["observation.images.front"] for episode in dataset.episodes]
    assert [place.path.name for place in places] == ["file-000.mp4", "file-000.mp4", "file-001.mp4"]
    seconds = [(place.from_s, place.to_s) for place in places]
    np.testing.assert_allclose(seconds, [(0, 3 / FPS), (3 / FPS, 7 / FPS), (0, 5 / FPS)])


def test_one_episode_is_found_in_its_video(folder: Path) -> None:
    dataset = Dataset.open(write(folder, 3, VIDEO_SCHEMA))
    every = list(dataset.images("front"))
    assert dataset.episode_images("front", dataset.episodes[1]) == every[3:7]
    assert dataset.episode_images("wrist", dataset.episodes[2]) == list(dataset.images("wrist"))[7:]


def test_a_video_that_is_missing_or_truncated_is_named(folder: Path) -> None:
    dataset = Dataset.open(write(folder, 2, VIDEO_SCHEMA))
    whole = (folder / VIDEO).read_bytes()
    (folder / VIDEO).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"front/chunk-000/file-000\.mp4 is not a video that can be read"):
        check_dataset(dataset)
    (folder / VIDEO).unlink()
    with pytest.raises(DataError, match=r"front/chunk-000/file-000\.mp4 is not a video that can be read"):
        check_dataset(dataset)


def test_a_video_of_fewer_frames_is_named(folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(write(folder, 2, VIDEO_SCHEMA))
    shorter = write(tmp_path / "shorter", 1, VIDEO_SCHEMA)
    (folder / VIDEO).write_bytes((shorter / VIDEO).read_bytes())
    with pytest.raises(DataError, match=r"file-000\.mp4 has 3 frames; meta/episodes tells of 7"):
        check_dataset(dataset)
    with pytest.raises(DataError, match=r"file-000\.mp4 has 3 frames; meta/episodes tells of 7"):
        list(dataset.images("front"))


def test_a_video_of_another_size_is_named(folder: Path) -> None:
    from vla_ros.data.schema import Feature
    from vla_ros.data.videos import encode_video

    dataset = Dataset.open(write(folder, 1, VIDEO_SCHEMA))
    wide = encode(np.zeros((HEIGHT, 2 * WIDTH, 3), np.uint8), "png").pixels.tobytes()
    encode_video(folder / VIDEO, [wide] * 3, Feature("video", (HEIGHT, 2 * WIDTH, 3)), FPS)
    with pytest.raises(DataError, match=r"file-000\.mp4, frame 0: shape \(12, 32, 3\); it must be \(12, 16, 3\)"):
        check_dataset(dataset)


def test_without_pyav_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match="videos need PyAV, which is not installed: pip install av"):
        write(folder, 1, VIDEO_SCHEMA)
    assert Dataset.open(write(folder.with_name("images"), 1, SCHEMA)).frames == 3
