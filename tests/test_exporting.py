"""Exports, each opened by the library that it is for: what comes out is what went in."""

import csv
from pathlib import Path

import numpy as np
import pytest
from features import save
from scipy.io import loadmat

from videozoo_timm.analysis import export, open_features
from videozoo_timm.analysis.similarity import dissimilarities
from videozoo_timm.cli import main

FEATURES = np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32)
PATHS = ['a/1.mp4', 'a/2.mp4', 'b/ü.mp4', 'b/4.mp4', 'b/5.mp4']
TIMES = [0.5, 1, 1.5, 2, 2.5]


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save('f.npz', FEATURES, PATHS, TIMES, [3, 7], settings='{"tokens": "class"}')


def exported(*args, code=0):
    assert main(['export', 'f.npz', *args]) == code


def test_rsatoolbox(capsys):
    rsatoolbox = pytest.importorskip('rsatoolbox')
    exported('--to', 'rsatoolbox')
    assert capsys.readouterr().out.split() == ['f.hdf5', 'f_rdms.hdf5']
    dataset = rsatoolbox.data.load_dataset('f.hdf5')
    assert np.array_equal(dataset.measurements, FEATURES.reshape(5, 8))
    assert list(dataset.obs_descriptors['stimulus']) == [*PATHS[:2], r'b/\xfc.mp4', *PATHS[3:]]
    assert list(dataset.obs_descriptors['time']) == TIMES and dataset.descriptors['model'] == 'a model'
    last = dataset.subset_channel('block', 7)
    assert np.array_equal(last.measurements, FEATURES[:, 1])
    rdms = rsatoolbox.rdm.load_rdm('f_rdms.hdf5')
    expected = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(FEATURES[:, 1].astype(float)), 'correlation')
    assert np.allclose(rdms.dissimilarities[1], expected.dissimilarities[0], atol=1e-6)
    assert list(rdms.rdm_descriptors['block']) == [3, 7] and rdms.dissimilarity_measure == 'correlation'
    exported('--to', 'rsatoolbox', '--dissimilarity', 'euclidean', '--force')
    rdms = rsatoolbox.rdm.load_rdm('f_rdms.hdf5')
    assert np.allclose(rdms.dissimilarities[0], dissimilarities(FEATURES[:, 0], 'euclidean'))


def test_matlab():
    exported('--to', 'mat')
    content = loadmat('f.mat')
    assert np.array_equal(content['features'], FEATURES) and content['features'].dtype == np.float32
    assert [cell[0].item() for cell in content['stimulus']] == PATHS
    assert content['time'].ravel().tolist() == TIMES and content['block'].ravel().tolist() == [3, 7]
    assert b'Created on' not in Path('f.mat').read_bytes()  # so that equal features are equal files
    assert content['model'].item() == 'a model' and content['settings'].item() == '{"tokens": "class"}'


def test_hdf5():
    h5py = pytest.importorskip('h5py')
    exported('--to', 'hdf5', '--out', 'g.h5')
    with h5py.File('g.h5') as file:
        assert np.array_equal(file['features'], FEATURES) and file['block'][:].tolist() == [3, 7]
        assert file['stimulus'].asstr()[:].tolist() == PATHS and file['end'][:].tolist() == [t + 1 for t in TIMES]
        assert file.attrs['model'] == 'a model'


def test_csv_is_that_of_embed():
    exported('--to', 'csv')
    save('g.csv', FEATURES, PATHS, TIMES, [3, 7])
    assert Path('f.csv').read_text() == Path('g.csv').read_text()
    assert np.array_equal(open_features('f.csv').array(), FEATURES)


def test_netcdf():
    xarray = pytest.importorskip('xarray')
    pytest.importorskip('h5netcdf')
    exported('--to', 'netcdf')
    with xarray.open_dataset('f.nc', engine='h5netcdf') as dataset:
        assert dataset.features.dims == ('row', 'block', 'feature')
        assert np.array_equal(dataset.features.sel(block=7), FEATURES[:, 1])
        assert dataset.stimulus.values.tolist() == PATHS and dataset.time.values.tolist() == TIMES
        assert dataset.attrs['model'] == 'a model'
    maps = np.random.default_rng(1).normal(size=(5, 2, 3, 3, 4)).astype(np.float32)  # of clips, all patch tokens
    save('maps', maps, PATHS)
    export(open_features('maps'), 'netcdf', 'maps.nc')
    with xarray.open_dataset('maps.nc', engine='h5netcdf') as dataset:
        assert dataset.features.dims == ('row', 'frame', 'y', 'x', 'feature')
        assert np.array_equal(dataset.features, maps)


def test_devbench_has_the_order_of_its_manifest(capsys):
    with open('manifest.csv', 'w', newline='') as file:
        csv.writer(file).writerows([['image', 'word'], ['4.png', 'dog'], ['1.png', 'cat'], ['ü.png', 'cow']])
    exported('--to', 'devbench', '--block', '7', '--stimuli', 'manifest.csv')
    assert np.array_equal(np.load('f.npy'), FEATURES[[3, 0, 2], 1])
    exported('--to', 'devbench', '--out', 'g.npy', code=2)
    assert 'g.npy: DevBench takes the features of one block, not of 2: --block' in capsys.readouterr().err
    exported('--to', 'devbench', '--block', '5', '--out', 'g.npy', code=2)
    assert 'f has no features of block 5: it has the blocks 3, 7' in capsys.readouterr().err
    with open('manifest.csv', 'a') as file:
        file.write('9.png,x\n8.png,y\n')
    exported('--to', 'devbench', '--block', '7', '--stimuli', 'manifest.csv', '--force', code=2)
    assert 'f has no features of 9.png and 1 more' in capsys.readouterr().err
    assert np.array_equal(np.load('f.npy'), FEATURES[[3, 0, 2], 1])  # what is there stays


def test_identifiers_go_with_the_rows_and_name_them():
    h5py = pytest.importorskip('h5py')
    save('f.npz', FEATURES, PATHS, TIMES, [3, 7], list('vwxyz'))
    (Path('order.txt')).write_text('y\nv\n')
    exported('--to', 'hdf5', '--stimuli', 'order.txt')
    with h5py.File('f.h5') as file:
        assert file['id'].asstr()[:].tolist() == ['y', 'v'] and np.array_equal(file['features'], FEATURES[[3, 0]])
    exported('--to', 'csv')
    assert open_features('f.csv').ids == list('vwxyz')
    exported('--to', 'mat')
    assert [cell[0].item() for cell in loadmat('f.mat')['id']] == list('vwxyz')


def test_what_is_there_is_replaced_on_request_alone(capsys):
    exported('--to', 'mat')
    exported('--to', 'mat', code=2)
    assert 'f.mat is there; --force replaces it' in capsys.readouterr().err
    exported('--to', 'mat', '--force')
    exported('--to', 'mat', '--out', 'f.h5', code=2)
    assert 'f.h5 must end in .mat' in capsys.readouterr().err


def test_a_file_that_matlab_cannot_hold(monkeypatch):
    monkeypatch.setattr('videozoo_timm.analysis.exporting._LARGEST_MAT', 100)
    with pytest.raises(ValueError, match=r"f.mat: .* are more than a .mat holds \(2 GB\): take to='hdf5'"):
        export(open_features('f.npz'), 'mat', 'f.mat')
    with pytest.raises(ValueError, match="to='zarr': must be one of"):
        export(open_features('f.npz'), 'zarr', 'f.zarr')
