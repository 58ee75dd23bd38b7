"""Comparisons of features with each other and with behavior, against rsatoolbox, SciPy and formulas written out."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from features import embeddings, save
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from videozoo_timm.analysis import compare, open_features, read_behavior
from videozoo_timm.analysis.behavior import DissimilarityMatrix, score_triplets
from videozoo_timm.analysis.similarity import (
    _LEVELS,
    _Spearman,
    centered_gram,
    cka,
    dissimilarities,
    procrustes,
    rsa,
    shape_of,
)
from videozoo_timm.cli import main

rsatoolbox = pytest.importorskip('rsatoolbox')


def randoms(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rdms_of(vectors):
    return rsatoolbox.rdm.RDMs(np.stack(vectors).astype(np.float64))


def test_dissimilarities_are_those_of_the_libraries():
    x = randoms(12, 30) + 1
    dataset = rsatoolbox.data.Dataset(x.astype(np.float64))
    for metric in ('correlation', 'euclidean'):
        expected = rsatoolbox.rdm.calc_rdm(dataset, metric).get_vectors()[0]
        assert np.allclose(dissimilarities(x, metric), expected, atol=1e-5)
    assert np.allclose(dissimilarities(x, 'cosine'), pdist(x, 'cosine'), atol=1e-6)
    stimulus, repeat = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    found = dissimilarities(x, 'crossnobis', (stimulus, repeat))
    means = x.reshape(4, 3, 30).astype(np.float64)
    for k, (i, j) in enumerate(zip(*np.triu_indices(4, 1), strict=True)):
        gaps = means[i] - means[j]
        folds = [gaps[f] @ np.delete(gaps, f, axis=0).mean(axis=0) / 30 for f in range(3)]
        assert np.isclose(found[k], np.mean(folds), atol=1e-5)
    with pytest.raises(ValueError, match='needs repeats'):
        dissimilarities(x, 'crossnobis')


@pytest.mark.parametrize('name, metric', [('rsatoolbox', 'euclidean'), ('sklearn', 'cosine')])
def test_a_library_that_is_missing_is_named(name, metric, monkeypatch):
    for module in [module for module in sys.modules if module.split('.')[0] == name]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"comparisons need {name}: pip install 'videozoo-timm\[compare\]'"):
        dissimilarities(randoms(5, 4), metric)


@pytest.mark.parametrize('method', ['spearman', 'kendall', 'cosine'])
def test_rsa_and_its_bootstrap_are_those_of_rsatoolbox(method):
    first = randoms(15, 20)
    vectors = [dissimilarities(x) for x in (first, first + randoms(15, 20, seed=1), randoms(15, 20, seed=2))]
    vectors[2] = vectors[2].round(1)  # with ties
    similarity, rdms = rsa(vectors, method, bootstraps=4, seed=5), rdms_of(vectors)
    assert np.allclose(similarity.values, rsatoolbox.rdm.compare(rdms, rdms, method), atol=1e-6)
    random = np.random.default_rng(5)
    for sample in similarity.samples:
        drawn = rdms.subsample_pattern('index', list(random.integers(15, size=15)))
        assert np.allclose(sample, rsatoolbox.rdm.compare(drawn, drawn, method), atol=1e-5)
    low, high = similarity.interval()
    assert (low <= high).all() and abs(low[0, 1] - np.quantile(similarity.samples[:, 0, 1], 0.025)) < 1e-6


def test_more_dissimilarities_than_levels_of_rank_change_nothing():
    for number in (100, 370):  # stimuli
        a, b = randoms(2, number * (number - 1) // 2)
        b += a
        similarity, expected = rsa([a, b], bootstraps=1), spearmanr(a, b).statistic
        assert abs(similarity.values[0, 1] - expected) < 1e-6 and similarity.samples is not None
        coarse = _Spearman([a, b], _LEVELS)(np.arange(len(a)), np.ones(len(a)))
        assert abs(coarse[0, 1] - expected) < 1e-5  # of bootstrap samples


def test_samples_of_too_few_stimuli_are_no_samples():
    samples = rsa([randoms(6), randoms(6, seed=1)], 'cosine', bootstraps=200).samples
    assert 0 < np.isnan(samples[:, 0, 1]).sum() < 100


def hsic(k, m):
    """Unbiased, as Song et al. (2012) write it out."""
    n, k, m = len(k), k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    inner = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()
    return inner / (n * (n - 3))


def test_cka_as_it_is_written_out():
    x = randoms(20, 30).astype(np.float64)
    y = x[:, :25] + randoms(20, 25, seed=1)
    k, m = x @ x.T, y @ y.T
    found = cka([centered_gram(x), centered_gram(y)]).values[0, 1]
    assert abs(found - hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))) < 1e-6
    rotation = np.linalg.qr(randoms(30, 30, seed=2))[0]
    assert cka([centered_gram(x), centered_gram(3 * x @ rotation + 1)]).values[0, 1] > 1 - 1e-6


def test_cka_is_that_of_rsatoolbox_but_for_the_bias():
    def both(x, y):
        rdms = rdms_of([dissimilarities(x, 'euclidean'), dissimilarities(y, 'euclidean')])
        biased = rsatoolbox.rdm.compare(rdms, rdms, 'cosine_cov')[0, 1]  # which is linear CKA
        return cka([centered_gram(x), centered_gram(y)]).values[0, 1], biased

    few = randoms(300, 3)
    found, biased = both(few, few + randoms(300, 3, seed=1))
    assert 0.3 < found and abs(found - biased) < 0.02
    found, biased = both(randoms(40, 500), randoms(40, 500, seed=1))
    assert abs(found) < 0.1 and biased > 0.8  # of unrelated features


@pytest.mark.parametrize('width', [10, 40])
def test_procrustes_is_that_of_scipy(width):
    x, y = randoms(25, width), randoms(25, width, seed=1) + randoms(25, width)
    found = procrustes([shape_of(x), shape_of(y)]).values[0, 1]
    assert abs(found - (1 - scipy_procrustes(x, y)[2])) < 1e-6
    wider = np.concatenate([y, np.zeros((25, 7))], axis=1)
    assert abs(procrustes([shape_of(x), shape_of(wider)]).values[0, 1] - found) < 1e-6


@pytest.mark.parametrize('name', ['f.npz', 'f.safetensors', 'f.csv', 'f.parquet', 'folder'])
@pytest.mark.parametrize('blocks, ids', [(None, None), ([3, 1], None), ([3, 1], ['7', '7', '07', 'ü,'])])
def test_features_are_read_as_they_were_written(tmp_path, name, blocks, ids):
    pytest.importorskip('pyarrow')
    x = randoms(4, 2, 5) if blocks else randoms(4, 5)
    paths, times = ['a.mp4', 'a.mp4', 'b "1".mp4', 'c,ü.mp4'], [0, 0.5, 0.1, 0.2]
    file = open_features(save(tmp_path / name, x, paths, times, blocks, ids))
    assert (file.paths, file.time.tolist(), file.blocks, file.ids) == (paths, times, blocks, ids)
    assert np.array_equal(file.array(), x) and file.features().shape == (4, len(blocks or [0]), 5)
    assert file.model == 'a model' and file.columns['end'].tolist() == [1, 1.5, 1.1, 1.2]


def test_rows_are_matched_by_stimulus_and_what_does_not_match_is_told(tmp_path):
    x, order = randoms(8, 6), [5, 2, 7, 0, 3, 1]
    a = save(tmp_path / 'a.npz', x, [f'one/{k}.mp4' for k in range(8)])
    b = save(tmp_path / 'b.npz', 2 * x[order], [f'/other/place/{k}.avi' for k in order], times=range(6))
    result = compare([a, b], measures=['spearman', 'cka', 'procrustes'], bootstraps=0)
    assert result.stimuli == [f'one/{k}.mp4' for k in sorted(order)]
    assert all(similarity.values[0, 1] > 1 - 1e-6 for similarity in result.measures.values())
    assert result.left_out == [('a', ['one/4.mp4 at 1.00 s', 'one/6.mp4 at 1.00 s'])]
    assert [(row['measure'], row['a'], row['b']) for row in result.pairs('cka')] == [('cka', 'a', 'b')]
    assert 'low' not in result.pairs('spearman')[0]


def test_rows_of_one_stimulus_are_matched_by_time():
    paths, x = ['a.mp4', 'a.mp4', 'b.mp4', 'b.mp4', 'c.mp4', 'c.mp4'], randoms(6, 5)
    first = embeddings(x, paths, [0, 1, 0, 1, 0, 1])
    second = embeddings(x[[1, 0, 3, 2, 4, 5]], [paths[k] for k in (1, 0, 3, 2, 4, 5)], [1.004, 0, 1, 0, 0, 1.5])
    result = compare(dict(first=first, second=second), bootstraps=0)
    assert len(result.stimuli) == 5 and result.times.tolist() == [0, 1, 0, 1, 0]
    assert result.measures['spearman'].values[0, 1] > 1 - 1e-6
    assert result.left_out == [('first', ['c.mp4 at 1.00 s']), ('second', ['c.mp4 at 1.50 s'])]


def test_names_that_stand_in_two_folders_are_told_apart():
    x = randoms(8, 5)
    first = embeddings(x, [f'in/{m}/{k}.mp4' for m in 'ab' for k in range(4)])
    second = embeddings(x[::-1].copy(), [f'out/{m}/{k}.mp4' for m in 'ba' for k in (3, 2, 1, 0)])
    result = compare(dict(first=first, second=second), bootstraps=0)
    assert not result.left_out and result.measures['spearman'].values[0, 1] > 1 - 1e-6


LISTED = [f's{k}' for k in range(8)]


def test_rows_are_matched_by_the_identifiers_of_a_list():
    x, order = randoms(8, 6), [5, 2, 7, 0, 3, 1]
    first = embeddings(x, [f'one/{k}.mp4' for k in range(8)], ids=LISTED)
    names = [f'two/{k}.mp4' for k in range(6)]  # other stimuli have these names in `first`
    second = embeddings(x[order], names, range(6), ids=[LISTED[k] for k in order])
    result = compare(dict(first=first, second=second), bootstraps=0)
    assert result.stimuli == [LISTED[k] for k in sorted(order)]
    assert result.measures['spearman'].values[0, 1] > 1 - 1e-6
    assert result.left_out == [('first', ['s4 (one/4.mp4) at 1.00 s', 's6 (one/6.mp4) at 1.00 s'])]
    # A file without identifiers is matched by the names of the first one that has them, wherever it stands.
    third = embeddings(x[::-1].copy(), [f'{k}.avi' for k in reversed(range(8))])
    result = compare(dict(third=third, first=first, second=second), bootstraps=0)
    assert result.stimuli == [LISTED[k] for k in sorted(order, reverse=True)]  # the order is that of the first file
    assert (result.measures['spearman'].values > 1 - 1e-6).all()
    # Identifiers of two different lists say nothing.
    other = embeddings(x[::-1].copy(), [f'{k}.avi' for k in reversed(range(8))], ids=[f'x{k}' for k in range(8)])
    result = compare(dict(first=first, other=other), bootstraps=0)
    assert result.measures['spearman'].values[0, 1] > 1 - 1e-6 and not result.left_out
    with pytest.raises(ValueError, match=r'b has 2, such as s0 \(videos/00.mp4\)\): rows are matched by identifier'):
        compare(dict(first=first, b=embeddings(x[:2], ids=LISTED[:2])), bootstraps=0)


def test_clips_of_a_listed_stimulus_are_matched_by_time_and_one_listed_twice_counts_once():
    ids, times, x = ['a', 'a', 'b', 'b', 'c', 'd'], [0, 1, 0, 1, 0, 0], randoms(6, 5)
    first = embeddings(x, ['m.mp4', 'm.mp4', 'n.mp4', 'n.mp4', 'o.mp4', 'o.mp4'], times, ids=ids)
    order = [3, 5, 0, 2, 4, 1]
    second = embeddings(x[order], list('uvwxyz'), [times[k] for k in order], ids=[ids[k] for k in order])
    result = compare(dict(first=first, second=second), bootstraps=0)
    assert result.stimuli == ids and result.measures['spearman'].values[0, 1] > 1 - 1e-6
    trials = embeddings(x[[0, 1, 0, 2, 3, 4]], list('abacde'), ids=list('abacde'))  # of DevBench
    result = compare(dict(trials=trials, plain=embeddings(x, list('abcdef'))), bootstraps=0)
    assert result.stimuli == list('abcde') and result.left_out == [('plain', ['f at 1.00 s'])]


def test_identifiers_of_another_file_than_the_first_name_the_stimuli():
    x = randoms(6, 9)
    plain = embeddings(x, [f'{k}.mp4' for k in range(6)])
    listed = embeddings(x, [f'one/{k}.mp4' for k in range(6)], ids=LISTED[:6])
    result = compare(dict(plain=plain, listed=listed), bootstraps=0)
    assert result.stimuli == LISTED[:6] and result.measures['spearman'].values[0, 1] > 1 - 1e-6
    matrix = DissimilarityMatrix(LISTED[:6], squareform(dissimilarities(x)))
    assert compare(dict(plain=plain, listed=listed), behavior=matrix, bootstraps=0).stimuli == LISTED[:6]


def test_behavior_by_identifiers_or_by_names():
    x = randoms(8, 9)
    matrix = squareform(dissimilarities(x))[::-1, ::-1]
    listed = embeddings(x, [f'v/{k}.mp4' for k in (3, 4, 5, 6, 7, 0, 1, 2)], ids=LISTED)
    for names in (LISTED, [f'{k}.png' for k in (3, 4, 5, 6, 7, 0, 1, 2)]):
        result = compare(dict(a=listed), behavior=DissimilarityMatrix(names[::-1], matrix), bootstraps=0)
        assert result.behavior_rows()[0]['value'] > 1 - 1e-6 and result.stimuli == LISTED[::-1]


def test_crossnobis_takes_the_clips_of_a_stimulus_for_repeats():
    paths, x = [f'{k}.mp4' for k in range(5) for _ in range(3)], randoms(15, 8)
    result = compare(dict(a=embeddings(np.stack([x, x**3], axis=1), paths, list(range(3)) * 5, [0, 1])), bootstraps=3,
                     dissimilarity='crossnobis')  # fmt: skip
    repeats = np.repeat(np.arange(5), 3), np.tile(np.arange(3), 5)
    vectors = [dissimilarities(y, 'crossnobis', repeats) for y in (x, x**3)]
    assert np.allclose(result.measures['spearman'].values, rsa(vectors).values, atol=1e-6)
    assert result.stimuli == [f'{k}.mp4' for k in range(5)]


GOOD = randoms(6, 5)


@pytest.mark.parametrize(
    'features, options, words',
    [
        (
            dict(b=embeddings(GOOD, [f'{k}.mov' for k in 'abcdef'])),
            {},
            r'0 rows in all of the files.*b has 6, such',
        ),
        (dict(b=embeddings(GOOD[:1])), {}, '1 row in all of the files, at least 4 are needed'),
        (
            dict(b=embeddings(np.where(np.arange(6)[:, None] == 2, np.nan, GOOD))),
            {},
            r'b: features are NaN.* 1 row, .*02.mp4',
        ),
        (dict(b=embeddings(np.ones((6, 5)) * np.arange(5))), {}, 'b: the features are the same for all stimuli'),
        (dict(b=embeddings(np.arange(6.0)[:, None] * np.ones(5))), {}, r"b: all features of .*00.mp4 .*'euclidean'"),
        ({}, {}, 'a alone has nothing to be compared with'),
        (dict(b=embeddings(GOOD)), dict(dissimilarity='crossnobis'), r'at least 2, of every stimulus; they have 1'),
        (dict(b=embeddings(GOOD, [f'{k // 2}' for k in range(6)])), {}, 'two rows are of 0 at 1.00 s'),
        (dict(b=embeddings(GOOD)), dict(measures=['ssim']), "measures='ssim': must be of"),
        (dict(behavior=embeddings(GOOD)), {}, "a file cannot be called 'behavior'"),
    ],
)
def test_what_cannot_be_compared_is_told(features, options, words):
    with pytest.raises(ValueError, match=words):
        compare(dict(a=embeddings(GOOD), **features), bootstraps=0, **options)


def test_files_that_are_no_features(tmp_path):
    np.savez(tmp_path / 'x.npz', thesis=np.ones(3))
    (tmp_path / 'y.npz').write_text('no')
    (tmp_path / 'z.txt').write_text('no')
    (tmp_path / 'w.csv').write_text('path,time\na,1\n')
    for name, words in {'x.npz': 'there is no .features', 'y.npz': '', 'w.csv': 'there is no .f0'}.items():
        with pytest.raises(ValueError, match=f'{name} cannot be read as features of .videozoo embed.: {words}'):
            open_features(tmp_path / name)
    with pytest.raises(ValueError, match='holds no features: they are .npz'):
        open_features(tmp_path / 'z.txt')
    (tmp_path / 'videos').mkdir()
    with pytest.raises(ValueError, match='videos is a folder without features'):
        open_features(tmp_path / 'videos')
    with pytest.raises(FileNotFoundError, match='no such features'):
        open_features(tmp_path / 'none.npz')


def write_matrix(path, names, values):
    with open(path, 'w', newline='') as file:
        csv.writer(file).writerows([['', *names], *([name, *row] for name, row in zip(names, values, strict=True))])
    return path


def test_a_dissimilarity_matrix_of_behavior(tmp_path):
    x = np.stack([randoms(7, 9), randoms(7, 9, seed=1)], axis=1)
    order = [3, 0, 6, 2, 5]
    matrix = squareform(dissimilarities(x[:, 1]))[np.ix_(order, order)]
    names = [*(f'{k:02}' for k in order), 'unseen']
    extended = np.pad(matrix, ((0, 1), (0, 1)), constant_values=0.5)
    behavior = read_behavior(write_matrix(tmp_path / 'm.csv', names, extended))
    result = compare(dict(a=embeddings(x, blocks=[4, 9])), behavior=behavior, bootstraps=50)
    rows = result.behavior_rows()
    assert [(row['measure'], row['name'], row['block']) for row in rows] == [('spearman', 'a', 4), ('spearman', 'a', 9)]
    assert rows[1]['value'] > 0.999 and abs(rows[0]['value']) < 0.9 and rows[0]['low'] <= rows[0]['high']
    value, low, high = result.difference(('a', 9), ('a', 4))
    assert value == rows[1]['value'] - rows[0]['value'] and low < value < high
    assert dict(result.left_out) == dict(a=['videos/01.mp4', 'videos/04.mp4'], behavior=['unseen'])
    assert result.measures['cka'].values.shape == (2, 2)
    with pytest.raises(ValueError, match=r"\('a', 5\) is not in list: there are a, block 4, a, block 9, behavior"):
        result.difference(('a', 5), ('a', 4))
    np.save(tmp_path / 'm.npy', matrix)
    assert np.array_equal(read_behavior(tmp_path / 'm.npy', names[:5]).values, matrix)
    with pytest.raises(ValueError, match='m.npy holds no names: stimuli names a file'):
        read_behavior(tmp_path / 'm.npy')


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda m: m.__setitem__((0, 1), 9), 'not symmetric'),
        (lambda m: (m.__setitem__((0, 1), np.nan), m.__setitem__((1, 0), np.nan)), '1 dissimilarities are missing'),
        (lambda m: m.__setitem__(slice(None), 1 - m), 'these are similarities'),
        (lambda m: m.__setitem__(slice(None), 1 - np.eye(4)), 'all dissimilarities are 1'),
    ],
)
def test_matrices_that_cannot_be(tmp_path, change, words):
    matrix = squareform(np.linspace(0.1, 0.9, 6))
    change(matrix)
    with pytest.raises(ValueError, match=words):
        read_behavior(write_matrix(tmp_path / 'm.csv', 'abcd', matrix))


def test_triplets_with_known_answers(tmp_path):
    # On a line: a and b are near, then c, then d; the odd one is known.
    (tmp_path / 't.csv').write_text(
        'first,odd,second,third,who\nb,d,d,a,1\na,a,b,c,2\nc,c,a,b,1\nc,c,a,b,3\nb,c,a,c,4\n' + 'e,e,a,b,4\n'
    )
    behavior = read_behavior(tmp_path / 't.csv')
    points = np.array([[0, 1.0], [0.1, 1.0], [0.5, 1.0], [2, 1.0]], np.float32)
    features = embeddings(points, [f'v/{k}.mp4' for k in 'abcd'])
    result = compare(dict(f=features, g=embeddings(-points, [f'{k}.png' for k in 'abcd'])), behavior=behavior,
                     dissimilarity='euclidean', measures=[], bootstraps=20)  # fmt: skip
    score = result.triplets
    assert score.accuracy.tolist() == [0.8, 0.8] and (score.triplets, score.answers) == (2, 5)
    # a, b, c was asked four times; three said c: the others' majority is right for these three, and never for the one
    assert score.ceiling == (0.75, 0.75)
    low, high = score.interval() or ((), ())
    assert min(low) >= 0.75 - 1e-9 and max(high) <= 1 + 1e-9
    alone = compare(dict(f=features), behavior=behavior, dissimilarity='euclidean', measures=[], bootstraps=0)
    assert alone.behavior_rows() == [dict(measure='triplets', name='f', block=None, value=0.8)]  # without an interval
    assert result.left_out == [('behavior', ['e'])]
    assert result.behavior_rows()[0]['measure'] == 'triplets'
    assert score_triplets([np.ones((3, 3))], np.array([[0, 1, 2]])).accuracy.tolist() == [pytest.approx(1 / 3)]
    assert score_triplets([np.ones((3, 3))], np.array([[0, 1, 2]])).ceiling is None
    (tmp_path / 'u.csv').write_text('a,b,c\nx,y,z\n')
    assert read_behavior(tmp_path / 'u.csv').answers.tolist() == [[0, 1, 2]]  # the last one is odd
    (tmp_path / 'u.csv').write_text('a,b,c,odd\nx,y,z,w\n')
    with pytest.raises(ValueError, match=r"u.csv, row 2: 'w' is not one of three stimuli \(x, y, z\)"):
        read_behavior(tmp_path / 'u.csv')
    (tmp_path / 'u.csv').write_text('a,b\nx,y\n')
    with pytest.raises(ValueError, match='neither a dissimilarity matrix.*nor a table of triplets'):
        read_behavior(tmp_path / 'u.csv')


def test_the_command_compares_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = randoms(7, 3, 6)
    save('a.npz', x, blocks=[0, 5, 11])
    save('b.csv', x[:6, 1] + 0.1 * randoms(6, 6, seed=1))
    write_matrix('people.csv', [f'{k:02}' for k in range(6)], squareform(dissimilarities(x[:6, 2])))
    command = ['compare', 'a.npz', 'b.csv', '--bootstraps', '20', '--behavior', 'people.csv', '--seed', '3']
    assert main([*command, '--out', 'out']) == 1  # as a.npz has a further one
    told = capsys.readouterr()
    assert 'a: 1 row left out, which another file lacks: videos/06.mp4 at 1.00 s' in told.err
    lines = [line.split() for line in told.out.splitlines()]
    assert ['spearman', 'a', '11', '1.000'] in [line[:4] for line in lines]
    assert any(line[:5] == ['cka', 'a', '5', 'b', 'output'] for line in lines)
    assert '4 representations of 6 stimuli; all results in out' in told.out and 'no picture' not in told.out
    content = json.loads((tmp_path / 'out' / 'comparison.json').read_text())
    assert content['seed'] == 3 and content['behavior'][2]['value'] == pytest.approx(1) and len(content['pairs']) == 16
    with open('out/pairs.csv') as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]['value']) == content['pairs'][0]['value'] and rows[0]['low'] and not rows[-1]['low']
    for name in ('heat_map_spearman', 'heat_map_cka', 'mds_spearman', 'mds_cka', 'behavior_spearman'):
        pdf = (tmp_path / 'out' / f'{name}.pdf').read_bytes()
        assert b'/FontFile2' in pdf and b'/Type3' not in pdf, name  # the fonts are inside
    assert main([*command, '--out', 'out', '--json']) == 1  # the same again
    assert json.loads(capsys.readouterr().out)['behavior'] == content['behavior']
    assert main([*command[:-1], '4', '--out', 'out']) == 2
    assert 'seed was 3, is 4); name another --out, or --force replaces' in capsys.readouterr().err
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'videos' / 'pairs.csv').write_text('mine')
    assert main([*command, '--out', 'videos']) == 2
    assert 'videos holds pairs.csv, but no comparison.json: it is of something else' in capsys.readouterr().err
    (tmp_path / 'videos' / 'pairs.csv').rename(tmp_path / 'videos' / 'mine.csv')
    assert main([*command, '--out', 'videos']) == 1 and (tmp_path / 'videos' / 'mine.csv').read_text() == 'mine'
    capsys.readouterr()
    assert main(['compare', 'a.npz', '--mask', 'm.nii', '--out', 'o']) == 2
    assert '--mask belongs to --brain' in capsys.readouterr().err


def test_many_pairs_are_shown_by_the_most_similar_blocks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = randoms(6, 5, 4)
    save('a.npz', x, blocks=range(5))
    save('b.npz', np.concatenate([randoms(6, 4, 4, seed=1), x[:, :1]], axis=1), blocks=range(5))
    assert main(['compare', 'a.npz', 'b.npz', '--bootstraps', '0', '--measures', 'cka', '--format', 'svg']) == 0
    out = capsys.readouterr().out
    assert 'cka      a         0      b         4      1.000' in out and 'all 45 pairs are in pairs.csv' in out
    assert (tmp_path / 'comparison' / 'mds_cka.svg').read_text().count('<svg') == 1


def test_rows_are_not_called_stimuli_and_two_representations_have_no_picture_of_places(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths, times = [f'{k // 2}.mp4' for k in range(8)], np.arange(8) % 2
    for name in 'ab':
        save(f'{name}.npz', randoms(8, 4, seed=ord(name)), paths, times)
    assert main(['compare', 'a.npz', 'b.npz', '--measures', 'cka']) == 0
    out = capsys.readouterr().out
    assert '2 representations of 8 rows of 4 stimuli; all' in out
    assert 'no picture of places (mds_cka): it takes at least 3 representations' in out
    assert not list(Path('comparison').glob('mds*')) and list(Path('comparison').glob('heat_map*'))
    assert main(['methods', 'comparison']) == 0
    assert 'We compared 2 files of features of 4 stimuli (8 rows) by debiased' in capsys.readouterr().out


def test_what_is_left_out_is_told_before_the_work():
    files, told = dict(a=embeddings(randoms(6, 4)), b=embeddings(randoms(5, 4))), []
    compare(files, measures=['cka'], progress=lambda *step: told.append(step[0]), say=told.append)
    assert told[:2] == ['a: 1 row left out, which another file lacks: videos/05.mp4 at 1.00 s', 'features']


@pytest.mark.parametrize('number, blocks', [(4, 6), (12, 3)])
def test_labels_of_places_cover_neither_lines_nor_each_other(number, blocks):
    from matplotlib.text import Annotation

    from videozoo_timm.figures.similarity import mds_figure

    x = np.cumsum(randoms(number, blocks, 20), axis=1).reshape(number * blocks, 20) + 5 * randoms(20, seed=1)
    names = [f'model {k // blocks}' for k in range(number * blocks)]
    figure = mds_figure(1 - squareform(pdist(x, 'cosine')), names, [*range(10, 10 + blocks)] * number, 'cosine')
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [child for child in axes.get_children() if isinstance(child, Annotation)]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 2 * number
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k]), texts[k]
        assert not any(line.get_path().transformed(axes.transData).intersects_bbox(box, filled=False)
                       for line in axes.lines), texts[k]  # fmt: skip


def test_matrices_are_placed_as_classical_scaling_places_them():
    from videozoo_timm.figures.similarity import positions

    angles = np.array([0, 0.3, 1.0, 2.0])
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    places, kept = positions(units @ units.T)
    assert kept == pytest.approx(1) and positions(np.eye(5))[1] == pytest.approx(0.5)
    assert np.allclose(pdist(places), pdist(units), atol=1e-6)


def test_names_of_a_matrix(tmp_path):
    matrix = DissimilarityMatrix(list('abcd'), squareform(np.arange(6.0)))
    with pytest.raises(ValueError, match='0 stimuli in both f and behavior, at least 4 are needed'):
        compare(dict(f=embeddings(GOOD)), behavior=matrix)
    twice = embeddings(randoms(8, 5), [f'{k}.mp4' for k in 'abcdabcd'], [0] * 4 + [1] * 4)
    with pytest.raises(ValueError, match='8 rows are of 4 stimuli, behavior has one'):
        compare(dict(f=twice), behavior=matrix)
