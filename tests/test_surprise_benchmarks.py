"""Benchmarks of surprise: each layout in small, and the accuracies that arithmetic gives for scores that are known."""

import copy
import csv
import json
import math
from collections import Counter

import numpy as np
import pytest
import timm
import torch
from conftest import HERE
from PIL import Image
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score
from test_video import write_video

from videozoo_timm.analysis import surprise
from videozoo_timm.analysis.surprise_accuracy import FILTERED, MEAN, accuracies, compared_with_untrained
from videozoo_timm.analysis.surprise_benchmark import measure, measure_scores
from videozoo_timm.analysis.surprise_layouts import LAYOUTS, Benchmark, Film, FilmPair, adept_class, read_benchmark
from videozoo_timm.cli import main
from videozoo_timm.factory import load_model
from videozoo_timm.video import VideoError, probe, read_clip


def value(found, measure, what='x', context=''):
    (one,) = [a for a in found if (a.measure, a.property, a.context) == (measure, what, context)]
    return one


def pairs(*scores, what='x'):
    """Pairs (impossible, possible), each a scene, and their scores: numbers or windows."""
    comparisons, films = [], {}
    for k, pair in enumerate(scores):
        comparisons.append(FilmPair(what, f'{k}', f'{what}{k}i', f'{what}{k}p'))
        for kind, score in zip('ip', pair, strict=True):
            films[f'{what}{k}{kind}'] = np.array(score, dtype=float).reshape(-1, 1)
    return comparisons, films


# Numbers


def test_a_pair_is_right_wrong_or_tied():
    comparisons, films = pairs((2, 1), (2, 1), (1, 1), (0, 3))
    found = accuracies(comparisons, films)
    assert value(found, 'relative').value == 2.5 / 4
    assert value(found, 'relative').ties == 1 and value(found, 'absolute').ties is None
    for scale in (1e-9, 1e9):
        found = accuracies(comparisons, {name: scores * scale for name, scores in films.items()})
        assert value(found, 'relative').value == 2.5 / 4


def test_pairs_are_compared_by_the_mean_and_films_by_the_highest_window():
    comparisons, films = pairs(([0, 0, 5], [2, 2, 2]), ([1, 1, 1], [0, 0, 3]))
    found = accuracies(comparisons, films)
    assert value(found, 'relative').value == 0.25  # 5/3 < 2, 1 = 1
    assert value(found, 'relative').outcomes.tolist() == [0, 0.5]
    assert value(found, 'absolute').value == 2 / 4  # 5 and 1 against 2 and 3
    assert value(accuracies(comparisons, films, whole='mean'), 'absolute').value == (1 + 0.5) / 4


def test_pairs_are_also_compared_by_the_highest_window_where_films_are_judged_by_it():
    comparisons, films = pairs(([0, 0, 5], [2, 2, 2]), ([1, 1, 1], [0, 0, 3]), ([4, 1, 1], [4, 0, 0]))
    found = accuracies(comparisons, films)
    by_highest = value(found, 'relative_max')
    assert by_highest.outcomes.tolist() == [1, 0, 0.5] and by_highest.value == 0.5 and by_highest.pairs == 3
    assert by_highest.samples.min() == 0 and by_highest.samples.max() == 1
    assert {a.measure for a in accuracies(comparisons, films, whole='mean')} == {'relative', 'absolute'}


def test_absolute_accuracy_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, size=(40, 2))  # with ties
    comparisons, films = pairs(*scores.tolist())
    area = np.mean(
        [1.0 if ours > theirs else 0.5 * (ours == theirs) for ours in scores[:, 0] for theirs in scores[:, 1]]
    )
    one = value(accuracies(comparisons, films), 'absolute')
    assert one.value == pytest.approx(area, abs=1e-12) and one.samples.mean() == pytest.approx(area, abs=0.01)


