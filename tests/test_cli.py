"""The videozoo command, as a user types it."""

import json
import os
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from conftest import CLIPS, REPOSITORY, published, save_published
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import videozoo_timm
from videozoo_timm.catalogue import PACKAGED, find
from videozoo_timm.cli import options, output
from videozoo_timm.inference import pipeline
from videozoo_timm.inference.reporting import Pace
from videozoo_timm.video import RECOGNITION, Job, View, prepare_clip, read_clip

DECODABLE = [
    'bit_rot.mkv',
    'five_frames.mp4',
    'one_frame.mp4',
    'portrait.mp4',
    'sixty_fps.mp4',
    'ten_bit.mp4',
    'tiny_34x18.mp4',
    'variable_rate.mkv',
]
NOT_DECODABLE = ['audio_only.mp4', 'empty.mp4', 'not_a_video.mp4', 'truncated.mp4']


@pytest.fixture(scope='session')
def small(tmp_path_factory):
    """A checkpoint of vit_t14_st, in the published layout, as a stand-in for a trained one."""
    torch.manual_seed(0)
    model = timm.create_model('vit_t14_st', num_classes=0)
    tensors = {}
    for key, value in model.state_dict().items():
        if '.qkv.' in key:
            for part, piece in zip('qkv', value.chunk(3), strict=True):
                tensors[key.replace('qkv', part)] = piece.clone()
        else:
            tensors[key] = value
    return save_published(tensors, tmp_path_factory.mktemp('small') / 'small.pth')


@pytest.fixture
def here(monkeypatch, tmp_path, capsys):
    """A command that needs no Hub, in this process, which is sooner."""
    from videozoo_timm.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*args, check=True):
        args = [str(arg) for arg in args]
        code = main([*args, '--num-workers', '0'] if args[0] == 'embed' else args)
        said = capsys.readouterr()
        assert code == 0 or not check, said.err
        return subprocess.CompletedProcess(args, code, said.out, said.err)

    return run


def test_list(run):
    rows = json.loads(run('list', '--json').stdout)
    assert len(rows) == 254 + 27 and len({row['timm_name'] for row in rows}) == 254 + 1  # generators have none
    assert rows[0]['name'] == 'mae_hvm1_none' and rows[0]['bytes'] == 4 * 645534104 and rows[0]['on_disk'] is None
    table = run('list', '--zoo', 'hvm-1').stdout.splitlines()
    assert len(table) == 22 and '1000 ImageNet-1k' in table[7] and '448' in table[8]


def test_info_and_on_disk(hub, run, tmp_path):
    path = save_published(published('video_vit_tiny'), tmp_path / 'hvm1_ssv2-50shot.pth')
    hub.add('eminorhan/hvm-1', path.name, path)
    assert 'videozoo download vit_hvm1_ssv2-50shot' in run('info', 'vit_hvm1_ssv2-50shot').stdout
    run('download', 'vit_hvm1_ssv2-50shot')
    text = run('info', 'vit_h14_st.hvm1_ssv2_50shot').stdout
    for words in ('174 SSV2', '2407.18067', 'not stated by the publisher', 'source_sha256', 'short side to 256'):
        assert words in text
    rows = json.loads(run('list', '--json').stdout)
    assert [row['name'] for row in rows if row['on_disk']] == [
        'vit_hvm1_ssv2-50shot',
        'mae_shapes_none',
        'vit_shapes_motion',
        'gen_shapes_64',
    ]
    assert 'verified' in run('verify', 'vit_hvm1_ssv2-50shot').stdout


def test_what_is_known_of_the_shipped_models(here):
    text = here('info', 'vit_shapes_motion').stdout
    assert '8 motions' in text and 'mit' in text and 'make_shapes' in text
    assert 'comes with this package' in here('verify', 'mae_shapes_none').stdout
    assert 'verified' in here('verify', find('vit_shapes_motion').packaged).stdout
    text = here('info', 'gen_shapes_64').stdout
    assert 'MIT' in text and 'make_gen_shapes' in text and '8 x 8 x 8 of 512' in text
    for name in ('gen_shapes_64', PACKAGED / 'gen_shapes_64.safetensors'):
        assert 'comes with this package' in here('verify', name).stdout
    assert 'mae_shapes_none.safetensors' in here('download', 'mae_shapes_none').stdout


