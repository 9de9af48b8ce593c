"""What is left out or put in, by one YAML file, strictly read: networks to train and ways to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vla_ros.errors import ContractError, LearningError
from vla_ros.learning.evaluation.names import LATENCY_S
from vla_ros.strict import build_or_refuse
from vla_ros.strict_values import Count, NotNegative
from vla_ros.strict_yaml import read_mapping

PLAN = Path(__file__).with_name("plan.yaml")


@dataclass(frozen=True)
class Variant:
    """One way to do it. recipe: what differs from the plan's recipe, key by key as in such a file. options: of the
    policy. of: the variant whose training it shares, so that only the policy's options differ. tasks: that it is
    tried at instead of the plan's, where its recipe has other data.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    of: str | None = None
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """recipe: what all trainings have in common, a file or a name in config/training/. parts: part -> the variant that
    has it and the one that lacks it. tasks: that are tried, in the worlds of a suite of `vla_ros evaluate`, so many
    episodes of each. seeds: of trainings. latency_s: of inference, the same for all.
    """

    recipe: str
    tasks: tuple[str, ...]
    variants: Mapping[str, Variant]
    parts: Mapping[str, tuple[str, str]]
    seeds: tuple[int, ...] = (0, 1)
    episodes: Count = 20
    suite: str = "seen_phrasings"
    latency_s: NotNegative = LATENCY_S

    def trained_as(self, variant: str) -> str:
        """The variant whose training it is."""
        return self.variants[variant].of or variant

    def tasks_of(self, variant: str) -> tuple[str, ...]:
        """What a variant is tried at."""
        return self.variants[self.trained_as(variant)].tasks or self.tasks

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """Those that any variant is tried at, in order."""
        return tuple(dict.fromkeys(task for variant in self.variants for task in self.tasks_of(variant)))

    @property
    def trainings(self) -> tuple[str, ...]:
        """Variants that have one of their own, in order."""
        return tuple(dict.fromkeys(self.trained_as(name) for name in self.variants))


def read_plan(path: Path) -> Plan:
    """Raises LearningError that names every fault by its key's path, and the valid choices."""
    try:
        mapping = read_mapping(path)
    except ContractError as error:
        raise LearningError(str(error)) from error
    plan = build_or_refuse(Plan, mapping, lambda faults: LearningError(f"{path} is no plan of an ablation:{faults}"))
    faults = "".join(f"\n  {fault}" for fault in _contradictions(plan))
    if faults:
        raise LearningError(f"{path} is no plan of an ablation:{faults}")
    return plan


def selected(plan: Plan, names: Sequence[str]) -> Plan:
    """Of some parts or variants alone, and what those are compared with. Raises LearningError, listing all."""
    for name in names:
        if name not in plan.parts and name not in plan.variants:
            choices = f"parts: {', '.join(plan.parts)}; variants: {', '.join(plan.variants)}"
            raise LearningError(f"'{name}' is nothing to ablate; choose from {choices}")
    parts = {name: pair for name, pair in plan.parts.items() if not names or name in names or set(pair) & set(names)}
    wanted = {variant for pair in parts.values() for variant in pair} | (set(names) & set(plan.variants))
    wanted |= {plan.trained_as(name) for name in wanted}
    return replace(plan, parts=parts, variants={name: one for name, one in plan.variants.items() if name in wanted})


def recipe_of(plan: Plan, base: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """The whole of a variant's recipe but for the seed. base: the plan's recipe."""
    return merged(base, plan.variants[variant].recipe)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings key by key, whatever else replaced."""
    both = dict(base)
    for key, value in changes.items():
        known = both.get(key)
        both[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return both


def _contradictions(plan: Plan) -> list[str]:
    variants, choices = plan.variants, ", ".join(plan.variants)
    faults = [
        f"parts.{part}: there is no variant '{name}'; choose from {choices}"
        for part, pair in plan.parts.items()
        for name in pair
        if name not in variants
    ]
    for name, variant in variants.items():
        if variant.of is not None and (variant.of not in variants or variants[variant.of].of is not None):
            faults.append(f"variants.{name}.of: '{variant.of}' is no variant with a training of its own")
        if variant.of is not None and (variant.recipe or variant.tasks):
            faults.append(
                f"variants.{name}: it shares the training of '{variant.of}': leave out recipe and tasks, or of"
            )
    if not faults:
        faults += [
            f"parts.{part}: '{having}' and '{lacking}' are tried at different tasks"
            for part, (having, lacking) in plan.parts.items()
            if plan.tasks_of(having) != plan.tasks_of(lacking)
        ]
    if not plan.seeds or not plan.tasks or not plan.parts:
        faults.append("seeds, tasks, parts: name at least one of each")
    return faults
