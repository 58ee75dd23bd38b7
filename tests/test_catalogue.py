"""Names, tags and files of what is published."""

import json
import os
import subprocess
import sys

import pytest
import timm
import torch
from conftest import GOLDEN, REPOSITORY
from timm.models import get_pretrained_cfg

import videozoo_timm
from videozoo_timm import catalogue

SHIPPED = ['mae_shapes_none', 'vit_shapes_motion', 'gen_shapes_64']
PUBLISHED = json.loads((GOLDEN / 'published.json').read_text())
IMAGES = PUBLISHED['silicon-menagerie encoders'] + PUBLISHED['silicon-menagerie generators']


def test_every_published_name_in_published_order():
    assert videozoo_timm.get_available_models('hvm-1') == PUBLISHED['hvm-1']
    assert videozoo_timm.get_available_models('video-models') == PUBLISHED['video-models']
    assert videozoo_timm.get_available_models('shapes') == SHIPPED
    names = videozoo_timm.get_available_models()
    of_videos = list(dict.fromkeys(PUBLISHED['hvm-1'] + PUBLISHED['video-models']))
    series = videozoo_timm.get_available_models('humanlike-vits')
    assert names == of_videos + IMAGES + series + SHIPPED
    assert (len(names), len(catalogue.CHECKPOINTS)) == (116 + 156 + 3, 96 + 156 + 2)


def test_every_checkpoint_is_a_timm_tag_with_its_repo_and_file():
    listed = timm.list_pretrained(['*_st.*', '*_im.*'])
    assert sorted(n for n in listed if '.' in n) == sorted(
        c.timm_name for c in (*catalogue.CHECKPOINTS, *catalogue.WHOLE)
    )
    published = [c for c in catalogue.CHECKPOINTS if c.zoo in ('hvm-1', 'video-models')]
    for c in published:
        cfg = get_pretrained_cfg(c.timm_name)
        stem = '_'.join(c.name.split('_')[1:])
        assert cfg.hf_hub_id == f'eminorhan/{c.zoo}'
        assert cfg.hf_hub_filename == f'{stem}.safetensors'
        assert c.filename == f'{stem}.pth'
        assert cfg.input_size == ((3, 448, 448) if '@448' in c.name else (3, 224, 224))
    assert len({(c.repo, c.filename) for c in published}) == 45 - 7  # a ViT and an MAE share 7 files


@pytest.mark.parametrize(
    'name, zoo, timm_name',
    [
        ('vit_hvm1@448_ssv2-50shot', None, 'vit_h14_st.hvm1_448_ssv2_50shot'),
        ('vit_kinetics_imagenet-2pt', None, 'vit_h14_st.kinetics_hvm1_imagenet_2pt'),
        ('mae_kinetics-200h_none', None, 'mae_h14_st.kinetics_200h'),
        ('vit_kinetics_ssv2-50shot', 'hvm-1', 'vit_h14_st.kinetics_hvm1_ssv2_50shot'),
        ('vit_kinetics_ssv2-50shot', 'video-models', 'vit_h14_st.kinetics_ssv2_50shot'),
        ('vit_h14_st.say', None, 'vit_h14_st.say'),
        ('mae_h14_st', None, 'mae_h14_st.hvm1'),
    ],
)
def test_names_and_tags(name, zoo, timm_name):
    assert catalogue.find(name, zoo).timm_name == timm_name


def test_a_name_in_both_zoos_means_video_models_and_warns():
    warnings = []
    assert catalogue.find('vit_kinetics_none', warn=warnings.append).zoo == 'video-models'
    assert "'hvm-1'" in warnings[0] and "'video-models'" in warnings[0]
    assert catalogue.find('vit_kinetics_none', 'hvm-1', warn=warnings.append).zoo == 'hvm-1'
    assert len(warnings) == 1
    both = {n for n in PUBLISHED['hvm-1'] if n in PUBLISHED['video-models']}
    assert len(both) == 6


