"""Views as tokens: what may influence what."""

from __future__ import annotations

import pytest
import torch

from vla_ros.errors import ModelError
from vla_ros.model.backbones import PatchFeatures
from vla_ros.model.config import VisionConfig
from vla_ros.model.vision import MultiViewVisionEncoder, PositionEmbedding, VisionEncoder

SIZE = 32  # 2 x 2 patches of the conditioned network
WIDTH = 32
VIEWS = ("front", "wrist", "top")
PATCHES = 4
FILM = VisionConfig("film_conv", image_size=SIZE, trainable_from=0)
FROZEN = VisionConfig("efficientnet_lite0", image_size=64)


def _encoder(config=FILM, views=VIEWS, dropout=0.0):
    torch.manual_seed(0)
    encoder = MultiViewVisionEncoder(config, views, WIDTH, 4, dropout).eval()
    for name, parameter in encoder.named_parameters():
        if "modulation" in name:  # else the condition does nothing
            torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def _image(seed, batch=2, size=SIZE):
    return torch.randint(
        0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def _images(views=VIEWS, batch=2, size=SIZE):
    return {view: _image(VIEWS.index(view), batch, size) for view in views}


def _condition(batch=2):
    return torch.randn(batch, WIDTH, generator=torch.Generator().manual_seed(9))


def _garbage(batch=2):
    return PatchFeatures(
        torch.full((batch, PATCHES, 192), torch.nan), torch.rand(PATCHES, 2), torch.full((batch, 192), torch.nan)
    )


def _near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# One view


def test_a_view_becomes_one_token_for_each_patch_and_one_for_the_whole():
    encoder = VisionEncoder(FROZEN, WIDTH).eval()
    features = encoder(_image(0, size=64))
    assert features.patch_features.shape == (2, 4, WIDTH)
    assert features.global_features.shape == (2, WIDTH)
    torch.testing.assert_close(
        features.positions, torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    )


def test_cached_features_of_a_frozen_backbone_give_the_same_and_carry_no_gradient():
    encoder = VisionEncoder(FROZEN, WIDTH).eval()
    cached = encoder.extract(_image(0, size=64))
    assert not cached.patches.requires_grad
    _near(encoder(cached).patch_features, encoder(_image(0, size=64)).patch_features)


def test_a_frozen_backbone_stays_in_eval_mode_and_gets_no_gradient():
    encoder = VisionEncoder(FROZEN, WIDTH, dropout=0.5).train()
    assert encoder.is_frozen
    assert not any(module.training for module in encoder.backbone.modules())
    assert encoder.dropout.training
    assert torch.equal(encoder.extract(_image(0, size=64)).patches, encoder.extract(_image(0, size=64)).patches)
    features = encoder(_image(0, size=64))
    (features.patch_features * torch.randn_like(features.patch_features)).sum().backward()
    frozen = list(encoder.frozen_parameters())
    assert len(frozen) == len(list(encoder.backbone.parameters()))
    assert all(parameter.grad is None for parameter in frozen)
    assert encoder.projection.weight.grad.any()


def test_an_encoder_trained_from_a_stage_on_gives_gradients_to_that_stage_only():
    config = VisionConfig("efficientnet_lite0", image_size=64, trainable_from=4)
    encoder = VisionEncoder(config, WIDTH).train()
    assert not encoder.is_frozen
    features = encoder(_image(0, size=64))
    (features.patch_features * torch.randn_like(features.patch_features)).sum().backward()
    trained = {id(parameter) for parameter in encoder.backbone.stages()[4].parameters()}
    for parameter in encoder.backbone.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)


def test_equal_patches_at_different_places_are_different_tokens():
    encoder = VisionEncoder(FILM, WIDTH).eval()
    positions = torch.tensor([[0.1, 0.5], [0.9, 0.5], [0.5, 0.1], [0.5, 0.9]])
    tokens = encoder.project(PatchFeatures(torch.ones(1, 4, 192), positions, torch.ones(1, 192))).patch_features[0]
    assert torch.pdist(tokens).min() > 0.1


def test_positions_that_are_near_have_embeddings_that_are_near():
    torch.manual_seed(0)
    embedding = PositionEmbedding(WIDTH)
    here, beside, across = embedding(torch.tensor([[0.2, 0.2], [0.21, 0.2], [0.8, 0.7]]))
    assert (here - beside).norm() < 0.5 * (here - across).norm()


