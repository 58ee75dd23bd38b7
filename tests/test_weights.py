"""The store: published checkpoint -> loopback Hub -> model; conversion, refreshing, faults, attacks."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from conftest import GOLDEN, REPOSITORY, TINY_MAE, TINY_VIT, golden, published, relative_error, save_published
from forked_python import ForkedPython
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from videozoo_timm.weights import (
    Source,
    convert,
    load_inert,
    model_tensors,
    read_header,
    read_weights,
    reading,
    store,
    to_timm,
)
from videozoo_timm.weights.writing import save_tensors

REPO = 'eminorhan/hvm-1'

# A stand-in of the small architecture is published under a real name, and asked for with its sizes.
LOAD = f"""
import sys, torch, timm, videozoo_timm
from videozoo_timm.models.video_vit import default_cfgs
import dataclasses
def tiny(name='vit_h14_st.hvm1_ssv2_50shot', sizes={TINY_VIT!r}, **kwargs):
    overlay = dict(num_classes=sizes.get('num_classes', 0), input_size=(3, 56, 56))
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **dict(sizes, **kwargs)).eval()
"""
DIGEST = """
import hashlib
def digest(model):
    return hashlib.sha256(b''.join(v.contiguous().numpy().tobytes() for _, v in sorted(model.state_dict().items())))\\
        .hexdigest()
"""


@pytest.fixture
def checkpoint(tmp_path):
    return save_published(published('video_vit_tiny'), tmp_path / 'hvm1_ssv2-50shot.pth')


def converted(environment):
    return Path(environment['HF_HOME']) / 'videozoo' / 'eminorhan--hvm-1' / 'hvm1_ssv2-50shot.safetensors'


def expected_digest(tensors):
    return hashlib.sha256(b''.join(v.numpy().tobytes() for _, v in sorted(to_timm(tensors).items()))).hexdigest()


def test_published_file_is_converted_once_and_later_loads_need_no_network(hub, run, environment, checkpoint):
    hub.add(REPO, checkpoint.name, checkpoint)
    code = LOAD + DIGEST + 'print(digest(tiny()))'
    assert run(code=code).stdout.strip() == expected_digest(published('video_vit_tiny'))
    path = converted(environment)
    header = read_header(path)
    assert header['source'] == f'{REPO}/{checkpoint.name}'
    assert header['source_sha256'] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert header['name'] == 'vit_hvm1_ssv2-50shot' and header['architecture'] == 'vit_h14_st'
    assert header['mean'] == (0.45,) * 3 and header['input_size'] == (3, 224, 224)
    assert sorted(p.name for p in path.parent.iterdir() if 'partial' in p.name) == []
    before = path.stat().st_mtime_ns
    hub.clear()
    assert run(code=code).stdout.strip() == expected_digest(published('video_vit_tiny'))
    assert run(code=code, HF_HUB_OFFLINE='1').stdout.strip() == expected_digest(published('video_vit_tiny'))
    assert hub.requests == [] and path.stat().st_mtime_ns == before


def test_safetensors_on_the_hub_comes_first(hub, run, environment, checkpoint, tmp_path):
    save_file(to_timm(published('video_vit_tiny')), tmp_path / 'x.safetensors')
    hub.add(REPO, 'hvm1_ssv2-50shot.safetensors', tmp_path / 'x.safetensors')
    hub.add(REPO, checkpoint.name, checkpoint)
    code = LOAD + DIGEST + 'print(digest(tiny()))'
    assert run(code=code).stdout.strip() == expected_digest(published('video_vit_tiny'))
    assert converted(environment).is_symlink()
    assert not any('.pth' in path for _, path in hub.requests)
    # Another file of the repository is fetched at a later commit: the first one is still found, without a request.
    hub.add(REPO, 'other.txt', b'something')
    run(code=f"from huggingface_hub import hf_hub_download; hf_hub_download('{REPO}', 'other.txt')")
    hub.clear()
    assert run(code=code, HF_HUB_OFFLINE='1').stdout.strip() == expected_digest(published('video_vit_tiny'))
    assert hub.requests == []


def test_a_file_replaced_upstream_is_noticed_on_refresh(hub, run, environment, checkpoint, tmp_path):
    load = LOAD + DIGEST + 'print(digest(tiny()))\n'
    download = "from videozoo_timm.cli import main\nassert main(['download', 'vit_hvm1_ssv2-50shot']) == 0\n"
    hub.add(REPO, checkpoint.name, checkpoint)
    run(code=load)
    changed = {k: v + 1 for k, v in published('video_vit_tiny').items()}
    hub.add(REPO, checkpoint.name, save_published(changed, tmp_path / 'changed.pth'))
    before, *said, after = run(code=load + download + 'print(digest(tiny()))').stdout.split('\n')[:-1]
    assert before == expected_digest(published('video_vit_tiny')) and after == expected_digest(changed)
    assert 'replaced by its publisher' in '\n'.join(said)
    stamp = converted(environment).stat().st_mtime_ns
    assert 'replaced by' not in run(code=download).stdout
    assert converted(environment).stat().st_mtime_ns == stamp
    # By now the publisher offers safetensors.
    save_file(to_timm(published('video_vit_tiny')), tmp_path / 'x.safetensors')
    hub.add(REPO, 'hvm1_ssv2-50shot.safetensors', tmp_path / 'x.safetensors')
    assert 'is new on the Hub' in run(code=download).stdout and converted(environment).is_symlink()
    verify = "from videozoo_timm.cli import main\nassert main(['verify', 'vit_hvm1_ssv2-50shot']) == 0\n"
    digest, *said = run(code=load + verify, HF_HUB_OFFLINE='1').stdout.split('\n')
    assert digest == expected_digest(published('video_vit_tiny')) and 'verified' in '\n'.join(said)
    # Later conversions of theirs do not write through the link, and a revert is followed.
    hub.add(REPO, 'hvm1_ssv2-50shot.safetensors', b'')
    hub.remove(REPO, 'hvm1_ssv2-50shot.safetensors')
    assert 'converting' in run(code=download).stdout
    assert run(code=load, HF_HUB_OFFLINE='1').stdout.strip() == expected_digest(changed)


def test_a_revision_of_a_repository_is_kept_apart(hub, run, tmp_path):
    commits = []
    for shift in (0, 1):
        tensors = {k: v + shift for k, v in published('video_vit_tiny').items()}
        save_file(to_timm(tensors), tmp_path / f'{shift}.safetensors')
        hub.add('me/r', 'model.safetensors', tmp_path / f'{shift}.safetensors')
        commits.append(run(code="from huggingface_hub import model_info; print(model_info('me/r').sha)").stdout.strip())
    code = (
        LOAD
        + DIGEST
        + f"""
