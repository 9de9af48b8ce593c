"""Policies by name: the built-in ones, those of installed packages, and any `module:function`.

A package offers policies through the entry point group `vla_ros.policies`; an entry point names a PolicyFactory.
A policy that is not packaged is named by where its factory is: `my_robot.policies:create`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any, cast

from vla_ros.contract import Contract
from vla_ros.errors import PolicyError, VlaRosError, in_one_line
from vla_ros.policy.protocol import Policy, PolicyFactory
from vla_ros.types import Needs

ENTRY_POINT_GROUP = "vla_ros.policies"

# Also entry points of this package. Named here too because a checkout's metadata may be missing or out of date.
BUILT_IN = {name: f"vla_ros.policy.{name}:create" for name in ("hold", "oracle", "vla")}


def policy_names() -> tuple[str, ...]:
    """The names that create_policy knows, sorted; `module:function` works besides."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in _entry_points())}))


def create_policy(name: str, contract: Contract, options: Mapping[str, str]) -> Policy:
    """Load a policy for a robot. Raises PolicyError, in one sentence, for whatever is wrong with it."""
    factory = _factory(name)
    try:
        policy = factory(contract, options)
    except VlaRosError:
        raise
    except Exception as error:
        raise PolicyError(f"policy {name!r} cannot be loaded: {in_one_line(error)}") from error
    _check(name, policy, contract)
    return policy


def _entry_points() -> list[metadata.EntryPoint]:
    return list(metadata.entry_points(group=ENTRY_POINT_GROUP))


def _factory(name: str) -> PolicyFactory:
    if name in BUILT_IN:
        return _load(name, BUILT_IN[name], "vla_ros")
    if ":" in name:
        return _load(name, name, "")
    points = {point.value: point for point in _entry_points() if point.name == name}
    if not points:
        raise PolicyError(f"there is no policy {name!r}; choose one of {', '.join(policy_names())}, or module:function")
    if len(points) > 1:
        raise PolicyError(f"more than one package offers a policy {name!r}: {', '.join(sorted(points))}")
    value, point = points.popitem()
    return _load(name, value, point.dist.name if point.dist else "an unknown package")


def _load(name: str, value: str, package: str) -> PolicyFactory:
    """The factory at `module:function`. package: who offers it, for the error; empty if the user named the module."""
    module_name, _, attribute = value.partition(":")
    try:
        factory: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except Exception as error:  # a plugin's import runs a stranger's code, which may raise anything
        origin = f" of package {package!r}" if package else ""
        raise PolicyError(f"policy {name!r}{origin} cannot be imported: {in_one_line(error)}") from error
    if not callable(factory):
        raise PolicyError(f"policy {name!r} names {value}, which is not a function")
    return cast(PolicyFactory, factory)


def _check(name: str, policy: Any, contract: Contract) -> None:
    needs = getattr(policy, "needs", None)
    if not isinstance(needs, Needs) or not callable(getattr(policy, "predict", None)):
        raise PolicyError(f"policy {name!r} is not a policy: it must have `needs` (a Needs) and `predict`")
    unknown = [view for view in needs.views if view not in contract.cameras]
    if unknown:
        choices = ", ".join(contract.cameras) or "none"
        raise PolicyError(f"policy {name!r} needs camera {unknown[0]!r}, which is not one of the robot's: {choices}")
