"""From a name or a file to its record."""

import difflib
import logging
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from . import humanlike
from .checkpoints import ALL_ARCHITECTURES, CHECKPOINTS, WHOLE, Checkpoint
from .generators import GENERATORS, find_generator, find_video_generator, video_generators
from .zoos import DEFAULT_ZOO, OLD_SPELLING, ZOOS, check_zoo

_logger = logging.getLogger(__name__)


def available_models(zoo: str | None = None) -> list[str]:
    """Distinct published names, in published order."""
    if zoo is not None:
        check_zoo(zoo)
    published = sorted((*CHECKPOINTS, *GENERATORS, *video_generators()), key=lambda record: ZOOS.index(record.zoo))
    return list(dict.fromkeys(c.name for c in published if zoo in (None, c.zoo)))


def find(name: str, zoo: str | None = None, warn: Callable[[str], None] = _logger.warning) -> Checkpoint:
    """The record of a published name or of a timm name.

    Args:
        name: `x_y_z`, or `architecture.tag`; a bare architecture means its default tag. `imagenet_10`, as
            `imagenet10` was first spelled, is understood.
        zoo: The zoo that is meant; needed only for the six names that are in two zoos.
        warn: Called with a message if a name is in two zoos and `zoo` does not say which.

    Raises:
        ValueError: No such model, with the nearest names; or no such zoo; or a zoo that does not have the model.
    """
    if zoo is not None:
        check_zoo(zoo)
    name = OLD_SPELLING.sub(r'imagenet\1', name)
    matches = [c for c in CHECKPOINTS if name in (c.name, c.timm_name)]
    matches = matches or [c for c in WHOLE if c.timm_name == name]
    matches = matches or [c for c in (*CHECKPOINTS, *WHOLE) if c.architecture == name][:1]
    if not matches and find_generator(name):
        raise ValueError(f'{name!r} is an image generator, no backbone: load_model({name!r}), `videozoo generate`')
    if not matches and find_video_generator(name):
        raise ValueError(f'{name!r} is a video generator, no backbone: load_model({name!r}), `videozoo generate`')
    if not matches:
        raise ValueError(_unknown(name))
    if zoo is not None:
        chosen = [c for c in matches if c.zoo == zoo]
        if not chosen:
            raise ValueError(f'{name!r} is not in the zoo {zoo!r}, it is in {matches[0].zoo!r}')
        return chosen[0]
    if len(matches) > 1:
        chosen = next(c for c in matches if c.zoo == DEFAULT_ZOO)
        others = ', '.join(f'{c.zoo!r} ({c.timm_name})' for c in matches)
        warn(
            f'{name!r} stands in two zoos with different weights: {others}; taking {chosen.zoo!r}. '
            'Naming a zoo chooses, and silences this.'
        )
        return chosen
    return matches[0]


def matching(patterns: Iterable[str], zoo: str | None = None, generators: bool = False) -> list[str]:
    """Names of the published models with features that match one of the patterns, in published order.

    Args:
        patterns: As of shells: `*` any text, `?` any character, `[12]` one of these; a name matches itself. The
            finetuned models of humanlike-vits match patterns with `in1k` alone: `vitb14_*_*` are the pretrained ones,
            `vitb14_*_*_in1k` the finetuned ones, as `videozoo list` has them. Timm names are looked at where no
            published name matches.
        zoo: Only those of this zoo.
        generators: Those without features too.

    Raises:
        ValueError: No such zoo; or a pattern that matches no such model, with the nearest names.
    """
    every = available_models(zoo)
    timm_names = {c.timm_name: c.name for c in CHECKPOINTS if zoo in (None, c.zoo)}
    names = every if generators else list(dict.fromkeys(timm_names.values()))
    found: set[str] = set()
    for pattern in patterns:
        matched = [name for name in names if _matches(name, pattern)]
        matched = matched or [name for timm_name, name in timm_names.items() if _matches(timm_name, pattern)]
        if not matched:
            raise ValueError(_unmatched(pattern, names, zoo, generators))
        found |= set(matched)
    return [name for name in every if name in found]


def _matches(name: str, pattern: str) -> bool:
    finetuned = name.endswith(humanlike.FINETUNED)
    return fnmatchcase(name, pattern) and (not finetuned or humanlike.FINETUNED.strip('_') in pattern)