def load(repo):
    overlay = dict(hf_hub_id=repo, hf_hub_filename='model.safetensors', num_classes=7)
    return digest(timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **{TINY_VIT!r}))
print(load('me/r'), load('me/r@{commits[0]}'), load('me/r'))"""
    )
    new, old = (expected_digest({k: v + shift for k, v in published('video_vit_tiny').items()}) for shift in (1, 0))
    assert run(code=code).stdout.split() == [new, old, new]
    assert run(code=code, HF_HUB_OFFLINE='1').stdout.split() == [new, old, new]


def test_a_damaged_conversion_is_named_and_made_anew(hub, run, environment, checkpoint):
    hub.add(REPO, checkpoint.name, checkpoint)
    load = LOAD + DIGEST + 'print(digest(tiny()))'
    run(code=load)
    converted(environment).write_bytes(converted(environment).read_bytes()[:-100])
    done = run(code=load, check=False)
    assert str(converted(environment)) in done.stderr and 'download it again' in done.stderr
    assert 'is damaged, converting it again' in run('download', 'vit_hvm1_ssv2-50shot').stdout
    assert run(code=load).stdout.strip() == expected_digest(published('video_vit_tiny'))


def test_published_answers_through_the_hub(hub, run, tmp_path):
    """The small goldens through the whole path: .pth with optimizer and Namespace -> Hub -> conversion -> model."""
    vit = save_published(published('video_vit_tiny'), tmp_path / 'vit.pth')
    mae = save_published(published('video_mae_tiny'), tmp_path / 'mae.pth')
    hub.add(REPO, 'hvm1_ssv2-50shot.pth', vit)
    hub.add(REPO, 'hvm1_none.pth', mae)
    run(
        code=LOAD
        + f"""