@pytest.mark.parametrize(
    'name, zoo, words',
    [
        ('vit_hvm2_none', None, "did you mean 'vit_hvm1_none'"),
        ('mae_hvm1_ssv2-50shot', None, "'vit_hvm1_ssv2-50shot'"),
        ('resnet50', None, 'get_available_models'),
        ('vit_say_none', 'hvm-1', "it is in 'video-models'"),
        ('vit_say_none', 'hvm1', "did you mean 'hvm-1'"),
        ('vit_h14_st.hvm9', None, "'vit_h14_st.hvm1'"),
        ('vit_h14_st.hvm1', 'video-models', "it is in 'hvm-1'"),
        ('vit_h14_st.hvm1', 'nonsense', 'no zoo'),
        ('vit_t14_st', 'hvm-1', "it is in 'shapes'"),
    ],
)
def test_a_wrong_name_gets_the_way_out(name, zoo, words):
    with pytest.raises(ValueError, match=words):
        videozoo_timm.load_model(name, zoo=zoo)


def test_configurations_hold_what_researchers_need():
    video = get_pretrained_cfg('vit_h14_st.hvm1_448_ssv2_50shot')
    assert (video.num_classes, video.mean, video.std) == (174, (0.45,) * 3, (0.225,) * 3)
    assert video.interpolation == 'bilinear'
    assert video.crop_pct == 448 / 480
    assert '2407.18067' in video.paper_ids and video.license == 'not stated by the publisher'
    image = get_pretrained_cfg('vit_h14_st.hvm1_imagenet_2pt')
    assert (image.num_classes, image.mean, image.interpolation) == (1000, (0.485, 0.456, 0.406), 'bicubic')
    assert image.label_names[0] == 'n01440764' and 'tench' in image.label_descriptions['n01440764']
    assert '2402.00300' in get_pretrained_cfg('vit_h14_st.say').paper_ids
    config = timm.data.resolve_data_config(pretrained_cfg=image.to_dict())
    assert config['input_size'] == (3, 224, 224)


def test_the_classes_of_imagenet_are_timms():
    config, info = get_pretrained_cfg('vit_h14_im.humanlike_476_0_01_3_in1k'), timm.data.ImageNetInfo('imagenet-1k')
    assert config.label_names == tuple(info.label_names())
    assert config.label_descriptions == info.label_descriptions(as_dict=True)


def test_number_of_parameters():
    for name, num_classes in (('vit_h14_st.hvm1', 0), ('vit_h14_st.hvm1_448_ssv2_50shot', 174), ('mae_h14_st.say', 0)):
        model = timm.create_model(name, device='meta', weight_init='skip')
        assert model.num_classes == num_classes
        assert sum(p.numel() for p in model.parameters()) == catalogue.find(name).num_params
    for name in ('vit_t14_st', 'mae_t14_st'):
        model = timm.create_model(name)
        assert sum(p.numel() for p in model.parameters()) == catalogue.find(name).num_params
        assert model(torch.zeros(1, 3, 16, 112, 112)) is not None


def test_the_counts_in_the_data_are_those_of_the_models():
    from count_parameters import count_parameters

    assert json.loads((catalogue.PACKAGED / 'num_params.json').read_text()) == count_parameters()


def test_the_real_hub_is_asked_without_hf_endpoint():
    code = (
        'import videozoo_timm; from timm.models import get_pretrained_cfg; from huggingface_hub import hf_hub_url;'
        'c = get_pretrained_cfg("vit_h14_st.hvm1_448"); print(hf_hub_url(c.hf_hub_id, c.hf_hub_filename))'
    )
    env = {k: v for k, v in os.environ.items() if k != 'HF_ENDPOINT'}
    done = subprocess.run([sys.executable, '-c', code], env=env, cwd=REPOSITORY, text=True, capture_output=True)
    assert done.stdout.strip() == ('https://huggingface.co/eminorhan/hvm-1/resolve/main/hvm1%40448_none.safetensors'), (
        done.stderr
    )


def test_importing_registers_and_does_nothing_else():
    code = (
        'import sys, socket; socket.socket.connect = None; import timm; before = set(sys.modules); '
        'import videozoo_timm; new = {m.split(".")[0] for m in set(sys.modules) - before}; '
        'print(new & {"av", "matplotlib", "sklearn", "transformers"} or [], timm.is_model("vit_h14_st")); '
        'print([m for m in sys.modules if m.startswith("videozoo_timm") and ("gpt" in m or "generator_f" in m)])'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=REPOSITORY, text=True, capture_output=True)
    assert done.stdout.splitlines() == ['[] True', '[]'] and not done.stderr  # no generator, which timm does not list
