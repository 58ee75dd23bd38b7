"""torch.hub's door, and the three doors giving the same model."""

import importlib.util
import shutil

import pytest
from conftest import REPOSITORY, TINY_MAE, TINY_VIT, published, save_published

import videozoo_timm


@pytest.fixture
def in_hub_cache(environment, tmp_path):
    """The checkout where torch.hub keeps a downloaded repository."""
    for repo in ('eminorhan_hvm-1_main', 'eminorhan_video-models_main'):
        folder = tmp_path / 'torch' / 'hub' / repo
        folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / 'hubconf.py', folder)
        shutil.copytree(REPOSITORY / 'videozoo_timm', folder / 'videozoo_timm')
    environment.pop('PYTHONPATH')
    return tmp_path / 'torch' / 'hub'


def test_list_shows_the_published_names_and_no_helper(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    import hubconf

    # What torch.hub.list does with the module.
    names = [f for f in dir(hubconf) if callable(getattr(hubconf, f)) and not f.startswith('_')]
    assert sorted(names) == sorted(videozoo_timm.get_available_models())
    assert all(importlib.util.find_spec(name) for name in hubconf.dependencies)
    assert 'whole=True loads it with its decoder, as mae_l16_im.' in hubconf.mae_say_vitl16.__doc__
    assert 'whole=True' not in hubconf.dino_say_vitb14.__doc__


def test_torch_hub_itself_from_its_cache_folder(hub, run, environment, in_hub_cache, tmp_path):
    path = save_published(published('video_vit_tiny'), tmp_path / 'hvm1_ssv2-50shot.pth')
    hub.add('eminorhan/hvm-1', path.name, path)
    code = f"""
import torch
name, repo = 'vit_hvm1_ssv2-50shot', 'eminorhan/hvm-1'
kwargs = dict(skip_validation=True, trust_repo=True)
names = torch.hub.list(repo, **kwargs)
assert len(names) == 119 + 156 and 'vit_hvm1@448_none' in names and 'mae_kinetics-200h_none' in names, names
text = torch.hub.help(repo, name, **kwargs)
assert 'SSV2' in text and 'zoo' in text and 'pretrained' in text, text
sizes = {TINY_VIT!r}
model = torch.hub.load(repo, name, pretrained_cfg_overlay=dict(num_classes=7), **kwargs, **sizes)
assert not model.training
import inspect, sys, timm, videozoo_timm
assert '{in_hub_cache}' in videozoo_timm.__file__, videozoo_timm.__file__
sizes['pretrained_cfg_overlay'] = dict(num_classes=7)
for other in (
    timm.create_model('vit_h14_st.hvm1_ssv2_50shot', pretrained=True, **sizes),
    videozoo_timm.load_model(name, **sizes),
):
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
untrained = torch.hub.load(repo, 'mae_say_none', pretrained=False, **kwargs, **{TINY_MAE!r})
assert untrained.decoder_pred.out_features == 1176
"""
    run(code=code)
    assert [p for _, p in hub.requests].count('/eminorhan/hvm-1/resolve/main/hvm1_ssv2-50shot.pth') == 1


def test_another_copy_of_the_package_is_named(run, environment, in_hub_cache):
    environment['PYTHONPATH'] = str(REPOSITORY)
    init = in_hub_cache / 'eminorhan_hvm-1_main' / 'videozoo_timm' / '__init__.py'
    init.write_text(init.read_text().replace(videozoo_timm.__version__, '9.9'))
    code = """
import torch, videozoo_timm
torch.hub.list('eminorhan/hvm-1', skip_validation=True, trust_repo=True)
"""
    done = run(code=code)
    other = in_hub_cache / 'eminorhan_hvm-1_main' / 'videozoo_timm'
    assert f'imported before, from {REPOSITORY / "videozoo_timm"}; it is used instead of 9.9 in {other}' in done.stderr
    assert f'videozoo_timm {videozoo_timm.__version__} was imported' in done.stderr


def test_ambiguous_names_through_the_hub(hub, run, environment, tmp_path):
    for zoo, shift in (('hvm-1', 0), ('video-models', 1)):
        tensors = {k: v + shift for k, v in published('video_vit_tiny').items()}
        path = save_published(tensors, tmp_path / f'{zoo}.pth')
        hub.add(f'eminorhan/{zoo}', 'kinetics_ssv2-50shot.pth', path)
    code = f"""
import torch
def load(**kwargs):
    return torch.hub.load({str(REPOSITORY)!r}, 'vit_kinetics_ssv2-50shot', source='local',
                          pretrained_cfg_overlay=dict(num_classes=7), **kwargs, **{TINY_VIT!r}).norm.bias
bare, theirs, ours = load(), load(zoo='video-models'), load(zoo='hvm-1')
assert torch.equal(bare, theirs) and torch.allclose(ours + 1, theirs)
"""
    done = run(code=code)
    assert done.stderr.count('stands in two zoos') == 1
