"""A demonstration, collected and recorded at once: the bag becomes the same data as the collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from recorded_bags import (
    EPOCH_NS,
    Said,
    boolean,
    commanded,
    image,
    joint_state,
    pose_stamped,
    with_instruction,
    write_bag,
)

from vla_ros import cli
from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control.safety import Motion
from vla_ros.data.reader import Dataset
from vla_ros.data.writer import DatasetWriter
from vla_ros.images import frame_to_rgb
from vla_ros.learning.collection import record_of, schema_of
from vla_ros.learning.collection_plan import Plan
from vla_ros.learning.demonstration import FPS, Noise, Take, demonstrate
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.variations import Variation
from vla_ros.types import FloatArray, Frame, ImageArray, Pose, Twist

TASK, VIEWS, SIZE_PX = "drawer-close-v3", ("front", "wrist"), 48
CALM = Noise(rate_per_s=0.0)  # what a push did is in the bag, what was meant is not
TAKE = Take(TASK, TASK, Variation("train", 3), seed=3, noise=CALM)


class RecordedRobot(SimRobot):
    """Says what it is told, and what it shows, as a robot's topics would. instruction: what its guard knows of."""

    def __init__(self, contract: Contract) -> None:
        self.said: list[Said] = []
        self.instruction: str | None = None
        self._contract = contract
        super().__init__(TASK, TAKE.variation, VIEWS, (SIZE_PX, SIZE_PX))

    @property
    def now_ns(self) -> int:
        """ROS time."""
        return EPOCH_NS + self.state().time_ns

    def render(self) -> Mapping[str, ImageArray]:
        """As the simulated robot does."""
        pictures, now_ns = super().render(), self.now_ns
        for view, pixels in pictures.items():
            self.said.append(Said(f"/{self._contract.cameras[view].topic}", now_ns, image(pixels, now_ns)))
        return pictures

    def step(self, commanded_position: FloatArray, gripper: float) -> None:
        """A tick's command: where the robot is to be now, how fast it is to go on, and what its gripper is to do."""
        state, now_ns = self.state(), self.now_ns
        self.said.append(Said("/ee_pose", now_ns, pose_stamped(state.pose, now_ns)))
        joints = joint_state(state.joints.names, state.joints.positions, now_ns)
        self.said.append(Said("/joint_states", now_ns, joints))
        self.said.append(Said("/sim/success", now_ns, boolean(self.success)))
        velocity = (commanded_position - state.commanded.position) / CONTROL_DT_S
        motion = Motion(
            Pose(state.commanded.position, state.commanded.quaternion), Twist(velocity, np.zeros(3)), gripper
        )
        self.said.extend(commanded(motion, "policy", now_ns, now_ns, self.instruction))
        super().step(commanded_position, gripper)


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated robot's, with two small cameras that look as often as a collection does."""
    whole = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
    cameras = {view: asdict(replace(whole.cameras[view], width=SIZE_PX, height=SIZE_PX, rate_hz=FPS)) for view in VIEWS}
    mapping = yaml.safe_load((Path(__file__).parents[2] / "config" / "sawyer_sim.yaml").read_text(encoding="utf-8"))
    path = tmp_path_factory.mktemp("contract") / "small.yaml"
    path.write_text(yaml.safe_dump({**mapping, "cameras": cameras}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def both(contract: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The datasets of one run: collected, and made of its bag."""
    folder, robot_contract = tmp_path_factory.mktemp("run"), load_contract(contract)
    schema = schema_of(robot_contract, Plan({TASK: 1}), is_video=False)
    robot = RecordedRobot(robot_contract)
    with robot:
        demonstration = demonstrate(robot, TAKE, robot_contract.limits)
        record, shown, robot.instruction = record_of(demonstration, schema), len(robot.said), "stop"
        for _ in range(40):  # the robot is held where it is, until all that was before is certain
            robot.step(robot.state().commanded.position, 0.5)
        said = [*(with_instruction(one, record.task) for one in robot.said[:shown]), *robot.said[shown:]]
    with DatasetWriter(folder / "collected", schema) as writer:
        writer.add(record)
    bag = write_bag(folder / "bag", said)
    arguments = ["--output", str(folder / "recorded"), "--contract", str(contract)]
    assert cli.main(["dataset", "from-bag", str(bag), *arguments]) == 0
    return folder / "collected", folder / "recorded"


def pictures(dataset: Dataset, view: str) -> list[np.ndarray]:
    return [frame_to_rgb(Frame(np.frombuffer(data, np.uint8), "png")) for data in dataset.images(view)]


def test_the_data_of_a_recorded_demonstration_are_those_of_the_collected_one(both: tuple[Path, Path]) -> None:
    collected, recorded = map(Dataset.open, both)
    (shown,), (episode,) = collected.episodes, recorded.episodes
    assert episode.length == shown.length > 20
    assert (recorded.fps, episode.task, episode.facts["outcome"]) == (FPS, shown.task, "success")
    assert recorded.schema.columns["observation.state"] == collected.schema.columns["observation.state"]
    assert recorded.schema.columns["action"] == collected.schema.columns["action"]
    np.testing.assert_allclose(
        recorded.column("observation.state"), collected.column("observation.state"), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(recorded.column("action"), collected.column("action"), rtol=0, atol=1e-6)
    assert np.ptp(recorded.column("action")[:, 7:10], axis=0).max() > 0.1, "the robot moved"
    assert not recorded.column("is_intervention").any()
    assert not recorded.column("is_between_pictures").any()
    for view in VIEWS:
        for one, other in zip(pictures(recorded, view), pictures(collected, view), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_network_is_shown_the_same_by_either(both: tuple[Path, Path]) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from PIL import Image

    from vla_ros.learning.experience import chunks_at
    from vla_ros.learning.loading import load_experience, open_datasets
    from vla_ros.model.preprocessing import Preprocessing

    how = {view: Preprocessing(SIZE_PX, Image.Resampling.BILINEAR, (0.0,) * 3, (1.0,) * 3) for view in VIEWS}
    collected, recorded = (load_experience(open_datasets([folder], VIEWS), how) for folder in both)
    assert (recorded.tasks, recorded.fps) == (collected.tasks, collected.fps)
    np.testing.assert_allclose(recorded.states, collected.states, rtol=0, atol=1e-6)
    assert recorded.is_learned_from.all()
    frames = np.arange(len(collected))
    for view in VIEWS:
        np.testing.assert_array_equal(recorded.images[view][frames], collected.images[view][frames])
    one, other = (chunks_at(data, frames, horizon=16, stride=1) for data in (recorded, collected))
    np.testing.assert_allclose(one.rows, other.rows, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(one.weights, other.weights)