# Several views


@pytest.mark.parametrize("shared", [True, False])
def test_tokens_are_in_the_order_of_the_views_that_were_given(shared):
    encoder = _encoder(VisionConfig("film_conv", image_size=SIZE, trainable_from=0, shared=shared))
    features = encoder(_images(("top", "front")), condition=_condition())
    assert features.views == ("top", "front")
    assert features.tokens.shape == (2, 2 * PATCHES, WIDTH)
    assert features.mask.all()
    assert features.mask.shape == (2, 2 * PATCHES)
    assert features.view_features.shape == (2, 2, WIDTH)
    assert features.fused_features.shape == (2, WIDTH)
    assert features.attention_weights.shape == (2, 2, 2)
    assert features.token_slices == {"top": slice(0, 4), "front": slice(4, 8)}
    assert features.grids == {"top": (2, 2), "front": (2, 2)}


def test_views_that_share_a_backbone_pass_it_as_one_batch():
    encoder, batches = _encoder(), []
    encoder.encoder_of("front").backbone.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    encoder(_images(), condition=_condition())
    assert batches == [6]
    assert encoder.encoder_of("front") is encoder.encoder_of("top")


def test_views_with_backbones_of_their_own_share_no_weight():
    encoder = _encoder(VisionConfig("film_conv", image_size=SIZE, trainable_from=0, shared=False))
    weights = [{id(parameter) for parameter in encoder.encoder_of(view).parameters()} for view in VIEWS]
    assert not weights[0] & weights[1] | weights[1] & weights[2] | weights[2] & weights[0]
    _near(
        encoder(_images(), condition=_condition()).tokens,
        encoder(
            {view: encoder.encoder_of(view).extract(image, _condition()) for view, image in _images().items()}
        ).tokens,
    )


def test_an_image_and_its_extracted_features_give_the_same():
    encoder = _encoder()
    cached = dict(_images()) | {"wrist": encoder.encoder_of("wrist").extract(_image(1), _condition())}
    _near(encoder(cached, condition=_condition()).tokens, encoder(_images(), condition=_condition()).tokens)


def test_a_condition_belongs_to_its_sample_in_every_view():
    encoder, condition = _encoder(), _condition()
    other = torch.stack((condition[0], -condition[1]))
    before, after = (encoder(_images(), condition=given).view_features for given in (condition, other))
    _near(after[0], before[0])
    assert ((after[1] - before[1]).abs().amax(dim=1) > 1e-3).all()


@pytest.mark.parametrize("is_training", [False, True])
def test_a_sample_does_not_change_another(is_training):
    encoder = _encoder().train(is_training)
    images, others = _images(), _images()
    for view in VIEWS:
        others[view][1] = _image(50 + VIEWS.index(view))[1]
    before, after = encoder(images, condition=_condition()), encoder(others, condition=_condition())
    for name in ("tokens", "view_features", "fused_features", "attention_weights"):
        _near(getattr(after, name)[0], getattr(before, name)[0])
    assert (after.fused_features[1] - before.fused_features[1]).abs().max() > 1e-3


def test_views_look_at_each_other():
    encoder, others = _encoder(), _images()
    others["wrist"] = _image(50)
    before, after = encoder(_images(), condition=_condition()), encoder(others, condition=_condition())
    front = before.token_slices["front"]
    assert (after.tokens[:, front] - before.tokens[:, front]).abs().max() > 1e-4


def test_the_same_image_in_two_views_gives_two_different_views():
    image = _image(0)
    features = _encoder()({"front": image, "top": image}, condition=_condition()).view_features
    assert (features[:, 0] - features[:, 1]).abs().max() > 0.01


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_what_an_absent_view_shows_changes_nothing(layers):
    encoder = _encoder(VisionConfig("film_conv", image_size=SIZE, trainable_from=0, cross_view_layers=layers))
    present = {"wrist": torch.tensor([False, True])}
    some = encoder(_images() | {"wrist": _image(50)}, present, _condition())
    for nonsense in (_image(51), _garbage()):
        other = encoder(_images() | {"wrist": nonsense}, present, _condition())
        for name in ("tokens", "mask", "view_features", "fused_features", "attention_weights"):
            _near(getattr(other, name)[0], getattr(some, name)[0])
    without = encoder(_images(("front", "top")), condition=_condition())
    is_other = torch.ones(3 * PATCHES, dtype=torch.bool)
    is_other[some.token_slices["wrist"]] = False
    _near(some.tokens[0, is_other], without.tokens[0])
    _near(some.fused_features[0], without.fused_features[0])
    _near(some.attention_weights[0][[0, 2]][:, [0, 2]], without.attention_weights[0])
    assert some.mask[0].equal(is_other)
    assert some.mask[1].all()
    assert not some.tokens[0, ~is_other].any()
    assert not some.view_features[0, 1].any()