sys.path.insert(0, {str(GOLDEN)!r})
from recipe import clip
from safetensors.torch import load_file, save_file
model, mae, answers = tiny(), tiny('mae_h14_st.hvm1', {TINY_MAE!r}), {{}}
with torch.no_grad():
    x = clip('video_vit_tiny', (2, 3, 4, 56, 56))
    answers.update(logits=model(x), last_attention=model.get_last_selfattention(x))
    for case in ('random_75', 'random_90', 'temporal_25', 'temporal_50', 'center_25', 'center_50'):
        mask_type, percent = case.split('_')
        torch.manual_seed(0)
        x = clip('video_mae_tiny', (2 if case == 'random_90' else 1, 3, 16, 56, 56))
        loss, pred, mask = mae(x, mask_ratio=int(percent) / 100, mask_type=mask_type)
        answers |= {{f'{{case}}.loss': loss.reshape(1), f'{{case}}.mask': mask,
                     f'{{case}}.pred_every_16th': pred[..., ::16].contiguous()}}
save_file(answers, 'answers.safetensors')
"""
    )
    answers = load_file(tmp_path / 'answers.safetensors')
    want = {**golden('video_mae_tiny'), **golden('video_vit_tiny')}
    assert len(answers) == 2 + 3 * 6
    for key, value in answers.items():
        assert relative_error(value, want[key]) < 1e-5, key


def test_load_model_refresh(hub, run, environment, checkpoint, tmp_path):
    hub.add(REPO, checkpoint.name, checkpoint)
    code = (
        LOAD
        + DIGEST
        + f"""
model = videozoo_timm.load_model(
    'vit_hvm1_ssv2-50shot', refresh=True, pretrained_cfg_overlay=dict(num_classes=7), **{TINY_VIT!r})
assert not model.training
print(digest(model))"""
    )
    assert run(code=code).stdout.split()[-1] == expected_digest(published('video_vit_tiny'))
    changed = {k: v * 2 for k, v in published('video_vit_tiny').items()}
    hub.add(REPO, checkpoint.name, save_published(changed, tmp_path / 'changed.pth'))
    assert run(code=code).stdout.split()[-1] == expected_digest(changed)


def test_a_connection_cut_half_way(hub, run, environment, checkpoint):
    hub.add(REPO, checkpoint.name, checkpoint)
    hub.fail(REPO, checkpoint.name, mode='cut', times=1)
    code = LOAD + DIGEST + 'print(digest(tiny()))'
    assert run(code=code).stdout.strip() == expected_digest(published('video_vit_tiny'))
    converted(environment).unlink()
    hub.add(REPO, checkpoint.name, save_published(published('video_vit_tiny'), checkpoint.with_name('again.pth')))
    hub.fail(REPO, checkpoint.name, mode='cut_always')
    done = run('download', 'vit_hvm1_ssv2-50shot', check=False)
    assert done.returncode == 2 and 'out of reach' in done.stderr and 'Traceback' not in done.stderr
    assert not converted(environment).exists()


@pytest.mark.parametrize(
    'mode, words',
    [
        ('unauthorized', 'private'),
        ('gated', 'is gated'),
        ('not_found', 'no repository'),
        ('server_error', 'hvm1_ssv2-50shot.pth of eminorhan/hvm-1 cannot be fetched, the Hub failed'),
    ],
)
def test_refusals_are_told_apart(hub, run, checkpoint, mode, words):
    hub.add(REPO, checkpoint.name, checkpoint)
    hub.fail(REPO, mode=mode)
    done = run('download', 'vit_hvm1_ssv2-50shot', check=False)
    assert done.returncode == 2 and words in done.stderr and 'Traceback' not in done.stderr


def test_not_there_offline_and_gone(hub, run, checkpoint):
    hub.add(REPO, 'something-else.pth', checkpoint)
    code = LOAD + 'tiny()'
    done = run(code=code, check=False)
    assert 'FileNotFoundError: eminorhan/hvm-1 has no file hvm1_ssv2-50shot.safetensors or' in done.stderr
    hub.clear()
    done = run(code=code, check=False, HF_HUB_OFFLINE='1')
    assert 'ConnectionError' in done.stderr and 'HF_HUB_OFFLINE is set' in done.stderr
    assert 'videozoo download vit_hvm1_ssv2-50shot' in done.stderr and hub.requests == []
    hub.stop()
    timed = 'import time\nstart = time.monotonic()\ntry:\n    tiny()\nfinally:\n    print(time.monotonic() - start)'
    done = run(code=LOAD + timed, check=False)
    assert 'ConnectionError' in done.stderr and 'out of reach' in done.stderr
    assert float(done.stdout) < 20  # and not after the client's 23 s of retries


def test_equal_files_have_equal_bytes(tmp_path):
    """safetensors writes the metadata in another order in each process, and each time."""
    header = {f'{key}é"': [key, '\n\t\x7f/\\'] for key in 'abcdefgh'}
    for name in ('one', 'other'):
        save_tensors(dict(x=torch.ones(3), y=torch.zeros(2, dtype=torch.int8)), tmp_path / name, header)
    assert (tmp_path / 'one').read_bytes() == (tmp_path / 'other').read_bytes()
    with safe_open(tmp_path / 'one', 'pt') as file:
        assert {key: json.loads(value) for key, value in file.metadata().items()} == header
        assert torch.equal(file.get_tensor('x'), torch.ones(3))


@pytest.mark.slow
def test_eight_processes_convert_once(hub, environment, checkpoint, tmp_path):
    hub.add(REPO, checkpoint.name, checkpoint)
    code = (
        LOAD
        + DIGEST
        + """
