"""The video ViT: published answers, timm's contract, clips and images, other sizes."""

import copy
import pickle

import pytest
import timm
import torch
from conftest import TINY_MAE, TINY_VIT, golden, published, relative_error, save_published
from golden import recipe
from timm.models import load_checkpoint
from timm.optim import create_optimizer_v2, param_groups_layer_decay

from videozoo_timm.factory import load_file

SMALL = dict(img_size=56, num_frames=4, embed_dim=48, depth=3, num_heads=4)


def tiny(**kwargs):
    overlay = dict(state_dict=published('video_vit_tiny'), num_classes=7)
    return timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **{**TINY_VIT, **kwargs})


@pytest.fixture(scope='module')
def model():
    return tiny().eval()


@pytest.fixture(scope='module')
def clip():
    return recipe.clip('video_vit_tiny', (2, 3, 4, 56, 56))


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def test_published_answers(model, clip):
    want = golden('video_vit_tiny')
    assert relative_error(model(clip), want['logits']) < 1e-5
    features = model.forward_head(model.forward_features(clip), pre_logits=True)
    assert relative_error(features, want['features']) < 1e-5
    assert relative_error(model.get_last_selfattention(clip), want['last_attention']) < 1e-5


def test_class_attention_is_the_first_row(model, clip):
    rows = model.get_last_selfattention(clip)[:, :, 0, 1:]
    attention = model.cls_attention(clip)
    assert attention.shape == (2, 4, 2, 4, 4)
    assert relative_error(attention.flatten(2), rows) < 1e-5
    still = model.cls_attention(clip[:, :, 0])
    assert still.shape == (2, 4, 4, 4)
    repeated = clip[:, :, :1].expand(-1, -1, 4, -1, -1)
    assert relative_error(still, model.cls_attention(repeated).mean(2)) < 1e-5
    assert not torch.allclose(model.cls_attention(clip, block=0), attention)
    with pytest.raises(IndexError, match='3 blocks'):
        model.cls_attention(clip, block=3)


def test_an_image_is_a_still_clip(model, clip):
    image = clip[:, :, 0]
    assert torch.equal(model(image), model(image.unsqueeze(2).expand(-1, -1, 4, -1, -1)))


def test_intermediates_follow_the_rank_of_the_input(model, clip):
    final, maps = model.forward_intermediates(clip, indices=[0, 2])
    assert [m.shape for m in maps] == [(2, 48, 2, 4, 4)] * 2 and final.shape == (2, 33, 48)
    assert torch.equal(final, model.forward_features(clip))
    image = clip[:, :, 0]
    still = model.forward_intermediates(image, indices=2, intermediates_only=True)
    assert [m.shape for m in still] == [(2, 48, 4, 4)] * 2
    repeated = model.forward_intermediates(
        image.unsqueeze(2).expand(-1, -1, 4, -1, -1), indices=2, intermediates_only=True
    )
    assert relative_error(still[-1], repeated[-1].mean(2)) < 1e-5
    tokens = model.forward_intermediates(clip, indices=[2], output_fmt='NLC', intermediates_only=True)[0]
    assert torch.equal(tokens.transpose(1, 2).unflatten(2, (2, 4, 4)), maps[1])


def test_intermediates_options(model, clip):
    normed, prefix = model.forward_intermediates(
        clip, indices=[2], norm=True, return_prefix_tokens=True, intermediates_only=True, stop_early=True
    )[0]
    want = model.forward_features(clip)
    assert torch.equal(prefix, want[:, :1])
    assert torch.equal(normed.flatten(2).transpose(1, 2), want[:, 1:])
    result = model.forward_intermediates(clip, indices=1, output_dict=True, return_prefix_tokens=True)
    assert set(result) == {'image_intermediates', 'image_intermediates_prefix', 'image_features'}
    mask = torch.ones(33, 33, dtype=torch.bool)
    masked = model.forward_intermediates(clip, indices=1, intermediates_only=True, attn_mask=mask)[0]
    assert relative_error(masked, result['image_intermediates'][0]) < 1e-5
    mask[:, 5] = False
    assert not torch.allclose(
        model.forward_intermediates(clip, indices=1, intermediates_only=True, attn_mask=mask)[0], masked
    )
    with pytest.raises(ValueError, match='output_fmt'):
        model.forward_intermediates(clip, output_fmt='NHWC')
    layers = model.get_intermediate_layers(clip, n=2, reshape=True, return_prefix_tokens=True, norm=True)
    assert layers[1][0].shape == (2, 48, 2, 4, 4) and layers[1][1].shape == (2, 1, 48)


