"""The commands that run models: embed, complete, attend, pca, evaluate, classify, probe."""
import argparse
import csv
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ..synthetic import is_drawn
from ..text import printable
from ..video import ALIGNMENTS, COMPLETION, RECOGNITION, Job, Sampling, View, Views, find_media, find_videos, load_views
from .common import (
    add_command,
    add_drawing,
    add_files,
    add_model,
    add_reading,
    add_span,
    check_out,
    complain,
    count,
    drawn,
    files,
    load,
    names_of,
    number,
    progress,
    short_name,
    shown,
    table,
    tell_shared,
    unique_stems,
    view_options,
)


def add_to(commands: Any) -> None:
    """Add these commands to the parser."""
    sub = add_command(commands, _embed, 'Turn videos or images into features, one row a clip.', shared=True)
    add_files(sub, 'video files (or image files)')
    add_model(sub)
    sub.add_argument('--tokens', choices=['class', 'mean', 'all'], default='class',
                     help='the class token, the mean of the patch tokens, or all of them as a map '
                          '(default: %(default)s)')
    sub.add_argument('--blocks', type=_numbers, metavar='B,B,...',
                     help='of these blocks, counted from 0 or, negative, from the end (default: the end of the model)')
    sub.add_argument('--norm', action='store_true', help="apply the model's final norm to the tokens of every block")
    how = sub.add_mutually_exclusive_group()
    how.add_argument('--num-clips', type=count, default=1, metavar='N',
                     help='clips spread evenly over each video; one is centred (default: %(default)s)')
    how.add_argument('--stride', type=float, metavar='SECONDS', help='a clip every so many seconds instead')
    sub.add_argument('--align', choices=list(ALIGNMENTS), default='center',
                     help="where in its window a row's time stands; causal: at the end (default: %(default)s)")
    add_span(sub, RECOGNITION.span)
    sub.add_argument('--batch-size', type=count, default=4, metavar='N', help='clips at a time (default: %(default)s)')
    sub.add_argument('--out', type=Path, default=Path('features.npz'), metavar='FILE',
                     help='.npz, .safetensors, or a folder of memory-mapped arrays (a name without ending) '
                          '(default: %(default)s)')
    sub.add_argument('--force', action='store_true',
                     help='replace FILE even if it holds something else, and start an unfinished run over')

    sub = add_command(commands, _complete, 'Show what a masked autoencoder fills in.')
    add_files(sub, 'video files')
    add_model(sub)
    add_drawing(sub, 'completions')
    sub.add_argument('--mask-type', choices=['random', 'temporal', 'center'], default='random',
                     help='drop tokens at random, at the end, or in the middle (default: %(default)s)')
    sub.add_argument('--mask-ratio', type=number(0, 1, below=True), default=0.9, metavar='SHARE',
                     help='share of the tokens that is dropped (default: %(default)s)')
    own = sub.add_mutually_exclusive_group()
    own.add_argument('--mask-file', type=Path, metavar='FILE',
                     help="a mask of your own instead: .npy, boolean (T', H', W'), True where a token is dropped")
    own.add_argument('--mask-box', type=_numbers, metavar='t0,t1,y0,y1,x0,x1',
                     help='drop what touches this box instead: frames and pixels of the clip, upper ends not included')
    sub.add_argument('--animate', choices=['gif', 'mp4'], help='also write the three side by side as an animation')
    add_span(sub, COMPLETION.span)

    sub = add_command(commands, _attend, "Show where a model's class token looks.")
    add_files(sub, 'video files (or image files)')
    add_model(sub)
    add_drawing(sub, 'attention')
    _add_block(sub)
    sub.add_argument('--heads', action='store_true', help='each head apart instead of their mean')
    sub.add_argument('--threshold', type=float, metavar='SHARE',
                     help='keep the smallest set of patches that holds this share of the attention')
    add_span(sub, COMPLETION.span)

    sub = add_command(commands, _pca, 'Show patch tokens as colours: one PCA over all frames and files.')
    add_files(sub, 'video files (or image files)')
    add_model(sub)
    add_drawing(sub, 'pca')
    _add_block(sub)
    sub.add_argument('--foreground', type=float, metavar='SHARE',
                     help='show only patches whose first component, scaled to 0..1, is above this')
    sub.add_argument('--invert', action='store_true', help='take the other end of the first component as foreground')
    add_span(sub, COMPLETION.span)

    sub = add_command(
        commands, _evaluate, 'Measure the accuracy on a folder with one subfolder a class.', shared=True)
    add_files(sub, 'the folder with one subfolder of videos (or images) for each class', '--val-dir')
    add_model(sub)
    _add_views(sub)
    sub.add_argument('--train-jitter-scales', type=int, nargs=2, metavar=('MIN', 'MAX'),
                     help="short sides in pixels that '--views random' draws from (and choose it)")
    sub.add_argument('--seed', type=int, default=0, help="of '--views random' (default: %(default)s)")
    sub.add_argument('--out', '--out-dir', type=Path, default=Path('evaluation'), metavar='DIR',
                     help='folder for the tables and the picture (default: %(default)s)')
    sub.add_argument('--json', action='store_true', help='print the results as JSON')
    sub.add_argument('--force', action='store_true', help="replace another evaluation's results in DIR")

    sub = add_command(commands, _classify, 'Print the five most probable classes of each video or image.')
    add_files(sub, 'video files (or image files)')
    add_model(sub)
    _add_views(sub)
    sub.add_argument('--labels', type=Path, metavar='DIR|FILE',
                     help='names of the classes: a folder with one subfolder a class, a text file with one name a '
                          "line, or a JSON file (default: the model's configuration, where it has them)")
    sub.add_argument('--json', action='store_true', help='print the results as JSON')

    sub = add_command(commands, _probe, 'Measure what linear, neighbour and attentive probes read out of a model.')
    group = sub.add_argument_group('the videos (or images)')
    group.add_argument('--train', required=True, metavar='DIR', help='a folder with one subfolder for each class')
    group.add_argument('--val', required=True, metavar='DIR', help='the same classes, held out')
    add_reading(group)
    add_model(sub)
    sub.add_argument('--probes', nargs='+', choices=['linear', 'neighbours', 'attentive'], metavar='PROBE',
                     default=['linear', 'neighbours', 'attentive'],
                     help='linear, neighbours, attentive (default: all; the attentive one keeps all patch tokens in '
                          'memory)')
    sub.add_argument('--epochs', type=count, default=30, metavar='N', help='of the attentive probe (default: 30)')
    sub.add_argument('--seed', type=int, default=0, help='of whatever is random (default: %(default)s)')
    sub.add_argument('--batch-size', type=count, default=4, metavar='N', help='files at a time (default: %(default)s)')
    add_span(sub, RECOGNITION.span)
    sub.add_argument('--out', type=Path, default=Path('probe'), metavar='DIR',
                     help='folder for the tables (default: %(default)s)')
    sub.add_argument('--json', action='store_true', help='print the results as JSON')
    sub.add_argument('--force', action='store_true', help="replace other probes' results in DIR")


