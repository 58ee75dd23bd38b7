"""The loopback Hub, seen through the real huggingface_hub client."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback_hub import LoopbackHub

REPO = 'nobody/videos'
DATA = bytes(range(256)) * 4096  # 1 MiB: several chunks of the server


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
    huggingface_hub.close_session()  # the shared client read the proxy settings when it was made
    with LoopbackHub() as hub:
        hub.add(REPO, 'model.bin', DATA)
        yield hub


@pytest.fixture
def fetch(hub, tmp_path):
    def fetch(filename='model.bin', repo_id=REPO, **kwargs):
        return Path(hf_hub_download(repo_id, filename, cache_dir=tmp_path, endpoint=hub.url, token=False, **kwargs))

    return fetch


@pytest.fixture
def waits(monkeypatch):
    """The client's waits between attempts, noted instead of slept."""
    waits = []
    monkeypatch.setattr(time, 'sleep', waits.append)
    return waits


def test_a_download_is_cached_under_its_sha256_and_made_once(hub, fetch, tmp_path):
    assert fetch().read_bytes() == DATA
    assert fetch().resolve().name == hashlib.sha256(DATA).hexdigest()
    assert try_to_load_from_cache(REPO, 'model.bin', cache_dir=tmp_path) == str(fetch())
    path = f'/{REPO}/resolve/main/model.bin'
    assert hub.requests == [('HEAD', path), ('GET', path), ('HEAD', path), ('HEAD', path)]


def test_a_file_on_disk_with_a_declared_digest(hub, fetch, tmp_path):
    (tmp_path / 'big').write_bytes(DATA)
    hub.add(REPO, 'big.bin', tmp_path / 'big', sha256='f' * 64)
    assert fetch('big.bin').read_bytes() == DATA
    assert fetch('big.bin').resolve().name == 'f' * 64


def test_the_unmodified_client_through_HF_ENDPOINT(hub, tmp_path):
    code = f"import huggingface_hub as h; print(h.hf_hub_download('{REPO}', 'model.bin'))"
    env = {**os.environ, 'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path), 'HF_HUB_OFFLINE': '0'}
    out = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True).stdout
    assert Path(out.strip()).read_bytes() == DATA


def test_a_replaced_file_is_noticed_and_the_old_commit_stays(hub, fetch):
    old = fetch()
    hub.add(REPO, 'model.bin', b'new weights')
    new = fetch()
    assert new != old and new.read_bytes() == b'new weights'
    assert fetch(revision=old.parent.name, force_download=True).read_bytes() == DATA
    hub.remove(REPO, 'model.bin')
    with pytest.raises(EntryNotFoundError):
        fetch()


def test_listing_and_metadata(hub):
    hub.add(REPO, 'folder/a@b c.json', b'{}')
    api = HfApi(endpoint=hub.url, token=False)
    info = api.model_info(REPO, files_metadata=True)
    assert api.list_repo_files(REPO) == [s.rfilename for s in info.siblings] == ['model.bin', 'folder/a@b c.json']
    assert api.model_info(REPO, revision=info.sha).sha == info.sha
    metadata = get_hf_file_metadata(hf_hub_url(REPO, 'folder/a@b c.json', endpoint=hub.url), token=False)
    assert (metadata.commit_hash, metadata.size) == (info.sha, 2)
    assert metadata.etag == hashlib.sha256(b'{}').hexdigest() == info.siblings[1].lfs.sha256
    assert metadata.xet_file_data is None


def test_an_at_sign_in_a_name_travels_encoded(hub, fetch):
    hub.add(REPO, 'mae@448.bin', b'at')
    assert fetch('mae@448.bin').read_bytes() == b'at'
    assert hub.requests[-1] == ('GET', f'/{REPO}/resolve/main/mae%40448.bin')


@pytest.mark.parametrize('step, ranges', [(1 << 16, ['bytes=524288-']), (10 << 20, [])])
def test_a_cut_download_is_completed(hub, fetch, waits, monkeypatch, step, ranges):
    # The client resumes at its last whole step (10 MiB unless patched): a small file starts again.
    monkeypatch.setattr(huggingface_hub.constants, 'DOWNLOAD_CHUNK_SIZE', step)
    hub.fail(REPO, 'model.bin', mode='cut')
    assert fetch().read_bytes() == DATA
    assert hub.ranges == ranges and waits == [1]
    assert [method for method, _ in hub.requests] == ['HEAD', 'GET', 'GET']


def test_refusals_raise_what_the_real_hub_makes_the_client_raise(hub, fetch):
    with pytest.raises(EntryNotFoundError):
        fetch('missing.bin')
    with pytest.raises(RevisionNotFoundError):
        fetch(revision='missing')
    with pytest.raises(RepositoryNotFoundError) as caught:
        fetch(repo_id='nobody/missing')
    assert caught.value.response.status_code == 401
    for mode, error, status in [
        ('unauthorized', RepositoryNotFoundError, 401),
        ('not_found', RepositoryNotFoundError, 404),
        ('gated', GatedRepoError, 403),
    ]:
        hub.fail(REPO, mode=mode)
        with pytest.raises(error) as caught:
            fetch()
        assert caught.value.response.status_code == status
    hub.heal()
    assert fetch().read_bytes() == DATA


def test_a_server_error_and_a_stopped_hub_fall_back_to_the_cache(hub, fetch):
    cached = fetch()
    hub.fail(REPO, 'model.bin', mode='server_error')
    with pytest.raises(HfHubHTTPError) as caught:
        get_hf_file_metadata(hf_hub_url(REPO, 'model.bin', endpoint=hub.url), token=False)
    assert caught.value.response.status_code == 500 and fetch() == cached
    url = hub.url
    hub.stop()
    assert fetch() == cached
    hub.heal()
    hub.clear()
    hub.start()
    assert hub.url == url and fetch() == cached and len(hub.requests) == 1


def test_many_threads_at_once(hub, fetch):
    for index in range(24):
        hub.add(REPO, f'{index}.bin', DATA[index:])
    hub.fail(REPO, '0.bin', mode='slow', delay=0.01)
    with ThreadPoolExecutor(24) as pool:
        paths = list(pool.map(fetch, [f'{index}.bin' for index in range(24)]))
    assert all(path.read_bytes() == DATA[index:] for index, path in enumerate(paths))
