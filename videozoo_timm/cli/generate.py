"""videozoo generate."""

import json
import random
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..notes import tell_loaded, tell_placed, tell_settings
from ..text import counted
from .base import command, family, option
from .generator_options import GeneratorOptions, check_named, generator_options, load_video_generator, placement
from .inputs import digest_of_files
from .options import ReadingOptions, folder_option, reading_options, start_option
from .output import complain, echo
from .types import FILE, PATH, Count

# Top-k and top-p as published, of images and of videos; equal to those of `models`, which would import torch
PUBLISHED: dict[bool, tuple[int, float | None]] = {False: (128, None), True: (2048, 0.92)}

_IMAGES = ('.png', '.jpg', '.jpeg')


@dataclass
class SamplingOptions:
    """How codes are sampled."""

    seed: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    batch_size: int | None


@dataclass
class VideoOptions:
    """What is asked of a video generator alone."""

    num_frames: int | None
    window: int | None
    continued: str | None
    context: int | None
    span: int | None
    start: float | None

    @property
    def given(self) -> list[str]:
        """The options that were given, as they are typed."""
        names = dict(continued='--continue')
        told = {name: value for name, value in vars(self).items() if value is not None}
        return [f'{names.get(name, "--" + name.replace("_", "-"))} {value}' for name, value in told.items()]


@command(
    results='out',
    examples="""
    videozoo generate --model gen_shapes_64 -n 4 --seed 0 --out samples.mp4
    videozoo generate --model gen_shapes_64 --continue drawn:4@7 --context 8 --samples 2 --out continued.gif
    videozoo generate --model say_gimel -n 36 --seed 0 --out samples.png
    videozoo generate --model say_gimel --complete IMAGES --keep 0.5 --samples 2 --out completed.png
    videozoo generate --gpt gpt.ckpt --vqgan vqgan.ckpt -n 4 --out samples.mp4
""",
)
@generator_options()
@option(
    '-n',
    '--num-images',
    '--num-videos',
    'number',
    type=Count(),
    metavar='N',
    show_default='36 images, or 4 videos',
    help='Number of images or videos.',
)
@folder_option('--complete', 'originals', help='Complete these images instead, given the upper part of each.')
@option(
    '--keep',
    type=float,
    metavar='FRACTION',
    show_default='0.5',
    help='Fraction of the rows that is given to --complete.',
)
@option(
    '--samples',
    type=Count(),
    metavar='N',
    show_default='2 completions, or 1 continuation',
    help='Completions of each image, with --complete; continuations of each video, with --continue.',
)
@family(
    'video',
    VideoOptions,
    option(
        '--num-frames',
        type=Count(),
        metavar='N',
        section='Videos',
        show_default="the model's",
        help='Frames of each video; more than the model sees at once are sampled by a sliding window.',
    ),
    option(
        '--window',
        type=Count(),
        metavar='N',
        section='Videos',
        show_default='as many as it can',
        help='Latent frames that the sliding window keeps.',
    ),
    option(
        '--continue',
        'continued',
        type=PATH,
        metavar='PATH',
        section='Videos',
        help='Continue these videos instead: a file, a folder, or drawn:4@7.',
    ),
    option(
        '--context',
        type=Count(),
        metavar='N',
        section='Videos',
        show_default="half of the model's",
        help='Frames that are given to --continue.',
    ),
    option(
        '--span',
        type=Count(),
        metavar='N',
        section='Videos',
        show_default="the model's",
        help="Length of a clip: the model's frames are spread evenly over N frames at 30 frames per second.",
    ),
    start_option(section='Videos', help='Start of the clips of --continue, from the first frame of each video.'),
)
@family(
    'sampling',
    SamplingOptions,
    option('--seed', type=int, metavar='N', show_default='a new one each time, which is printed', help='Random seed.'),
    option('--temperature', type=float, default=1.0, metavar='T', help='Sampling temperature.'),
    option(
        '--top-k',
        type=Count(),
        metavar='K',
        show_default='128, of videos 2048, as published',
        help='Sample from the K most probable codes, or from all if there are fewer.',
    ),
    option(
        '--top-p',
        type=float,
        metavar='P',
        show_default='1, of videos 0.92, as published',
        help='Sample from the smallest set of codes whose probability adds up to P.',
    ),
    option(
        '--batch-size', type=Count(), metavar='N', show_default='as many as fit into memory', help='Samples per batch.'
    ),
)
@option(
    '--out',
    type=FILE,
    metavar='FILE|DIR',
    show_default='samples.png, of videos samples.mp4',
    help='One picture of all images, or one animation (.mp4, .gif) of all videos, with a contact sheet beside it (or '
    'that alone, .png); or a folder (a name without an extension) for one file each.',
)
@option('--force', is_flag=True, help='Replace FILE even if it holds other samples.')
@reading_options()
def generate(
    chosen: GeneratorOptions,
    number: int | None,
    originals: Path | None,
    keep: float | None,
    samples: int | None,
    video: VideoOptions,
    sampling: SamplingOptions,
    out: Path | None,
    force: bool,
    reading: ReadingOptions,
) -> int:
    """Generate images or videos, or go on where their beginning is given."""
    is_video = check_named(chosen, of_images=originals is not None)
    if is_video and originals is not None:
        raise ValueError(f'--complete {originals}: {chosen.name} generates videos; --continue takes some')
    if is_video and keep is not None:
        raise ValueError(f'--keep {keep} is of --complete; --continue takes --context')
    if is_video and samples is not None and video.continued is None:
        raise ValueError(f'--samples {samples} is of --continue, which is not given; -n {samples} generates so many')
    if is_video and number is not None and video.continued is not None:
        raise ValueError(f'-n {number}: --continue takes all videos; --samples {number} continues each so often')
    if not is_video and number is not None and originals is not None:
        raise ValueError(f'-n {number}: --complete takes all images; --samples {number} completes each so often')
    if not is_video and video.given:
        raise ValueError(f'{video.given[0]}: {chosen.name} generates images')
    top_k, top_p = PUBLISHED[is_video]
    sampling.top_k = top_k if sampling.top_k is None else sampling.top_k
    sampling.top_p = top_p if sampling.top_p is None else sampling.top_p
    keep = 0.5 if keep is None else keep
    if not 0 < keep < 1:
        raise ValueError(f'--keep {keep}: must be above 0 and below 1')
    out = out or Path('samples.mp4' if is_video else 'samples.png')
    tell_placed(out)
    number, samples = number or (4 if is_video else 36), samples or (1 if is_video else 2)
    tell_settings(number=number, samples=samples)
    if is_video:
        return _videos(chosen, number, samples, video, sampling, out, force, reading)
    return _images(chosen, number, originals, keep, samples, sampling, out, force)