import logging; logging.basicConfig(level=logging.INFO)
print(digest(tiny()))"""
    )
    processes = [ForkedPython([], code, environment, tmp_path) for _ in range(8)]
    results = [p.communicate(timeout=300) for p in processes]
    assert {out.strip() for out, _ in results} == {expected_digest(published('video_vit_tiny'))}
    assert sum(err.count('converting ') for _, err in results) == 1


@pytest.mark.parametrize('moment', ['during', 'before the rename'])
def test_a_killed_conversion_leaves_nothing_and_the_next_one_succeeds(hub, run, environment, checkpoint, moment):
    hub.add(REPO, checkpoint.name, checkpoint)
    target = {'during': 'videozoo_timm.weights.writing.save_file', 'before the rename': 'os.replace'}[moment]
    stop = f"""
import os, signal, videozoo_timm.weights.store, videozoo_timm.weights.writing
def die(tensors, path, *args, **kwargs):
    if 'partial' in str(tensors) or 'partial' in str(path):
        open(f'{{path if "partial" in str(path) else tensors}}.tmp', 'ab').write(b'half')  # as safetensors does
        os.kill(os.getpid(), signal.SIGKILL)
{target} = die
"""
    assert run(code=LOAD + stop + 'tiny()', check=False).returncode == -signal.SIGKILL
    path = converted(environment)
    assert not path.exists() and [p for p in path.parent.iterdir() if 'partial' in p.name]
    done = run(code=LOAD + DIGEST + 'print(digest(tiny()))')
    assert done.stdout.strip() == expected_digest(published('video_vit_tiny')), done.stderr
    assert not [p for p in path.parent.iterdir() if 'partial' in p.name]


def test_a_full_disk_is_named_and_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    target = tmp_path / 'out.safetensors'
    monkeypatch.setattr(store.shutil, 'disk_usage', lambda path: type('usage', (), {'free': 1000}))
    with pytest.raises(OSError, match='GB are free.*VIDEOZOO_CACHE'):
        convert(checkpoint, target)
    assert not target.exists()


def test_videozoo_cache_and_cache_dir(hub, run, environment, checkpoint, tmp_path):
    hub.add(REPO, checkpoint.name, checkpoint)
    run(code=LOAD + 'tiny()', VIDEOZOO_CACHE=str(tmp_path / 'mine'))
    assert (tmp_path / 'mine' / 'eminorhan--hvm-1' / 'hvm1_ssv2-50shot.safetensors').is_file()
    run(code=LOAD + f'tiny(cache_dir={str(tmp_path / "other")!r})')
    assert (tmp_path / 'other' / 'videozoo' / 'eminorhan--hvm-1' / 'hvm1_ssv2-50shot.safetensors').is_file()
    assert not converted(environment).exists()


def test_the_mae_and_its_vit_share_a_file(hub, run, environment, tmp_path):
    path = save_published(published('video_mae_tiny'), tmp_path / 'hvm1_none.pth')
    hub.add(REPO, path.name, path)
    vit = {k: v for k, v in TINY_MAE.items() if not k.startswith('decoder_')}
    run(code=LOAD + f"tiny('vit_h14_st.hvm1', {vit!r}); tiny('mae_h14_st.hvm1', {TINY_MAE!r})")
    assert [path for _, path in hub.requests].count(f'/{REPO}/resolve/main/hvm1_none.pth') == 1
    header = read_header(Path(environment['HF_HOME']) / 'videozoo' / 'eminorhan--hvm-1' / 'hvm1_none.safetensors')
    assert (header['name'], header['architecture']) == ('mae_hvm1_none', 'mae_h14_st')


def test_timm_s_own_names_of_saved_models(hub, run, tmp_path):
    code = (
        LOAD
        + """