def _add_block(sub: argparse.ArgumentParser) -> None:
    sub.add_argument('--block', type=int, default=-1, metavar='B', help='of this block (default: the last)')


def _add_views(sub: argparse.ArgumentParser) -> None:
    sub.add_argument('--views', metavar='CxK', help="clips times crops of each video, averaged: 1x1 (default), 5x3; or "
                                                    "'random', one random clip and crop, as the published script")
    sub.add_argument('--batch-size', type=count, default=4, metavar='N', help='views at a time (default: %(default)s)')
    add_span(sub, RECOGNITION.span)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no list of whole numbers with commas between them') from None


def _embed(args: argparse.Namespace) -> int:
    from ..analysis.embedding import check_output, embed
    from ..inference.pipeline import ProcessGroup, sampling_of
    check_output(args.out)
    paths, missing = files(args, find_media)
    team = ProcessGroup()
    model, name = load(args, device=team.device)
    options = dict(
        tokens=args.tokens, blocks=args.blocks, norm=args.norm, num_clips=args.num_clips, stride=args.stride,
        align=args.align, sampling=sampling_of(model, args.span), batch_size=args.batch_size,
        **view_options(args, model))
    with progress(len(paths), rank=team.rank, size=team.size) as update:
        result = embed(
            model, paths, out=args.out, about=dict(model=name), num_workers=args.num_workers,
            time_limit=args.time_limit, start_over=args.force, team=team, progress=update, say=complain,
            report=lambda path, reason: complain(reason), **options)
    if result is None:
        return 0
    shape = ' x '.join(map(str, result.features.shape[1:]))
    print(f'{args.out}: {len(result.features)} rows of {shape} features, {name}')
    return _left_out(len(result.failed) + missing, len(paths) + missing)


