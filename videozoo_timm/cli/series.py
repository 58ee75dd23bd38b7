"""A command over a series of models: one after the other, each with a result of its own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import catalogue
from ..text import counted
from .base import option
from .options import ModelOptions
from .output import ERRORS, complain, worded
from .recording import record_part

PLACE = '{model}'  # what a model's name stands for in --out


def models_option() -> Callable[[Any], Any]:
    return option(
        '--models',
        'patterns',
        multiple=True,
        metavar='PATTERN',
        section='Model',
        instead_of='--model',
        help="A series instead, one model after the other: all whose published names match, as 'vitb14_*_*' or "
        "'dino_s_*,mugs_s_*', quoted. Each gets a file in the folder --out.",
    )


def series_of(patterns: Sequence[str], chosen: ModelOptions) -> list[str]:
    """The names of the models that --models stands for."""
    if chosen.weights is not None:
        raise ValueError('--weights are those of one model: give --model instead of --models')
    given = [pattern for text in patterns for pattern in text.split(',') if pattern]
    if not given:
        raise ValueError("--models '': name models, or patterns as 'vitb14_*_*'")
    return catalogue.matching(given, chosen.zoo)


def named_output(out: Path, chosen: ModelOptions) -> Path:
    """The result of one model: --out, in which {model} stands for the model's name, in a folder that is made."""
    from ..outputs import Output

    if PLACE not in str(out):
        return out
    if chosen.model is None:
        raise ValueError(f'--out {out}: {PLACE} stands for the name of a model: name one with --model')
    out = Path(str(out).replace(PLACE, chosen.resolved.name))
    Output(out.parent).check_folder()
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def outputs_of(names: Sequence[str], out: Path | None, tokens: str) -> dict[str, Path]:
    """The result of each model, by its name: in the folder --out, or where {model} in it stands for the name.

    The folder is made, and that each can be written there is checked.
    """
    from ..analysis.feature_files import check_output
    from ..outputs import Output

    out = out or Path('features')
    if PLACE not in str(out):
        if out.suffix in ('.npz', '.safetensors', '.csv', '.parquet'):
            raise ValueError(f'--out {out}: a series has a file for each model: name a folder, or {PLACE}{out.suffix}')
        out = out / f'{PLACE}.npz'
    outputs = {name: Path(str(out).replace(PLACE, name)) for name in names}
    for output in outputs.values():
        Output(output.parent).check_folder()
        output.parent.mkdir(parents=True, exist_ok=True)
        check_output(output, tokens)
    return outputs


def each(outputs: Mapping[str, Path], run: Callable[[str], int], is_main: bool = True) -> int:
    """Run a command for one model after the other; the exit code of all of it.

    What one model lacks is told, at once and at the end, and does not stop the others. A disk that is full does.

    Args:
        outputs: The result of each model, by its name.
        run: From a name to an exit code.
        is_main: Whether this is the process that tells.
    """
    from ..files import WriteError
    from ..video import VideoError

    def tell(text: str) -> None:
        if is_main:
            complain(text)

    names, codes, failed = list(outputs), [], []
    tell(f'{counted(len(names), "model")}: {", ".join(names)}')
    for name in names:
        try:
            codes.append(record_part(name, outputs[name], lambda name=name: run(name)))
        except (BrokenPipeError, WriteError, VideoError):  # as it would be with the next model
            raise
        except ERRORS as error:
            tell(f'{name}: {worded(error)}')
            failed.append(name)
    if failed:
        tell(f'{len(failed)} of {counted(len(names), "model")} gave no features: {", ".join(failed)}')
    return 2 if len(failed) == len(names) else 1 if failed or any(codes) else 0