def _images(
    chosen: GeneratorOptions,
    num_images: int,
    originals: Path | None,
    keep: float,
    samples: int,
    sampling: SamplingOptions,
    out: Path,
    force: bool,
) -> int:
    from .generate_images import complete_images, generate_images, images_in

    _check(sampling, out, _IMAGES)
    paths = images_in(originals) if originals is not None else []
    about = _settings(chosen, sampling)
    about |= (
        dict(keep=keep, samples=samples, originals=digest_of_files(paths)) if paths else dict(num_images=num_images)
    )
    _refuse_other(out, out, about, force)
    from ..factory import load_model
    from ..inference.provenance import versions

    device, dtype = placement(chosen)
    generator: Any = load_model(chosen.name, zoo=chosen.zoo, device=device, dtype=dtype, files=chosen.files)
    about |= _of_weights(generator, dtype, sampling, len(paths) * samples if paths else num_images)
    _refuse_other(out, out, about, force)
    about |= versions()
    start = time.perf_counter()
    if paths:
        number, failed = complete_images(generator, paths, keep, samples, sampling, out, _about(about))
    else:
        number, failed = generate_images(generator, num_images, sampling, out, _about(about))
    _tell(chosen, out, number, 'images', about, device, start)
    if failed:
        complain(f'{failed} of {counted(len(paths), "image")} could not be read')
    return 1 if failed else 0