def _complete(args: argparse.Namespace) -> int:
    from ..analysis.completion import box_mask, check_mae, complete, read_mask
    from ..figures import save_animation
    check_out(args.out)
    if not args.mask_ratio and args.mask_file is None and args.mask_box is None:
        raise ValueError('--mask-ratio 0 drops nothing, so there is nothing to fill in')
    paths, missing = files(args, find_videos)
    paths = drawn(paths, args)
    model, name = load(args, 'mae_shapes_none')
    check_mae(model)
    mask, kind = None, args.mask_type
    if args.mask_file is not None:
        mask, kind = read_mask(args.mask_file, model.patch_embed.video_grid_size), 'file'
    elif args.mask_box is not None:
        mask, kind = box_mask(model, args.mask_box), 'box'
    # In the pictures' names, so that those of several ratios stay.
    what = f'{kind}{100 * args.mask_ratio:g}' if mask is None else kind
    rows, failed, called = [], [], short_name(args, model)
    for index, path, stem, view in _each(paths, model, args, failed):
        result = complete(
            model, view.x, mask_type=args.mask_type, mask_ratio=args.mask_ratio, mask=mask, seed=args.seed + index)
        share = result.mask.double().mean().item()
        title = (f'{shown(path)}, {called}, mask: {kind}, {100 * share:.0f}% dropped, '
                 f'PSNR of the dropped pixels {result.psnr:.2f} dB')
        picture = result.picture(title, _captions(view, result.original.shape[1], args.span))
        target = _save(picture, path, stem, f'{called}_{what}', args)
        if args.animate:
            save_animation(result.frames(), target.with_suffix(f'.{args.animate}'), view.end - view.start)
        rows.append(dict(
            picture=target.name, video=path, model=name, mask=kind, masked=share, start=view.start, end=view.end,
            mse=result.mse, psnr=result.psnr))
        _add_to_csv(rows[-1:], args.out / 'completions.csv')
    if rows:
        table(['picture', 'MSE', 'PSNR (dB)'],
              [[row['picture'], f'{row["mse"]:.5f}', f'{row["psnr"]:.2f}'] for row in rows]
              + [['mean', *(f'{sum(row[key] for row in rows) / len(rows):.{digits}f}'
                            for key, digits in (('mse', 5), ('psnr', 2)))]])
        print(f'{args.out}: {_number(rows, "picture")}, and completions.csv')
    return _left_out(len(failed) + missing, len(paths) + missing)


def _attend(args: argparse.Namespace) -> int:
    from ..analysis.attention import attend, check_attention, keep_fraction
    from ..inference.pipeline import takes_clips
    check_out(args.out)
    if args.threshold is not None:
        keep_fraction(torch.ones(1, 1), args.threshold)  # a wrong share is refused before any work
    paths, missing = files(args, find_media)
    paths = drawn(paths, args)
    model, _ = load(args)
    check_attention(model)
    rows, failed, called = [], [], short_name(args, model)
    # Of an image encoder's images the whole is shown, as in the published pictures.
    whole = {} if takes_clips(model) else dict(whole=model.patch_embed.patch_size[0])
    for _, path, stem, view in _each(paths, model, args, failed, **whole):
        result = attend(model, view.x, block=args.block)
        what = f'attention_block{result.block}' + ('_heads' if args.heads else '')
        title = f'{shown(path)}, {called}, class token in block {result.block}'
        if args.threshold is not None:
            what += f'_top{100 * args.threshold:g}'
            title += f', patches that hold {100 * args.threshold:g}%'
        picture = result.picture(title, _captions(view, len(result.frames), args.span), args.heads, args.threshold)
        target = _save(picture, path, stem, f'{called}_{what}', args)
        rows.append([shown(path), f'{result.weights.mean(dim=0).max():.5f}', target.name])
    if rows:
        table(['file', 'highest', 'picture'], rows)
        print(f'{args.out}: {_number(rows, "picture")}')
    return _left_out(len(failed) + missing, len(paths) + missing)