def _unmatched(pattern: str, names: list[str], zoo: str | None, generators: bool) -> str:
    every_generator = (*GENERATORS, *video_generators())
    if not generators and any(fnmatchcase(g.name, pattern) for g in every_generator if zoo in (None, g.zoo)):
        return f'{pattern!r} matches generators alone, which have no features'
    plain = re.sub(r'[*?\[\]]', '', pattern).lower()
    near = difflib.get_close_matches(plain, names, n=3, cutoff=0.5)
    hint = f'there are {", ".join(map(repr, near))}; ' if near else ''
    where = f' of the zoo {zoo!r}' if zoo else ''
    every = 'get_available_models() (`videozoo list`) lists them all'
    what = 'model' if generators else 'model with features'
    return f'no {what}{where} matches {pattern!r}; {hint}{every}'


def finetuned_of(name: str, zoo: str | None = None) -> str:
    """The name of what humanlike-vits loads as `name` with `finetuned=True`.

    Raises:
        ValueError: No such model, or it is of another zoo, whose finetuned models have names of their own only.
    """
    record = find(name, zoo)
    if record.finetuned:
        return record.finetuned
    data = record.name.split('_')[1]
    own = [c.name for c in CHECKPOINTS if c.zoo == record.zoo and c.num_classes and c.name.split('_')[1] == data]
    hint = f'they have names of their own: {", ".join(own)}' if own else 'none are published of it'
    raise ValueError(f'{name!r}: finetuned=True is for the models of humanlike-vits; {hint}')


def whole_of(name: str, zoo: str | None = None) -> Checkpoint:
    """The image MAE whose encoder has this name.

    Raises:
        ValueError: No such model, or no decoder of it was published.
    """
    record = find(name, zoo)
    if record.architecture.startswith('mae_'):
        return record
    if record.whole is None:
        _, data, last = record.name.split('_')[:3]
        own = {record.name.removesuffix(humanlike.FINETUNED), f'mae_{data}_{last}', f'mae_{data}_none'}
        near = [c.name for c in CHECKPOINTS if c.name in own and c != record and c.zoo == record.zoo]
        hint = f'take {near[0]!r}' if near else 'take one whose name begins with mae_, or one of humanlike-vits'
        raise ValueError(f'{name!r}: no decoder of it was published; {hint}')
    return record.whole


def packaged_as(file: str | None) -> Checkpoint | None:
    """The record of a file that comes with this package."""
    return next((c for c in CHECKPOINTS if c.packaged and str(c.packaged) == file), None)


def stored_in(repo: str, filename: str) -> Checkpoint | None:
    """The record that describes the content of a file; the MAE, if a ViT shares its file."""
    sharing = [
        c for c in (*CHECKPOINTS, *WHOLE) if c.repo and c.repo == repo and filename in (c.filename, c.safetensors)
    ]
    return next((c for c in sharing if c.architecture == c.stored_architecture), None)


def _unknown(name: str) -> str:
    published = available_models()
    parts = name.split('_')
    if parts[0] == 'mae' and len(parts) == 3 and parts[2] != 'none' and f'vit_{parts[1]}_{parts[2]}' in published:
        return (
            f'no model {name!r}: the MAE is published without finetuning only; '
            f"did you mean 'vit_{parts[1]}_{parts[2]}' or 'mae_{parts[1]}_none'?"
        )
    if re.search(r'imagenet_?3(?=[_+]|$)', name):
        return (
            f'no model {name!r}: models of imagenet_3 were announced but never published; there are imagenet100, '
            f'imagenet10 and imagenet1'
        )
    if '://' in name:
        return f'no model {name!r}; a URL is no name: download the file, load_file(path) takes it'
    if re.search(r'\.(pth?|ckpt|bin|safetensors)$', name):
        return f'no model {name!r}; a file is no name: load_file({name!r}) takes it, and commands do as weights'
    if name in ZOOS:
        return f'no model {name!r}, which is a zoo; get_available_models({name!r}) lists its models'
    why = humanlike.why_not(name)
    models = [c.name for c in CHECKPOINTS] if why else published  # what generators are called is no hint then
    known = models + [c.timm_name for c in (*CHECKPOINTS, *WHOLE)] + list(ALL_ARCHITECTURES)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    near = near or sorted((k for k in known if name and name.lower() in re.split('[._]', k)), key=len)[:3]
    near = near or difflib.get_close_matches(name.lower(), ZOOS, n=1, cutoff=0.8)
    hint = f'did you mean {" or ".join(map(repr, near))}? ' if near else ''
    if why:
        return f'no model {name!r}: {why}; {hint}get_available_models(zoo="humanlike-vits") lists them all'
    return f'no model {name!r}; {hint}get_available_models() (`videozoo list`) lists them all'