from pathlib import Path
torch.manual_seed(0)
model = timm.create_model('vit_t14_st', num_classes=3, img_size=56, num_frames=4).eval()
timm.models.save_for_hf(model, 'saved', safe_serialization=True)
x = torch.randn(1, 3, 4, 56, 56)
assert torch.equal(timm.create_model('local-dir:saved', pretrained=True).eval()(x), model(x))
new_head = timm.create_model('local-dir:saved', pretrained=True, num_classes=5)
assert new_head(x).shape == (1, 5) and torch.equal(new_head.norm.weight, model.norm.weight)
torch.save((x, model(x)), 'answer.pt')
"""
    )
    run(code=code)
    for name in ('config.json', 'model.safetensors'):
        hub.add('someone/mine', name, tmp_path / 'saved' / name)
    run(
        code=LOAD
        + """
x, answer = torch.load('answer.pt')
assert torch.equal(timm.create_model('hf-hub:someone/mine', pretrained=True).eval()(x), answer)
"""
    )


@pytest.mark.parametrize('suffix, old_format', [('.pth', False), ('.pth', True), ('.safetensors', False)])
@pytest.mark.parametrize('layout', ['published', 'converted'])
def test_local_files_in_every_format(tmp_path, suffix, old_format, layout):
    tensors = published('video_vit_tiny')
    tensors = tensors if layout == 'published' else to_timm(tensors)
    path = tmp_path / f'local{suffix}'
    if suffix == '.safetensors':
        save_file(tensors, path)
    else:
        save_published(tensors, path, _use_new_zipfile_serialization=not old_format)
        assert zipfile.is_zipfile(path) != old_format
    overlay = dict(file=str(path), num_classes=7)
    model = timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **TINY_VIT)
    assert all(torch.equal(v, to_timm(tensors)[k]) for k, v in model.state_dict().items())
    assert model.pretrained_cfg['file'] == str(path)


def test_only_the_models_tensors_are_read(tmp_path):
    """An optimizer's state three times the model's size costs neither reading nor memory."""
    big = {'model': published('video_mae_tiny'), 'optimizer': {'state': {0: {'exp_avg': torch.zeros(60_000_000)}}}}
    torch.save(big, tmp_path / 'big.pth')
    code = f"""
from pathlib import Path
from videozoo_timm.weights import convert
def peak():
    return int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])
before = peak()
convert(Path({str(tmp_path / 'big.pth')!r}), Path({str(tmp_path / 'out.safetensors')!r}), dict(source_sha256='0' * 64))
print(peak() - before)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=REPOSITORY, text=True, capture_output=True)
    assert int(done.stdout) < 60_000, done.stderr  # KiB; the optimizer's state alone is 240 MB


def test_training_never_writes_to_the_file(tmp_path, checkpoint):
    path = convert(checkpoint, tmp_path / 'x.safetensors')
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    overlay = dict(file=str(path), num_classes=7)
    model = timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **TINY_VIT)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.randn(1, 3, 4, 56, 56)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model.pos_embed_spatial.zero_()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    again = timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **TINY_VIT)
    assert not torch.equal(again.head.weight, model.head.weight)


@pytest.mark.parametrize('choice', ['0', '1'])
def test_reading_and_mapping_give_the_same(tmp_path, checkpoint, monkeypatch, choice):
    path = convert(checkpoint, tmp_path / 'x.safetensors')
    monkeypatch.setenv('VIDEOZOO_MMAP', choice)
    tensors = read_weights(path).tensors
    mapped = str(path) in Path('/proc/self/maps').read_text() if sys.platform == 'linux' else choice == '1'
    assert mapped == (choice == '1')
    assert all(torch.equal(v, tensors[k]) for k, v in to_timm(published('video_vit_tiny')).items())
    monkeypatch.setenv('VIDEOZOO_MMAP', 'no')
    with pytest.raises(ValueError, match="VIDEOZOO_MMAP='no'"):
        read_weights(path)