def _pca(args: argparse.Namespace) -> int:
    from ..analysis.embedding import num_blocks
    from ..analysis.feature_maps import color_frames, patch_tokens, pca_colors
    from ..figures import Grid
    from ..video import denormalize
    check_out(args.out)
    if args.foreground is not None and not 0 <= args.foreground < 1:
        raise ValueError(f'--foreground {args.foreground}: must be at least 0 and below 1')
    paths, missing = files(args, find_media)
    paths = drawn(paths, args)
    model, _ = load(args)
    done, failed, called, config = [], [], short_name(args, model), model.pretrained_cfg
    for _, path, stem, view in _each(paths, model, args, failed):
        x = view.x if view.x.ndim == 4 else view.x.unsqueeze(1)
        # As bytes they take a quarter of the memory.
        frames = (255 * denormalize(x, config['mean'], config['std'])).round().to(torch.uint8)
        done.append((path, stem, view._replace(x=frames), patch_tokens(model, view.x, block=args.block)))
    if done:
        colors = pca_colors([tokens for *_, tokens in done], foreground=args.foreground, invert=args.invert)
        block = args.block % num_blocks(model)
        what, shows = f'pca_block{block}', f'block {block}, PCA over {_number(done, "file")}'
        if args.foreground is not None:
            end = 'inverted' if args.invert else ''
            what += f'_foreground{100 * args.foreground:g}{end}'
            shows += f', foreground {args.foreground:g}' + (f' ({end})' if end else '')
        for (path, stem, view, _), color in zip(done, colors, strict=True):
            frames = view.x.transpose(0, 1).float() / 255
            color = color_frames(color, len(frames), tuple(frames.shape[-2:]))
            rows = [('frames', frames), ('features', color)]
            picture = Grid(rows, _captions(view, len(frames), args.span), f'{shown(path)}, {called}, {shows}')
            _save(picture, path, stem, f'{called}_{what}', args)
        print(f'{args.out}: {_number(done, "picture")}, one PCA of block {block}')
    return _left_out(len(failed) + missing, len(paths) + missing)


def _evaluate(args: argparse.Namespace) -> int:
    from ..analysis.evaluation import class_folders, evaluate, parse_views
    from ..figures import check_pictures
    from ..inference.pipeline import ProcessGroup
    given = [*args.paths, *args.folders]
    if len(given) != 1:
        raise ValueError('name one folder, with one subfolder for each class')
    if args.train_jitter_scales and args.views not in (None, 'random'):
        raise ValueError(f"--train-jitter-scales belongs to '--views random', not to --views {args.views}")
    protocol = args.views or ('random' if args.train_jitter_scales else '1x1')
    team = ProcessGroup()
    model, name = load(args, device=team.device)
    jitter = tuple(args.train_jitter_scales) if args.train_jitter_scales else None
    views = parse_views(protocol, _views(args, model), jitter, args.seed)
    about = dict(model=name, folder=given[0], views=protocol, dtype=args.dtype)
    if protocol == 'random':
        about |= dict(seed=args.seed, jitter=views.jitter)
    _refuse_other(args, about)
    check_pictures()  # now, rather than after hours
    folders = class_folders(given[0])
    with progress(len(folders.paths), rank=team.rank, size=team.size) as update:
        result = evaluate(
            model, folders, views, batch_size=args.batch_size, num_workers=args.num_workers,
            time_limit=args.time_limit, team=team, progress=update, report=lambda path, reason: complain(reason))
    if not team.is_main:
        return 0
    result.save(args.out, about)
    summary = result.summary()
    if args.json:
        print(json.dumps(
            {**about, **summary, 'per_class': result.per_class(), 'failed_files': result.failed}, indent=2))
    else:
        shown = sorted((row for row in result.per_class() if row['files']), key=lambda row: row['top1'])
        if len(shown) > 12:
            shown = shown[:5]  # the hardest
        table(['class', 'files', 'top-1', 'top-5'],
              [[row['class'], str(row['files']), f'{100 * row["top1"]:.1f}%', f'{100 * row["top5"]:.1f}%']
               for row in [*shown, {**summary, 'class': f'all {summary["classes"]}'}]])
        print(f'top-1 {100 * summary["top1"]:.2f}%, top-5 {100 * summary["top5"]:.2f}%, loss {summary["loss"]:.4f} '
              f'({summary["files"]} files, views {protocol}, {name}); the whole in {args.out}')
    return _left_out(len(result.failed), len(result.failed) + len(result.paths))


