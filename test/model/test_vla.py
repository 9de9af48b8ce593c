"""The assembled network: what reaches what, and what changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_builders import config, model, observation, rows

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.chunk_decoder import Prefix
from vla_ros.model.config import SIZES, VisionConfig, preset
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.untrained import untrained
from vla_ros.model.vla import VLAModel
from vla_ros.types import GRIPPER, QUATERNION, Pose

KINDS = ("regression", "flow", "single", "continuous")
HORIZON = config().decoder.horizon


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels_of(inputs: ModelInputs, view: str) -> torch.Tensor:
    pixels = inputs.images[view]
    assert isinstance(pixels, torch.Tensor)
    return pixels


def act(built: VLAModel, inputs: ModelInputs) -> torch.Tensor:
    with torch.inference_mode():
        actions: torch.Tensor = built(inputs, generator=noise())
    return actions


@pytest.mark.parametrize("kind", KINDS)
def test_every_decoder_gives_valid_rows_and_the_same_again(kind: str) -> None:
    built = model(kind)
    inputs = built.inputs([observation(0), observation(1, "close the window")])
    actions = act(built, inputs)
    assert actions.shape == (2, HORIZON, 14) and actions.isfinite().all()
    assert torch.allclose(actions[..., QUATERNION].norm(dim=-1), torch.ones(2, HORIZON), atol=1e-5)
    assert (actions[..., 6] >= 0.0).all()
    assert ((actions[..., GRIPPER] >= 0.0) & (actions[..., GRIPPER] <= 1.0)).all()
    assert torch.equal(actions, act(built, inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_batch_do_not_see_each_other(kind: str) -> None:
    built = model(kind, history=2)
    past = torch.randn(3, 2, built.config.width, generator=noise())
    seen = [observation(0), observation(1, "push the button"), observation(2, "close the window")]
    before = act(built, built.inputs(seen).with_history(past))
    seen[1] = observation(7, "now do something that takes many more words. Then rest.")
    after = act(built, built.inputs(seen).with_history(past))
    assert torch.allclose(before[[0, 2]], after[[0, 2]], atol=1e-5)
    assert not torch.allclose(before[1], after[1], atol=1e-4)


def test_an_absent_view_is_the_same_whatever_stands_for_it() -> None:
    built = model()
    both = built.inputs([observation(0), observation(1)])
    absent = replace(both, present={**both.present, "wrist": torch.tensor([False, True])})
    pixels = torch.cat([torch.full((1, 3, 32, 32), 255, dtype=torch.uint8), pixels_of(both, "wrist")[1:]])
    garbage = replace(absent, images={**both.images, "wrist": pixels})
    assert torch.allclose(act(built, absent), act(built, garbage), atol=1e-6)
    alone = built.inputs([observation(0, views=("front",))])
    assert torch.allclose(act(built, alone)[0], act(built, absent)[0], atol=1e-5)
    assert not torch.allclose(act(built, both)[0], act(built, absent)[0], atol=1e-5)


def test_the_order_of_the_views_is_of_no_consequence() -> None:
    built = model()
    inputs = built.inputs([observation(0)])
    swapped = replace(inputs, images=dict(reversed(list(inputs.images.items()))))
    one, other = built.perceive(inputs), built.perceive(swapped)
    assert one.vision.views == ("front", "wrist") and other.vision.views == ("wrist", "front")
    assert torch.allclose(one.vision.attention_weights, other.vision.attention_weights.flip(1, 2), atol=1e-5)
    assert torch.allclose(act(built, inputs), act(built, swapped), atol=1e-5)
    crossed = replace(inputs, images={"front": inputs.images["wrist"], "wrist": inputs.images["front"]})
    assert not torch.allclose(act(built, inputs), act(built, crossed), atol=1e-5)


def test_another_sentence_state_or_past_leads_elsewhere() -> None:
    built = model(history=2)
    inputs = built.inputs([observation(0)])
    action = act(built, inputs)
    other_words = built.inputs([observation(0, "close the window")])
    other_past = inputs.with_history(torch.randn(1, 2, built.config.width, generator=noise()))
    for other in (other_words, replace(inputs, state=inputs.state + 0.5), other_past):
        assert not torch.allclose(action, act(built, other), atol=1e-4)


def test_a_blank_instruction_is_an_instruction() -> None:
    assert act(model(), model().inputs([observation(0, "")])).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(kind: str) -> None:
    built = model(kind, history=2).train()
    inputs = built.inputs([observation(0), observation(1, "close the window. Then rest.")])
    # Whether a prefix is given is drawn by chance, so several batches are needed to reach what encodes it.
    for seed in range(4):
        past = torch.randn(2, 2, built.config.width, generator=noise())
        generator = torch.Generator().manual_seed(seed)
        losses = built.loss(inputs.with_history(past), rows(seed, HORIZON, 2), generator=generator)
        (losses.action + losses.alignment).backward()
    trainable = {name: value for name, value in built.named_parameters() if value.requires_grad}
    assert [name for name, value in trainable.items() if value.grad is None or not value.grad.any()] == []
    frozen = [value for value in built.parameters() if not value.requires_grad]
    assert frozen and all(value.grad is None for value in frozen)


def frozen_model(dropout: float = 0.0) -> VLAModel:
    """With the embedded backbones, frozen."""
    torch.manual_seed(0)
    frozen = replace(config(), vision=VisionConfig(image_size=64), dropout=dropout)
    return VLAModel(frozen, ActionStatistics.identity(), ActionStatistics.identity()).eval()


def test_frozen_parts_stay_in_eval_mode_when_the_rest_trains() -> None:
    built = frozen_model(dropout=0.5).train()
    assert built.fusion.training and built.vision.processors.training
    backbone, language = built.vision.encoder_of("front").backbone, built.language.word_encoder
    frozen = [*backbone.modules(), *language.encoder.modules()]
    assert len(frozen) > 100 and not [module for module in frozen[1:] if module.training]
    inputs = built.inputs([observation(0)])
    words, patches = language.hidden(inputs.command), backbone(pixels_of(inputs, "front")).patches
    language.clear_cache()
    assert torch.equal(words, language.hidden(inputs.command))
    assert torch.equal(patches, backbone(pixels_of(inputs, "front")).patches)
    one, other = (built.loss(inputs, rows(1, HORIZON), generator=noise()).action for _ in range(2))
    assert one != other, "what trains has dropout"


def test_what_is_seen_is_aligned_with_what_is_said_only_where_it_is_seen_without_being_told() -> None:
    built = frozen_model()
    one, other = (built.perceive(built.inputs([observation(0, words)])) for words in ("open", "close the window"))
    assert torch.equal(one.vision.fused_features, other.vision.fused_features)
    aligned = built.aligned(one)
    assert aligned is not None and torch.allclose(aligned[0].norm(), torch.ones(()))
    steered = model()
    assert steered.alignment is None and steered.aligned(steered.perceive(steered.inputs([observation(0)]))) is None
    assert steered.loss(steered.inputs([observation(0)]), rows(1, HORIZON)).alignment == 0.0


def test_both_signs_of_a_tools_orientation_are_one_state() -> None:
    """A tool that points down has w = 0, where noise decides the sign."""
    down = torch.tensor([0.7071068, 0.7071068, 0.0, 0.0])
    turned = torch.cat([torch.zeros(20, 3), down.expand(20, 4), torch.zeros(20, 7)], dim=1)
    torch.manual_seed(0)
    built = VLAModel(config(), ActionStatistics.identity(), ActionStatistics.of(turned, orientation=down)).eval()
    seen = observation(0)
    states = []
    for w in (1e-4, -1e-4):
        quaternion = np.array([0.7071068, 0.7071068, 0.0, w])
        pose = Pose(seen.ee_pose.position, quaternion / np.linalg.norm(quaternion))
        states.append(act(built, built.inputs([replace(seen, ee_pose=pose, commanded_pose=pose)])))
    assert torch.allclose(states[0], states[1], atol=5e-3)


def test_it_acts_and_learns_in_bfloat16_too() -> None:
    built = model("flow", history=2)
    inputs = built.inputs([observation(0), observation(1)])
    with torch.autocast("cpu", torch.bfloat16):
        loss = built.train().loss(inputs, rows(1, HORIZON, 2), generator=noise()).action
        actions = act(built.eval(), inputs)
    loss.backward()
    assert loss.isfinite() and actions.isfinite().all()
    assert torch.allclose(actions[..., QUATERNION].float().norm(dim=-1), torch.ones(2, HORIZON), atol=1e-2)
    assert torch.allclose(actions.float(), act(built, inputs), atol=0.1)


def test_the_default_size_has_at_most_37_million_parameters_all_counted() -> None:
    small = untrained(preset("small", ("front", "wrist", "top")))
    assert sum(parameter.numel() for parameter in small.parameters()) <= 37_000_000


def test_a_frozen_backbone_may_be_given_its_features_instead_of_pixels() -> None:
    built = frozen_model()
    inputs = built.inputs([observation(0)])
    cached = {view: built.vision.encoder_of(view).extract(pixels_of(inputs, view)) for view in inputs.images}
    assert torch.allclose(act(built, inputs), act(built, replace(inputs, images=cached)), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_committed_rows_are_kept(kind: str) -> None:
    built = model(kind)
    committed = rows(3, HORIZON)
    prefix = Prefix(committed, torch.tensor([2]))
    with torch.inference_mode():
        actions = built(built.inputs([observation(0)]), prefix, noise())
    assert torch.allclose(actions[:, :2], committed[:, :2], atol=1e-5)


def test_without_any_of_its_views_it_says_so() -> None:
    with pytest.raises(ModelError, match="none of the views front, wrist was observed"):
        model().inputs([observation(0, views=("moon",))])


def _fit(built: VLAModel, steps: int, good: Callable[[], bool]) -> None:
    """Sixteen samples: eight pairs of images under two instructions, with different rows to learn."""
    inputs, target = samples(built)
    optimizer = torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = noise()
    for step in range(steps):
        optimizer.zero_grad()
        built.train().loss(inputs, target, generator=generator).action.backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49 and good():
            return


def tiny(kind: str) -> VLAModel:
    """The size as it is, but for what decodes."""
    size = SIZES["tiny"]
    return untrained(replace(size, decoder=replace(size.decoder, kind=kind)))  # type: ignore[arg-type]


def samples(built: VLAModel) -> tuple[ModelInputs, torch.Tensor]:
    views = built.config.views
    seen = [observation(seed, words, views) for seed in range(8) for words in ("open the drawer", "close the drawer")]
    return built.inputs(seen), rows(5, HORIZON, 16)


@pytest.mark.timeout(150)
def test_regression_learns_sixteen_samples_by_heart_and_heeds_the_words() -> None:
    built = tiny("regression")
    inputs, target = samples(built)

    def loss() -> float:
        with torch.inference_mode():
            return float(built.eval().loss(inputs, target, generator=noise()).action)

    _fit(built, 450, lambda: loss() < 5e-4)
    assert loss() < 1e-3
    actions = act(built.eval(), inputs)
    assert (actions[0::2] - actions[1::2]).abs().amax(dim=(1, 2)).min() > 0.1
    assert (actions - target).square().mean().sqrt() < 0.05


@pytest.mark.timeout(300)
def test_flow_learns_sixteen_samples_by_heart() -> None:
    built = tiny("flow")
    inputs, target = samples(built)

    _fit(built, 700, lambda: False)
    built.eval()
    with torch.inference_mode():
        # From noise that it has not been judged by before.
        errors = torch.stack([built(inputs, generator=noise(seed)) - target for seed in range(1, 6)])
    print(f"error of sampled actions: rms {errors.square().mean().sqrt():.4f}, most {errors.abs().max():.4f}")
    assert errors.square().mean().sqrt() < 1e-2
