"""Responses predicted from features: planted ones are found, and no others."""

import csv
import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from features import save

from videozoo_timm.analysis import encode, encoding, predict_responses
from videozoo_timm.cli import main

pytest.importorskip('sklearn')


@pytest.fixture(scope='module')
def planted():
    """Features of three blocks; responses: 4 channels of block 1 with as much noise, 4 of block 2, 4 of noise."""
    random = np.random.default_rng(0)
    features = random.normal(size=(150, 3, 12))
    weights = random.normal(size=(12, 8)) / np.sqrt(12)
    signal = np.concatenate([features[:, 1] @ weights[:, :4], features[:, 2] @ weights[:, 4:]], axis=1)
    noise = random.normal(size=(150, 12))
    noise[:, :4] *= signal[:, :4].std(axis=0)
    noise[:, 4:8] = 0
    return features, np.concatenate([signal, np.zeros((150, 4))], axis=1) + noise


@pytest.mark.parametrize('solver', ['himalaya', 'sklearn'])
def test_planted_responses_are_found(planted, solver):
    pytest.importorskip('himalaya' if solver == 'himalaya' else 'sklearn')
    result = encode(*planted, permutations=99, solver=solver)
    assert result.block[:8].tolist() == [1] * 4 + [2] * 4
    assert np.abs(result.chosen_r[:4] - np.sqrt(0.5)).max() < 0.12  # half of the variance is noise
    assert result.chosen_r[4:8].min() > 0.999 and np.abs(result.chosen_r[8:]).max() < 0.25
    assert (result.p[:8] == 0.01).all() and (result.q[:8] < 0.05).all() and (result.q[8:] > 0.05).all()
    assert np.array_equal(result.r[1, :4], result.chosen_r[:4])  # chosen in all folds
    assert result.r.shape == (3, 12) and np.abs(result.r[0]).max() < 0.3


def test_memory_of_the_permutation_test_does_not_grow_with_the_channels(planted, monkeypatch):
    features, responses = planted[0][:16, 1:2], np.tile(planted[1][:16], 50)  # 600 channels
    done = []

    def peak(permutations):
        done.clear()
        tracemalloc.start()
        try:
            result = encode(
                features, responses, permutations=permutations, folds=2, solver='sklearn', progress=done.append
            )
            return result, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert abs(sum(done) - 2) < 1e-6

    whole, much = peak(300)
    monkeypatch.setattr(encoding, '_AT_ONCE', 1 << 18)
    pieces, some = peak(300)
    assert some < 0.6 * much
    for name in ('p', 'r', 'chosen_r'):
        assert np.allclose(getattr(whole, name), getattr(pieces, name), atol=1e-12, rtol=0), name
    assert len(np.unique(whole.p[:12])) > 2


def test_p_values_of_unrelated_responses_are_even():
    random, p = np.random.default_rng(1), []
    for seed in range(4):
        features, responses = random.normal(size=(40, 3, 8)), random.normal(size=(40, 100))
        p.append(encode(features, responses, permutations=60, seed=seed, solver='sklearn').p)
    p = np.concatenate(p)
    assert (p <= 0.05).mean() < 0.1 and 0.4 < (p <= 0.5).mean() < 0.6