def test_filtered_is_the_minimum_over_contexts_at_each_window():
    comparisons = [FilmPair('x', '0', 'i', 'p')]
    films = {'i': np.array([[1.0, 4.0], [6.0, 2.0]]), 'p': np.array([[2.0, 2.0], [2.0, 2.0]])}
    found = accuracies(comparisons, films, (2, 4))
    by_context = {c: value(found, 'relative', context=c).value for c in ('2', '4', FILTERED)}
    assert by_context == {'2': 1.0, '4': 1.0, FILTERED: 0.0}  # 3.5 and 3 above 2; (1 + 2) / 2 below
    assert value(found, 'absolute', context=FILTERED).value == 0.5  # 2 and 2


def test_the_mean_is_over_properties_whatever_their_number_of_scenes():
    first, of_first = pairs(*[(1, 0)] * 9, what='a')
    second, of_second = pairs((0, 1), what='b')
    found = accuracies(first + second, of_first | of_second)
    assert [a.property for a in found if a.measure == 'relative'] == ['a', 'b', MEAN]
    mean = value(found, 'relative', MEAN)
    assert (mean.value, mean.scenes, mean.pairs) == (0.5, 10, 10)


def test_intervals_are_bootstrapped_over_scenes():
    """A scene of several pairs counts as one: intervals are those of so many scenes, not of so many pairs."""
    rng = np.random.default_rng(1)
    comparisons, films = pairs(*[(rng.random() + 0.2, rng.random()) for _ in range(100)])
    one = value(accuracies(comparisons, films), 'relative')
    half = 1.96 * math.sqrt(one.value * (1 - one.value) / 100)
    assert one.high - one.low == pytest.approx(2 * half, rel=0.15) and one.low < one.value < one.high
    again = [FilmPair(c.property, c.scene, c.impossible, c.possible) for c in comparisons for _ in range(4)]
    repeated = value(accuracies(again, films), 'relative')
    assert (repeated.value, repeated.low, repeated.high) == (one.value, one.low, one.high)
    merged = [FilmPair('x', str(k // 2), c.impossible, c.possible) for k, c in enumerate(comparisons)]
    assert value(accuracies(merged, films), 'relative').scenes == 50
    area = value(accuracies(comparisons, films), 'absolute')
    assert area.low < area.value < area.high and 0.1 < area.high - area.low < 0.2
    assert value(accuracies(comparisons, films, seed=1), 'relative').low == pytest.approx(one.low, abs=0.03)


def test_differences_are_of_the_same_scenes():
    comparisons, films = pairs(*[(k % 2, 0.5) for k in range(40)])
    better = dict(films, x0i=films['x0i'] + 1)
    ours, theirs = (value(accuracies(comparisons, some), 'relative') for some in (better, films))
    difference, low, high = ours.above(theirs)
    assert difference == pytest.approx(1 / 40) and low == 0 and 0 < high <= 4 / 40  # not that of two independent ones


def test_untrained_networks_are_tested_by_welch_and_hedges():
    rng = np.random.default_rng(2)

    def network(shift):
        comparisons, films = pairs(*[(rng.normal(shift), rng.normal()) for _ in range(60)])
        return value(accuracies(comparisons, films), 'relative')

    model, others = network(2), [network(0) for _ in range(20)]
    result = compared_with_untrained(model, others)
    theirs = np.mean([one.outcomes for one in others], axis=0)
    test = ttest_ind(model.outcomes, theirs, equal_var=False, alternative='greater')
    assert (result['t'], result['p']) == (test.statistic, test.pvalue) and result['p'] < 1e-6
    assert result['mean'] == pytest.approx(np.mean([one.value for one in others])) and result['networks'] == 20
    pooled = math.sqrt((model.outcomes.var(ddof=1) + theirs.var(ddof=1)) / 2)
    g = (model.outcomes.mean() - theirs.mean()) / pooled * (1 - 3 / (4 * 118 - 1))
    assert result['hedges_g'] == pytest.approx(g)
    assert compared_with_untrained(others[0], [model])['p'] > 0.99  # one-sided
    certain = value(accuracies(*pairs((1, 0), (1, 0))), 'relative')
    assert compared_with_untrained(certain, [certain])['p'] is None


# ADEPT


def test_adept_gives_the_published_digits():
    result = measure_scores('adept', HERE / 'adept_block.json')
    assert not result.left_out and len(result.benchmark.comparisons) == 63
    classes = {(one.property, one.measure): one.value for one in result.classes['model']}
    assert classes == {
        ('all', 'relative'): 0.47619047619047616,
        ('all', 'absolute'): 0.4965986394557823,
        ('geometric', 'relative'): 0.25,
        ('geometric', 'absolute'): 0.4375,
        ('real-life', 'relative'): 0.5,
        ('real-life', 'absolute'): 0.5625,
        ('in-class', 'relative'): 0.5,
        ('in-class', 'absolute'): 0.49896694214876025,
        ('out-class', 'relative'): 0.45454545454545453,
        ('out-class', 'absolute'): 0.48760330578512395,
    }


def test_adept_controls_are_those_of_each_violation(tmp_path):
    names = {
        case: [f'human_{case}_bowling_pin_{k}' for k in range(6)]
        for case in ('disappear', 'disappear_fixed', 'overturn', 'discontinuous', 'delay', 'block')
    }
    scores = {name: float(name[-1]) for films in names.values() for name in films}
    scores['human_disappear_bowling_pin_3'] = 2.0  # a tie with the violation
    (tmp_path / 'scores.json').write_text(json.dumps(scores))
    result = measure_scores('adept', tmp_path / 'scores.json')
    values = {one.property: one.value for one in result.accuracies['model'] if one.measure == 'relative'}
    assert values == {
        'create': 1.5 / 3,  # 2 against 0, 2, 4
        'vanish': 1 / 3,  # 1 against 0, 3, 4
        'short-overturn': 0.0,  # 0 against 1
        'long-overturn': 1.0,  # 3 against 2
        'visible-discontinuous': 0.0,  # 2 against 3, 4, 5
        'invisible-discontinuous': 1 / 3,  # 1 against 0, 4, 5
        'delay': 1.0,
        'block': 1.0,
        'mean': pytest.approx((0.5 + 1 / 3 + 0 + 1 + 0 + 1 / 3 + 1 + 1) / 8),
    }
    (every,) = [one for one in result.classes['model'] if (one.property, one.measure) == ('all', 'absolute')]
    ours, theirs = [2, 1, 0, 3, 2, 1, 1, 1], [0, 2, 4, 0, 3, 4, 1, 2, 3, 4, 5, 0, 4, 5, 0, 0]
    assert every.value == pytest.approx(roc_auc_score([1] * 8 + [0] * 16, ours + theirs))
    assert [adept_class(shape) for shape in ('cone', 'truck', '0054', '0050')] == [
        'geometric',
        'real-life',
        'in-class',
        'out-class',
    ]
    del scores['human_delay_bowling_pin_0'], scores['human_overturn_bowling_pin_1']
    (tmp_path / 'scores.json').write_text(json.dumps(dict(scores, human_walk_cone_1=1.0)))
    told = '\n'.join(measure_scores('adept', tmp_path / 'scores.json').left_out)
    assert 'delay of bowling_pin: human_delay_bowling_pin_0 is missing' in told
    assert 'short-overturn of bowling_pin: human_overturn_bowling_pin_1 is missing' in told
    assert 'human_walk_cone_1: is not called' in told


# Layouts


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def compared(benchmark):
    return [(c.property, c.scene, c.impossible, c.possible) for c in benchmark.comparisons]


def test_pairs_in_a_folder_drawn_or_as_frames(tmp_path):
    touch(
        tmp_path,
        *(f'{p}/{k}/{film}.mp4' for p in ('fall', 'float') for k in '12' for film in ('possible', 'impossible')),
    )
    touch(tmp_path, 'fall/3/possible.mp4', 'fall/4/strange.mp4')
    benchmark = read_benchmark('pairs', tmp_path)
    assert compared(benchmark)[:2] == [
        ('fall', '1', 'fall/1/impossible', 'fall/1/possible'),
        ('fall', '2', 'fall/2/impossible', 'fall/2/possible'),
    ]
    assert len(benchmark.comparisons) == 4
    assert benchmark.films['fall/1/possible'].path == str(tmp_path / 'fall' / '1' / 'possible.mp4')
    assert sorted(benchmark.left_out) == [
        'fall/3/possible: has no partner',
        'fall/4/strange: is called neither possible nor impossible, without an ending',
    ]
    drawn = read_benchmark('pairs', 'drawn-violations:2@7:wall')
    assert compared(drawn)[1] == ('wall', '000001', 'wall/000001/impossible', 'wall/000001/possible')
    assert drawn.films['wall/000001/possible'].path == 'drawn-violations:7/wall/000001/possible'
    for film in ('possible', 'impossible'):
        write_frames(tmp_path / 'frames' / '1' / film, [1, 2])
    frames = read_benchmark('pairs', f'{tmp_path}/frames:frames@10')
    assert compared(frames) == [('all', '1', '1/impossible', '1/possible')]
    assert probe(frames.films['1/possible'].path).duration == 0.2
    with pytest.raises(ValueError, match='nothing can be compared.*neither possible nor'):
        read_benchmark('pairs', tmp_path / 'fall' / '4')
    with pytest.raises(ValueError, match="layout='intphys3': must be one of"):
        read_benchmark('intphys3', tmp_path)


def write_frames(folder, grays):
    folder.mkdir(parents=True)
    for k, gray in enumerate(grays):
        Image.new('L', (8, 8), gray).save(folder / f'scene_{k + 1:03}.png')


def write_intphys(folder, films):
    """A scene: (possible, gray values of its frames) of each film."""
    for k, (possible, grays) in enumerate(films):
        write_frames(folder / str(k + 1) / 'scene', grays)
        write_frames(folder / str(k + 1) / 'depth', grays)
        (folder / str(k + 1) / 'status.json').write_text(json.dumps({'header': {'is_possible': possible}}))


def test_intphys_pairs_films_with_the_longest_identical_beginning(tmp_path):
    there, gone = [5] * 6, [0] * 6
    four = [(True, there), (True, gone), (False, [5, 5, 5, 0, 0, 0]), (False, [0, 0, 0, 0, 5, 5])]
    write_intphys(tmp_path / 'dev' / 'O1' / '01', four)
    write_intphys(tmp_path / 'dev' / 'O2' / '07', [four[3], four[0], four[1], four[2]])
    # Both possible films begin as the first impossible one does; the second shares more with it.
    late = [(True, [1, 1, 2, 2]), (True, [1, 1, 1, 2]), (False, [1, 1, 1, 3]), (False, [1, 1, 2, 3])]
    write_intphys(tmp_path / 'dev' / 'O3' / '02', late)
    write_intphys(tmp_path / 'dev' / 'O3' / '03', [(True, there), (True, gone), (True, there), (False, gone)])
    write_intphys(tmp_path / 'dev' / 'O3' / '04', four[:3])
    write_intphys(tmp_path / 'dev' / 'O3' / '05', four)
    (tmp_path / 'dev' / 'O3' / '05' / '2' / 'scene' / 'scene_003.png').unlink()
    for folder in (tmp_path, tmp_path / 'dev'):
        benchmark = read_benchmark('intphys', folder)
        assert sorted(compared(benchmark)) == [
            ('O1', '01', 'O1/01/3', 'O1/01/1'),
            ('O1', '01', 'O1/01/4', 'O1/01/2'),
            ('O2', '07', 'O2/07/1', 'O2/07/3'),
            ('O2', '07', 'O2/07/4', 'O2/07/2'),
            ('O3', '02', 'O3/02/3', 'O3/02/2'),
            ('O3', '02', 'O3/02/4', 'O3/02/1'),
        ]
        three, missing, gap = benchmark.left_out
        assert three.endswith('03: 3 of its four films are possible, not two')
        assert missing.endswith('status.json is missing')
        assert 'between scene_002.png and scene_004.png images are missing' in gap
    film = benchmark.films['O1/01/3']
    assert probe(film.path).fps == 15 and read_clip(film.path, start=0.2).frames[0, 0, 0].tolist() == [0, 0, 0]
    with pytest.raises(FileNotFoundError, match='no folders O1, O2, O3'):
        read_benchmark('intphys', tmp_path / 'dev' / 'O1' / '01')


def test_grasp_pairs_files_of_one_name(tmp_path):
    touch(tmp_path, *(f'level2/{kind}_Collision/{k}.mp4' for kind in ('P', 'IP') for k in (1, 2)))
    touch(tmp_path, 'level2/P_Gravity/3.mp4', 'level2/IP_Gravity/4.mp4', 'level2/other/1.mp4')
    benchmark = read_benchmark('grasp', tmp_path / 'level2')
    assert compared(benchmark) == [('Collision', str(k), f'IP_Collision/{k}', f'P_Collision/{k}') for k in (1, 2)]
    assert sorted(benchmark.left_out) == [
        'IP_Gravity/4: has no partner',
        'P_Gravity/3: has no partner',
        'other/1: is in no folder P_... or IP_...',
    ]
    assert len(read_benchmark('grasp', tmp_path).comparisons) == 2


def test_inflevel_begins_after_the_priming_and_the_longer_film_loses_its_head(tmp_path):
    (tmp_path / 'gravity').mkdir()
    write_video(tmp_path / 'gravity' / 'a.mp4', 30)
    write_video(tmp_path / 'gravity' / 'b.mp4', 40)
    names = ('path', 'label', 'start_priming_1', 'end_priming_1', 'start_priming_2', 'end_priming_2')
    header = [f'vid{k}_{name}' for k in (1, 2) for name in names]

    def row(first, last, labels=('possible', 'impossible'), files=('a', 'b')):
        films = zip(files, labels, (first, last), strict=True)
        return [cell for file, label, end in films for cell in (f'gravity/{file}.mp4', label, 0, 2, 3, end)]

    rows = [
        row(9, 9),  # 20 frames of a and 30 of b come after: 10 more of b are left out
        row(4, 24, ('impossible', 'possible')),  # 25 of a, 15 of b
        row(9, 9, ('possible', 'possible')),
        row(29, 9),
        row(9, 9, files=('a', 'c')),
    ]
    with (tmp_path / 'gravity.csv').open('w', newline='') as file:
        csv.writer(file).writerows([header, *rows])
    benchmark = read_benchmark('inflevel', tmp_path)
    assert compared(benchmark) == [
        ('gravity', 'gravity 1', 'gravity/b from frame 20', 'gravity/a from frame 10'),
        ('gravity', 'gravity 2', 'gravity/a from frame 15', 'gravity/b from frame 25'),
    ]
    starts = {name: film.start for name, film in benchmark.films.items()}
    rate = probe(tmp_path / 'gravity' / 'a.mp4').fps
    assert starts == {name: pytest.approx(int(name.split()[-1]) / rate) for name in starts}
    both, ends, gone = benchmark.left_out
    assert both == 'gravity.csv, row 3: one film is possible and one impossible, not possible and possible'
    assert ends == 'gravity.csv, row 4: gravity/a.mp4: its 30 frames end with the priming'
    assert gone.startswith('gravity.csv, row 5') and 'no such file' in gone
    (tmp_path / 'gravity.csv').write_text('vid1_path\nx\n')
    with pytest.raises(ValueError, match="has no column 'vid1_label'"):
        read_benchmark('inflevel', tmp_path)


def test_intphys2_pairs_films_of_one_take(tmp_path):
    types = ('1_Possible', '1_Impossible', '2_Possible', '2_Impossible')
    films = [(scene, f'{scene}_{kind}.mp4', 'permanence', kind) for scene in ('0', '124_0') for kind in types]
    films += [('7', '7_1.mp4', 'solidity', '1_Possible'), ('8', '8_1.mp4', 'solidity', '1_Unsure')]
    films += [('9', 'gone.mp4', 'solidity', '1_Impossible')]
    touch(tmp_path / 'Main', *(name for _, name, *_ in films[:-1]))
    with (tmp_path / 'Main' / 'metadata.csv').open('w', newline='') as file:
        csv.writer(file).writerows([('SceneIndex', 'file_name', 'condition', 'type'), *films])
    for folder in (tmp_path, tmp_path / 'Main'):
        benchmark = read_benchmark('intphys2', folder)
        assert compared(benchmark) == [
            ('permanence', scene, f'{scene}_{take}_Impossible', f'{scene}_{take}_Possible')
            for scene in ('0', '124_0')
            for take in '12'
        ]
        unsure, gone, alone = benchmark.left_out
        assert "8_1.mp4: its type '1_Unsure'" in unsure and 'gone.mp4: no such file' in gone
        assert alone == '7_1: has no partner in scene 7, take 1'


def test_a_folder_of_another_layout_is_refused_in_words(tmp_path):
    touch(tmp_path, 'a.mp4')
    for layout in LAYOUTS:
        with pytest.raises((ValueError, FileNotFoundError), match=r'nothing can be compared|has no'):
            read_benchmark(layout, tmp_path)
        if layout != 'pairs':
            with pytest.raises(FileNotFoundError, match='no such folder'):
                read_benchmark(layout, tmp_path / 'x')


# Scores of other people


def test_scores_of_other_people(tmp_path):
    file = tmp_path / 'scores.json'
    films = {
        f'fall/{k}/{film}': {'2': [1.0, score], '4': [3.0, score]}
        for k in '12'
        for film, score in (('possible', 2.0), ('impossible', 2.0 + int(k) - 1))
    }
    file.write_text(json.dumps(films | {'fall/3/possible': {'2': [1], '4': [1]}}))
    result = measure_scores('pairs', file)
    assert result.find('model', 'relative', 'fall', '4').value == 0.75
    assert result.find('model', 'relative', 'fall', FILTERED).value == 0.75
    assert result.left_out == ['fall/3/possible: has no partner']
    for wrong, reason in (
        ([], 'JSON object'),
        ({}, 'none in it'),
        ({'a': 'x'}, 'could not convert'),
        ({'a': {'2': [1, 2], '4': [1]}}, 'inhomogeneous'),
        ({'a': {'2': [1]}, 'b': 1}, 'others have'),
        ({'a': math.nan}, 'no finite numbers'),
    ):
        file.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=f'scores are a JSON object.*{reason}|{reason}'):
            measure_scores('pairs', file)
    file.write_text(json.dumps({'O1/01/1': 1.0}))
    with pytest.raises(ValueError, match='name the folder too'):
        measure_scores('intphys', file)


# Models


@pytest.fixture(scope='module')
def mae():
    torch.manual_seed(0)
    return timm.create_model('mae_t14_st').eval()


def test_a_model_is_measured_by_its_series(mae):
    benchmark = read_benchmark('pairs', 'drawn-violations:2@7:teleport')
    options = dict(contexts=(4, 12), frame_step=7)
    result = measure(mae, benchmark, **options)
    series = {
        one.path: one for one in surprise(mae, [film.path for film in benchmark.films.values()], **options).series
    }
    right = {who: 0.0 for who in ('model', 'zero', 'copy')}
    for number in range(2):
        films = [series[f'drawn-violations:7/teleport/{number:06}/{film}'] for film in ('impossible', 'possible')]
        for who in right:
            ours, theirs = (
                (one.scores if who == 'model' else one.baselines[who])[:, 1].double().mean().item() for one in films
            )
            right[who] += (ours > theirs) / 2
    assert {who: result.find(who, 'relative', 'teleport', '12').value for who in right} == right


def test_networks_that_are_done_are_not_done_again(mae, tmp_path):
    benchmark = read_benchmark('pairs', 'drawn-violations:2@7:teleport')
    made = []

    def network(fails=False):
        def make():
            if fails:
                raise KeyboardInterrupt
            made.append(copy.deepcopy(mae))
            with torch.no_grad():
                made[-1].decoder_pred.weight.mul_(0.5 + len(made) % 3)
            return made[-1]

        return make

    def run(out, *fails):
        scored = Counter()
        encode = type(mae).forward_encoder

        def counted(model, *args, **kwargs):
            scored[id(model)] += 1
            return encode(model, *args, **kwargs)

        made.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(mae), 'forward_encoder', counted)
            options = dict(contexts=(8,), frame_step=7, out=out, untrained=[network(fail) for fail in fails])
            result = measure(mae, benchmark, **options)
        return result, [scored[id(model)] for model in (mae, *made)]

    whole, wanted = run(tmp_path / 'whole', False, False, False)
    assert all(wanted) and len(wanted) == 4
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'parts', False, False, True)
    parts, done = run(tmp_path / 'parts', False, False, False)
    assert done[:3] == [0, 0, 0] and done[3] == wanted[3]
    assert parts.rows() == whole.rows() and parts.untrained == whole.untrained
    for out in (tmp_path / 'whole', tmp_path / 'parts'):
        assert not list(out.rglob('*.unfinished'))


