"""A Hub that is not to be trusted, damaged caches, known digests, patience: on the loopback Hub, in this process."""

import gzip
import hashlib
import itertools
import json
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.cli import main
from videozoo_timm.factory import load_file as load_model_file
from videozoo_timm.publishing import export
from videozoo_timm.weights import Source, client, convert, locate, read_header, verify

REPO, FILE = 'me/r', 'model.safetensors'
COMMIT = 'a' * 40


@pytest.fixture
def hub(hub, tmp_path, monkeypatch):
    """The loopback Hub, for the client of this process, with caches of their own."""
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('VIDEOZOO_CACHE', str(tmp_path / 'videozoo'))
    for name, value in dict(
        HF_HUB_OFFLINE=False,
        HF_HUB_DISABLE_XET=True,
        ENDPOINT=hub.url,
        HF_HUB_CACHE=str(tmp_path / 'cache'),
        HUGGINGFACE_CO_URL_TEMPLATE=hub.url + '/{repo_id}/resolve/{revision}/{filename}',
    ).items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)  # the client's waits
    huggingface_hub.close_session()
    yield hub
    huggingface_hub.close_session()


@pytest.fixture(scope='session')
def tensors():
    return load_file(catalogue.find('vit_shapes_motion').packaged)


@pytest.fixture
def data(hub, tmp_path):
    """A safetensors file that is on the Hub, and known to differ when one bit does."""
    save_file({'a': torch.arange(3000.0)}, tmp_path / 'data')
    hub.add(REPO, FILE, (tmp_path / 'data').read_bytes())
    return (tmp_path / 'data').read_bytes()


def outside(tmp_path):
    """What lies in the test's folder, but for caches."""
    return {p for p in tmp_path.rglob('*') if p.relative_to(tmp_path).parts[0] not in ('cache', 'videozoo', '.locks')}


def damage(path):
    path, data = path.resolve(), bytearray(path.read_bytes())
    data[-50] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(data)


# What a Hub says.


@pytest.mark.parametrize(
    'header, value',
    [
        ('X-Repo-Commit', '{tmp}/victim'),
        ('X-Repo-Commit', '../../../victim'),
        ('X-Repo-Commit', 'main'),
        ('X-Repo-Commit', COMMIT + '/..'),
        ('X-Repo-Commit', COMMIT.upper()),
        ('X-Linked-Etag', '"{tmp}/victim"'),
        ('X-Linked-Etag', '"../victim"'),
        ('X-Linked-Etag', '"a..b"'),
        ('X-Linked-Etag', '".hidden"'),
        ('X-Linked-Etag', r'"..\victim"'),
        ('X-Linked-Etag', '"' + 'a' * 300 + '"'),
        ('X-Linked-Etag', '""W/'),
        ('X-Xet-Hash', '{tmp}/victim'),
        ('Location', 'file://{tmp}/victim'),
        ('X-Linked-Size', '-1'),
        ('X-Linked-Size', '9' * 30),
    ],
)
def test_what_a_hub_says_becomes_no_path(hub, data, tmp_path, header, value):
    (tmp_path / 'victim').write_text('mine')
    before = outside(tmp_path)
    hub.lies = {header: value.format(tmp=tmp_path)}
    for load in (
        lambda: locate(Source(repo=REPO, filename=FILE)),
        lambda: timm.create_model(f'hf-hub:{REPO}', pretrained=True),
    ):  # its config.json is fetched by timm
        with pytest.raises(client.HubError, match=f'127.0.0.1 answers {header.replace("X-Linked-Etag", "ETag")}: '):
            load()
    assert (tmp_path / 'victim').read_text() == 'mine' and outside(tmp_path) == before
    assert not [p for p in (tmp_path / 'cache').rglob('*') if p.is_file()]


def test_an_etag_without_a_digest_and_a_weak_one_are_what_they_were(hub, data):
    hub.lies = {'X-Linked-Etag': None, 'ETag': 'W/"5f3c-1a2b"'}
    assert locate(Source(repo=REPO, filename=FILE)).read_bytes() == data