def test_download_goes_on_after_a_failure(hub, run, tmp_path):
    path = save_published(published('video_vit_tiny'), tmp_path / 'x.pth')
    hub.add('eminorhan/hvm-1', 'hvm1_ssv2-50shot.pth', path)
    done = run('download', 'vit_hvm1_ssv2-10shot', 'vit_hvm1_ssv2-50shot', check=False)
    assert done.returncode == 1 and 'vit_hvm1_ssv2-10shot' in done.stderr and 'vit_hvm1_ssv2-50shot: ' in done.stdout
    hub.clear()
    done = run('download', 'vit_hvm1_ssv2-50shot', 'vit_hvm1_ssv2-5shot', check=False)
    assert done.returncode == 2 and 'did you mean' in done.stderr and hub.requests == []


def test_a_zoo_stands_for_all_its_models(monkeypatch, capsys):
    from videozoo_timm import catalogue, weights
    from videozoo_timm.cli import main

    asked = []
    monkeypatch.setattr(weights, 'locate', lambda source, **options: asked.append(source) or 'here')
    for words in (['hvm-1'], ['all', '--zoo', 'hvm-1']):
        asked.clear()
        assert main(['download', *words, 'mae_hvm1_none']) == 0
        assert capsys.readouterr().out.splitlines()[0] == f'{words[0]}: 21 models, at most 45.71 GB'
        # The ViT and the MAE that were not finetuned share their file.
        assert len(asked) == 18 == len({source.filename for source in asked})
        assert {source.repo for source in asked} == {'eminorhan/hvm-1'}
    asked.clear()
    assert main(['download', 'all']) == 0
    records = [*catalogue.CHECKPOINTS, *catalogue.GENERATORS, *catalogue.video_generators()]
    assert capsys.readouterr().out.startswith(f'all: {len(records)} models, at most ')
    assert {source.repo for source in asked if source.repo} == {record.repo for record in records if record.repo}
    names = [(source.repo, source.file or source.filename) for source in asked]
    assert len(set(names)) == len(names)
    asked.clear()
    assert main(['download', 'vitb14_0.01_*', 'say_*']) == 0  # patterns
    assert capsys.readouterr().out.splitlines()[0] == 'vitb14_0.01_*: 3 models, at most 1.34 GB'
    assert [source.filename for source in asked[:3]] == [f'vitb14/vitb14_0.01_{k}.safetensors' for k in (1, 2, 3)]
    assert {source.repo for source in asked[3:]} == {'eminorhan/gpt_saycam'}
    assert main(['download', 'vitq14_*']) == 2 and "no model matches 'vitq14_*'" in capsys.readouterr().err


def test_convert_and_verify(here, small, tmp_path):
    out = tmp_path / 'small.safetensors'
    assert 'vit_t14_st' in here('convert', small, out, '--model', 'vit_t14_st').stdout
    with safe_open(out, 'pt') as file:
        header = file.metadata()
    assert header['architecture'] == 'vit_t14_st' and json.loads(header['input_size']) == [3, 112, 112]
    assert len(header['source_sha256']) == 64 and json.loads(header['std']) == [0.225] * 3
    assert 'verified' in here('verify', out).stdout
    again = here('convert', small, out, check=False)
    assert again.returncode == 2 and '--force' in again.stderr
    itself = here('convert', out, out, '--force', check=False)
    assert itself.returncode == 2 and 'onto itself' in itself.stderr
    wrong = here('convert', small, tmp_path / 'other.safetensors', '--model', 'vit_hvm1_none', check=False)
    assert wrong.returncode == 2 and not (tmp_path / 'other.safetensors').exists()
    assert 'recognized as' in here('info', '--weights', small).stdout


