"""What each command did, in the sentences of a methods section."""

from collections.abc import Callable, Mapping
from typing import Any

from ..text import counted
from .citations import in_text
from .wording import UNKNOWN, are_images, block_of, file_of, inputs_of, name_of, sampling_of, seed_of, stimuli_of

SENTENCES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {}


def _of(*commands: str) -> Callable[[Callable[..., list[str]]], Callable[..., list[str]]]:
    def register(function: Callable[..., list[str]]) -> Callable[..., list[str]]:
        SENTENCES.update(dict.fromkeys(commands, function))
        return function

    return register


@_of('embed')
def _embed(record: Mapping[str, Any]) -> list[str]:
    options = record['options']
    tokens = {'class': 'the class token', 'mean': 'the mean of the patch tokens', 'all': 'all patch tokens'}
    what, blocks = tokens.get(options.get('tokens'), 'tokens'), options.get('blocks')
    where = f'of blocks {", ".join(map(str, blocks))} (counted from 0, or from the end if negative)' if blocks else ''
    where = where or "of the model's output"
    norm = ", after the model's final layer norm" if blocks and options.get('norm') else ''
    if options.get('at'):
        clips = f'one clip at each of the times that {name_of(options["at"])} gives and that lie in it'
    elif options.get('stride'):
        clips = f'one clip every {options["stride"]:g} s'
    else:
        number = options.get('num-clips', 1)
        clips = 'one clip, centered in time' if number == 1 else f'{number} clips, spread evenly'
    stimuli = inputs_of(record)
    if options.get('manifest'):
        among = '' if stimuli == UNKNOWN else f' among {stimuli}'
        told = next((entry.get('files') for entry in record.get('inputs', ()) if entry.get('listed')), None)
        number = f'{told:,} ' if isinstance(told, int) else ''
        stimuli = f'the {number}stimuli that {name_of(options["manifest"])} lists{among}'
    text = [f'We extracted features of {stimuli}: {what} {where}{norm}.']
    if not are_images(record):
        text.append(f'Of each video we took {clips}.')
    align = options.get('align')
    if (options.get('stride') or options.get('at')) and align:
        ends = {'causal': 'ends', 'start': 'begins', 'center': 'is centered'}
        text.append(f'The window of a row {ends.get(align, "lies")} at its time.')
    if options.get('strict'):
        text.append('Rows with frames that were damaged or beyond the ends of the video were left out.')
    return [*text, sampling_of(record)]


@_of('export')
def _export(record: Mapping[str, Any]) -> list[str]:
    formats = dict(mat='MATLAB', hdf5='HDF5', netcdf='NetCDF', csv='CSV', devbench='DevBench')
    to = record['options'].get('to')
    return [f'Features were exported to {formats.get(to, to)}.']


_RSA = dict(spearman="Spearman's rho", kendall="Kendall's tau", cosine='cosine similarity')


@_of('compare')
def _compare(record: Mapping[str, Any]) -> list[str]:
    options = record['options']
    number = len(options.get('features') or ())
    if options.get('brain'):
        text = f'We predicted responses ({file_of(record, options["brain"])}) from features{_rows(record)}, block '
        text += f'by block, by ridge regression with {options.get("folds")}-fold nested cross-validation'
        if options.get('projection'):
            text += f', after a sparse random projection to {options["projection"]:,} dimensions'
        text += '; accuracy is the Pearson correlation of predicted and measured responses'
        if options.get('permutations'):
            text += f', tested with {options["permutations"]:,} permutations'
        return [f'{text} (random seed {options.get("seed")}).', *_of_channels(record)]
    words = {'cka': f'debiased linear CKA{in_text("cka")}', 'procrustes': 'Procrustes distance'}
    measures = options.get('measures') or []
    rsa = [name for name in measures if name in ('spearman', 'kendall', 'cosine')]
    words |= {name: f'RSA by {_RSA[name]}{in_text("rsa") if name == rsa[0] else ""}' for name in rsa}
    by = ' and '.join(str(words.get(name, name)) for name in measures)
    text = f'We compared {counted(number, "file")} of features{_rows(record)} by {by}'
    if rsa:
        text += f', RSA with {options.get("dissimilarity")} dissimilarities'
        if options.get('bootstraps'):
            text += f' and 95% intervals from {options["bootstraps"]:,} bootstrap samples of the stimuli'
            text += in_text('rsatoolbox')
    if options.get('behavior'):
        text += f', and with behavior ({file_of(record, options["behavior"])})'
        if any(str(output.get('path')).startswith('behavior_triplets') for output in record.get('outputs', ())):
            text += ' by how often the two most similar stimuli of a triplet are those that people left together'
    text = f'{text} (random seed {options.get("seed")}).'
    if ceiling := record.get('settings', {}).get('noise_ceiling'):
        text += f' The noise ceiling is {ceiling[0]:.3f} to {ceiling[1]:.3f}: how often the majority, without and with '
        text += "a person, gives that person's answer."
    return [text]