@pytest.mark.parametrize('feature_cls', ['getter', 'hook', 'fx'])
@pytest.mark.parametrize('still', [False, True])
def test_features_only(feature_cls, still, clip):
    model = tiny(features_only=True, out_indices=(0, 2), feature_cls=feature_cls).eval()
    assert model.feature_info.channels() == [48, 48] and model.feature_info.reduction() == [14, 14]
    x = clip[:, :, 0] if still else clip
    shape = {'getter': (2, 48, 4, 4) if still else (2, 48, 2, 4, 4)}.get(feature_cls, (2, 33, 48))
    features = model(x)
    assert [f.shape for f in features] == [shape] * 2
    if feature_cls != 'getter':
        full = tiny().eval()
        want = full.blocks[0](full._embed(x))
        assert relative_error(features[0], want) < 1e-5


def test_heads_and_pooling(clip):
    model = tiny(num_classes=0).eval()
    assert model(clip).shape == (2, 48)
    model.reset_classifier(5)
    assert model(clip).shape == (2, 5)
    new_head = tiny(num_classes=3)
    assert new_head.head.weight.shape == (3, 48) and 0 < new_head.head.weight.std() < 0.1
    average = tiny(global_pool='avg').eval()
    assert average.fc_norm.weight.eq(1).all() and average(clip).shape == (2, 7)
    tokens = average.forward_features(clip)
    assert relative_error(average.forward_head(tokens, pre_logits=True), average.fc_norm(tokens[:, 1:].mean(1))) < 1e-5
    pooled = tiny(global_pool='map').eval()
    assert pooled(clip).isfinite().all()
    scaled = tiny(init_values=0.1)
    assert scaled.blocks[1].ls2.gamma.eq(0.1).all()


def test_pruning(clip):
    model = tiny().eval()
    want = model.forward_intermediates(clip, indices=[1], intermediates_only=True)[0]
    assert model.prune_intermediate_layers([1], prune_norm=True) == [1]
    assert len(model.blocks) == 2
    assert torch.equal(model.forward_intermediates(clip, indices=[1], intermediates_only=True)[0], want)


def test_gradient_checkpointing_gives_the_same_gradients(clip):
    gradients = []
    for enable in (False, True):
        model = tiny()
        model.set_grad_checkpointing(enable)
        with torch.enable_grad():
            model(clip).sum().backward()
        gradients.append(model.patch_embed.proj.weight.grad)
    assert relative_error(gradients[1], gradients[0]) < 1e-6


def test_what_optimizers_ask(model):
    assert {'cls_token', 'pos_embed_class', 'pos_embed_spatial', 'pos_embed_temporal'} <= model.no_weight_decay()
    groups = param_groups_layer_decay(
        model, layer_decay=0.5, weight_decay=0.1, no_weight_decay_list=model.no_weight_decay()
    )
    names = {id(p): n for n, p in model.named_parameters()}
    scale = {names[id(p)]: g['lr_scale'] for g in groups for p in g['params']}
    decay = {names[id(p)]: g['weight_decay'] for g in groups for p in g['params']}
    assert scale['patch_embed.proj.weight'] == scale['pos_embed_temporal'] < scale['blocks.0.mlp.fc1.weight']
    assert scale['blocks.0.mlp.fc1.weight'] < scale['blocks.2.mlp.fc1.weight'] < scale['head.weight'] == 1
    assert decay['pos_embed_spatial'] == 0 and decay['blocks.0.mlp.fc1.weight'] == 0.1
    assert create_optimizer_v2(model, opt='adamw', layer_decay=0.75)


def test_other_sizes_and_lengths_at_load_and_at_run_time(clip):
    loaded = tiny(img_size=(84, 56), num_frames=8).eval()
    resized = tiny().eval()
    resized.set_input_size(img_size=(84, 56), num_frames=8)
    dynamic = tiny(dynamic_img_size=True).eval()
    x = torch.randn(1, 3, 8, 84, 56, generator=torch.Generator().manual_seed(0))
    want = loaded(x)
    assert torch.equal(resized(x), want) and relative_error(dynamic(x), want) < 1e-5
    assert loaded.forward_intermediates(x, indices=1, intermediates_only=True)[0].shape == (1, 48, 4, 6, 4)
    assert dynamic.forward_intermediates(x, indices=1, intermediates_only=True)[0].shape == (1, 48, 4, 6, 4)
    assert torch.equal(dynamic(clip), tiny().eval()(clip))
    spatial = timm.layers.resample_abs_pos_embed(
        tiny().pos_embed_spatial, new_size=[6, 4], old_size=[4, 4], num_prefix_tokens=0
    )
    assert torch.equal(loaded.pos_embed_spatial, spatial)