def _videos(
    chosen: GeneratorOptions,
    num_videos: int,
    samples: int,
    video: VideoOptions,
    sampling: SamplingOptions,
    out: Path,
    force: bool,
    reading: ReadingOptions,
) -> int:
    from ..inference.provenance import versions
    from ..video import find_videos
    from .clips import about_views, seconds_of, views_for_generator
    from .generate_videos import ANIMATIONS, SHEETS, continue_videos, generate_videos, sheet_of

    if video.context is not None and video.continued is None:
        raise ValueError(f'--context {video.context} is of --continue, which is not given')
    if video.start is not None and video.continued is None:
        raise ValueError(f'--start {video.start:g} is of --continue, which is not given')
    _check(sampling, out, (*ANIMATIONS, *SHEETS))
    paths = [] if video.continued is None else [str(path) for path in find_videos(video.continued)]
    if video.continued is not None and not paths:
        raise ValueError(f'--continue {video.continued}: no videos in it')
    about = _settings(chosen, sampling) | dict(num_frames=video.num_frames, window=video.window, span=video.span)
    about |= (
        dict(samples=samples, context=video.context, clip_start=video.start, videos=digest_of_files(paths))
        if paths
        else dict(num_videos=num_videos)
    )
    sheet = sheet_of(out)
    _refuse_other(out, sheet, about, force)
    generator = load_video_generator(chosen)
    views = views_for_generator(generator, video.span, video.num_frames)
    about |= _of_weights(
        generator, placement(chosen)[1], sampling, len(paths) * samples if paths else num_videos
    ) | about_views(views)
    _refuse_other(out, sheet, about, force)
    about |= versions()
    start, failed = time.perf_counter(), 0
    told = out, seconds_of(views), _about(about)
    if paths:
        number, failed = continue_videos(
            generator, paths, views, reading, video.context, samples, video.window, sampling, *told, video.start
        )
    else:
        generate_videos(generator, num_videos, video.num_frames, video.window, sampling, *told)
        number = num_videos
    _tell(chosen, out, number, 'videos', about, next(generator.parameters()).device, start)
    if failed:
        complain(f'{failed} of {counted(len(paths), "video")} could not be read')
    return 1 if failed else 0


def _settings(chosen: GeneratorOptions, sampling: SamplingOptions) -> dict[str, Any]:
    """What decides about samples, as far as it is known before the model is loaded."""
    if sampling.seed is None:
        sampling.seed = random.randrange(2**31)  # told, so that a run can be repeated
    about: dict[str, Any] = dict(model=chosen.name, **asdict(sampling))
    tell_settings(**about)
    del about['batch_size']  # it is known when the free memory is
    return about


def _of_weights(generator: Any, dtype: Any, sampling: SamplingOptions, number: int) -> dict[str, Any]:
    """The rest of it; the same seed gives the same samples in the same batches only."""
    from ..inference.journal import checksum_of, digest_of

    sampling.batch_size = sampling.batch_size or generator.fitting(number)
    tensors, name = generator.state_dict(), type(generator).__name__
    told = dict(weights=digest_of(tensors.items()), dtype=str(dtype).removeprefix('torch.'))
    where = str(next(generator.parameters()).device)
    tell_loaded(architecture=name, tag='', checksum=checksum_of(tensors.items()), **told, device=where)
    tell_settings(batch_size=sampling.batch_size)
    return dict(told, batch_size=sampling.batch_size)


def _tell(
    chosen: GeneratorOptions, out: Path, number: int, what: str, about: dict[str, Any], device: Any, start: float
) -> None:
    pace = 60 * number / (time.perf_counter() - start)
    where = str(out) if out.suffix else f'{out}: one file each'
    made = counted(number, what.removesuffix('s'))
    echo(
        f'{where}, {made} of {chosen.name}, seed {about["seed"]}, {pace:.1f} {what} a minute ({about["dtype"]} on '
        f'{device})'
    )


def _check(sampling: SamplingOptions, out: Path, endings: tuple[str, ...]) -> None:
    """Refuse what cannot be before gigabytes are loaded."""
    from ..models import SamplingConfig
    from ..outputs import Output

    SamplingConfig(sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed)
    output = Output(out)
    if out.suffix:
        output.check_file(endings, or_folder=True)
        return
    output.check_folder()
    if output.exists:
        raise output.refusal('is not empty')


def _refuse_other(out: Path, picture: Path, now: dict[str, Any], force: bool) -> None:
    """Refuse to replace samples of other settings; those of `now` are compared with what their picture says."""
    from ..outputs import Output

    output = next((o for o in (Output(out), Output(picture)) if o.exists), Output(out))
    if not output.exists or not out.suffix:
        return
    before: dict[str, Any] = {}
    with suppress(Exception):  # no picture, or none of ours
        from PIL import Image

        from ..files import check_regular

        check_regular(picture)
        with Image.open(picture, formats=['PNG', 'JPEG']) as there:
            before = dict(json.loads(there.info.get('Comment') or there.info['comment']))
    known = {name: before[name] for name in now if name in before}
    output.refuse_other(known, {name: value for name, value in now.items() if value is not None}, force)


def _about(options: dict[str, Any]) -> str:
    """What a picture says of itself: enough to generate it again."""
    return json.dumps({name: value for name, value in options.items() if value is not None})
