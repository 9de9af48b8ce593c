"""Does the behavioural gate tell good networks from bad ones? The same conditions for all, on bags of `mt10` at work.

Half of the bags set the bounds: what networks that must pass reach there, widened by how much sets of ten bags differ.
The other half, of other worlds, is judged by them. Networks that must pass: the same, in bf16, on another number of
threads, and one that was trained with another seed, where one is given. Those that must fail: swapped cameras, two
wrong normalisations, and the opposite instruction, on drawers and windows that start half open.

The bounds are of medians. A 95th percentile is decided by the one or two bags in which a network of equal success goes
another way, and cannot tell it from a wrong one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import gate_policies
from bench.options import Options
from bench.report import Bar, conclude
from bench.simulated_bags import Driver, record
from vla_ros.bags import PART
from vla_ros.contract_file import load_contract
from vla_ros.learning.evaluation.suites import trials
from vla_ros.learning.evaluation.trials import Trial
from vla_ros.policy.registry import create_policy
from vla_ros.policy.sentences import load_sentences
from vla_ros.replay.judging.catalogue import METRICS, measure
from vla_ros.replay.judging.conditions import Condition
from vla_ros.replay.judging.samples import Held, Pooled, Quantities
from vla_ros.replay.judging.verdict import Verdict, check_all
from vla_ros.replay.one_bag import Order, perform, read_performed
from vla_ros.replay.subject import Subject, checkpoint_subject
from vla_ros.resources import checkpoint_path

_CHECKPOINT = "mt10"
_HALF_OPEN = ("drawer-open-v3", "drawer-close-v3", "window-open-v3", "window-close-v3")
_OTHERS = ("push-v3", "reach-v3", "door-open-v3", "button-press-topdown-v3")
_WORLDS, _OTHERS_WORLDS = 10, (0, 5)
_MAX_STEPS, _LATENCY_STEPS = 400, 2
# What a wrong network must not hide from: how far its plan leads from the recorded way, at what speed, and how far its
# target lies from where the robot is.
_BOUNDED = ("position_error_p50", "velocity_error_p50", "jump_used_p50")
# Resampled sets of as many bags as a verdict has; their spread, and how many times it a bound is away from the mean.
_SET, _DRAWS, _SPREADS = 10, 500, 4.0


@dataclass(frozen=True)
class _Variant:
    """passes: what must be said of it; on: part of the names of the bags that it is judged by."""

    name: str
    subject: Subject
    passes: bool
    on: tuple[str, ...] = ("",)


@dataclass(frozen=True, eq=False)
class _Judged:
    variant: _Variant
    metrics: Mapping[str, float | None]
    verdict: Verdict
    bags: int


def run(options: Options) -> bool:
    """Record what is missing, replay what is missing, set the bounds, judge; returns whether every verdict is right."""
    network = checkpoint_subject(checkpoint_path(_CHECKPOINT), {}, 1).identity()["checkpoint"]
    folder = options.output / "gates" / network[:8]  # of another network there are other bags
    bags = options.bags or _record(folder / "bags")
    names = sorted((path.name for path in bags.iterdir() if (path / "metadata.yaml").is_file()), key=_world)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    variants = _variants(folder / "networks", options.retrained)
    found = {variant.name: _replayed(variant, names, bags, folder) for variant in variants}
    passing = [found[variant.name] for variant in variants if variant.passes]
    conditions = _conditions([{name: one[name] for name in halves[0]} for one in passing])
    judged = [_judge(variant, found[variant.name], halves[1], conditions) for variant in variants]
    _print(judged, conditions)
    right = sum(one.verdict.passed is one.variant.passes for one in judged)
    fewest = min(one.bags for one in judged)
    bars = [
        Bar("right verdicts", right, len(judged), "networks", at_least=True),
        Bar("bags behind a verdict, at least", fewest, _SET, "bags", at_least=True),
    ]
    return conclude(options.output, "gates", _numbers(judged, conditions), bars)


def _record(folder: Path) -> Path:
    """The folder, with a bag of each drawer, window and other world in it; what is there is not recorded again."""
    folder.mkdir(parents=True, exist_ok=True)
    table = load_sentences()
    asked = [
        *trials("opposites", _HALF_OPEN, table, _WORLDS),
        *(one for one in trials("seen_phrasings", _OTHERS, table, _WORLDS) if one.variation.index in _OTHERS_WORLDS),
    ]
    missing = [trial for trial in asked if not (folder / _name(trial)).exists()]
    if missing:
        source = checkpoint_path(_CHECKPOINT)
        contract = load_contract(source / "contract.yaml")
        driver = Driver(
            "vla", create_policy("vla", contract, {"checkpoint": str(source), "threads": "1"}), _LATENCY_STEPS
        )
        for number, trial in enumerate(missing, 1):
            shutil.rmtree(folder / f"{_name(trial)}{PART}", ignore_errors=True)  # of a run that was cut short
            done = record(folder / _name(trial), driver, contract, trial, _MAX_STEPS)
            print(f"  {number:3}/{len(missing)} {_name(trial):32} {'done' if done else 'not done'}", flush=True)
    return folder


def _name(trial: Trial) -> str:
    start = "half-open-" if trial.scene.opening is not None else ""
    return f"{start}{trial.task.removesuffix('-v3')}-{trial.variation.index}"


def _world(name: str) -> tuple[int, str]:
    """By the number of the world, where the bag's name ends with one."""
    number = name.rsplit("-", 1)[-1]
    return (int(number) if number.isdecimal() else 0), name