def test_the_etag_of_a_page_that_says_no_is_no_name_of_a_file(hub, data):
    hub.add(REPO, 'model.pth', data)
    hub.remove(REPO, FILE)
    hub.lies_of_missing = {'ETag': 'W/"f-mY2V/xuxB7K"'}
    locate(Source(repo=REPO, filename=FILE))


@pytest.mark.parametrize('address', ['https://cdn.example/x', '/other/place'])
def test_an_etag_of_a_redirect_is_no_path_either(address):
    headers = {'Location': address, 'ETag': '"/home/me/.bashrc"'}
    client._check_headers(headers, 'hub', success=False)
    assert 'ETag' not in headers
    with pytest.raises(client.HubError, match='ETag'):
        client._check_headers({'Location': address, 'X-Linked-ETag': '"/home/me/.bashrc"'}, 'hub', success=False)


def test_other_users_of_the_client_see_no_difference(hub, data, tmp_path):
    locate(Source(repo=REPO, filename=FILE))
    hub.lies = {'X-Repo-Commit': 'main'}
    url = huggingface_hub.hf_hub_url(REPO, FILE)
    assert huggingface_hub.get_hf_file_metadata(url).commit_hash == 'main'
    huggingface_hub.close_session()  # a client that is made anew is checked as well
    with client.guarded(), pytest.raises(client.HubError):
        huggingface_hub.close_session()
        huggingface_hub.get_hf_file_metadata(url)


def test_more_bytes_than_announced_are_not_taken(hub, data, tmp_path):
    hub.fail(REPO, FILE, mode='endless')
    with pytest.raises(client.HubError, match=f'more than the {len(data)} bytes'):
        locate(Source(repo=REPO, filename=FILE))
    assert not [p for p in (tmp_path / 'cache').rglob('*incomplete*')]


@pytest.mark.parametrize('size', [5, 10**9])
def test_another_size_than_announced_is_refused(hub, data, tmp_path, size):
    hub.lies = {'X-Linked-Size': size}
    with pytest.raises(client.HubError, match='announced'):
        locate(Source(repo=REPO, filename=FILE))
    assert not list((tmp_path / 'cache').rglob('blobs/*'))


def test_a_file_that_unpacks_to_more_is_refused(hub, tmp_path):
    hub.add(REPO, FILE, gzip.compress(bytes(10**7)))
    hub.lies = {'Content-Encoding': 'gzip'}
    with pytest.raises(client.HubError, match='sends more than'):
        locate(Source(repo=REPO, filename=FILE))


# What a repository's configuration names.


@pytest.fixture
def model_on_the_hub(hub, tmp_path):
    folder = export(videozoo_timm.load_model('vit_shapes_motion'), tmp_path / 'e', name='vit_shapes_motion')
    config = json.loads((folder / 'config.json').read_text())

    def publish(**entries):
        config['pretrained_cfg'] |= entries
        hub.add('evil/m', 'config.json', json.dumps(config).encode())
        hub.add('evil/m', FILE, folder / FILE)
        return folder

    return publish


@pytest.mark.parametrize('name', ['file', 'url', 'state_dict', 'hf_hub_filename'])
def test_a_repository_names_no_weights_but_its_own(model_on_the_hub, tensors, tmp_path, caplog, name):
    private = tmp_path / 'private.safetensors'
    save_file({k: v * 0 + 7 for k, v in tensors.items()}, private)
    model_on_the_hub(
        **{
            name: {
                'file': str(private),
                'url': private.as_uri(),
                'state_dict': {'a': [7.0]},
                'hf_hub_filename': f'../../../../{private.name}',
            }[name]
        }
    )
    model = timm.create_model('hf-hub:evil/m', pretrained=True)
    assert all(torch.equal(v, tensors[k].float()) for k, v in model.state_dict().items())
    assert f'evil/m on the Hub names {name}=' in caplog.text
    assert not model.pretrained_cfg.get(name)