def test_embed_gives_one_row_a_video(here, small, tmp_path):
    done = here('embed', CLIPS / 'pans', '--model', 'vit_t14_st', '--weights', small, '--out', 'features.npz')
    assert '4 rows of 128 features' in done.stdout
    result = np.load(tmp_path / 'features.npz')
    assert result['features'].shape == (4, 128) and result['video_index'].tolist() == [0, 1, 2, 3]
    names = [os.path.basename(p) for p in result['paths']]
    assert names == ['astronaut.mp4', 'cat.mp4', 'coffee.webm', 'motorcycle.mkv']
    assert np.allclose(result['end'] - result['start'], 128 / 30)
    model = timm.create_model('vit_t14_st', num_classes=0, checkpoint_path=str(small)).eval()
    clip = read_clip(CLIPS / 'pans' / 'things' / 'cat.mp4', sampling=RECOGNITION)
    x = prepare_clip(clip.frames, 112, mean=0.45, std=0.225)
    with torch.no_grad():
        want = model(x.unsqueeze(0))[0]
    assert np.allclose(result['features'][1], want, atol=1e-4)
    assert result['start'][1] == clip.start
    again = ['embed', CLIPS / 'pans', '--model', 'vit_t14_st', '--weights', small, '--out', 'features.safetensors']
    here(*again)
    here(*again)  # its own result
    fewer = ['embed', CLIPS / 'pans' / 'people', *again[2:]]
    assert 'results of another run (paths: 4, 1 of them' in here(*fewer, check=False).stderr
    assert len(load_file(tmp_path / 'features.safetensors')['features']) == 4
    here(*fewer, '--force')
    here(*again, '--force')
    tensors = load_file(tmp_path / 'features.safetensors')
    assert np.allclose(tensors['features'], result['features'], atol=1e-5)
    with safe_open(tmp_path / 'features.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['paths']) == result['paths'].tolist()


def test_embed_passes_over_what_cannot_be_read(here, small, tmp_path):
    done = here('embed', CLIPS / 'odd', '--model', 'vit_t14_st', '--weights', small, check=False)
    assert done.returncode == 1
    assert all(name in done.stderr for name in NOT_DECODABLE) and '4 of 12 files' in done.stderr
    result = np.load(tmp_path / 'features.npz')
    assert sorted(os.path.basename(p) for p in result['paths']) == DECODABLE
    assert np.isfinite(result['features']).all()
    (tmp_path / 'features.npz').unlink()
    done = here('embed', CLIPS / 'odd' / 'empty.mp4', '--model', 'vit_t14_st', '--weights', small, check=False)
    assert done.returncode == 2 and not (tmp_path / 'features.npz').exists()
    done = here('embed', CLIPS / 'pans', 'nowhere.mp4', '--model', 'vit_t14_st', '--weights', small, check=False)
    assert done.returncode == 1 and 'nowhere.mp4' in done.stderr and '4 rows' in done.stdout


def test_embed_follows_the_models_size_and_leaves_its_mode(small):
    from videozoo_timm.analysis.embedding import embed

    model = timm.create_model(
        'vit_t14_st', num_classes=0, checkpoint_path=str(small), drop_path_rate=0.5, drop_rate=0.5
    )
    paths = [CLIPS / 'pans' / 'things' / 'cat.mp4']
    first, second = embed(model, paths).features, embed(model, paths).features
    assert torch.equal(first, second) and model.training
    model.set_input_size(img_size=84, num_frames=8)
    assert embed(model, paths).features.shape == (1, 128)


def test_weights_that_contradict_the_model_are_refused(here, small, tmp_path):
    save_file(published('video_vit_tiny'), tmp_path / 'no-header.safetensors')
    done = here('embed', CLIPS / 'pans', '--model', 'vit_t14_st', '--weights', 'no-header.safetensors', check=False)
    assert done.returncode == 2 and 'cls_token is [1, 1, 48], the model has [1, 1, 128]' in done.stderr
    here('convert', small, 'small.safetensors', '--model', 'vit_t14_st')
    done = here('embed', CLIPS / 'pans', '--model', 'vit_hvm1_none', '--weights', 'small.safetensors', check=False)
    assert done.returncode == 2 and 'architecture vit_t14_st, the model is vit_h14_st' in done.stderr
    tensors = load_file(tmp_path / 'small.safetensors')
    shipped = load_file(find('mae_shapes_none').packaged)
    for model, state, header, words in (
        ('mae_shapes_none', shipped, dict(architecture='mae_t14_st', mean='[0.5, 0.5, 0.5]'), 'mean'),
        ('mae_shapes_none', shipped, dict(architecture='mae_t14_st', input_size='[3, 56, 56]'), 'input size'),
        ('vit_t14_st', tensors, dict(architecture='vit_t14_st', input_size='[3, 224, 224]'), 'input size'),
    ):
        save_file(state, tmp_path / 'changed.safetensors', metadata=header)
        done = here('embed', CLIPS / 'pans', '--model', model, '--weights', 'changed.safetensors', check=False)
        assert done.returncode == 2 and words in done.stderr
    headed = {**tensors, 'head.weight': torch.zeros(3, 128), 'head.bias': torch.zeros(3)}
    save_file(headed, tmp_path / 'headed.safetensors')
    here('embed', CLIPS / 'pans', '--model', 'vit_t14_st', '--weights', 'headed.safetensors')  # of a bare architecture
    from videozoo_timm.identity import resolve

    with pytest.raises(ValueError, match='3 classes, the model has 0'):
        resolve('vit_h14_st.hvm1', tmp_path / 'headed.safetensors').check()
    here('embed', CLIPS / 'pans', '--weights', 'small.safetensors', '--out', 'x.npz')  # its header says which model
    done = here('embed', CLIPS / 'pans', '--weights', small, check=False)
    assert done.returncode == 2 and '--model' in done.stderr


@pytest.mark.parametrize(
    'args, words',
    [
        (['embed', str(CLIPS / 'pans'), '--model', 'vit_hvm2_none'], "did you mean 'vit_hvm1_none'"),
        (['embed', 'nowhere', '--model', 'vit_t14_st'], 'nowhere: no such file or folder'),
        (['embed', str(CLIPS), '--model', 'vit_t14_st', '--out', 'x.h5'], '.csv or .parquet, or be a folder'),
        (['embed', str(CLIPS), '--model', 'vit_t14_st', '--out', 'no/folder/x.npz'], 'no folder'),
        (['embed', str(CLIPS), '--model', 'vit_t14_st', '--device', 'gpu'], '--device gpu'),
        (['embed', str(CLIPS), '--model', 'vit_t14_st', '--weights', 'nowhere.pth'], 'nowhere.pth: no such file'),
        (['info'], 'name a model'),
        (['info', 'vit_hvm1_non'], "'vit_hvm1_none'"),
        (['info', 'VIT_HVM1_NONE'], "'vit_hvm1_none'"),
        (['verify', 'nowhere.safetensors'], 'nowhere.safetensors: no such file'),
        (['embed', str(CLIPS), '--model', 'vit_hvm1_none', '--weights', str(CLIPS)], 'is a folder'),
        (['embed', str(CLIPS), '--model', 'vit_hvm1_none', '--weights', str(CLIPS / 'odd' / 'empty.mp4')], 'is empty'),
        (
            ['embed', str(CLIPS), '--model', 'vit_hvm1_none', '--weights', str(CLIPS / 'odd' / 'portrait.mp4')],
            'portrait.mp4 is no readable PyTorch checkpoint',
        ),
        (['verify', 'vit_hvm1_none'], 'not on this machine'),
    ],
)
def test_mistakes_get_a_sentence_and_exit_code_2(monkeypatch, tmp_path, capsys, args, words):
    from videozoo_timm.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith('videozoo: ') and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'number, code, word', [(signal.SIGINT, 130, 'interrupted'), (signal.SIGTERM, 143, 'terminated')]
)
def test_ctrl_c_and_batch_systems_leave_nothing_half_written(environment, small, tmp_path, number, code, word):
    command = [sys.executable, '-m', 'videozoo_timm', 'embed', CLIPS, '--model', 'vit_t14_st', '--weights', small]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, text=True, stderr=subprocess.PIPE)
    for line in process.stderr:  # the first file that cannot be read has been reported: the run is under way
        if 'odd' in line:
            break
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(timeout=300) == code and word in rest and 'Traceback' not in rest
    # Nothing half-written, and what was done is kept for the next run of the same command.
    assert [p.name for p in tmp_path.iterdir() if 'features' in p.name] == ['.features.npz.unfinished']