def _rows(record: Mapping[str, Any]) -> str:
    """Of how many stimuli something is, and by how many rows; '' if that is not known."""
    rows, stimuli = (record.get('settings', {}).get(name) for name in ('rows', 'stimuli'))
    several = f' ({counted(rows, "row")})' if rows != stimuli else ''
    return f' of {counted(stimuli, "stimulus")}{several}' if stimuli else ''


def _of_channels(record: Mapping[str, Any]) -> list[str]:
    """What was found in how many channels."""
    settings, text = record.get('settings', {}), []
    number, ceiling = settings.get('channels'), settings.get('median_noise_ceiling')
    if below := settings.get('channels_below'):
        each = ' and '.join(f'{found:,} of {number:,} ({name})' for name, found in below.items())
        text.append(
            f'The block that the training rows chose predicted {each} channels at a false discovery rate over channels '
            f'below {settings.get("q_below")}{in_text("fdr")}.'
        )
    if ceiling is not None:
        text.append(
            f'The median of the noise ceilings ({name_of(record["options"].get("noise-ceiling"))}) is {ceiling:.3f}.'
        )
    return text


@_of('evaluate')
def _evaluate(record: Mapping[str, Any]) -> list[str]:
    options = record['options']
    views = options.get('views') or ('random' if options.get('train-jitter-scales') else '1x1')
    how = 'one random clip and crop' if views == 'random' else 'one central clip and crop'
    if views not in ('random', '1x1'):
        clips, _, crops = views.partition('x')
        how = f'{counted(int(clips), "clip")} times {counted(int(crops), "crop")}, whose probabilities were averaged'
    text = f'We measured top-1 and top-5 accuracy on {inputs_of(record)}, with {how} of each file'
    return [f'{text} and 95% Wilson intervals.', sampling_of(record)]


@_of('probe')
def _probe(record: Mapping[str, Any]) -> list[str]:
    options = record['options']
    words = dict(linear='logistic regression', neighbours='k nearest neighbors', attentive='an attentive probe')
    probes = [str(words.get(name, name)) for name in options.get('probes') or ()]
    train, val = options.get('train'), options.get('val')
    text = (
        f'On frozen features we fitted {" and ".join(probes)} to {inputs_of(record, train)} and measured accuracy on '
        f'{inputs_of(record, val)}, which were held out, with 95% Wilson intervals'
    )
    if 'attentive' in (options.get('probes') or ()):
        text += f'; the attentive probe was trained for {counted(options.get("epochs"), "epoch")}'
    return [f'{text} (random seed {options.get("seed")}).', sampling_of(record)]


@_of('complete')
def _complete(record: Mapping[str, Any]) -> list[str]:
    options = record['options']
    if options.get('mask-file') or options.get('mask-box'):
        mask = 'in a region of our own choice'
    else:
        ratio = record.get('settings', {}).get('mask_ratio') or options.get('mask-ratio')
        kinds = dict(random='at random', temporal='at the end of the clip', center='in the middle of its time')
        part = f'{100 * ratio:g}% of the tokens' if ratio else 'as many tokens as in training'
        mask = f'{kinds.get(options.get("mask-type"), "")} ({part})'
    text = (
        f'We masked tokens of {inputs_of(record)} {mask} and show what the model predicts for them{seed_of(options)}.'
    )
    return [text, sampling_of(record)]