def test_one_s_own_files_are_as_free_as_they_were(model_on_the_hub, tensors, tmp_path, caplog):
    folder = model_on_the_hub()
    save_file({k: v * 0 + 7 for k, v in tensors.items()}, tmp_path / 'mine.safetensors')
    mine = timm.create_model(
        'hf-hub:evil/m', pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / 'mine.safetensors'))
    )
    assert all((v == 7).all() for v in mine.state_dict().values())
    timm.create_model(f'local-dir:{folder}', pretrained=True)
    assert 'refused' not in caplog.text


@pytest.mark.parametrize(
    'repo, filename',
    [
        ('evil/m', '../me--trusted/model.safetensors'),
        ('evil/m', '/etc/passwd'),
        ('evil/m', 'a//b.safetensors'),
        ('evil/m', r'..\me--trusted\x.safetensors'),
        ('evil/m', 'C:x.safetensors'),
        ('evil/m', 'a/../../x.safetensors'),
        ('../m', FILE),
        ('/m', FILE),
        ('evil/..', FILE),
        ('evil/m@../x', FILE),
        ('evil/m\n', FILE),
        ('evil/m', 'a\x1b[2J.safetensors'),
        ('evil/m', 'a\u202eb'),
        ('evil/m', 5),
        ('a--b/c~', FILE),
    ],
)
def test_names_that_are_paths_are_no_source(repo, filename):
    with pytest.raises(ValueError, match='must be the plain name'):
        Source(repo=repo, filename=filename)


def test_no_two_repositories_share_a_place_in_the_cache(tmp_path):
    repos = ['a--b/c', 'a/b--c', 'a--b--c', 'a-/b', 'a/-b', 'a/b@c/d', 'a/b@c--d', 'a/b', 'a--b', 'a/b@c']
    places = [Source(repo=repo, filename=FILE, cache_dir=tmp_path).converted for repo in repos]
    assert len(set(places)) == len(repos)
    # as version 0.1.0 has them
    assert Source(repo='eminorhan/hvm-1', filename=FILE, cache_dir=tmp_path).converted == (
        tmp_path / 'videozoo' / 'eminorhan--hvm-1' / FILE
    )


# Damage.


@pytest.mark.parametrize('published', [FILE, 'model.pth'])
@pytest.mark.parametrize('what', ['converted', 'download'])
def test_what_verify_calls_damaged_is_fetched_anew(hub, tmp_path, tensors, published, what):
    if published == FILE:
        save_file(tensors, tmp_path / 'file')
    else:
        torch.save({'model': tensors}, tmp_path / 'file')
    hub.add(REPO, published, tmp_path / 'file')
    source, told = Source(repo=REPO, filename=FILE), []
    locate(source)
    blob = next((tmp_path / 'cache').rglob('blobs/*'))
    damage(source.converted if what == 'converted' else blob)
    with pytest.raises(ValueError, match=r'videozoo download'):
        verify(source)
    hub.clear()
    assert locate(source) == source.converted and not hub.requests  # warm: neither hashed nor asked
    locate(source, refresh=True, say=told.append)
    assert any('damaged' in line for line in told), told
    verify(source)
    assert all(torch.equal(v, tensors[k]) for k, v in load_file(source.converted).items())
    told.clear()
    locate(source, refresh=True, say=told.append)
    assert not any('damaged' in line or 'converting' in line for line in told), told


def test_a_warm_load_hashes_nothing(hub, data, monkeypatch):
    source = Source(repo=REPO, filename=FILE)
    locate(source)
    monkeypatch.setattr(hashlib, 'sha256', None)
    assert locate(source).read_bytes() == data