def _refuse_other(args: argparse.Namespace, about: dict[str, Any], name: str = 'summary.json') -> None:
    summary = args.out / name
    check_out(args.out)
    if args.force or not summary.exists():
        return
    try:
        before = dict(json.loads(summary.read_text()))
    except (ValueError, TypeError, RecursionError):  # it is damaged
        before = {}
    differ = [k for k in about if before.get(k) != json.loads(json.dumps(about[k]))]
    if differ:
        raise ValueError(
            f'{args.out} holds the results of another run (other {", ".join(differ)}); name another --out, or '
            f'--force replaces it')


def _classify(args: argparse.Namespace) -> int:
    from ..analysis.evaluation import check_head, known_labels, parse_views, predict, read_labels
    paths, missing = files(args, find_media)
    model, name = load(args)
    check_head(model)
    labels = read_labels(args.labels, model.num_classes) if args.labels else known_labels(model)
    if labels is None:
        complain(f'{name} does not name its {model.num_classes} classes: they are numbered from 0; --labels names them')
        labels = [f'class {k}' for k in range(model.num_classes)]
    views = parse_views(args.views or '1x1', _views(args, model))
    with progress(len(paths)) as update:
        answers, failed = predict(
            model, paths, views, batch_size=args.batch_size, num_workers=args.num_workers, time_limit=args.time_limit,
            progress=update, report=lambda path, reason: complain(reason))
    results = []
    for file, row in sorted(answers.items()):
        probabilities, best = row.exp().topk(min(5, len(labels)))
        results.append(dict(path=paths[file], predictions=[
            dict(index=index, label=labels[index], probability=probability)
            for index, probability in zip(best.tolist(), probabilities.tolist(), strict=True)]))
    if args.json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            print(printable(result['path']))
            for prediction in result['predictions']:
                print(f'  {100 * prediction["probability"]:5.1f}%  {printable(prediction["label"])}')
    return _left_out(len(failed) + missing, len(paths) + missing)