def _variants(folder: Path, retrained: Path | None) -> list[_Variant]:
    source = checkpoint_path(_CHECKPOINT)
    same = checkpoint_subject(source, {}, 1, name="the same")

    def altered(name: str, make: Any) -> Subject:
        return checkpoint_subject(make(source, folder / make.__name__), {}, 1, name=name)

    def shown(name: str, change: str) -> Subject:
        options = {"change": change, "checkpoint": str(source.resolve()), "threads": "1"}
        return Subject(name, "bench.gate_policies:create", options, same.contract)

    others = [] if retrained is None else [checkpoint_subject(retrained, {}, 1, same.contract, "another seed")]
    return [
        _Variant("the same", same, True),
        _Variant("in bf16", altered("in bf16", gate_policies.in_bf16), True),
        _Variant("two threads", replace(same, name="two threads", threads=2), True),
        *(_Variant(other.name, other, True) for other in others),
        _Variant("swapped cameras", shown("swapped cameras", "cameras"), False),
        _Variant("no normalisation", altered("no normalisation", gate_policies.without_normalisation), False),
        _Variant("actions 1.5 times as large", altered("large actions", gate_policies.with_large_actions), False),
        _Variant("opposite instruction", shown("opposite instruction", "instruction"), False, ("drawer", "window")),
    ]


def _replayed(variant: _Variant, names: Sequence[str], bags: Path, folder: Path) -> Mapping[str, Quantities]:
    """By bag, those that the variant is judged by."""
    found = {}
    for name in names:
        if any(part in name for part in variant.on):
            order = Order(name, bags / name, folder / variant.name.replace(" ", "-") / name, variant.subject)
            perform(order)
            kept = read_performed(order).quantities
            found[name] = Held({quantity: kept.samples(quantity) for quantity in kept.names})
    print(f"  replayed {len(found)} bags: {variant.name}", flush=True)
    return found


def _conditions(passing: Sequence[Mapping[str, Quantities]]) -> tuple[Condition, ...]:
    """One for each bounded metric: the worst that a network that must pass is likely to reach on ten bags."""
    return tuple(
        Condition(name, ">", max(_likely_at_most(list(bags.values()), name) for bags in passing)) for name in _BOUNDED
    )


def _likely_at_most(bags: Sequence[Quantities], name: str) -> float:
    """Mean over resampled sets of bags, and four times their spread."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(_DRAWS):
        drawn = [bags[i] for i in rng.integers(len(bags), size=_SET)]
        value = METRICS[name].of(Pooled(drawn))
        if value is not None:
            values.append(value)
    return float(np.mean(values) + _SPREADS * np.std(values))


def _judge(
    variant: _Variant, found: Mapping[str, Quantities], names: Sequence[str], conditions: Sequence[Condition]
) -> _Judged:
    kept = [found[name] for name in names if name in found]
    metrics = measure(Pooled(kept))
    return _Judged(variant, metrics, Verdict(variant.name, check_all(metrics, conditions)), len(kept))


def _print(judged: Sequence[_Judged], conditions: Sequence[Condition]) -> None:
    print(f"  --fail-on {' --fail-on '.join(repr(str(condition)) for condition in conditions)}")
    heading = "".join(f"{name:>22}" for name in _BOUNDED)
    print(f"  {'network':28}{'bags':>5}{heading}  verdict  must")
    for one in judged:
        numbers = "".join(f"{_text(one.metrics[name]):>22}" for name in _BOUNDED)
        verdict, must = ("passed" if is_good else "FAILED" for is_good in (one.verdict.passed, one.variant.passes))
        wrong = "" if verdict == must else "  WRONG"
        print(f"  {one.variant.name:28}{one.bags:5}{numbers}  {verdict:7}  {must}{wrong}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _numbers(judged: Sequence[_Judged], conditions: Sequence[Condition]) -> Mapping[str, Any]:
    return {
        "conditions": [str(condition) for condition in conditions],
        "networks": {
            one.variant.name: {
                "bags": one.bags,
                "passed": one.verdict.passed,
                "must_pass": one.variant.passes,
                "metrics": one.metrics,
            }
            for one in judged
        },
    }