def test_temporal_positions_are_resampled_linearly():
    model = tiny(num_frames=8)
    old = published('video_vit_tiny')['pos_embed_temporal']  # [1, 2, C] -> [1, 4, C]
    first, last = old.unbind(1)
    want = torch.stack([first, 0.75 * first + 0.25 * last, 0.25 * first + 0.75 * last, last], 1)
    assert relative_error(model.pos_embed_temporal, want) < 1e-6


@pytest.mark.parametrize('in_chans', [1, 4])
def test_other_input_channels(in_chans, clip):
    model = tiny(in_chans=in_chans).eval()
    kernel = published('video_vit_tiny')['patch_embed.proj.weight']
    if in_chans == 1:  # timm's rule: a gray clip is answered as its color copy
        assert relative_error(model(clip[:, :1]), tiny().eval()(clip[:, :1].expand(-1, 3, -1, -1, -1))) < 1e-5
    else:
        assert relative_error(model.patch_embed.proj.weight[:, :3], kernel * 0.75) < 1e-6


@pytest.mark.parametrize(
    'shape, words',
    [
        ((1, 3, 5, 56, 56), 'expected a clip'),
        ((1, 4, 3, 56, 56), 'expected a clip'),
        ((1, 3, 4, 56, 70), 'dynamic_img_size=True'),
        ((3, 4, 56, 56), 'expected a clip'),
        ((1, 3, 64, 56), 'set_input_size'),
    ],
)
def test_a_wrong_shape_says_what_would_be_right(model, shape, words):
    with pytest.raises(ValueError, match=words):
        model(torch.zeros(shape))


def test_wrong_sizes_are_named():
    dynamic = tiny(dynamic_img_size=True)
    with pytest.raises(ValueError, match='5 frames.*tubelet size 2'):
        dynamic(torch.zeros(1, 3, 5, 56, 56))
    with pytest.raises(ValueError, match='patch size'):
        dynamic(torch.zeros(1, 3, 4, 56, 57))
    with pytest.raises(ValueError, match='num_frames=5'):
        timm.create_model('vit_t14_st', num_frames=5)
    with pytest.raises(ValueError, match='img_size=.*100'):
        timm.create_model('vit_t14_st', img_size=100)
    with pytest.raises(ValueError, match='patch_size=16'):
        dynamic.set_input_size(patch_size=16)
    padded = tiny(dynamic_img_size=True, dynamic_img_pad=True)
    assert padded(torch.zeros(1, 3, 4, 57, 56)).shape == (1, 7)


def test_device_and_dtype():
    model = tiny(dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert timm.create_model('vit_t14_st', device='meta').head_drop is not None
    assert next(timm.create_model('vit_t14_st', device='meta').parameters()).is_meta
    assert not any(p.is_meta for p in tiny(device='cpu').parameters())


def test_new_models_are_initialised():
    torch.manual_seed(0)
    model = timm.create_model('vit_t14_st', num_classes=5)
    assert all(p.isfinite().all() for p in model.parameters())
    assert 0.015 < model.pos_embed_spatial.std() < 0.025 and 0.015 < model.head.weight.std() < 0.025
    assert not torch.equal(model.blocks[0].attn.qkv.weight, model.blocks[1].attn.qkv.weight)


def test_checkpoint_path_and_state_dicts_of_either_layout(tmp_path, model, clip):
    path = save_published(published('video_vit_tiny'), tmp_path / 'tiny.pth')
    from_published = timm.create_model('vit_t14_st', checkpoint_path=str(path), **TINY_VIT).eval()
    assert torch.equal(from_published(clip), model(clip))
    other = timm.create_model('vit_t14_st', **TINY_VIT)
    load_checkpoint(other, str(path))
    assert torch.equal(other.eval()(clip), model(clip))
    wrapped = torch.nn.Sequential(timm.create_model('vit_t14_st', **TINY_VIT))
    wrapped.load_state_dict({f'0.{k}': v for k, v in published('video_vit_tiny').items()})
    assert torch.equal(wrapped.eval()(clip), model(clip))
    headless = timm.create_model('vit_t14_st', **{**TINY_VIT, 'num_classes': 0})
    headless.load_state_dict(model.state_dict())
    broken = published('video_vit_tiny')
    del broken['blocks.1.mlp.fc1.bias']
    with pytest.raises(RuntimeError, match=r'Missing key.*blocks\.1\.mlp\.fc1\.bias'):
        timm.create_model('vit_t14_st', **TINY_VIT).load_state_dict(broken)
    del broken['blocks.1.attn.k.bias']
    with pytest.raises(ValueError, match='lacks blocks.1.attn.k.bias'):
        timm.create_model('vit_t14_st', **TINY_VIT).load_state_dict(broken)


def test_missing_and_surplus_keys_are_listed():
    def load(state_dict, **kwargs):
        overlay = dict(state_dict=state_dict, num_classes=7)
        sizes = {**TINY_VIT, **kwargs}
        return timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **sizes)

    for key, words in (('norm.bias', 'norm.bias is missing'), ('head.weight', 'head.weight is missing')):
        with pytest.raises(ValueError, match=words):
            load({k: v for k, v in published('video_vit_tiny').items() if k != key})
    with pytest.raises(ValueError, match='blocks.9.mlp.fc1.bias.*no place'):
        load({**published('video_vit_tiny'), 'blocks.9.mlp.fc1.bias': torch.zeros(3)})
    with pytest.raises(ValueError, match='blocks.2.*no place'):
        load(published('video_vit_tiny'), depth=2)
    with pytest.raises(ValueError, match=r'head.weight \[7, 48\] has no place'):
        overlay = dict(state_dict=published('video_vit_tiny'), num_classes=0)
        timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **SMALL)
    with pytest.raises(ValueError, match='decoder_foo.*no place'):
        load({**published('video_vit_tiny'), 'decoder_foo': torch.zeros(3)})
    with pytest.raises(ValueError, match=r'norm1.bias is \[48\], the model has \[64\]'):
        load(published('video_vit_tiny'), embed_dim=64)


