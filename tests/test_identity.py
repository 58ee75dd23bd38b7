"""What a name or a file is: one answer, asked once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from conftest import published, save_published
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.cli import main
from videozoo_timm.contents import Contents
from videozoo_timm.factory import load_file
from videozoo_timm.identity import resolve, source_of

VIT, MAE = (
    Path(videozoo_timm.__file__).parent / 'data' / f'{name}.safetensors'
    for name in ('vit_shapes_motion', 'mae_shapes_none')
)


@pytest.fixture
def reads(monkeypatch):
    """How often tensors and headers of files were read."""
    from videozoo_timm.weights import reading

    counts = dict.fromkeys(('load_file', 'parse_header', 'load_inert'), 0)

    def counted(name):
        function = getattr(reading, name)

        def count(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return count

    for name in counts:
        monkeypatch.setattr(reading, name, counted(name))
    return counts


@pytest.fixture
def resized(tmp_path):
    """A file of another size, number of frames and classes; its header tells but the architecture."""
    model = timm.create_model('vit_t14_st', img_size=56, num_frames=8, num_classes=3)
    save_file(model.state_dict(), tmp_path / 'resized.safetensors', dict(architecture='vit_t14_st', mean='[0.1]'))
    return tmp_path / 'resized.safetensors'


def test_every_published_name_is_what_timm_registers():
    for record in catalogue.CHECKPOINTS:
        for name in (record.name, record.timm_name):
            resolved, cfg = resolve(name, zoo=record.zoo), get_pretrained_cfg(record.timm_name)
            assert (resolved.timm_name, resolved.name, resolved.zoo) == (record.timm_name, record.name, record.zoo)
            assert resolved.sources() == [source_of(cfg.to_dict())]
            assert resolved.preprocessing.items() <= resolved.pretrained_cfg.items() <= cfg.to_dict().items()
            assert resolved.takes_images == (resolved.num_frames is None) and not resolved.is_generator
    for architecture in catalogue.ALL_ARCHITECTURES:
        resolved, cfg = resolve(architecture), get_pretrained_cfg(architecture)
        assert resolved.timm_name == architecture and resolved.record is None
        assert resolved.pretrained_cfg.items() <= cfg.to_dict().items()  # that of timm's own default
        assert resolved.published is None or resolved.published.tag == cfg.tag
    for record in catalogue.GENERATORS:
        resolved = resolve(record.name)
        assert resolved.is_generator and [s.about['architecture'] for s in resolved.sources()] == ['gpt', 'vqgan']


def test_a_name_in_two_zoos_is_warned_of_once(caplog):
    assert resolve('vit_kinetics_none').zoo == 'video-models' and len(caplog.records) == 1
    assert resolve('vit_kinetics_none', zoo='hvm-1').timm_name == 'vit_h14_st.kinetics_hvm1'
    assert resolve('dino_imagenet_100_vitb14').name == 'dino_imagenet100_vitb14'  # as it was first spelled
    assert len(caplog.records) == 1


def test_names_need_no_torch_and_open_no_file():
    code = """import sys
from videozoo_timm.identity import resolve
for name in ('vit_hvm1_none', 'vit_t16_im', 'say_gimel'):
    resolved = resolve(name, 'nowhere.pth')
    assert resolved.takes_images == (name == 'vit_t16_im') and resolved.preprocessing['mean']
print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={'VIDEOZOO_NO_MODELS': '1'},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.stdout == '[]\n', done.stderr


def test_a_file_is_read_once(reads, tmp_path, capsys):
    load_file(VIT)
    assert reads == dict(load_file=1, parse_header=1, load_inert=0)
    timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=dict(file=str(VIT)))
    assert reads == dict(load_file=2, parse_header=2, load_inert=0)
    assert main(['info', str(VIT)]) == 0
    assert reads == dict(load_file=3, parse_header=3, load_inert=0)
    for number, (command, out) in enumerate(
        ((['embed', 'drawn:1@1', '--img-size', '56'], 'x.npz'), (['attend', 'drawn:1@1'], 'attention')), 4
    ):
        assert main([*command, '--weights', str(VIT), '--num-workers', '0', '--out', str(tmp_path / out)]) == 0
        assert reads == dict(load_file=number, parse_header=number, load_inert=0), command
    small = save_published(published('video_vit_tiny'), tmp_path / 'small.pth')
    with pytest.raises(ValueError, match='does not fit'):
        load_file(small, 'vit_t14_st')
    assert reads == dict(load_file=5, parse_header=5, load_inert=1)


def test_tensors_are_handed_over_and_what_is_known_stays(reads):
    contents = Contents(MAE)
    assert contents.take()['cls_token'].shape == (1, 1, 128)
    assert contents.recognized == 'mae_t14_st' and contents.input_size == (3, 112, 112) and contents.num_frames == 16
    assert contents.record and contents.record.name == 'mae_shapes_none' and 'weights' not in vars(contents)
    assert reads == dict(load_file=1, parse_header=1, load_inert=0)