def test_conversions_of_version_0_1_0_load_and_are_mended(hub, tmp_path, tensors):
    torch.save({'model': tensors}, tmp_path / 'file')
    hub.add(REPO, 'model.pth', tmp_path / 'file')
    source, told = Source(repo=REPO, filename=FILE), []
    locate(source)
    with safe_open(source.converted, 'pt') as file:
        old = {k: v for k, v in file.metadata().items() if k != 'content_sha256'}
    save_file(load_file(source.converted), source.converted, metadata=old)
    verify(source)
    locate(source, refresh=True, say=told.append)
    assert not any('converting' in line for line in told)
    damage(source.converted)
    locate(source, refresh=True, say=told.append)
    assert any('damaged' in line for line in told)


def test_a_damaged_header_is_seen(tmp_path, tensors):
    torch.save({'model': tensors}, tmp_path / 'x.pth')
    path = convert(tmp_path / 'x.pth', tmp_path / 'x.safetensors', dict(name='mae'), sealed=True)
    assert verify(None, path)
    path.write_bytes(path.read_bytes().replace(b'"name":"mae"', b'"name":"mad"'))
    with pytest.raises(ValueError, match='damaged'):
        verify(None, path)


# Known digests.


@pytest.mark.parametrize('known, told', [('0' * 64, 'true'), ('0' * 64, None), ('0' * 64, '0' * 64)])
def test_a_file_of_another_digest_than_is_known_is_refused_and_leaves_nothing(hub, data, tmp_path, known, told):
    hub.lies = {} if told == 'true' else {'X-Linked-Etag': told, 'ETag': f'"{told or "abc"}"'}
    source = Source(repo=REPO, filename=FILE, digests={FILE: known})
    with pytest.raises(ValueError, match=f'{hashlib.sha256(data).hexdigest()}, this package knows {known}'):
        locate(source)
    assert not [p for p in (tmp_path / 'cache').rglob('*') if p.name == FILE or p.parent.name == 'blobs']
    assert not source.converted.exists()
    if told == 'true':  # gigabytes are not fetched for that
        assert [method for method, path in hub.requests if path.endswith(FILE)] == ['HEAD']
    hub.lies = {}
    assert locate(Source(repo=REPO, filename=FILE, digests={FILE: hashlib.sha256(data).hexdigest()}))


def test_a_file_that_is_not_what_the_hub_announced_is_refused(hub, data, tmp_path):
    hub.add(REPO, FILE, data, sha256='f' * 64)
    with pytest.raises(ValueError, match='the Hub announced f{64}'):
        locate(Source(repo=REPO, filename=FILE))
    assert not list((tmp_path / 'cache').rglob('blobs/*'))


def test_pin_notes_digests_that_downloads_are_compared_with(hub, tmp_path, tensors, monkeypatch, capsys):
    monkeypatch.setattr(catalogue.digests, '_DIGESTS', tmp_path / 'digests.json')
    (tmp_path / 'digests.json').write_text('{}')
    catalogue.digests._pinned.cache_clear()
    name, repo, filename = 'dino_say_vitb14', 'eminorhan/dino_say_vitb14', 'dino_say_vitb14.pth'
    torch.save({'model': tensors}, tmp_path / 'file')
    hub.add(repo, filename, tmp_path / 'file')
    digest = hashlib.sha256((tmp_path / 'file').read_bytes()).hexdigest()
    try:
        assert main(['pin', name, 'mae_say_vits16']) == 1  # the second one is not on this Hub
        out, err = capsys.readouterr()
        assert f'{digest}  {repo}/{filename}' in out and 'mae_say_vits16' in err
        assert catalogue.digests_of(repo) == {filename: digest}
        assert main(['download', name]) == 0
        torch.save({'model': {k: v + 1 for k, v in tensors.items()}}, tmp_path / 'file')
        hub.add(repo, filename, tmp_path / 'file')
        assert main(['download', name]) == 2
        assert f'this package knows {digest}' in capsys.readouterr().err
        assert main(['pin', name]) == 2 and '--force' in capsys.readouterr().err
        assert main(['pin', name, '--force']) == 0 and main(['download', name]) == 0
        hub.add(repo, 'config.json', b'{}')
        assert catalogue.digests_of(f'{repo}@other') == {}
    finally:
        catalogue.digests._pinned.cache_clear()