def test_films_that_cannot_be_scored_are_told(mae):
    """InfLevel: where a film begins is where its first window does."""
    films = {
        name: Film(f'drawn-violations:7/vanish/00000{k}/possible', start)
        for k, (name, start) in enumerate((('i0', 0.5), ('p0', 0.0), ('i1', 0.0), ('p1', 4.0)))
    }
    films['i2'] = Film(films['p0'].path, 0.75)  # the same file from another place
    benchmark = Benchmark('inflevel', films, [FilmPair('x', k, f'i{k}', f'p{k}') for k in '01'])
    benchmark.comparisons.append(FilmPair('x', '2', 'i2', 'p0'))
    result = measure(mae, benchmark, contexts=(8,), frame_step=7, report=lambda path, reason: None)
    assert [c.scene for c in result.benchmark.comparisons] == ['0', '2'] and result.failed == 1
    short, partner = result.left_out
    assert 'lasts 0.50 s from 4 s on, which is shorter than a window' in short
    assert partner == 'i1: its partner p1 has no score'
    with pytest.raises(VideoError, match='shorter than a window'):
        measure(mae, benchmark, contexts=(8,), frame_step=20, report=lambda path, reason: None)


def test_the_command_prints_and_writes_accuracies(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grays = list(range(0, 240, 12))
    for scene, films in (('1', (grays, grays[::-1])), ('2', (grays, grays[:9]))):
        for film, values in zip(('possible', 'impossible'), films, strict=True):
            write_frames(tmp_path / 'films' / 'fall' / scene / film, values)
    run = ['surprise', '--benchmark', 'pairs', 'films:frames@30', '--model', 'mae_shapes_none', '--device', 'cpu']
    run += ['--contexts', '4,8', '--frame-step', '1', '--num-workers', '0', '--untrained', '2', '--out', 'out']
    assert main(run) == 1
    out, err = capsys.readouterr()
    assert 'relative accuracy  pairs  scores     C = 4' in out and 'C = 8' in out and 'filtered' in out
    assert 'by highest window  pairs  scores     C = 4' in out
    assert [line.split()[0] for line in out.splitlines() if 'untrained' in line] == ['untrained', 'untrained']
    assert 'shorter than a window' in err and 'fall/2/possible: its partner fall/2/impossible has no score' in err
    assert err.count('shorter than a window') == 2  # as it is read, and among what is left out; not for each network
    assert 'what predicts zeros does as well as the model in: fall (the 95% interval' in err
    rows = list(csv.DictReader((tmp_path / 'out' / 'accuracy.csv').open(newline='')))
    assert {row['scores'] for row in rows} == {'model', 'zero', 'copy', 'untrained 0', 'untrained 1'}
    told = json.loads((tmp_path / 'out' / 'benchmark.json').read_text())
    assert {row['measure'] for row in told['untrained']} == {'relative', 'relative_max'}
    assert told['frame_step'] == 1 and told['untrained_networks'] == 2 and len(told['untrained']) == 6
    assert told['comparisons'][0]['impossible'] == 'fall/1/impossible' and told['checksum']
    assert main([*run, '--contexts', '6']) == 2
    assert 'holds the results of another run (contexts' in capsys.readouterr().err


def test_the_command_takes_scores_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['surprise', '--benchmark', 'adept', '--scores', str(HERE / 'adept_block.json'), '--out', 'out']) == 0
    out = capsys.readouterr().out
    assert 'block' in out and '47.6% (' in out and '0.49896694214876025' in out
    assert main(['methods', 'out']) == 0
    methods = capsys.readouterr().out
    assert 'Surprise is what adept_block.json says of each film. The films are those of ADEPT' in methods
    assert 'masked' not in methods and 'aseline' not in methods  # nothing was predicted
    assert main(['surprise', '--scores', 'scores.json']) == 2
    assert 'name it with --benchmark' in capsys.readouterr().err
    assert main(['surprise', '--benchmark', 'grasp', '--out', 'out2']) == 2
    assert 'name the folder of the benchmark' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ('violation', 'measure_by', 'options'),
    [
        ('teleport', 'relative', dict(frame_step=4, offset=1.6)),
        ('vanish', 'relative_max', dict(frame_step=2, offset=28 / 15)),
    ],
)
def test_what_happens_in_the_open_is_found_by_the_shipped_model(violation, measure_by, options):
    """Above chance and above every baseline, the intervals included; the seed is of no training.

    As in docs/howto/violations.md, with every second of the later windows: in the earlier ones both films are the same.
    """
    benchmark = read_benchmark('pairs', f'drawn-violations:100@20261128:{violation}')
    result = measure(load_model('mae_shapes_none'), benchmark, contexts=(4,), stride=4, **options)
    ours, *baselines = (result.find(who, measure_by, violation, '4') for who in ('model', 'zero', 'copy'))
    assert ours.low > 0.5 and ours.pairs == 100
    assert all(ours.above(theirs)[1] > 0 for theirs in baselines)


@pytest.mark.slow
@pytest.mark.parametrize('violation', ['vanish', 'shape', 'color'])
def test_what_happens_in_the_open_is_found_by_the_shipped_generator(violation):
    """The same of the likelihood, whose only baseline is the fraction of codes that change; of later windows."""
    benchmark = read_benchmark('pairs', f'drawn-violations:100@20261128:{violation}')
    options = dict(score='nll', contexts=(4,), frame_step=4, stride=5, offset=1.6)
    result = measure(load_model('gen_shapes_64'), benchmark, **options)
    ours, theirs = (result.find(who, 'relative', violation, '4') for who in ('model', 'copy'))
    assert ours.low > 0.5 and ours.pairs == 100
    assert ours.above(theirs)[1] > 0
