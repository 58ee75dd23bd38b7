"""videozoo embed."""

from dataclasses import replace
from pathlib import Path

from ..notes import tell_listed, tell_placed
from ..text import counted
from .base import command, option
from .inputs import files
from .loading import load, view_size
from .options import (
    RECOGNITION_SPAN,
    Inputs,
    ModelOptions,
    ReadingOptions,
    batch_option,
    compile_option,
    frames_option,
    input_options,
    model_options,
    span_option,
)
from .output import Losses, complain, echo, exit_code, progress, tell_pace
from .series import each, models_option, named_output, outputs_of, series_of
from .types import FILE, Choice, Count, Integers

ALIGNMENTS = ('start', 'center', 'causal')  # of `video.ALIGNMENTS`, without its imports
CLOCKS = ('first-frame', 'file')  # of `analysis.embedding.CLOCKS`


@command(
    shared=True,
    results='out',
    examples="""
    videozoo embed VIDEOS --model vit_hvm1_none --out features.npz
    videozoo embed VIDEOS --model vit_hvm1_none --blocks 8,16,-1 --tokens mean --stride 2 --out features.safetensors
    videozoo embed VIDEOS --model vit_hvm1_none --stride 1.5 --offset 1.5 --align causal --clock file --out trs.npz
    videozoo embed VIDEOS --model vit_hvm1_none --at events.tsv --align causal --out events.npz
    videozoo embed IMAGES --model dino_say_vitb14 --manifest manifest.csv --out stimuli.npz
    videozoo embed VIDEOS --model vit_hvm1_none --from-scratch --out control.csv
    videozoo embed IMAGES --model dino_say_vitb14 --tokens all --out feature_maps
    videozoo embed IMAGES --models 'vitb14_*_*' --out series
""",
)
@input_options('Video files (or image files), or folders to search.')
@model_options()
@compile_option()
@models_option()
@option(
    '--tokens',
    type=Choice(['class', 'mean', 'all']),
    default='class',
    help='Class token, mean of the patch tokens, or all patch tokens as a map.',
)
@option(
    '--blocks',
    type=Integers(),
    metavar='B,B,...',
    show_default='the output of the model',
    help='Features of these blocks, counted from 0 or, if negative, from the end.',
)
@option('--norm', is_flag=True, help="Apply the model's final norm to the tokens of every block.")
@option(
    '--num-clips',
    type=Count(),
    default=1,
    metavar='N',
    instead_of='--stride',
    help='Clips spread evenly over each video; a single one is centered.',
)
@option('--stride', type=float, metavar='SECONDS', help='Take a clip every so many seconds instead.')
@option(
    '--at',
    type=FILE,
    metavar='FILE',
    instead_of=('--stride', '--num-clips', '--offset'),
    help='Take a clip at each of these times instead: a file with a column of seconds for all videos (time, onset as '
    'in events.tsv of BIDS, or no header), or with columns file and time.',
)
@option(
    '--align',
    type=Choice(ALIGNMENTS),
    default='center',
    help='Where in its clip the timestamp of a row lies; causal: at the end.',
)
@option(
    '--offset',
    type=float,
    default=0.0,
    metavar='SECONDS',
    help='Timestamp of the first row of a time course, from the first frame; rows go up to the end of the video.',
)
@option(
    '--clock',
    type=Choice(CLOCKS),
    default='first-frame',
    help="What timestamps count from: each video's first frame, or the clock of its file, as other programs do.",
)
@option(
    '--strict',
    is_flag=True,
    help="Leave out rows with frames that repeat a video's first or last one, are damaged or did not decode.",
)
@option(
    '--manifest',
    type=FILE,
    metavar='FILE',
    section='Reading files',
    help="Somebody else's list of stimuli, a table with a column file (or path, filename, image) and perhaps id: rows "
    'in its order, with its identifiers. Its paths go from its folder or from PATH.',
)
@span_option(RECOGNITION_SPAN)
@frames_option()
@batch_option(4, 'Clips')
@option(
    '--out',
    type=FILE,
    metavar='FILE',
    show_default='features.npz; of a series the folder features',
    help='.npz, .safetensors, .csv, .parquet, or a folder of memory-mapped arrays (a name without an extension). Of a '
    "series (--models) a folder for files NAME.npz. {model} stands for the model's name: features/{model}.csv.",
)
@option(
    '--from-scratch',
    is_flag=True,
    section='Model',
    help='Random weights instead of the published ones: the control for what training adds.',
)
@option('--seed', type=int, metavar='N', section='Model', show_default='0', help='Random seed of --from-scratch.')
@option(
    '--force',
    is_flag=True,
    help='Replace FILE even if it is done or holds something else, and start an unfinished run over.',
)
def embed(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    compile: bool,
    patterns: tuple[str, ...],
    tokens: str,
    blocks: tuple[int, ...] | None,
    norm: bool,
    num_clips: int,
    stride: float | None,
    at: Path | None,
    align: str,
    offset: float,
    clock: str,
    strict: bool,
    manifest: Path | None,
    span: int,
    frames: str,
    batch_size: int,
    out: Path | None,
    from_scratch: bool,
    seed: int | None,
    force: bool,
) -> int:
    """Extract features from videos or images, one row per clip."""
    from ..analysis._inputs import stimuli_of
    from ..analysis.embedding import embed as extract
    from ..analysis.feature_files import check_output
    from ..analysis.stimulus_tables import read_manifest
    from ..inference.pipeline import ProcessGroup, sampling_of
    from ..video import find_media

    names = series_of(patterns, chosen) if patterns else []
    if not names:
        check_output(out := named_output(out or Path('features.npz'), chosen), tokens)
    if seed is not None and not from_scratch:
        raise ValueError(f'--seed {seed} is that of --from-scratch: published weights are not random')
    listed = read_manifest(manifest, inputs.given) if manifest else None
    paths, missing = files(inputs, find_media, chosen) if listed is None else (listed.files, len(listed.missing))
    if manifest and listed and not inputs.given:
        tell_listed(manifest, paths)
    # What is wrong with them is told before a model is loaded.
    times = None if at is None else stimuli_of(paths, listed, at, clock == 'file').at
    team = ProcessGroup()
    about = dict(from_scratch=f'seed {seed or 0}') if from_scratch else {}

    def run(chosen: ModelOptions, out: Path) -> int:
        tell_placed(out)
        untrained = (seed or 0) if from_scratch else None
        model, name = team.together(lambda: load(chosen, device=team.device, untrained=untrained))
        failed, losses = Losses(), Losses()
        with progress(len(paths), rank=team.rank, size=team.size) as update:
            result = extract(
                model,
                paths,
                manifest=listed,
                at=times,
                out=out,
                about=dict(about, model=name),
                tokens=tokens,
                blocks=blocks,
                norm=norm,
                num_clips=num_clips,
                stride=stride,
                align=align,
                offset=offset,
                clock=clock,
                strict=strict,
                sampling=sampling_of(model, span, frames),
                batch_size=batch_size,
                compile=compile,
                start_over=force,
                skip_done=True,
                team=team,
                progress=update,
                say=complain,
                report=failed,
                lose=losses,
                pace=tell_pace,
                **vars(reading),
                **view_size(chosen, model),
            )
        skipped = failed.number if result is None else len(result.failed)
        if result is not None:
            shape = ' x '.join(map(str, result.features.shape[1:]))
            echo(f'{out}: {counted(len(result.features), "row")} of {shape} features, {name}')
        elif not team.is_main:
            return 0
        unseen = missing if listed is None else 0  # what a manifest lacks is among what was skipped
        return exit_code(skipped + unseen, len(paths) + missing, losses)

    if out is not None and not names:
        return run(chosen, out)
    outputs = outputs_of(names, out, tokens)
    return each(outputs, lambda name: run(replace(chosen, model=name), outputs[name]), team.is_main)
