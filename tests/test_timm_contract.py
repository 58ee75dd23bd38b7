"""What timm's own tests ask of its ViT holds for our models, with clips and with images; timm's ViT stands beside."""

import copy
import io
import logging

import pytest
import timm
import torch
from conftest import relative_error
from timm.models import FeatureInfo, create_feature_extractor, get_graph_node_names, group_parameters

import videozoo_timm as videozoo_timm

CLIP, FRAME, IMAGE = (4, 56, 56), (56, 56), (64, 64)
SHORT = dict(img_size=56, num_frames=4, depth=2)
SMALL = dict(img_size=64, depth=2, embed_dim=48)
# How a model is made and what it takes.
CASES = {
    'timm': ('vit_tiny_patch16_224', SMALL, [IMAGE]),
    'video': ('vit_t14_st', SHORT, [CLIP, FRAME]),
    'image': ('vit_t16_im', SMALL, [IMAGE]),
    'resnext': ('resnext50_im', dict(layers=(1, 1, 1, 1)), [IMAGE]),
    'mae': ('mae_t14_st', SHORT, [CLIP, FRAME]),
}
EVERYDAY = ('video', 'image', 'mae')  # the other two are timm's code
ALL = pytest.mark.parametrize('case', [c if c in EVERYDAY else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
HAS_FORWARD = pytest.mark.parametrize('case', [c for c in CASES if c != 'mae'])


def make(case, **kwargs):
    """A model in eval mode; of an MAE the encoder."""
    name, sizes, _ = CASES[case]
    if case == 'mae':
        return timm.create_model(name, features_only=True, out_indices=2, **sizes, **kwargs).model.eval()
    return timm.create_model(name, **sizes, **kwargs).eval()


def inputs(case, **kwargs):
    return [torch.randn(2, 3, *size, **kwargs) for size in CASES[case][2]]


@ALL
def test_forward_backward_and_checkpointing(case):
    for x in inputs(case):
        model = make(case)
        model.reset_classifier(5)
        model.train()
        output = model(x)
        assert output.shape[0] == 2 and output.isfinite().all() and output.shape[-1] == 5
        output.square().mean().backward()
        lacking = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not lacking
        model.eval()
        want = model(x)
        model.set_grad_checkpointing()
        torch.testing.assert_close(model(x), want)


def scripts(model, sizes):
    """Whether TorchScript answers as the model."""
    scripted = torch.jit.script(model)
    with torch.no_grad():
        for size in sizes:
            x = torch.randn(1, 3, *size)
            assert relative_error(scripted(x), model(x)) < 1e-6, size
    return scripted


@ALL
def test_torchscript(case):
    scripted, file, (x, *_) = scripts(make(case), CASES[case][2]), io.BytesIO(), inputs(case)
    torch.jit.save(scripted, file)
    file.seek(0)
    with torch.no_grad():
        assert relative_error(torch.jit.load(file)(x), scripted(x)) < 1e-6


@pytest.mark.parametrize(
    'kwargs',
    [
        pytest.param(kwargs, id=','.join(kwargs), marks=[pytest.mark.slow] if k else [])
        for k, kwargs in enumerate(
            (
                dict(dynamic_img_size=True, dynamic_img_pad=True, reg_tokens=2),
                dict(class_token=False, global_pool='avg'),
                dict(global_pool='map', dynamic_img_size=False),
                dict(qk_norm=True, drop_rate=0.1, init_values=0.1),
            )
        )
    ],
)
def test_torchscript_of_options(kwargs):
    dynamic = kwargs.get('dynamic_img_size')
    scripts(make('video', **kwargs), [CLIP, FRAME] + ([(2, 41, 70)] if dynamic else []))
    scripts(make('image', **kwargs), [IMAGE] if dynamic is False else [IMAGE, (32, 80)])


def test_torchscript_refuses_in_words():
    with pytest.raises(torch.jit.Error, match='expected a clip'):
        torch.jit.script(make('video'))(torch.zeros(1, 3, 4, 56, 70))


@ALL
def test_fx_traces_and_what_it_traced_is_scripted(case):
    model = make(case)
    _, nodes = get_graph_node_names(model)
    traced = create_feature_extractor(model, {nodes[-1]: 'output'})
    scripted = torch.jit.script(traced)
    with torch.no_grad():
        for x in inputs(case):
            want = model(x)
            assert relative_error(traced(x)['output'], want) < 1e-6
            assert relative_error(scripted(x)['output'], want) < 1e-6


@HAS_FORWARD
def test_heads_and_configurations(case):
    (name, sizes, _), model, (x, *_) = CASES[case], make(case, num_classes=7), inputs(case)
    cfg, keys = model.default_cfg, model.state_dict().keys()
    first = (cfg['first_conv'],) if isinstance(cfg['first_conv'], str) else cfg['first_conv']
    assert all(f'{layer}.weight' in keys for layer in (*first, cfg['classifier']))
    assert model.num_classes == 7 and model.num_features > 0 and model.in_chans == 3
    if case == 'resnext':
        assert model.forward_features(torch.zeros(1, 3, 224, 224)).shape[2:] == cfg['pool_size']
    with pytest.raises(TypeError):
        timm.create_model(name, not_an_argument=1, **sizes)
    assert len(set(group_parameters(model, model.group_matcher(), reverse=True).values())) > 1
    with torch.no_grad():
        features = model.forward_features(x)
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.head_hidden_size)
        assert torch.equal(model.get_classifier()(pooled), model(x))
        model.reset_classifier(0)
        assert model.num_classes == 0 and torch.equal(model(x), pooled)
        model.reset_classifier(0, '')
        assert torch.equal(model(x), features)
        model.reset_classifier(3, 'avg')
        assert model(x).shape == (2, 3)
        assert make(case, num_classes=0)(x).shape == pooled.shape
        assert make(case, num_classes=0, global_pool='')(x).shape == features.shape


@HAS_FORWARD
def test_devices_dtypes_and_what_is_frozen(case):
    name, sizes, _ = CASES[case]
    model = timm.create_model(name, device='meta', dtype=torch.bfloat16, **sizes)
    held = {**dict(model.named_parameters()), **{k: v for k, v in model.named_buffers() if v.is_floating_point()}}
    assert all(v.is_meta and v.dtype == torch.bfloat16 for v in held.values())
    model.reset_classifier(2)
    assert all(p.is_meta and p.dtype == torch.bfloat16 for p in model.get_classifier().parameters())
    model = make(case).requires_grad_(False)
    model.reset_classifier(0)
    if hasattr(model, 'set_input_size'):
        model.set_input_size(img_size=tuple(2 * s for s in CASES[case][2][0][-2:]))
    assert not any(p.requires_grad for p in model.parameters())
    model = make(case)
    model(inputs(case)[0])
    assert all(model.bfloat16()(x).dtype == torch.bfloat16 for x in inputs(case, dtype=torch.bfloat16))


@ALL
def test_features(case):
    name, sizes, _ = CASES[case]
    model = timm.create_model(name, **sizes).eval()
    info, last = FeatureInfo(model.feature_info, len(model.feature_info)), len(model.feature_info) - 1
    assert len(info) == last + 1
    with torch.no_grad():
        for x in inputs(case):
            final, maps = model.forward_intermediates(x)
            torch.testing.assert_close(final, model.forward_features(x))
            assert [m.shape[1] for m in maps] == info.channels()
            for reduction, m in zip(info.reduction(), maps, strict=True):
                assert m.shape[-2:] == tuple(-(-s // reduction) for s in x.shape[-2:])
                assert m.ndim == x.ndim and m.isfinite().all()
            for i in (0, last):
                taken = model.forward_intermediates(x, indices=[i], stop_early=True, intermediates_only=True)
                torch.testing.assert_close(taken[0], maps[i])
                pruned = copy.deepcopy(model)
                left = pruned.prune_intermediate_layers([i])
                torch.testing.assert_close(pruned.forward_intermediates(x, left, intermediates_only=True)[0], maps[i])
    for kind in ('getter', 'hook', 'fx') if case != 'resnext' else ('list', 'dict', 'getter', 'hook', 'fx'):
        features = timm.create_model(name, features_only=True, feature_cls=kind, out_indices=(0, last), **sizes).eval()
        taken = features(x)
        assert len(taken) == 2
        if kind == 'getter':
            assert [m.shape for m in taken] == [maps[0].shape, maps[last].shape]
        if kind == 'fx':
            for ours, theirs in zip(torch.jit.script(features)(x), taken, strict=True):
                assert relative_error(ours, theirs) < 1e-6


@ALL
@pytest.mark.parametrize('wrap', [lambda model: model, torch.nn.Sequential])
def test_memory_formats(case, wrap):
    model = make(case)
    moved = wrap(copy.deepcopy(model)).to(memory_format=torch.channels_last)
    assert [p.shape for p in moved.parameters()] == [p.shape for p in model.parameters()]
    with torch.no_grad():
        for x in inputs(case):
            want = model(x)
            torch.testing.assert_close(moved(x), want)
            if x.ndim == 4:
                torch.testing.assert_close(moved(x.contiguous(memory_format=torch.channels_last)), want)
    changed = moved.to('cpu', torch.float64, memory_format=torch.channels_last)
    assert {p.dtype for p in changed.parameters()} == {torch.float64}


def test_a_kernel_still_fails_to_move_where_it_cannot():
    model = timm.create_model('vit_t14_st', device='meta', **SHORT)
    with pytest.raises(NotImplementedError, match='meta'):
        model.to('cpu', memory_format=torch.channels_last)


def test_hooks_on_an_mae_are_told_what_they_see(caplog):
    model, x, seen = timm.create_model('mae_t14_st', **SHORT), inputs('mae')[0], []
    with caplog.at_level(logging.WARNING, logger='videozoo_timm'):
        model(x)
        handle = model.blocks[1].mlp.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
        model.forward_features(x)
        assert not caplog.records and seen == [33]
        model(x)
        model(x)
        assert seen[1:] == [4, 4]
    (record,) = caplog.records
    assert "take the ViT's name" in record.getMessage()
    handle.remove()
    caplog.clear()
    model = timm.create_model('mae_t14_st', features_only=True, feature_cls='hook', out_indices=(0, 1), **SHORT)
    model(x)
    assert not caplog.records