@_of('attend')
def _attend(record: Mapping[str, Any]) -> list[str]:
    options = record['options']
    heads = 'of each head' if options.get('heads') else 'averaged over heads'
    text = f'Attention is that of the class token in {block_of(record)}, {heads}, for {inputs_of(record)}'
    if options.get('threshold'):
        text += f'; we show the smallest set of patches that holds {100 * options["threshold"]:g}% of it'
    return [f'{text}.', sampling_of(record)]


@_of('pca')
def _pca(record: Mapping[str, Any]) -> list[str]:
    text = (
        f'Patch tokens of {block_of(record)} are shown as colors: their first three principal components, of one PCA '
        f'over all frames of {inputs_of(record)}.'
    )
    return [text, sampling_of(record)]


@_of('similar')
def _similar(record: Mapping[str, Any]) -> list[str]:
    patch = ', '.join(map(str, record['options'].get('patch') or ()))
    text = (
        f'Maps show the cosine similarity of the token of patch ({patch}) to all others, in {block_of(record)}, for '
        f'{inputs_of(record)}.'
    )
    return [text, sampling_of(record)]


@_of('propagate')
def _propagate(record: Mapping[str, Any]) -> list[str]:
    options = record['options']
    own = bool(options.get('labels'))
    split = record.get('settings', {}).get('split') or 'val'
    over = 'a video' if own else f'the videos of DAVIS 2017{in_text("davis")}, {split}'
    frames = 'the frames around it' if options.get('clips') else 'the frame itself, repeated for models of clips'
    near = f'within {options["radius"]} patches' if options.get('radius') else 'anywhere'
    text = (
        f'Labels of the first frame of {over} were propagated by the similarity of patch tokens of {block_of(record)} '
        f'(input: {frames}; short side {options.get("short-side")} pixels): each patch takes the labels of its '
        f'{options.get("topk")} nearest neighbors {near} in the first frame and the '
        f'{options.get("num-previous")} frames before.'
    )
    return [text, *([] if own else ['J and F are region similarity and contour accuracy.'])]


_BENCHMARKS = dict(pairs='pairs of our own', intphys='IntPhys', grasp='GRASP', inflevel='InfLevel-lab', adept='ADEPT')
_BENCHMARKS['intphys2'] = 'IntPhys 2'


@_of('surprise')
def _surprise(record: Mapping[str, Any]) -> list[str]:
    settings = {name.replace('_', '-'): value for name, value in record.get('settings', {}).items()}
    options = {**record['options'], **settings}
    score = {'mse': 'the squared error of the masked pixels', 'nll': 'the negative log-likelihood of the codes in nats'}
    score['l1'] = 'the absolute error of pixels that are normalized in each tubelet'
    if options.get('scores'):
        return [f'Surprise is what {name_of(options["scores"])} says of each film. {_accuracies(record, options)}']
    contexts = options.get('contexts') or []
    seen = f'the first {", ".join(map(str, contexts))} frames of a window' if contexts else 'a part of each window'
    rate = options.get('frame-rate') or 'file'
    rate = 'of the file' if rate == 'file' else f'at {float(rate):g} per second'
    text = [
        f'Surprise is {score.get(str(options.get("score")), "the error")} that the model predicts from {seen}, for '
        f'{inputs_of(record)}; frames of a window are {options.get("frame-step")} frames ({rate}) apart, and windows '
        f'begin every {options.get("stride")} frames of a window.'
    ]
    if options.get('mask-type') not in (None, 'context'):
        text.append(
            f'Masks were those of training ({options["mask-type"]}, {counted(options.get("num-masks"), "mask")}).'
        )
    if options.get('benchmark'):
        baselines = 'Baselines predict zero or repeat the last visible frame.'
        if options.get('score') == 'nll':
            baselines = 'The baseline is the fraction of codes that differ from those of the last visible frame.'
        text += [_accuracies(record, options), baselines]
    return [*text, sampling_of(record, windows=True)]