# Patience.


def test_a_wait_that_is_too_long_is_told_and_not_waited_for(hub, data, monkeypatch):
    hub.fail(REPO, FILE, mode='busy', delay=3600)
    with pytest.raises(client.HubError, match=r'asked again in 3600 s.*given up after 60 s.*VIDEOZOO_PATIENCE'):
        locate(Source(repo=REPO, filename=FILE))
    hub.heal()

    def busy_then_there(message):  # the state is asked for first; the file itself is refused then
        told.append(message)
        if 'GB' in message:
            hub.fail(REPO, FILE, mode='busy', delay=7, times=2)

    told = []
    hub.add(REPO, FILE, data)
    with pytest.raises(client.HubError, match='7 s.*given up after 5 s'):
        locate(Source(repo=REPO, filename=FILE), say=busy_then_there, patience=5)
    hub.heal()
    monkeypatch.setenv('VIDEOZOO_PATIENCE', '10')
    locate(Source(repo=REPO, filename=FILE), say=busy_then_there)
    assert any('asked again in 7 s' in line for line in told)


def test_a_sender_that_dribbles_is_left(hub, data, monkeypatch):
    hub.fail(REPO, FILE, mode='dribble', delay=0)
    clock, told = itertools.count(1, step=40), []  # seconds between one look and the next
    monkeypatch.setattr(client, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(client.HubError, match=r'has sent \d+ bytes in \d+ s, which is too slow: given up after 60 s'):
        locate(Source(repo=REPO, filename=FILE), say=told.append)
    assert any('waiting for 127.0.0.1, which has sent ' in line for line in told)


def test_patience_is_a_number_of_seconds(hub, data, monkeypatch):
    for value in ('soon', '0', '-1', 'nan', 'inf'):
        monkeypatch.setenv('VIDEOZOO_PATIENCE', value)
        with pytest.raises(ValueError, match=f"VIDEOZOO_PATIENCE='{value}'"):
            locate(Source(repo=REPO, filename=FILE))


def test_the_option_of_download(hub, data, capsys):
    repo = 'eminorhan/dino_say_vitb14'
    hub.add(repo, 'dino_say_vitb14.safetensors', data)
    hub.fail(repo, mode='busy', delay=100)
    assert main(['download', 'dino_say_vitb14', '--patience', '30']) == 2
    assert 'given up after 30 s' in capsys.readouterr().err


# Files that are passed on.


def test_converted_files_do_not_tell_where_they_were_made(tmp_path, tensors, monkeypatch, capsys):
    folder = tmp_path / 'home' / 'alice'
    folder.mkdir(parents=True)
    torch.save({'model': tensors}, folder / 'm.pth')
    monkeypatch.chdir(folder)
    assert main(['convert', str(folder / 'm.pth'), 'm.safetensors']) == 0
    assert main(['convert', 'm.safetensors', 'again.safetensors', '--dtype', 'float16']) == 0
    for name in ('m.safetensors', 'again.safetensors'):
        with safe_open(name, 'pt') as file:
            assert 'alice' not in json.dumps(file.metadata()) and len(file.metadata()['source_sha256']) == 64
    assert read_header(Path('m.safetensors'))['source'] == 'm.pth'
    exported = export(load_model_file('m.safetensors', 'vit_shapes_motion'), folder / 'e')
    assert not [p for p in exported.iterdir() if b'alice' in p.read_bytes()]

    # And yet they can be verified: with their source beside them, or by themselves.
    capsys.readouterr()
    assert main(['verify', 'm.safetensors']) == 0 and 'tensors equal' in capsys.readouterr().out
    Path('m.pth').unlink()
    assert main(['verify', 'm.safetensors']) == 0 and 'is not here to compare with' in capsys.readouterr().out
    damage(Path('m.safetensors'))
    assert main(['verify', 'm.safetensors']) == 2 and 'convert it again' in capsys.readouterr().err