def test_features_that_are_not_numbers_of_an_absent_view_leave_gradients_alone():
    encoder = _encoder().train()
    features = encoder(_images() | {"wrist": _garbage()}, {"wrist": torch.zeros(2, dtype=torch.bool)}, _condition())
    features.fused_features.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_with_no_view_present_everything_is_zero():
    absent = {view: torch.tensor([False, True]) for view in VIEWS}
    features = _encoder()(_images(), absent, _condition())
    for name in ("tokens", "view_features", "fused_features", "attention_weights"):
        assert not getattr(features, name)[0].any()
        assert getattr(features, name)[1].any()
        assert getattr(features, name).isfinite().all()


def test_attention_between_views_is_a_share_of_what_is_present():
    features = _encoder()(_images(), {"wrist": torch.tensor([False, True])}, _condition())
    weights = features.attention_weights
    _near(weights[1].sum(dim=-1), torch.ones(3))
    _near(weights[0].sum(dim=-1), torch.tensor([1.0, 0.0, 1.0]))
    assert not weights[0, :, 1].any()
    assert (weights[1] > 0).all()


def test_permuting_views_with_their_names_permutes_the_attention_and_nothing_else():
    encoder, order = _encoder(), [2, 0, 1]
    permuted = {VIEWS[index]: _images()[VIEWS[index]] for index in order}
    before, after = encoder(_images(), condition=_condition()), encoder(permuted, condition=_condition())
    _near(after.fused_features, before.fused_features)
    _near(after.view_features, before.view_features[:, order])
    _near(after.attention_weights, before.attention_weights[:, order][:, :, order])
    for view in VIEWS:
        _near(after.tokens[:, after.token_slices[view]], before.tokens[:, before.token_slices[view]])


def test_eval_is_deterministic_and_dropout_is_not():
    encoder = _encoder(dropout=0.5)
    assert torch.equal(
        encoder(_images(), condition=_condition()).tokens, encoder(_images(), condition=_condition()).tokens
    )
    encoder.train()
    assert not torch.equal(
        encoder(_images(), condition=_condition()).tokens, encoder(_images(), condition=_condition()).tokens
    )


@pytest.mark.parametrize("output", ["tokens", "fused_features"])
@pytest.mark.parametrize("config", [FILM, FROZEN], ids=lambda config: config.backbone)
def test_gradients_reach_every_trained_weight_and_no_frozen_one(config, output):
    encoder = _encoder(config).train()
    found = getattr(encoder(_images(size=config.image_size), condition=_condition()), output)
    (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in encoder.named_parameters():
        is_reached = parameter.grad is not None and bool(parameter.grad.any())
        assert is_reached == parameter.requires_grad, name


def test_a_view_may_have_a_name_that_torch_uses_itself():
    encoder = _encoder(views=("keys", "type", "front"))
    assert encoder({"keys": _image(0), "type": _image(1)}, condition=_condition()).views == ("keys", "type")


def test_an_unknown_view_is_refused_with_the_names_there_are():
    encoder = _encoder()
    for call in (
        lambda: encoder({"wirst": _image(0)}),
        lambda: encoder(_images(), {"wirst": torch.ones(2, dtype=torch.bool)}, _condition()),
        lambda: encoder.encoder_of("wirst"),
    ):
        with pytest.raises(ModelError, match="'wirst' is not one of front, wrist, top"):
            call()
    with pytest.raises(ModelError, match="at least one view of front, wrist, top"):
        encoder({})


def test_views_side_by_side_do_not_look_at_each_other():
    encoder = _encoder(VisionConfig("film_conv", image_size=SIZE, trainable_from=0, cross_view_layers=0))
    before = encoder(_images(), condition=_condition())
    after = encoder(_images() | {"wrist": _image(50)}, condition=_condition())
    front = before.token_slices["front"]
    assert before.tokens[:, front].equal(after.tokens[:, front])
    assert before.attention_weights.equal(torch.eye(3).expand(2, 3, 3))