def _accuracies(record: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    name = options['benchmark']
    films = _BENCHMARKS.get(name, name)
    if name == 'pairs' and any(entry.get('drawn') for entry in stimuli_of(record)):
        films = 'synthetic pairs'
    highest = '' if name == 'adept' else ' over its windows (or the highest window)'
    return (
        f'The films are those of {films}: relative accuracy is how often the impossible film of a pair has the higher '
        f'mean{highest}, absolute accuracy the area under the ROC curve, with 95% intervals bootstrapped over scenes.'
    )


@_of('generate')
def _generate(record: Mapping[str, Any]) -> list[str]:
    options = {**record['options'], **record.get('settings', {})}
    what = counted(options.get('number'), 'sample')
    if options.get('continue') or options.get('complete'):
        what = f'{counted(options.get("samples") or 1, "completion")} of each of {inputs_of(record)}'
    if options.get('continue') and options.get('context'):
        what += f', given the first {options["context"]} frames of a clip,'
    if options.get('num-frames'):
        what += (
            f' to {options["num-frames"]} frames' if options.get('continue') else f' of {options["num-frames"]} frames'
        )
    top_p = f', top-p {options["top_p"]:g}' if options.get('top_p') else ''
    text = (
        f'We sampled {what} at temperature {options.get("temperature")}, top-k {options.get("top_k")}{top_p}'
        f'{seed_of(options)}.'
    )
    return [text]


@_of('reconstruct')
def _reconstruct(record: Mapping[str, Any]) -> list[str]:
    text = f'We encoded {inputs_of(record)} as codes and decoded these again; we give PSNR and nats per code.'
    return [text, sampling_of(record)]


@_of('fid')
def _fid(record: Mapping[str, Any]) -> list[str]:
    features = record['options'].get('features')
    where = 'of the Inception network' if features is None else 'of the model above'
    return [f'Generated and real samples are compared by the Fréchet distance{in_text("fid")} of features {where}.']


@_of('pretrain', 'finetune', 'pretrain-tokenizer', 'pretrain-prior')
def _train(record: Mapping[str, Any]) -> list[str]:
    options, command = record['options'], record['command'][1]
    goal = {
        'pretrain': 'as a masked autoencoder',
        'finetune': 'to classify',
        'pretrain-tokenizer': 'as a tokenizer (3-D VQGAN)',
        'pretrain-prior': 'as a GPT over the codes of a tokenizer',
    }[command]
    length = counted(options.get('steps'), 'step') if options.get('steps') else f'{options.get("epochs"):g} epochs'
    processes = record.get('machine', {}).get('processes', 1)
    batch = (options.get('batch-size') or 1) * (options.get('accumulate') or 1) * processes
    betas = ', '.join(map(str, options.get('betas') or ()))
    warmup = f' with a warm-up over {100 * options["warmup"]:g}% of the steps' if options.get('warmup') else ''
    clipped = f', gradient norm clipped to {options["clip-grad"]}' if options.get('clip-grad') else ''
    files = inputs_of(record, options['train']) if options.get('train') else inputs_of(record)
    optimizer = 'Muon' if options.get('opt') == 'muon' else 'AdamW'
    weights = options.get('weights') if command in ('pretrain-tokenizer', 'pretrain-prior') else None
    start = f', going on from {name_of(weights)},' if weights else ''
    text = [
        f'We trained the model {goal}{start} on {files} for {length} with batches of {batch} and {optimizer} '
        f'(learning rate {options.get("lr")}, cosine schedule{warmup}, weight decay {options.get("weight-decay")}, '
        f'betas {betas}{clipped}){seed_of(options)}.'
    ]
    if command == 'pretrain':
        ratio = ', '.join(f'{100 * one:g}%' for one in options.get('mask-ratio') or ()) or 'the default fraction'
        text.append(f'Masks: {", ".join(options.get("mask-type") or ())}, {ratio} of the tokens.')
    if alone := options.get('encode-alone'):
        text.append(
            f'With a probability of {alone:g}, the first frames of a clip (a random number of them in each batch) were '
            f'encoded alone.'
        )
    if command == 'finetune':
        parts = [
            f'{name.replace("-", " ")} {options[name]}'
            for name in ('mixup', 'cutmix', 'smoothing', 'layer-decay', 'drop-path')
            if options.get(name)
        ]
        parts += ['only the head was trained'] * bool(options.get('freeze'))
        parts += [f'low-rank adapters of rank {options["lora"]}'] if options.get('lora') else []
        if parts:
            text.append(f'Further settings: {", ".join(parts)}.')
        if options.get('val'):
            text.append(f'It was validated on {inputs_of(record, options["val"])}.')
    return [*text, sampling_of(record)]