def test_frames_before_channels_are_refused_with_the_way_out(model, clip):
    with pytest.raises(ValueError, match=r'got \[2, 4, 3, 56, 56\]; .* x\.transpose\(1, 2\)'):
        model(clip.transpose(1, 2))


@pytest.mark.parametrize('around', ['module.{}', '_orig_mod.module.{}', '_fsdp_wrapped_module.{}'])
def test_keys_of_wrapped_models(around, model, clip, tmp_path):
    def wrapped(key):  # the whole, and as `torch.compile` and activation checkpointing of single blocks
        return around.format(
            key.replace('blocks.1.', 'blocks.1._orig_mod.').replace('blocks.2.', 'blocks.2._checkpoint_wrapped_module.')
        )

    for name, tensors in (('timm', model.state_dict()), ('published', published('video_vit_tiny'))):
        state_dict, path = {wrapped(k): v for k, v in tensors.items()}, tmp_path / f'{name}.pth'
        torch.save({'state_dict': state_dict}, path)
        by_state_dict = timm.create_model('vit_t14_st', **TINY_VIT)
        by_state_dict.load_state_dict(state_dict)
        overlay = dict(file=str(path), num_classes=7)
        for other in (
            by_state_dict,
            timm.create_model('vit_t14_st', checkpoint_path=str(path), **TINY_VIT),
            timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **TINY_VIT),
            load_file(path, 'vit_t14_st', **SMALL),
        ):
            assert torch.equal(other.eval()(clip), model(clip))


def test_an_overlay_of_minus_one_classes_leaves_the_head(model, tmp_path):
    """As timm's `train.py --pretrained-path` asks for it."""
    path = save_published(published('video_vit_tiny'), tmp_path / 'tiny.pth')

    def load(**kwargs):
        overlay = dict(file=str(path), num_classes=-1)
        return timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **SMALL, **kwargs)

    for kwargs, number in ((dict(num_classes=7), 7), (dict(num_classes=5), 5), (dict(num_classes=0), 0), ({}, 8)):
        loaded = load(**kwargs)
        assert loaded.num_classes == number and loaded.pretrained_cfg['num_classes'] == 8
        assert torch.equal(loaded.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)
        assert 'label_names' not in loaded.pretrained_cfg
        if number:
            assert loaded.head.weight.shape == (number, 48) and 0 < loaded.head.weight.std() < 0.025
            assert not loaded.head.bias.any()
    assert not torch.equal(load(num_classes=7).head.weight, model.head.weight)