def test_network_file_systems_are_read_sequentially(tmp_path, monkeypatch):
    mounts = tmp_path / 'mounts'
    mounts.write_text(
        f'/dev/a / ext4 rw 0 0\nserver:/x {tmp_path.parent} nfs4 rw 0 0\n/dev/b {tmp_path}/in ext4 rw 0 0\n'
    )
    assert reading.file_system_of(tmp_path / 'a', str(mounts)) == 'nfs4'
    assert reading.file_system_of(tmp_path / 'in' / 'a', str(mounts)) == 'ext4'
    for kind, mapped in (('nfs4', False), ('lustre', False), ('fuse.sshfs', False), ('ext4', True), ('', True)):
        monkeypatch.setattr(reading, 'file_system_of', lambda path, kind=kind: kind)
        assert reading.should_map(tmp_path) is mapped


# Attacks: pickles that would write a file, in every place where a checkpoint holds a pickle.


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def evil_checkpoints(folder, marker):
    tensors = published('video_vit_tiny')
    evil = Evil(marker)
    places = {
        'whole': evil,
        'model': {'model': evil},
        'beside the model': {'model': tensors, 'args': evil},
        'a tensor': {'model': {**tensors, 'norm.bias': evil}},
        'a key': {'model': tensors, 'optimizer': {'state': [evil]}},
    }
    for old_format in (False, True):
        for place, content in places.items():
            path = folder / f'{place}-{old_format}.pth'
            torch.save(content, path, _use_new_zipfile_serialization=not old_format)
            yield place, path
    # The old format is several pickles in a row; each of them can be an attack.
    good = folder / 'good.pth'
    torch.save({'model': tensors}, good, _use_new_zipfile_serialization=False)
    with open(good, 'rb') as file:
        starts = [0]
        for _ in range(4):
            pickle._Unpickler(file).load() if len(starts) < 4 else None
            starts.append(file.tell())
    data = good.read_bytes()
    for i in range(4):
        path = folder / f'old-{i}.pth'
        path.write_bytes(data[: starts[i]] + pickle.dumps(evil, protocol=2) + data[starts[i + 1] :])
        yield f'pickle {i} of the old format', path
    path = folder / 'plain-pickle.pth'
    path.write_bytes(pickle.dumps(evil))
    yield 'a plain pickle', path


def test_no_pickle_is_executed(tmp_path):
    marker = tmp_path / 'executed'
    folder = tmp_path / 'evil'
    folder.mkdir()
    count = 0
    harmless = ('beside the model', 'a key', 'pickle 2 of the old format')  # the last one tells of the system's sizes
    for place, path in evil_checkpoints(folder, marker):
        count += 1
        try:
            tensors = read_weights(path).tensors
            assert place in harmless, place
            assert torch.equal(tensors['norm.bias'], published('video_vit_tiny')['norm.bias'])
        except ValueError as error:
            assert str(path) in str(error), place
            assert place not in harmless, place
        assert not marker.exists(), place
    assert count == 15
    torch.load(folder / 'model-False.pth', weights_only=False)
    assert marker.exists()  # the attack itself works


def test_deeper_attacks(tmp_path):
    marker = tmp_path / 'executed'
    nested = pickle.dumps(Evil(marker))

    class LoadFromBytes:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (nested,)

    for i, evil in enumerate((LoadFromBytes(), [os.mkdir, (str(marker),)])):
        path = tmp_path / f'{i}.pth'
        torch.save({'model': {**published('video_vit_tiny'), 'x': torch.zeros(1)}, 'args': evil}, path)
        read_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize('disguise', ['none', 'zeros behind it', 'another table of contents'])