def test_a_closed_pipe_is_no_error(environment, tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-m', 'videozoo_timm', 'list'],
        env=environment,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert 'Traceback' not in process.stderr.read()
    process.wait(timeout=300)


def test_ctrl_c_while_pytorch_is_imported(environment, tmp_path):
    code = """
import sys
class Finder:
    def find_spec(self, name, *args):
        if name == 'torch':
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
sys.argv = ['/bin/videozoo', 'embed', 'nowhere']
from videozoo_timm.__main__ import main
sys.exit(main())"""
    done = subprocess.run([sys.executable, '-c', code], env=environment, cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 130 and done.stderr == 'videozoo: interrupted\n'


@pytest.mark.parametrize(
    'words, told',
    [
        (
            'complete drawn:1 --mask-tipe=center',
            'no option --mask-tipe; did you mean --mask-type? See videozoo complete ',
        ),
        ('--speed', 'no option --speed; see videozoo --help'),
        ('emebd drawn:1', 'no command emebd; did you mean embed? See videozoo --help'),
        ('embedd drawn:1', 'no command embedd; did you mean embed? See videozoo --help'),
        ('download hvm1', "no model 'hvm1'; did you mean 'mae_hvm1_none' or 'vit_hvm1_none' or"),
        ('embed drawn:1 --model hvm1', "no model 'hvm1'; did you mean 'mae_hvm1_none' or 'vit_hvm1_none' or"),
        ('info hvm-1', "no model 'hvm-1', which is a zoo; get_available_models('hvm-1') lists its models"),
        (
            'download all --zoo hvm1',
            '--zoo: hvm1: must be one of hvm-1, video-models, silicon-menagerie, humanlike-vits, ',
        ),
        ('download hvm-1 --zoo shapes', 'hvm-1 has no models of the zoo shapes'),
        ('embed drawn:1 --tokens clas', '--tokens: clas: must be one of class, mean, all; did you mean class? See'),
        (
            'list --zoo hvm1',
            '--zoo: hvm1: must be one of hvm-1, video-models, silicon-menagerie, humanlike-vits, shapes; did you mean '
            'hvm-1?',
        ),
        ('list hvm-1', 'got unexpected extra argument (hvm-1); see videozoo list --help'),
        ('download humanlike-vits2', "no model 'humanlike-vits2'; did you mean 'humanlike-vits'?"),
        ('evaluate drawn:8 --seed 3', "--seed 3 is that of '--views random': views 1x1 are not random"),
        ('', 'missing command; see videozoo --help'),
        ('download', 'NAME is required; see videozoo download --help'),
        ('finetune', '--train is required; see videozoo finetune --help'),
        (
            'pretrain drawn:8 --steps 0',
            '--steps: 0: must be a whole number of at least 1; see videozoo pretrain --help',
        ),
        ('complete drawn:1 --num-vids all', '--num-vids: all: must be a whole number of at least 1; see'),
        ('finetune --train drawn:8 --smoothing 1', '--smoothing: 1: must be a number of at least 0 and below 1; see'),
        ('finetune --train drawn:8 --lr nan', '--lr: nan: must be a number of at least 0; see'),
        ('embed drawn:1 --blocks 1,b', "--blocks: '1,b' is not a list of whole numbers with commas between them; see"),
        (
            'embed drawn:1 --num_clips 3 --stride 2',
            '--num-clips and --stride exclude each other: give one of them; see',
        ),
        ('embed drawn:1 --model --out x.npz', '--model needs a value, but the option --out follows it; see'),
        ('embed drawn:1 --model', "option '--model' requires an argument; see videozoo embed --help"),
        ('finetune --train drawn:8 --betas 0.9', "option '--betas' requires 2 arguments; see"),
    ],
)
def test_a_mistyped_command_gets_one_line(monkeypatch, tmp_path, capsys, words, told):
    from videozoo_timm.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f'videozoo: {told}') and said.err.count('\n') == 1 and not said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'words, told',
    [
        ('embed drawn:1 --offset 1', '--offset 1.0: must be 0 or more seconds, and is of a time course'),
        ('embed drawn:1 --blocks 99,0', '--blocks 99,0: the model has blocks 0 to 4'),
        ('attend drawn:1 --block 99', '--block 99: the model has 5 blocks'),
        ('embed drawn:1 --frames backwards', '--frames backwards: must be shuffled'),
    ],
)
def test_errors_of_the_library_name_the_option(monkeypatch, tmp_path, capsys, words, told):
    from videozoo_timm.cli import main

    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), '--model', 'vit_shapes_motion', '--num-workers', '0']) == 2
    assert f'videozoo: {told}' in capsys.readouterr().err


