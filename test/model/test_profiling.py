"""The profiler: what it measures, with a clock of the test's own, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from model_builders import config, model, observation

from vla_ros.deploy import profiling
from vla_ros.deploy.profiling import BACKBONES, DECODER, ENCODER, REST, Duration, Profile, profile_vla_model
from vla_ros.model.attention import FeedForward
from vla_ros.model.config import LanguageConfig
from vla_ros.model.untrained import untrained
from vla_ros.model.vla import VLAModel

MINILM_LAYERS, MINILM_WIDTH = 6, 384
TOKENS = 5  # [CLS] open the drawer [SEP]


class LateDevice:
    """A device that carries work out when it is waited for, and a clock that only its work moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.pending_s = 0.0
        monkeypatch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: self.now_s))

    def synchronise(self) -> None:
        self.now_s += self.pending_s
        self.pending_s = 0.0

    def burden(self, module: torch.nn.Module, seconds: Callable[[int], float]) -> None:
        """Every call of the module gives it so much to do; seconds: of the number of the call."""
        calls = iter(range(1_000_000))

        def give(*_: Any) -> None:
            self.pending_s += seconds(next(calls))

        module.register_forward_hook(give)


def profile(built: VLAModel, sentence: str = "open the drawer", **options: Any) -> Profile:
    return profile_vla_model(built, built.inputs([observation(0, sentence)]), **{"runs": 2, "warm_up": 1, **options})


def milliseconds(profile: Profile) -> dict[str, float]:
    taken = {part.name: round(part.duration.median_ms, 6) for part in profile.parts}
    return {name: median_ms for name, median_ms in taken.items() if median_ms}


def test_the_device_is_waited_for_around_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    built, device = model(), LateDevice(monkeypatch)
    device.burden(built.vision.encoder_of("front").backbone, lambda _call: 0.020)
    device.burden(built.vision, lambda _call: 0.003)
    device.burden(built.fusion, lambda _call: 0.040)
    device.burden(built.decoder.get_submodule("norm_out"), lambda _call: 0.017)
    measured = profile(built, synchronise=device.synchronise)
    assert milliseconds(measured) == {BACKBONES: 20.0, "vision": 3.0, "fusion": 40.0, DECODER: 17.0}
    assert (measured.whole.median_ms, measured.whole.p95_ms) == pytest.approx((80.0, 80.0))
    assert measured.backbone_share == pytest.approx(0.25)
    assert measured.chunks_per_second == pytest.approx(12.5)


def test_the_first_and_slow_rounds_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    built, device = model(), LateDevice(monkeypatch)
    device.burden(built.fusion, lambda call: 9.0 if call < 4 else 0.040)
    assert profile(built, warm_up=4, synchronise=device.synchronise).whole.p95_ms == pytest.approx(40.0)


def test_the_median_stands_beside_the_95th_percentile() -> None:
    duration = Duration.of([0.001] * 18 + [0.1] * 2)
    assert (duration.median_ms, duration.p95_ms) == pytest.approx((1.0, 100.0))


def test_an_instruction_that_was_read_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    built, device = model(), LateDevice(monkeypatch)
    device.burden(built.language.word_encoder.encoder, lambda _call: 0.090)
    device.burden(built.language, lambda _call: 0.002)
    measured = profile(built, synchronise=device.synchronise)
    assert milliseconds(measured) == {"language": 2.0}
    assert measured.reading.median_ms == pytest.approx(92.0)
    assert measured.part(ENCODER).output == f"last_hidden_state 1x{TOKENS}x{MINILM_WIDTH}"


def test_an_encoder_that_is_trained_reads_it_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    built, device = untrained(replace(config(), language=LanguageConfig(trainable_from=4))), LateDevice(monkeypatch)
    device.burden(built.language.word_encoder.encoder, lambda _call: 0.090)
    measured = profile(built, synchronise=device.synchronise)
    assert measured.part(ENCODER).duration.median_ms == pytest.approx(90.0)
    assert measured.part(ENCODER).flops > 1e8 and measured.reading_flops == 0


def test_the_parts_take_about_as_long_as_the_whole() -> None:
    measured = profile(model("flow"), runs=8)
    total_ms = sum(part.duration.median_ms for part in measured.parts)
    assert 0.5 * measured.whole.median_ms < total_ms < 2.0 * measured.whole.median_ms
    assert measured.part(REST).duration.median_ms < 0.5 * total_ms


def test_network_and_torch_are_left_as_they_were() -> None:
    built = model("flow").train()
    built.fusion.eval()
    modes = [module.training for module in built.modules()]
    seen = []
    built.fusion.register_forward_hook(lambda *_: seen.append((torch.get_num_threads(), built.training)))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert profile(built, threads=1).threads == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {(1, False)}
    assert [module.training for module in built.modules()] == modes
    hooks = [hook for module in built.modules() for hook in (*module._forward_pre_hooks, *module._forward_hooks)]
    assert len(hooks) == 1


def test_it_is_left_as_it_was_by_a_failure_too() -> None:
    built = model().train()
    built.fusion.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        profile(built)
    assert built.training and not built.vision._forward_hooks


@pytest.mark.parametrize("kind", ["flow", "single"])
def test_every_parameter_is_counted_once(kind: str) -> None:
    built = model(kind)
    measured = profile(built, runs=1)
    assert measured.parameters == sum(parameter.numel() for parameter in built.parameters())
    trainable = sum(parameter.numel() for parameter in built.parameters() if parameter.requires_grad)
    assert measured.trainable == trainable
    assert measured.part(ENCODER).trainable == 0 < measured.part(ENCODER).parameters
    assert measured.part("token_types").output == "" and measured.part("token_types").flops == 0


def test_operations_are_those_of_the_formulas_with_fused_attention_too() -> None:
    built = model()
    measured = profile(built, runs=1)
    assert measured.reading_flops == MINILM_LAYERS * block_flops(TOKENS, MINILM_WIDTH, 4 * MINILM_WIDTH)
    width = built.config.width
    first = FeedForward(width)[0]
    assert isinstance(first, torch.nn.Linear)
    projections = 2 * (TOKENS + 1) * MINILM_WIDTH * width  # of every token, and of their mean
    levels = block_flops(TOKENS, width, first.out_features) + block_flops(1, width, first.out_features)
    assert measured.part("language").flops == projections + levels
    assert measured.part(ENCODER).flops == 0
    assert measured.flops == sum(part.flops for part in measured.parts)


def block_flops(tokens: int, width: int, hidden: int) -> int:
    """A transformer block: four projections, scores and their use, a perceptron."""
    return 2 * tokens * width * (4 * width + 2 * tokens + 2 * hidden)