def test_pretrained_strict_is_that_of_timm(caplog):
    def load(state_dict, **kwargs):
        overlay = dict(state_dict=state_dict, num_classes=7)
        return timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **TINY_VIT, **kwargs)

    tensors = published('video_vit_tiny')
    part = {k: v for k, v in tensors.items() if k not in ('cls_token', 'norm.bias', 'blocks.1.mlp.fc1.weight')}
    part['surplus'] = torch.ones(2)
    with pytest.raises(ValueError, match='blocks.1.mlp.fc1.weight is missing'):
        load(part)
    loaded = load(part, pretrained_strict=False)
    words = caplog.records[-1].getMessage()
    assert "['blocks.1.mlp.fc1.weight', 'cls_token', 'norm.bias']" in words and 'surplus' in words
    assert all(p.isfinite().all() and not p.is_meta for p in loaded.parameters())
    assert 0 < loaded.cls_token.std() < 0.1 and not loaded.norm.bias.any()
    assert torch.equal(loaded.norm.weight, tensors['norm.weight'])
    with pytest.raises(ValueError, match=r'norm.bias is \[3\]'):  # as in timm
        load({**tensors, 'norm.bias': torch.ones(3)}, pretrained_strict=False)
    assert load(tensors, pretrained_strict=False, features_only=True, out_indices=2).model.num_classes == 0


def test_copies_pickles_and_rebuilds(tmp_path, model, clip):
    assert torch.equal(copy.deepcopy(model)(clip), model(clip))
    assert torch.equal(pickle.loads(pickle.dumps(model))(clip), model(clip))
    resized = tiny()
    resized.set_input_size(img_size=70, num_frames=6)
    timm.models.save_for_hf(resized, tmp_path, safe_serialization=True)
    again = timm.create_model(f'local-dir:{tmp_path}', pretrained=True)
    x = torch.randn(1, 3, 6, 70, 70)
    # Not to the bit: mapped weights are aligned otherwise in memory, which some processors' kernels notice.
    assert all(torch.equal(v, resized.state_dict()[k]) for k, v in again.state_dict().items())
    torch.testing.assert_close(again.eval()(x), resized.eval()(x))


def test_fx_traces_clips_and_images(model, clip):
    traced = torch.fx.symbolic_trace(model)
    for x in (clip, clip[:, :, 0], clip[:1]):
        assert relative_error(traced(x), model(x)) < 1e-6


@pytest.mark.parametrize('still', [False, True])
def test_export_with_a_dynamic_batch(model, clip, still):
    x = clip[:, :, 0] if still else clip
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim('batch', min=1, max=8)},))
    more = torch.cat([x, x[:1]])
    assert relative_error(program.module()(more), model(more)) < 1e-5


def resizes(program):
    return [str(n.target) for n in program.graph.nodes if 'upsample' in str(n.target)]


def test_an_export_holds_no_resize_but_for_sizes_of_any_kind(model, clip):
    for x in (clip, clip[:, :, 0]):
        assert not resizes(torch.export.export(model, (x,)))
    mae = timm.create_model('mae_t14_st', **TINY_MAE)
    assert not resizes(torch.export.export(mae, (torch.zeros(1, 3, 16, 56, 56),)))
    dynamic = tiny(dynamic_img_size=True)
    assert len(resizes(torch.export.export(dynamic, (clip,)))) == 2
    shapes = {
        2: 2 * torch.export.Dim('steps', max=9),
        3: 14 * torch.export.Dim('rows', min=2, max=9),
        4: 14 * torch.export.Dim('columns', min=2, max=9),
    }
    exported = torch.export.export(dynamic, (torch.randn(2, 3, 6, 56, 84),), dynamic_shapes=(shapes,)).module()
    traced = torch.jit.trace(dynamic, torch.randn(2, 3, 6, 56, 84))
    for size in ((4, 56, 56), (6, 56, 84), (8, 42, 70)):
        x = torch.randn(2, 3, *size)
        assert relative_error(exported(x), dynamic(x)) < 1e-5
        assert relative_error(traced(x), dynamic(x)) < 1e-5


@pytest.mark.parametrize('still', [False, True])
def test_compile_without_graph_breaks(model, clip, still):
    torch._dynamo.reset()
    x = clip[:, :, 0] if still else clip
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    assert relative_error(compiled(x), model(x)) < 1e-5
    assert (
        relative_error(
            torch.compile(model.cls_attention, fullgraph=True, backend='aot_eager')(x), model.cls_attention(x)
        )
        < 1e-5
    )


def test_a_head_of_ones_own_is_loaded():
    model = timm.create_model('vit_t14_st', num_classes=0)
    model.head = torch.nn.Linear(128, 5)
    again = copy.deepcopy(model)
    torch.nn.init.zeros_(again.head.weight)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.head.weight, model.head.weight)