def test_torchscript_programs_are_not_run(tmp_path, disguise):
    """Python's zip reader and PyTorch's can disagree on what a file is; PyTorch's is the one that would run it."""
    program = tmp_path / 'program.pth'
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), program)
    data = program.read_bytes()
    if disguise == 'zeros behind it':
        program.write_bytes(data + bytes(69_000))
    elif disguise == 'another table of contents':
        end = data.rindex(b'PK\x05\x06')
        size, start = (int.from_bytes(data[end + i : end + i + 4], 'little') for i in (12, 16))
        table = data[start : start + size]
        program.write_bytes(data[:end] + table.replace(b'constants.pkl', b'constants.pk_') + data[end:])
    with pytest.raises(ValueError, match='no readable PyTorch checkpoint'):
        load_inert(program)


def test_compressed_records_are_read_right(tmp_path, checkpoint):
    squeezed = tmp_path / 'squeezed.pth'
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(squeezed, 'w', zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    tensors = read_weights(squeezed).tensors
    assert all(torch.equal(v, tensors[k]) for k, v in published('video_vit_tiny').items())


def test_a_tensor_larger_than_what_is_stored_is_refused(tmp_path):
    path = tmp_path / 'huge.pth'
    torch.save({'model': {'a': torch.zeros(1).expand(10**12)}}, path)
    with pytest.raises(ValueError, match="'a'.*larger than what is stored"):
        read_weights(path)


def test_torch_s_forcing_variable_is_no_obstacle(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    assert read_weights(checkpoint).tensors and os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'


def test_a_disk_that_fills_up_while_writing(tmp_path, checkpoint):
    code = f"""
import resource, signal
from pathlib import Path
from videozoo_timm.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
raise SystemExit(main(['convert', {str(checkpoint)!r}, 'out.safetensors']))
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
    )
    assert done.returncode == 2 and 'out.safetensors could not be written' in done.stderr
    assert not [p.name for p in tmp_path.iterdir() if 'out' in p.name]


@pytest.mark.parametrize(
    'content, words',
    [
        ({'epoch': 3, 'args': None}, 'holds no model: its keys are .*epoch'),
        ([1, 2], 'holds a list'),
        ({'model': {'a': torch.zeros(1), 'b': 'text'}}, "'b' in its model is no tensor but str"),
        ({'model': {}}, 'holds no model'),
    ],
)
def test_files_without_a_model_are_refused_by_name(tmp_path, content, words):
    path = tmp_path / 'file.pth'
    torch.save(content, path)
    with pytest.raises(ValueError, match=words) as error:
        read_weights(path)
    assert str(path) in str(error.value)


def test_damaged_files_are_refused_by_name(tmp_path, checkpoint):
    data = checkpoint.read_bytes()
    for name, content in (('short.pth', data[:5000]), ('empty.pth', b''), ('text.pth', b'hello' * 100)):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_weights(path)
    converted = convert(checkpoint, tmp_path / 'x.safetensors')
    cut = tmp_path / 'cut.safetensors'
    cut.write_bytes(converted.read_bytes()[:-100])
    with pytest.raises(ValueError, match='cut.safetensors'):
        read_weights(cut)
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        read_weights(tmp_path / 'nowhere.pth')


def test_verify_compares_every_tensor_and_the_digests(tmp_path, checkpoint):
    path = convert(checkpoint, tmp_path / 'x.safetensors')
    source = Source(file=checkpoint)
    assert f'{len(to_timm(published("video_vit_tiny")))} tensors equal' in store.verify(source, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match='differs'):
        store.verify(source, path)
    convert(checkpoint, path)
    save_published({k: v + 0 for k, v in published('video_vit_tiny').items()}, checkpoint)
    with open(checkpoint, 'ab') as file:
        file.write(b' ')
    with pytest.raises(ValueError, match='sha256'):
        store.verify(source, path)
    with pytest.raises(ValueError, match='name a source'):
        store.verify(None)


def test_layouts(tmp_path):
    tensors = model_tensors({'state_dict': {f'module.{k}': v for k, v in published('video_vit_tiny').items()}}, 'x')
    ours = to_timm(tensors)
    qkv = torch.cat([published('video_vit_tiny')[f'blocks.1.attn.{part}.weight'] for part in 'qkv'])
    assert torch.equal(ours['blocks.1.attn.qkv.weight'], qkv)
    assert not any('.attn.q.' in k or '.attn.k.' in k or '.attn.v.' in k for k in ours)
    assert all(torch.equal(v, to_timm(ours)[k]) for k, v in ours.items())