def test_the_order_that_was_recorded_is_tested_as_others_are():
    """Of one response in all of its shifts, of which one alone can be the right one, each p comes once."""
    random, number = np.random.default_rng(5), 30
    response = random.normal(size=number)
    shifted = np.stack([np.roll(response, shift) for shift in range(number)], axis=1)
    features = random.normal(size=(number, 4, 12))
    p = encode(features, shifted, np.arange(number) // 5, permutations=1000, solver='sklearn').p
    assert np.allclose(np.sort(p), np.arange(1, number + 1) / number)  # none below 1 / 30: there are no more shifts


def test_orders_in_which_a_channel_does_not_vary_say_nothing():
    from sklearn.model_selection import KFold

    random = np.random.default_rng(6)
    features, responses = random.normal(size=(30, 1, 4)), np.zeros((30, 20))
    for _, held_out in KFold(5, shuffle=True, random_state=0).split(features):  # one spike in each fold
        responses[random.choice(held_out, 20), np.arange(20)] = 1
    p = encode(features, responses, permutations=400, solver='sklearn').p  # of most, some fold has no spike
    assert 0.3 < np.median(p) < 0.7 and (p < 0.1).sum() < 5


def test_clips_of_one_stimulus_are_never_on_both_sides():
    random = np.random.default_rng(2)
    stimuli = np.repeat(np.arange(12), 10)
    features = random.normal(size=(12, 1, 30))[stimuli] + 0.01 * random.normal(size=(120, 1, 30))
    responses = random.normal(size=(12, 40))[stimuli]  # known of each stimulus, and unrelated between them
    leaking = encode(features, responses, permutations=0).chosen_r
    fair = encode(features, responses, stimuli, permutations=19)
    assert leaking.mean() > 0.95 and fair.chosen_r.mean() < 0.2
    assert (fair.p <= 0.05).mean() < 0.3
    assert (encode(features, responses, permutations=0).p == 1).all()


def test_a_projection_keeps_what_is_there(planted):
    features, responses = planted
    wide = np.concatenate([features, np.zeros((150, 3, 200))], axis=2)
    result = encode(wide, responses[:, 4:8], permutations=0, projection=100, solver='sklearn')
    assert result.chosen_r.min() > 0.95
    narrow = encode(wide, responses[:, 4:8], permutations=0, projection=4, solver='sklearn')
    assert narrow.chosen_r.max() < 0.95


def test_a_channel_that_does_not_vary_has_no_correlation(planted):
    features, responses = planted
    result = encode(features, np.stack([responses[:, 5], np.ones(150)], axis=1), permutations=9, solver='sklearn')
    assert np.isfinite(result.q[0]) and np.isnan([result.chosen_r[1], result.p[1], result.q[1]]).all()
    with pytest.raises(ValueError, match='150 rows are too few for 60 folds'):
        encode(features, responses, folds=60)
    with pytest.raises(ValueError, match='7 rows are too few for 2 folds, which take 8'):  # of the inner folds
        encode(features[:7], responses[:7], folds=2)
    with pytest.raises(ValueError, match="solver='lasso'"):
        encode(features, responses, solver='lasso')


@pytest.fixture
def recorded(planted, tmp_path, monkeypatch):
    """In the current folder: features, and responses in another order, as .csv and NIfTI."""
    monkeypatch.chdir(tmp_path)
    features, responses = planted[0][:60], planted[1][:60]
    paths = [f'videos/{k:02}.mp4' for k in range(60)]
    save('f.npz', features, paths, blocks=[2, 5, 8])
    order = np.random.default_rng(3).permutation(60)
    with open('r.csv', 'w', newline='') as file:
        rows = [[paths[k].split('/')[1], 0.5, *responses[k]] for k in order]
        csv.writer(file).writerows([['stimulus', 'time', *(f'E{v}' for v in range(12))], *rows])
    (tmp_path / 'order.txt').write_text('\n'.join(paths[k] for k in order))
    return responses[order]


def test_responses_in_another_order(recorded, capsys):
    np.save('ceiling.npy', np.linspace(0.5, 1, 12))
    command = ['compare', 'f.npz', '--brain', 'r.csv', '--noise-ceiling', 'ceiling.npy', '--permutations', '99']
    assert main([*command, '--out', 'out']) == 0
    out = capsys.readouterr().out
    assert 'median of r / ceiling' in out and '60 stimuli, 12 channels' in out
    with open('out/channels.csv') as file:
        rows = list(csv.DictReader(file))
    assert [row['block'] for row in rows[:8]] == ['5'] * 4 + ['8'] * 4
    assert float(rows[5]['r']) > 0.99 and float(rows[5]['p']) == 0.01 and rows[0]['noise_ceiling'] == '0.5'
    content = json.loads(Path('out/brain.json').read_text())
    chosen = content['brain'][-1]
    assert chosen['block'] == 'chosen' and chosen['significant'] >= 8 and content['permutations'] == 99
    assert b'/FontFile2' in Path('out/brain.pdf').read_bytes()
    assert main([*command[:-1], '98', '--out', 'out']) == 2
    assert 'permutations was 99, is 98' in capsys.readouterr().err
    assert main(['methods', 'out']) == 0
    text = capsys.readouterr().out
    for words in (
        'We predicted responses (r.csv) from features of 60 stimuli, block by block, by ridge regression with 5-fold',
        f'predicted {chosen["significant"]} of 12 (f) channels at a false discovery rate over channels below 0.05 '
        '(Benjamini & Hochberg, 1995).',
        'The median of the noise ceilings (ceiling.npy) is 0.750.',
    ):
        assert words in text, (words, text)
    assert main(['again', 'out']) == 0
    assert '4 results, all equal' in capsys.readouterr().out


def test_rows_that_are_left_out_are_told_before_the_work(recorded):
    save('f.npz', np.ones((61, 3)) * np.arange(61)[:, None] + np.eye(61, 3), [f'videos/{k:02}.mp4' for k in range(61)])
    told = []
    options = dict(permutations=0, folds=2, progress=lambda *step: told.append(step[0]), say=told.append)
    predict_responses(['f.npz'], 'r.csv', **options)
    assert told[0].startswith('f: 1 row left out') and told[1] == 'ridge regressions'


def test_responses_by_the_identifiers_of_a_list(planted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features, responses = planted[0][:60], planted[1][:60]
    ids = [f's{k}' for k in range(60)]
    save('f.npz', features, [f'{k // 2}.mp4' for k in range(60)], ids=ids)  # each file is listed twice
    order = np.random.default_rng(3).permutation(60)
    with open('r.csv', 'w', newline='') as file:
        csv.writer(file).writerows([['stimulus', *range(12)], *([ids[k], *responses[k]] for k in order)])
    result = predict_responses(['f.npz'], 'r.csv', permutations=0)
    assert result.stimuli == ids and result.encodings['f'].chosen_r[4:8].min() > 0.99
    assert not result.left_out


def test_two_responses_to_one_stimulus_are_refused(planted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save('f.npz', planted[0][:20], [f'{k}.png' for k in range(20)], times=np.zeros(20))
    with open('r.csv', 'w', newline='') as file:
        csv.writer(file).writerows([['stimulus', *range(12)], *([f'{k % 20}.png', *planted[1][k]] for k in range(40))])
    with pytest.raises(ValueError, match=r'r\.csv: rows 1 and 21 are both of 0\.png at 0\.00 s: take the mean'):
        predict_responses(['f.npz'], 'r.csv', permutations=0)
    stimuli = [f'{k % 20}.png' for k in range(40)]
    np.save('r.npy', planted[1][:40])
    with pytest.raises(ValueError, match=r'r\.npy: rows 1 and 21 are both of'):
        predict_responses(['f.npz'], 'r.npy', stimuli=stimuli, permutations=0)


def test_an_image_gives_maps(recorded):
    nibabel = pytest.importorskip('nibabel')
    volumes = np.zeros((3, 2, 3, 60), np.float32)
    volumes[:, :, :2] = recorded.T.reshape(3, 2, 2, 60)
    affine = np.diag([2.0, 2, 2, 1])
    nibabel.Nifti1Image(volumes, affine).to_filename('r.nii.gz')
    result = predict_responses(['f.npz'], 'r.nii.gz', stimuli=Path('order.txt').read_text().split(), permutations=0)
    assert result.responses.channels[:2] == ['0,0,0', '0,0,1'] and len(result.responses.channels) == 12  # which vary
    result.save('out')
    found = nibabel.load('out/r_f.nii.gz')
    assert np.array_equal(found.affine, affine)
    values = found.get_fdata()
    assert np.isnan(values[:, :, 2]).all()
    assert np.allclose(values[:, :, :2].reshape(12), result.encodings['f'].chosen_r, atol=1e-6)
    mask = np.zeros((3, 2, 3))
    mask[1, 0, 0] = 1
    nibabel.Nifti1Image(mask, affine).to_filename('m.nii')
    masked = predict_responses(['f.npz'], 'r.nii.gz', stimuli=Path('order.txt').read_text().split(), mask='m.nii',
                               permutations=0)  # fmt: skip
    assert masked.responses.channels == ['1,0,0']
    for name, other, words in (
        ('flipped', np.diag([-2.0, 2, 2, 1]), r'up to 8 mm from those of r.nii.gz, .*its axes are LAS, the others RAS'),
        ('moved', affine + 2 * np.eye(4, k=3), r'up to 2 mm from those of r.nii.gz, as the affines differ: resample'),
    ):
        nibabel.Nifti1Image(mask, other).to_filename(f'{name}.nii')
        with pytest.raises(ValueError, match=f'the voxels of {name}.nii lie {words}'):
            predict_responses(['f.npz'], 'r.nii.gz', mask=f'{name}.nii')
        with pytest.raises(ValueError, match=f'the voxels of {name}.nii lie {words}'):
            predict_responses(['f.npz'], 'r.nii.gz', ceiling=f'{name}.nii')
    nibabel.Nifti1Image(mask, affine + 0.01 * np.eye(4, k=3)).to_filename('m.nii')  # as headers round
    assert len(predict_responses(['f.npz'], 'r.nii.gz', mask='m.nii', permutations=0).responses.channels) == 1
    volumes[2, 1, 1, 7] = np.nan
    nibabel.Nifti1Image(volumes, affine).to_filename('r.nii.gz')
    with pytest.raises(ValueError, match=r'1 values are missing \(NaN\).* row 7, channel 2,1,1'):
        predict_responses(['f.npz'], 'r.nii.gz')
    volumes[2, 1, 1] = np.nan  # as outside of a brain
    nibabel.Nifti1Image(volumes, affine).to_filename('r.nii.gz')
    Path('again').mkdir()
    shutil.copy('f.npz', 'again')
    both = predict_responses(['f.npz', 'again/f.npz'], 'r.nii.gz', permutations=0)
    assert len(both.responses.channels) == 11
    both.save('both')
    assert sorted(path.name for path in Path('both').glob('r_*')) == ['r_again_f.npz.nii.gz', 'r_f.npz.nii.gz']


def test_responses_that_cannot_be_used(recorded):
    np.save('r.npy', recorded[:59])
    with pytest.raises(ValueError, match='r.npy has 59 rows, f has 60: stimuli names a file'):
        predict_responses(['f.npz'], 'r.npy')
    np.save('r.npy', np.where(np.arange(60)[:, None] == 7, np.nan, recorded))
    with pytest.raises(
        ValueError, match=r'r.npy: 12 values are missing \(NaN\) or infinite, the first in row 7, channel 0'
    ):
        predict_responses(['f.npz'], 'r.npy')
    np.save('r.npy', np.ones((60, 2)))
    with pytest.raises(ValueError, match='no channel varies'):
        predict_responses(['f.npz'], 'r.npy')
    np.save('c.npy', np.full(12, 1.5))
    with pytest.raises(ValueError, match='a noise ceiling is a correlation from 0 to 1'):
        predict_responses(['f.npz'], 'r.csv', ceiling='c.npy')
    Path('c.csv').write_text(','.join(f'E{v}' for v in range(12)) + 2 * ('\n' + ','.join('1' * 12)))
    with pytest.raises(ValueError, match='c.csv has 2 rows: a noise ceiling is one row'):
        predict_responses(['f.npz'], 'r.csv', ceiling='c.csv')
    save('g.npz', np.ones((5, 2)), [f'else/{k}.mov' for k in 'abcde'])
    with pytest.raises(ValueError, match='0 rows in all of the files'):
        predict_responses(['g.npz'], 'r.csv')
