from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.errors import PolicyError
from vla_ros.policy.registry import create_policy, policy_names
from vla_ros.types import GRIPPER, POSITION, QUATERNION, Observation, Pose

CONTRACT = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"

MODULE = """
    from vla_ros.errors import PolicyError
    from vla_ros.policy import hold

    def create(contract, options):
        return hold.create(contract, options)

    def other(contract, options):
        raise ValueError("first line\\nsecond line")

    def unpolicy(contract, options):
        return 3

    def greedy(contract, options):
        return hold.create(contract, {"views": "front,moon"})

    NUMBER = 3
"""


@pytest.fixture
def contract() -> Contract:
    return load_contract(CONTRACT)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path with a module `stranger`, as an installed package would be."""
    (tmp_path / "stranger.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "broken_stranger.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    monkeypatch.delitem(__import__("sys").modules, "stranger", raising=False)


def install(site: Path, package: str, entry_points: str) -> None:
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vla_ros.policies]\n{entry_points}\n")


def test_hold_keeps_the_commanded_pose_and_gripper_for_at_least_half_a_second(contract: Contract) -> None:
    policy = create_policy("hold", contract, {})
    assert policy.needs.views == ("front", "wrist", "top")
    assert not policy.needs.privileged
    measured = Pose(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))
    commanded = Pose(np.array([0.1, 0.6, 0.2]), np.array([0.0, 0.0, 0.6, 0.8]))
    chunk = policy.predict(Observation(7, "hold", {}, measured, commanded, np.zeros(9), gripper=0.25))
    assert chunk.t_obs_ns == 7
    assert chunk.dt_s == pytest.approx(1.0 / contract.rates.policy_hz)
    assert (len(chunk.rows) - 1) * chunk.dt_s == pytest.approx(0.5)
    for row in chunk.rows:
        np.testing.assert_array_equal(row[POSITION], commanded.position)
        np.testing.assert_array_equal(row[QUATERNION], commanded.quaternion)
        np.testing.assert_array_equal(row[7:13], np.zeros(6))
        assert row[GRIPPER] == 0.25


def test_hold_looks_only_where_it_is_told(contract: Contract) -> None:
    assert create_policy("hold", contract, {"views": "top, front"}).needs.views == ("top", "front")
    assert create_policy("hold", contract, {"views": ""}).needs.views == ()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("hodl", {}, "no policy 'hodl'; choose one of hold, oracle"),
        ("hold", {"view": "top"}, "no option 'view'; it knows: views"),
        ("hold", {"views": "moon"}, "needs camera 'moon', which is not one of the robot's: front, wrist, top"),
        ("nowhere.to.be:found", {}, "cannot be imported: ModuleNotFoundError"),
        ("stranger:missing", {}, "cannot be imported: AttributeError"),
        ("stranger:NUMBER", {}, "not a function"),
        ("stranger:other", {}, "cannot be loaded: ValueError: first line second line"),
        ("stranger:unpolicy", {}, "is not a policy"),
        ("stranger:greedy", {}, "needs camera 'moon'"),
        ("broken_stranger:create", {}, "cannot be imported: ModuleNotFoundError: No module named 'a_module"),
    ],
)
def test_each_way_of_being_wrong_is_one_sentence(
    contract: Contract, site: Path, name: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        create_policy(name, contract, options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_function_in_a_module_is_a_policy_s_name(contract: Contract, site: Path) -> None:
    assert create_policy("stranger:create", contract, {"views": "top"}).needs.views == ("top",)


def test_installed_packages_add_policies(contract: Contract, site: Path) -> None:
    assert "polite" not in policy_names()
    install(site, "strange-robot", "polite = stranger:create")
    assert policy_names() == tuple(sorted({"hold", "oracle", "polite", *policy_names()}))
    assert create_policy("polite", contract, {"views": "top"}).needs.views == ("top",)


def test_a_package_whose_policy_cannot_be_imported_is_named(contract: Contract, site: Path) -> None:
    install(site, "strange-robot", "broken = broken_stranger:create")
    with pytest.raises(PolicyError, match="'broken' of package 'strange-robot' cannot be imported"):
        create_policy("broken", contract, {})


def test_two_packages_that_offer_one_name_are_refused(contract: Contract, site: Path) -> None:
    install(site, "one", "twice = stranger:create")
    install(site, "two", "twice = stranger:other")
    with pytest.raises(PolicyError, match="more than one package"):
        create_policy("twice", contract, {})


def test_built_in_policies_need_no_metadata(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.policy.registry._entry_points", list)
    assert policy_names() == ("hold", "oracle", "vla")
    assert create_policy("hold", contract, {}).needs.views
