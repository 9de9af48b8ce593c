"""One table of all parts, as Markdown and JSON, and a picture of the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.ablation.plan import Plan
from bench.ablation.statistics import Difference, Solved, difference

_COLOURS = {"earns its place": "tab:green", "undecided": "tab:gray", "harmful": "tab:red"}


@dataclass(frozen=True)
class Results:
    """solved: variant -> what it solved, at each seed that it was tried at. refused: variant -> why it could not be."""

    plan: Plan
    steps: int
    solved: Mapping[str, Solved]
    refused: Mapping[str, str]

    def difference_of(self, part: str) -> Difference | None:
        """None while a variant of the pair is missing."""
        having, lacking = self.plan.parts[part]
        return difference(self.solved.get(having, {}), self.solved.get(lacking, {}))

    def count(self, variant: str) -> tuple[int, int]:
        """Successes and episodes, of all seeds."""
        found = [success for solved in self.solved.get(variant, {}).values() for success in solved.values()]
        return sum(found), len(found)


def numbers(results: Results) -> dict[str, Any]:
    """JSON of all that was measured."""
    return {
        "steps": results.steps,
        "seeds": list(results.plan.seeds),
        "tasks": list(results.plan.all_tasks),
        "parts": {part: _part(results, part) for part in results.plan.parts},
        "variants": {variant: _variant(results, variant) for variant in results.plan.variants},
    }


def _part(results: Results, part: str) -> dict[str, Any]:
    having, lacking = results.plan.parts[part]
    found = results.difference_of(part)
    measured = {} if found is None else {**asdict(found), "verdict": found.verdict}
    return {"with": having, "without": lacking, **measured}


def _variant(results: Results, variant: str) -> dict[str, Any]:
    successes, episodes = results.count(variant)
    by_seed = {str(seed): sum(solved.values()) for seed, solved in results.solved.get(variant, {}).items()}
    refused = {"refused": results.refused[variant]} if variant in results.refused else {}
    return {"successes": successes, "episodes": episodes, "by_seed": by_seed, **refused}


def markdown(results: Results) -> str:
    """The table, and under it what could not be measured."""
    plan = results.plan
    lines = [
        f"{results.steps} steps of training, seeds {', '.join(map(str, plan.seeds))}, {plan.episodes} worlds of each "
        f"of {', '.join(plan.all_tasks)}; differences of paired worlds with 90 % intervals (pigeonhole bootstrap over "
        "seeds and worlds).",
        "",
        "| part | with | without | difference | 90 % interval | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(results, part) for part in plan.parts),
    ]
    if results.refused:
        lines += ["", *(f"- `{variant}` was refused: {why}" for variant, why in results.refused.items())]
    return "\n".join(lines) + "\n"


def _row(results: Results, part: str) -> str:
    having, lacking = results.plan.parts[part]
    counts = [_counted(results, variant) for variant in (having, lacking)]
    found = results.difference_of(part)
    if found is None:
        rest = ["", "", "refused" if {having, lacking} & set(results.refused) else "not measured"]
    else:
        rest = [f"{100 * found.mean:+.1f} %", f"{100 * found.low:+.1f} to {100 * found.high:+.1f} %", found.verdict]
    return f"| {' | '.join([part, *counts, *rest])} |"


def _counted(results: Results, variant: str) -> str:
    successes, episodes = results.count(variant)
    return f"{variant}: {successes}/{episodes}" if episodes else variant


def draw(results: Results, picture: Path) -> None:
    """Each part's difference with its interval, as PNG; whole or not at all."""
    from matplotlib.figure import Figure

    found = {part: one for part in results.plan.parts if (one := results.difference_of(part)) is not None}
    figure = Figure(figsize=(7.0, 1.2 + 0.35 * len(found)), layout="constrained")
    axes = figure.subplots()
    for row, one in enumerate(found.values()):
        off = [[100 * (one.mean - one.low)], [100 * (one.high - one.mean)]]
        axes.errorbar(100 * one.mean, row, xerr=off, fmt="o", color=_COLOURS[one.verdict], capsize=3)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_xlabel("successes with the part, less those without it [% of episodes], 90 % intervals")
    draft = picture.with_name(f".{picture.name}")
    figure.savefig(draft, dpi=120, format="png")
    draft.replace(picture)