def test_files_stand_before_and_behind_options(here, tmp_path):
    first, second = CLIPS / 'pans' / 'things' / 'cat.mp4', 'drawn:1'
    for paths in ([first, '--num-workers', '0', second], ['--num-workers', '0', second, '--seed', '0', first]):
        assert 'attention: 2 pictures' in here('attend', *paths).stdout
    assert len(list((tmp_path / 'attention').glob('*.jpg'))) == 2
    done = here('attend', first, '--seed', '0', '--', '-b.mp4', '--a.mp4', check=False)  # as dashes do elsewhere
    assert done.returncode == 1 and '--a.mp4: no such file' in done.stderr and '-b.mp4: no such file' in done.stderr


def test_version(run):
    assert videozoo_timm.__version__ in run('--version').stdout


# A light start

HEAVY = {'torch', 'timm', 'numpy', 'PIL', 'av', 'torchvision', 'matplotlib'}


@pytest.mark.parametrize(
    'words, told',
    [
        ('--version', videozoo_timm.__version__),
        ('--help', 'Look inside:'),
        ('embed --help', '--time-limit SECONDS'),
        ('pretrain --help', '--mask-type TYPE...'),
        ('list', 'vit_hvm1@448_none'),
        ('info vit_hvm1_none', '631,527,680'),
        ('info vit_shapes_motion', 'header: label_names'),
        ('complete drawn:1 --mask-tipe center', 'did you mean --mask-type?'),
        ('embed drawn:1 --batch-size many', '--batch-size: many: must be'),
        ('COMPLETE info vit_hvm1@4', 'plain,vit_hvm1@448_none'),
        ('COMPLETE embed --model vit_h14_st.say', 'plain,vit_h14_st.say_ssv2_50shot'),
        ('COMPLETE list --zoo v', 'plain,video-models'),
        ('COMPLETE embed --weights x', 'file,x'),
        ('COMPLETE att', 'plain,attend'),
    ],
)
def test_what_runs_no_model_imports_no_framework(environment, tmp_path, words, told):
    words = words.split()
    if words[0] == 'COMPLETE':
        words[0] = 'videozoo'
        environment |= dict(
            _VIDEOZOO_COMPLETE='bash_complete', COMP_WORDS=' '.join(words), COMP_CWORD=str(len(words) - 1)
        )
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', '-m', 'videozoo_timm', *words],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert told in done.stdout + done.stderr
    imported = {line.split('|')[-1].strip().split('.')[0] for line in done.stderr.splitlines() if '|' in line}
    assert 'click' in imported and not imported & HEAVY


