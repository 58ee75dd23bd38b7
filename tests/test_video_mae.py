"""The MAE: published answers, masks, the encoder inside."""

import importlib

import pytest
import timm
import torch
from conftest import TINY_MAE, golden, published, relative_error
from golden import recipe

import videozoo_timm  # noqa: F401  registers the models

CASES = ['random_75', 'random_90', 'temporal_25', 'temporal_50', 'center_25', 'center_50']


def tiny(**kwargs):
    overlay = dict(state_dict=published('video_mae_tiny'))
    return timm.create_model('mae_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **{**TINY_MAE, **kwargs})


@pytest.fixture(scope='module')
def model():
    return tiny().eval()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def clips(n=1):
    return recipe.clip('video_mae_tiny', (n, 3, 16, 56, 56))


@pytest.mark.parametrize('case', CASES)
def test_published_answers(model, case):
    want = golden('video_mae_tiny')
    mask_type, percent = case.split('_')
    torch.manual_seed(0)
    loss, pred, mask = model(clips(2 if case == 'random_90' else 1), mask_ratio=int(percent) / 100, mask_type=mask_type)
    assert torch.equal(mask, want[f'{case}.mask'])
    assert relative_error(loss, want[f'{case}.loss']) < 1e-5
    assert relative_error(pred[..., ::16], want[f'{case}.pred_every_16th']) < 1e-5


def test_published_comparison(model):
    want = golden('video_mae_tiny')
    _, pred, _, comparison = model(clips(), mask_ratio=0.5, visualize=True, mask_type='center')
    assert relative_error(pred, want['center_50.pred']) < 1e-5
    assert relative_error(comparison, want['center_50.comparison']) < 1e-5


def test_published_loss_with_normalised_pixels():
    model = tiny(norm_pix_loss=True).eval()
    torch.manual_seed(0)
    loss = model(clips(2), mask_ratio=0.9)[0]
    assert relative_error(loss, golden('video_mae_tiny')['random_90.norm_pix_loss']) < 1e-5


def test_a_mask_of_ones_own_is_the_published_mask_when_it_is_the_same(model):
    torch.manual_seed(0)
    loss, pred, mask = model(clips(2), mask_ratio=0.9)
    own = mask.bool().unflatten(1, (8, 4, 4))
    again_loss, again_pred, again_mask = model(clips(2), mask=own)
    assert torch.equal(again_mask, mask)
    assert relative_error(again_pred, pred) < 1e-5 and relative_error(again_loss, loss) < 1e-5


def test_wrong_masks_are_refused_in_words(model):
    mask = torch.zeros(2, 8, 4, 4, dtype=torch.bool)
    mask[0, 0] = True
    with pytest.raises(ValueError, match=r'drops \[16, 0\] tokens.*same number'):
        model(clips(2), mask=mask)
    with pytest.raises(ValueError, match=r'boolean, or of zeros and ones; got float32'):
        model(clips(2), mask=mask.float() / 2)
    with pytest.raises(ValueError, match=r'\[2, 8, 4, 4\]'):
        model(clips(2), mask=mask[:1])
    with pytest.raises(ValueError, match='all 128 tokens'):
        model(clips(2), mask=~torch.zeros_like(mask))
    with pytest.raises(ValueError, match='all 128 tokens'):
        model(clips(), mask_ratio=0.999)
    with pytest.raises(ValueError, match='mask_ratio=1'):
        model(clips(), mask_ratio=1)
    with pytest.raises(ValueError, match="'centre'.*'center'"):
        model(clips(), mask_type='centre')


def test_dropped_tokens_are_not_embedded(model):
    seen = []
    handle = model.patch_embed.proj.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model(clips(2), mask_ratio=0.9)
    handle.remove()
    assert seen == [(2, 12, 48)]
    x, hidden = clips(), clips()
    mask = torch.zeros(1, 8, 4, 4, dtype=torch.bool)
    mask[:, 4:] = True
    hidden[:, :, 8:] = float('nan')
    assert model(hidden, mask=mask)[1].isfinite().all()
    assert torch.equal(model(hidden, mask=mask)[1], model(x, mask=mask)[1])


def test_patchify_and_back(model):
    x = clips(2)
    patches = model.patchify(x)
    assert patches.shape == (2, 128, 2 * 14 * 14 * 3)
    assert torch.equal(model.unpatchify(patches), x)
    first = x[:, :, :2, :14, :14].permute(0, 2, 3, 4, 1).flatten(1)  # the published order: time, row, column, channel
    assert torch.equal(patches[:, 0], first)


def test_no_mask_drops_nothing(model):
    loss, pred, mask = model(clips(), mask_ratio=0.0)
    assert mask.sum() == 0 and loss == 0 and pred.shape == (1, 128, 1176)
    latent, _, ids_restore = model.forward_encoder(clips(), 0.0)
    latent = latent.gather(1, ids_restore.unsqueeze(-1).expand_as(latent))
    assert relative_error(latent, model.forward_features(clips())[:, 1:]) < 1e-5


@pytest.mark.parametrize('feature_cls', ['getter', 'hook', 'fx'])
def test_as_an_encoder(model, feature_cls):
    encoder = tiny(features_only=True, out_indices=[1], feature_cls=feature_cls).eval()
    features = encoder(clips())[0]
    tokens = model.blocks(model._embed(clips()))
    if feature_cls == 'getter':
        assert features.shape == (1, 48, 8, 4, 4)
        features = torch.cat([tokens[:, :1], features.flatten(2).transpose(1, 2)], 1)
    assert relative_error(features, tokens) < 1e-5
    maps = model.forward_intermediates(clips()[:, :, 0], indices=1, intermediates_only=True)
    assert maps[0].shape == (1, 48, 4, 4)


def test_images_are_still_clips(model):
    image = clips()[:, :, 0]
    repeated = image.unsqueeze(2).expand(-1, -1, 16, -1, -1)
    for ours, theirs in zip(
        model(image, mask_type='center', visualize=True),
        model(repeated, mask_type='center', visualize=True),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_other_sizes():
    model = tiny(img_size=(84, 56), num_frames=8).eval()
    dynamic = tiny(dynamic_img_size=True).eval()
    resized = tiny().eval()
    resized.set_input_size(img_size=(84, 56), num_frames=8)
    x = torch.randn(1, 3, 8, 84, 56)
    want = model(x, 0.5, True, 'center')
    assert want[3].shape == (1, 3, 3, 8, 84, 56)
    for other in (dynamic, resized):
        assert all(relative_error(a, b) < 1e-5 for a, b in zip(other(x, 0.5, True, 'center'), want, strict=True))


def test_classes_are_refused_by_naming_the_vit():
    for make in (lambda: timm.create_model('mae_t14_st', num_classes=10), lambda: tiny().reset_classifier(10)):
        with pytest.raises(ValueError, match='vit_h14_st'):
            make()


def test_a_vit_reads_the_encoder_of_an_mae_file():
    vit_args = {k: v for k, v in TINY_MAE.items() if not k.startswith('decoder_')}
    overlay = dict(state_dict=published('video_mae_tiny'), num_classes=0)
    vit = timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **vit_args)
    assert torch.equal(vit.eval().forward_features(clips()), tiny().eval().forward_features(clips()))
    encoder_only = {k: v for k, v in published('video_mae_tiny').items() if not k.startswith(('decoder', 'mask_token'))}
    with pytest.raises(ValueError, match='decoder_pred.weight is missing'):
        timm.create_model(
            'mae_t14_st', pretrained=True, pretrained_cfg_overlay=dict(state_dict=encoder_only), **TINY_MAE
        )


def test_training_step_and_gradient_checkpointing():
    gradients = []
    for enable in (False, True):
        model = tiny().train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(0)
        with torch.enable_grad():
            model(clips())[0].backward()
        assert all(p.grad is not None for n, p in model.named_parameters())
        gradients.append(model.decoder_blocks[0].attn.qkv.weight.grad)
    assert relative_error(gradients[1], gradients[0]) < 1e-6


def test_new_models_are_initialised():
    torch.manual_seed(0)
    model = timm.create_model('mae_t14_st')
    assert all(p.isfinite().all() for p in model.parameters())
    weight = model.decoder_pred.weight
    bound = (6 / sum(weight.shape)) ** 0.5  # Xavier uniform
    assert 0.95 * bound < weight.abs().max() <= bound
    assert {'mask_token', 'decoder_pos_embed_spatial', 'pos_embed_temporal'} <= model.no_weight_decay()


def test_compile_without_graph_breaks(model):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    for ours, theirs in zip(compiled(clips(), 0.5, True, 'center'), model(clips(), 0.5, True, 'center'), strict=True):
        assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    'module, former, name', [('video_mae', 'initialise_local', 'initialize_local'), ('gpt', 'draw', 'sample_codes')]
)
def test_former_names_are_kept_for_a_release(module, former, name):
    module = importlib.import_module(f'videozoo_timm.models.{module}')
    with pytest.warns(DeprecationWarning, match=name):
        assert getattr(module, former) is getattr(module, name)