def test_a_file_tells_what_the_caller_does_not(resized):
    resolved = resolve(file=resized)
    assert (resolved.timm_name, resolved.num_frames, resolved.record) == ('vit_t14_st', 8, None)
    told = dict(num_classes=3, input_size=(3, 56, 56), mean=(0.1,))
    assert told.items() <= resolved.pretrained_cfg.items()
    model = load_file(resized)
    assert model(torch.zeros(1, 3, 8, 56, 56)).shape == (1, 3) and model.pretrained_cfg['mean'] == (0.1,)
    model = load_file(resized, num_classes=5, num_frames=4, pretrained_cfg_overlay=dict(mean=(0.2,)))
    assert model(torch.zeros(1, 3, 4, 56, 56)).shape == (1, 5) and model.pretrained_cfg['mean'] == (0.2,)


def test_an_mae_file_is_its_encoder_too():
    resolve('vit_t14_st', MAE).check()
    assert resolve(file=MAE).is_mae and load_file(MAE, 'vit_t14_st').num_classes == 0
    with pytest.raises(ValueError, match='architecture vit_t14_st, the model is mae_t14_st'):
        resolve('mae_shapes_none', VIT).check()


def test_a_file_that_says_nothing_is_recognized_but_not_loaded(tmp_path, capsys):
    path = tmp_path / 'silent.safetensors'
    save_file(Contents(VIT).take(), path)
    resolved = resolve(file=path)
    assert resolved.is_guess and resolved.architecture == 'vit_t14_st'
    with pytest.raises(ValueError, match=r'silent\.safetensors does not say which model it is'):
        load_file(path)
    assert main(['embed', 'drawn:1@1', '--weights', str(path)]) == 2 and '--model NAME' in capsys.readouterr().err
    save_file({'x': torch.zeros(1)}, path)
    assert resolve(file=path).architecture == ''


def test_what_contradicts_itself_is_refused(tmp_path):
    save_file(Contents(VIT).take(), tmp_path / 'x.safetensors', dict(name='vit_kinetics_none', zoo='hvm-1'))
    for call, words in (
        (lambda: resolve(), 'name a model .* or a file'),
        (lambda: resolve('vit_shapes_none'), "did you mean .*'vit_shapes_motion'"),
        (lambda: resolve(file=tmp_path / 'x.safetensors', zoo='video-models'), "of the zoo 'hvm-1', not of"),
        (lambda: resolve('vit_shapes_motion', tmp_path / 'x.safetensors').check(), 'name vit_kinetics_none of'),
        (lambda: load_file(VIT, 'say_gimel'), 'is an image generator, which has two files'),
        (lambda: resolve('vit_hvm1_none').parts(), 'is no image generator'),
        (lambda: resolve('vit_t16_im').sources(), 'no weights are published'),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    assert main(['publish', 'say_gimel', '--to', 'me/x', '--dry-run']) == 2


@pytest.mark.parametrize('refresh', [True, False])
def test_refresh_reaches_the_store(monkeypatch, refresh):
    asked = []

    def locate(source, refresh=False):
        asked.append((source.filename, refresh))
        raise ConnectionError('no route')

    monkeypatch.setattr('videozoo_timm.models.building.locate', locate)
    for name in ('vit_hvm1_none', 'say_gimel'):
        with pytest.raises(ConnectionError):
            videozoo_timm.load_model(name, refresh=refresh)
    assert asked == [('hvm1_none.safetensors', refresh), ('gpt_pretrained_models/say_gimel.safetensors', refresh)]


def test_an_mae_file_is_finetuned_as_its_encoder(reads, tmp_path, monkeypatch):
    for kind in ('a', 'b'):
        (tmp_path / 'videos' / kind).mkdir(parents=True)
        (tmp_path / 'videos' / kind / 'x.mp4').touch()  # nothing is read here
    monkeypatch.setattr(
        'videozoo_timm.training.finetune.finetune',
        lambda accelerator, model, *args, **options: Path(
            json.dumps(dict(architecture=model.pretrained_cfg['architecture'], name=options['about']['model']))
        ),
    )
    told = []
    monkeypatch.setattr('videozoo_timm.cli.finetune.training_done', lambda _, path, skipped: told.append(path))
    main(
        [
            'finetune',
            '--train',
            str(tmp_path / 'videos'),
            '--weights',
            str(MAE),
            '--steps',
            '1',
            '--out',
            str(tmp_path / 'out'),
        ]
    )
    assert json.loads(str(told[0])) == dict(architecture='vit_t14_st', name='mae_shapes_none')
    assert reads['load_file'] == 1


def test_a_model_keeps_nothing_of_the_file(tmp_path):
    model = load_file(MAE, img_size=112)
    assert getattr(model, '_model_args', {'img_size': 112}).keys() <= {'img_size', 'num_classes', 'num_frames'}
    assert 'contents' not in model.pretrained_cfg and json.dumps(model.pretrained_cfg)