def test_the_shell_turns_completion_on(environment, tmp_path):
    for shell, word in (('bash', 'complete -o nosort'), ('zsh', '#compdef videozoo'), ('fish', 'complete --no-files')):
        done = subprocess.run(
            [sys.executable, '-m', 'videozoo_timm'],
            env=environment | dict(_VIDEOZOO_COMPLETE=f'{shell}_source'),
            cwd=tmp_path,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0 and word in done.stdout and '_VIDEOZOO_COMPLETE' in done.stdout
        assert ('${COMP_WORDBREAKS//@/}' in done.stdout) == (shell == 'bash')  # or names would end at their @


def test_without_click_it_says_what_to_install(environment, tmp_path):
    code = (
        "import sys; sys.modules['click'] = None; sys.argv = ['videozoo']\n"
        'from videozoo_timm.__main__ import main\nsys.exit(main())'
    )
    done = subprocess.run([sys.executable, '-c', code], env=environment, cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 2 and done.stderr == (
        "videozoo: the command line needs click: pip install 'videozoo-timm[video]'\n"
    )


def test_a_broken_library_is_one_line(environment, tmp_path):
    (tmp_path / 'click').mkdir()
    (tmp_path / 'click' / '__init__.py').write_text('raise AttributeError("of another\\nversion")')
    for flags in ([], ['--debug']):
        done = subprocess.run(
            [sys.executable, '-m', 'videozoo_timm', *flags, 'list'],
            cwd=REPOSITORY,
            text=True,
            capture_output=True,
            env=environment | dict(PYTHONPATH=str(tmp_path)),
        )
        assert done.returncode == 2 and done.stderr.startswith('Traceback' if flags else 'videozoo: AttributeError')
        assert done.stderr.endswith('videozoo: AttributeError: of another version (--debug shows the traceback)\n')


def test_what_a_file_on_disk_says_is_checked(tmp_path, monkeypatch, capsys):
    from videozoo_timm import identity
    from videozoo_timm.cli import main

    path = tmp_path / 'model.safetensors'
    monkeypatch.setattr(identity, 'in_cache', lambda repo, filename: path)
    for header, told in (
        ({'name': 'x\x1b[2J'}, 'x\\x1b[2J'),
        ({'mean': 'null'}, 'mean is null'),
        ({'mean': 3}, 'mean is 3'),
        ([], 'no readable safetensors file'),
        (None, 'no readable safetensors file'),
    ):
        text = json.dumps({'__metadata__': header}).encode()
        path.write_bytes(len(text).to_bytes(8, 'little') + text)
        main(['info', 'vit_hvm1_none'])
        said = capsys.readouterr()
        assert told in said.out + said.err and '\x1b' not in said.out + said.err, header
    path.write_bytes(b'')
    assert main(['info', 'vit_hvm1_none']) == 2 and 'no readable' in capsys.readouterr().err


def test_defaults_are_those_of_the_library():
    from videozoo_timm import synthetic
    from videozoo_timm.cli import draw, embed, generate, options, training
    from videozoo_timm.models import SamplingConfig
    from videozoo_timm.models.video_generator import PUBLISHED_VIDEO
    from videozoo_timm.video import ALIGNMENTS, COMPLETION, transforms

    assert (options.RECOGNITION_SPAN, options.COMPLETION_SPAN) == (RECOGNITION.span, COMPLETION.span)
    assert embed.ALIGNMENTS == tuple(ALIGNMENTS) and draw.SIZE == synthetic.SIZE
    assert training.RAND_AUGMENT == transforms.RAND_AUGMENT
    given = parsed('generate')
    for is_video, config in ((False, SamplingConfig()), (True, PUBLISHED_VIDEO)):
        top_k, top_p = generate.PUBLISHED[is_video]
        assert dict(given, top_k=top_k, top_p=top_p).items() >= vars(config).items()
    assert (given['top_k'], given['top_p']) == (None, None)


# The words of a command


def parsed(*words):
    """What a command is given for these words."""
    from videozoo_timm.cli import commands

    return (
        commands.commands[words[0]]
        .make_context(words[0], list(words[1:]), parent=commands.make_context('videozoo', list(words)))
        .params
    )


def test_words_are_understood_as_people_type_them():
    for words in (['--blocks', '-1,-2'], ['--blocks=-1,-2'], ['a.mp4', '--blocks', '-1,-2']):
        assert parsed('embed', *words)['blocks'] == (-1, -2)
    assert parsed('embed', '--blocks', '-1')['blocks'] == (-1,) and parsed('attend', '--block', '-2')['block'] == -2
    given = parsed('complete', 'a.mp4', '--mask_type', 'center', 'b.mp4', '--mask_ratio=0.5', '--', '-c.mp4')
    assert given['paths'] == ('a.mp4', 'b.mp4', '-c.mp4')
    assert (given['mask_type'], given['mask_ratio']) == ('center', 0.5)
    several = parsed(
        'pretrain', 'a.mp4', '--mask_type', 'random', 'center', '--mask-ratio', '0.9', '0.5', '--seed', '-3'
    )
    assert (several['mask_type'], several['mask_ratio']) == (('random', 'center'), (0.9, 0.5))
    assert (several['paths'], several['seed'], several['betas']) == (('a.mp4',), -3, (0.9, 0.95))
    assert parsed('probe', '--train', 'a', '--probes=linear', 'attentive', '--val', 'b')['probes'] == (
        'linear',
        'attentive',
    )
    assert parsed('draw', '--out', 'x', '--motion', 'left', '--motion', 'up', '-n', '3')['motion'] == ('left', 'up')
    assert parsed('evaluate', '--val_dir', 'x', '--out_dir', 'y')['folders'] == ('x',)


def test_every_help_has_sections_words_and_examples_that_are_understood(capsys):
    import click

    from videozoo_timm.cli import commands, main

    for name, command in commands.commands.items():
        assert main([name, '-h']) == 0
        text = capsys.readouterr().out
        assert 'Options:' in text and 'Examples:' in text
        for param in command.params:
            if getattr(param, 'hidden', False):  # --debug, which the help of `videozoo` has
                continue
            assert param.help and param.help.endswith('.'), (name, param.name)
            assert not isinstance(param, click.Option) or param.opts[0] in text
        for example in command.examples:
            words = shlex.split(example)
            words = words[words.index('videozoo' if 'videozoo' in words else 'videozoo_timm') + 1 :]
            parsed(*words)


def test_a_script_gets_its_words_signals_and_errors(run, tmp_path):
    (tmp_path / 'script.py').write_text(
        "import signal, sys, timm\nassert timm.is_model('vit_t14_st')\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\nprint(sys.argv)\nraise ValueError('its own')\n"
    )
    words = ['script.py', '--flag_a', '-h', '--', '--version', '-x']
    for before in ([], ['--']):
        done = run('run', *before, *words, check=False)
        assert done.stdout == f'{words}\n' and done.stderr.endswith('ValueError: its own\n')
    done = run('run', '--flag', 'script.py', check=False)
    assert done.returncode == 2 and 'no option --flag' in done.stderr
    done = run('run', 'nowhere.py', check=False)
    assert done.returncode == 2 and done.stderr == 'videozoo: no script nowhere.py\n'


def test_names_that_differ_by_a_colon_alone_get_pictures_of_their_own(tmp_path):
    from videozoo_timm.cli.inputs import unique_stems

    stems = unique_stems([str(tmp_path / name) for name in ('ab.mp4', 'a:b.mp4', 'c.mp4')])
    assert len(set(stems)) == 3


@pytest.mark.parametrize(
    'waiting, num_workers, told',
    [
        (2.0, 1, '10 clips or images per second; 10% of the time waiting for files'),
        (18.0, 1, '90% of the time waiting for files; more --num-workers would help'),
        (18.0, 8, '90% of the time waiting for files; all cores are decoding'),
    ],
)
def test_a_long_run_tells_what_it_waited_for(waiting, num_workers, told, capsys, monkeypatch):
    monkeypatch.setattr(output, 'usable_cores', lambda: 8)
    output.tell_pace(Pace(200, 20.0, waiting, num_workers))
    assert capsys.readouterr().err.endswith(f'{told}\n')
    output.tell_pace(Pace(200, 2.0, waiting, num_workers))  # too short to say anything
    output.tell_pace(Pace(0, 20.0, waiting, num_workers))
    assert capsys.readouterr().err == ''


WORKERS = options.default_workers  # the tests' commands have others


def test_as_many_decoders_as_cores_that_have_memory_and_as_processes_leave(monkeypatch):
    pages = {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': 2**24}
    monkeypatch.setattr(options, 'usable_cores', lambda: 8)
    monkeypatch.setattr(os, 'sysconf', pages.get, raising=False)
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    assert WORKERS() == 8
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '3')
    assert WORKERS() == 2
    pages['SC_PHYS_PAGES'] = 2**19  # 2 GB
    assert WORKERS() == 1


def test_the_pace_tells_waiting_from_computing(monkeypatch):
    clock = iter([0.0, 10.0, 13.0, 20.0, 20.5, 30.0, 30.0, 31.0])  # start, three views, the end of the run
    monkeypatch.setattr(pipeline, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    view = View(torch.zeros(1), 0.0, 0.0, 0.0, 0.0, 1)
    watch = pipeline._Stopwatch()
    assert len(list(watch.waits_for(iter([(Job(0, 'a'), view), (Job(0, 'a'), None)])))) == 2
    assert watch.pace(3) == Pace(1, 31.0, 3.5, 3)
