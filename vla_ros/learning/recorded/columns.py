"""A recording's episodes as a dataset holds them; columns that simulated demonstrations have too are named alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vla_ros.control.arbiter import Source
from vla_ros.control.chunks import make_row
from vla_ros.data.episode import EpisodeRecord, Fact
from vla_ros.data.schema import IMAGE_PREFIX, Feature, Schema
from vla_ros.learning.columns import ACTION, STATE
from vla_ros.learning.recorded.alignment import Moment, Plan
from vla_ros.learning.recorded.episodes import Episode
from vla_ros.types import ACTION_WIDTH, FloatArray

IS_INTERVENTION, IS_BETWEEN, OUTCOME = "is_intervention", "is_between_pictures", "outcome"


def schema_of(plan: Plan) -> Schema:
    """The columns of recordings of one robot. A camera's own JPEG files are kept as they are."""
    cameras = plan.contract.cameras
    state = (*STATE, *plan.joints)
    return Schema(
        robot_type=plan.contract.name,
        fps=plan.fps,
        features={
            **{
                f"{IMAGE_PREFIX}{view}": Feature("image", (cameras[view].height, cameras[view].width, 3))
                for view in plan.views
            },
            "observation.state": Feature("float32", (len(state),), state),
            "action": Feature("float32", (ACTION_WIDTH,), ACTION),
            IS_INTERVENTION: Feature("bool", (1,)),
            IS_BETWEEN: Feature("bool", (1,)),
        },
        facts={"bag": "string", "bag_digest": "string", "start_ns": "int64", OUTCOME: "string"},
    )


def record_of(episode: Episode, bag: str, digest: str) -> EpisodeRecord:
    """An episode as a dataset takes it. bag: of its recording, for people; digest: what tells it from any other."""
    moments = episode.moments
    first = moments[0]
    return EpisodeRecord(
        first.span.instruction,
        episode.images,
        {
            "observation.state": np.stack([_state(moment) for moment in moments]).astype(np.float32),
            "action": np.stack([make_row(moment.action) for moment in moments]).astype(np.float32),
            IS_INTERVENTION: np.array([moment.source is Source.TELEOP for moment in moments]),
            IS_BETWEEN: np.array([moment.is_between for moment in moments]),
        },
        {"bag": bag, "bag_digest": digest, "start_ns": first.t_ns, OUTCOME: first.span.outcome},
    )


def key_of(facts: Mapping[str, Fact]) -> tuple[Fact, Fact]:
    """What no two episodes share."""
    return facts["bag_digest"], facts["start_ns"]


def _state(moment: Moment) -> FloatArray:
    """Measured pose 7, commanded pose 7, gripper 1, joint positions. -> (15 + n,)"""
    measured, commanded = moment.measured, moment.commanded
    parts = (measured.position, measured.quaternion, commanded.position, commanded.quaternion, [moment.gripper])
    return np.concatenate([*parts, moment.joints])