def _probe(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..analysis.evaluation import class_folders
    from ..analysis.probing import check_classes, check_folder, check_linear, frozen_features, probe, save_probes
    from ..figures import check_pictures
    from ..inference.journal import digest_of
    train, held_out = class_folders(args.train), class_folders(args.val)
    check_classes(train, held_out)
    tell_shared(train.paths, held_out.paths)
    names = list(dict.fromkeys(args.probes))
    check_pictures()  # now, rather than after hours
    if 'linear' in names:
        check_linear(train)
    model, name = load(args)
    views, frozen = _views(args, model), []
    about = dict(
        model=name, weights=digest_of(model.state_dict().items()), train=args.train, val=args.val, dtype=args.dtype,
        size=views.size, num_frames=views.sampling.num_frames, span=args.span, epochs=args.epochs, seed=args.seed,
        names=names)
    _refuse_other(args, about, 'probes.json')
    check_folder(args.out)
    for folders in (train, held_out):
        with progress(len(folders.paths)) as update:
            frozen.append(frozen_features(
                model, folders, views, tokens='attentive' in names, batch_size=args.batch_size,
                num_workers=args.num_workers, time_limit=args.time_limit, progress=update,
                report=lambda path, reason: complain(reason)))
    probed: list[Any] = []
    for kind in names:
        with tqdm(total=args.epochs, unit=' epochs', disable=kind != 'attentive') as bar:
            probed.append(probe(
                kind, *frozen, epochs=args.epochs, seed=args.seed, device=next(model.parameters()).device,
                progress=bar.update))
        save_probes(probed, args.out, about, args.seed)  # kept, whatever becomes of the next
    summaries = [one.summary(args.seed) for one in probed]
    if args.json:
        print(json.dumps(dict(about, probes=summaries), indent=2))
    else:
        table(['probe', 'top-1', '95% interval', 'top-5', '95% interval', 'chosen'], [
            [row['probe'], *(text for k in (1, 5) for text in (
                f'{100 * row[f"top{k}"]:.1f}%', f'{100 * row[f"top{k}_low"]:.1f} to {100 * row[f"top{k}_high"]:.1f}%')),
             ', '.join(f'{key}={value:g}' for key, value in one.settings.items())]
            for row, one in zip(summaries, probed, strict=True)])
        print(f'{len(frozen[0].features)} files to fit, {len(frozen[1].features)} held out, '
              f'{len(train.classes)} classes, {name}; the whole in {args.out}')
    return 1 if frozen[0].failed or frozen[1].failed else 0


def _each(
        paths: list[str],
        model: torch.nn.Module,
        args: argparse.Namespace,
        failed: list[str],
        **changes: Any,
) -> Iterator[tuple[int, str, str, View]]:
    """(index, path, name for its pictures, centred view) of each file; one that cannot be read goes to `failed`."""
    views = _views(args, model, **changes)
    stems, jobs = unique_stems(paths), [Job(index, path) for index, path in enumerate(paths)]
    loaded = load_views(jobs, views, num_workers=args.num_workers, time_limit=args.time_limit)
    with progress(len(paths)) as update, closing(loaded):
        for job, item in loaded:
            if isinstance(item, View):
                args.out.mkdir(parents=True, exist_ok=True)
                yield job.index, job.path, stems[job.index], item
                continue
            if item is not None:
                complain(item.reason)
                failed.append(job.path)
            update(1)


def _save(picture: Any, path: str, stem: str, what: str, args: argparse.Namespace) -> Path:
    """Write the picture of a file; that of another file, which an earlier command has left, stays."""
    from PIL import Image
    source = path if is_drawn(path) else os.path.abspath(path)
    about = f'videozoo {hashlib.sha256(os.fsencode(source)).hexdigest()[:16]}'  # without the names of folders
    for name in (stem, *list(names_of(path))[2:]):  # with folders
        target = args.out / f'{name}_{what}.jpg'
        try:
            with Image.open(target) as there:
                other = there.info.get('comment')
        except Exception:  # not there, or no picture
            break
        if other == about.encode() or not isinstance(other, bytes) or not other.startswith(b'videozoo '):
            break
    picture.save(target, about)
    return target


def _views(args: argparse.Namespace, model: torch.nn.Module, **changes: Any) -> Views:
    """The view of a file that the options ask for."""
    from ..inference.pipeline import sampling_of, views_of
    return views_of(model, sampling_of(model, args.span), **view_options(args, model), **changes)


def _captions(view: View, num_frames: int, span: int) -> list[str]:
    """The time of each frame; nothing under an image."""
    if view.duration == 0:
        return []
    return [f'{view.start + position / 30:.2f} s' for position in Sampling(num_frames, span).positions]


def _add_to_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows into a table; those of other pictures stay."""
    from ..files import save_csv
    before = []
    if path.exists():
        with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
            try:
                before = [row for row in csv.DictReader(file) if row.keys() == rows[0].keys()]
            except csv.Error as error:
                raise ValueError(f'{path} cannot be read as a table: {error}; move it away') from error
    new = {row['picture'] for row in rows}
    save_csv([row for row in before if row['picture'] not in new] + rows, path)


def _number(things: list[Any], name: str) -> str:
    return f'{len(things)} {name}' + ('' if len(things) == 1 else 's')


def _left_out(number: int, total: int) -> int:
    if number:
        complain(f'{number} of {total} files could not be read')
    return 2 if number == total else 1 if number else 0
