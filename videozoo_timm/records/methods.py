"""The paragraph of a paper about runs, from their records and the catalogue alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..cards import citation, trained_on
from ..catalogue import Checkpoint, find, find_generator, find_video_generator
from ..text import counted, printable
from .citations import CITED, bibtex_of, in_text, in_text_of
from .sentences import SENTENCES

_SOFTWARE = {  # as sentences call it, in their order
    'torch': 'PyTorch',
    'timm': 'timm',
    'av': 'PyAV',
    'accelerate': 'Accelerate',
    'peft': 'PEFT',
    'scikit-learn': 'scikit-learn',
    'rsatoolbox': 'rsatoolbox',
    'himalaya': 'himalaya',
    'torch-fidelity': 'torch-fidelity',
}
_OF_COMMAND = {  # what is imported in any case, and used by these alone
    'scikit-learn': ('probe', 'compare'),
    'rsatoolbox': ('compare', 'export'),
    'himalaya': ('compare',),
    'torch-fidelity': ('fid',),
    'accelerate': ('pretrain', 'finetune', 'pretrain-tokenizer', 'pretrain-prior'),
    'peft': ('finetune',),
}


@dataclass
class Described:
    """What a paper says of runs.

    Attributes:
        text: The paragraphs.
        bibtex: An entry for all that they cite, each once.
        gaps: What the records do not tell, and the authors must.
    """

    text: str = ''
    bibtex: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def cite(self, entry: str) -> None:
        """Add an entry, unless it is there."""
        if entry not in self.bibtex:
            self.bibtex.append(entry)


def describe(records: Sequence[Mapping[str, Any]]) -> Described:
    """What a paper says of runs: models, what was done with them, software, in the order in which it was done.

    Args:
        records: As `records.record.read` gives them. What a record quotes of the runs that made its inputs comes first.
    """
    result = Described()
    paragraphs: list[str] = []
    every = _with_origins(records)
    for record in every:
        try:
            paragraphs.append(' '.join([*_models(record, result), *_done(record)]))
        except (TypeError, ValueError, KeyError, AttributeError) as error:  # somebody has changed it
            raise ValueError(f'the record of videozoo {record["command"][1]} is damaged ({error!r})') from error
        _look_for_gaps(record, result)
    paragraphs.append(_software(every))
    result.text = '\n\n'.join(dict.fromkeys(paragraphs))
    for name in CITED:
        if (words := in_text(name)) and words in result.text:
            result.cite(bibtex_of(name))
    result.cite(bibtex_of('videozoo-timm', _versions(every, 'videozoo-timm')))
    return result


def _with_origins(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each record behind those of the runs that made its inputs, each once."""
    found: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def add(record: Mapping[str, Any], depth: int = 0) -> None:
        for entry in record.get('inputs', ()):
            origin = entry.get('made_by') if isinstance(entry, dict) else None
            if isinstance(origin, dict) and isinstance(origin.get('command'), list) and depth < 8:
                add(origin, depth + 1)
        found.setdefault((str(record.get('folder')), *map(str, record['command'])), record)

    for record in records:
        add(record)
    return list(found.values())


def _models(record: Mapping[str, Any], result: Described) -> Iterator[str]:
    """A sentence about the model, with its citation."""
    options, command = record.get('options', {}), record['command'][1]
    models = [model for model in record.get('models', ()) if isinstance(model, dict)]
    if not models:
        return
    model = models[0]
    checkpoint = _checkpoint(options, model, record.get('settings', {}).get('model'))
    size = f'{_millions(model["parameters"])} parameters' if model.get('parameters') else ''
    digest = f'SHA-256 of the weights {str(model.get("checksum") or model.get("weights"))[:12]}'
    if own := next((options[name] for name in ('weights', 'gpt') if options.get(name)), None):
        yield (
            f'We used weights of our own ({_name(own)}) of the architecture {_architecture(model)} '
            f'({", ".join(filter(None, (size, digest)))}).'
        )
        if command not in ('pretrain', 'finetune') and not any(
            _makes(entry, own) for entry in record.get('inputs', ())
        ):
            result.gaps.append(f'{own}: the record does not tell how these weights were trained')
    elif options.get('from-scratch') is True:
        seed = f'random seed {options.get("seed") or 0}'
        begins = 'Training began from' if command in ('pretrain', 'finetune') else 'As an untrained control, we used'
        yield (
            f'{begins} a model of the architecture {_architecture(model)} with random weights '
            f'({", ".join(filter(None, (size, seed)))}).'
        )
    elif isinstance(checkpoint, Checkpoint):
        entry = citation(checkpoint)
        cited = f' ({in_text_of(entry)})' if entry else ''
        if entry:
            result.cite(entry)
        of = f'of the collection {checkpoint.zoo}' if entry else 'that comes with videozoo-timm'
        yield (
            f'We used the model {checkpoint.name} {of}{cited}, a {_architecture(model)} '
            f'({", ".join(filter(None, (size, digest)))}) that was {trained_on(checkpoint)}.'
        )
    elif checkpoint is not None:
        yield f'We used the generator {checkpoint.name} of {checkpoint.zoo} ({digest}).'
        if paper := _paper_of(checkpoint.zoo):
            result.cite(paper)
    else:
        yield f'We used a model of the architecture {_architecture(model)} ({", ".join(filter(None, (size, digest)))}).'
        result.gaps.append('the record does not tell which published model this is')
    if len(models) > 1 and options.get('untrained'):
        networks = counted(options['untrained'], 'network')
        yield f'It was compared with {networks} of its architecture with random weights.'


def _makes(entry: Any, path: str) -> bool:
    return isinstance(entry, dict) and entry.get('path') == path and isinstance(entry.get('made_by'), dict)


def _checkpoint(options: Mapping[str, Any], model: Mapping[str, Any], chosen: str | None) -> Any:
    """The published model of a run, `chosen` where it names none; None if it is not known to be one."""
    named, zoo = options.get('model') or chosen, options.get('zoo')
    if model.get('tag'):
        named, zoo = f'{model["architecture"]}.{model["tag"]}', None
    if not named:
        return None
    try:
        generator = find_generator(named, zoo) or find_video_generator(named, zoo)
        return generator or (find(named, zoo, warn=lambda text: None) if model.get('tag') else None)
    except ValueError:  # of another version's catalogue
        return None


def _paper_of(zoo: str) -> str | None:
    from ..catalogue import CHECKPOINTS

    return next((citation(checkpoint) for checkpoint in CHECKPOINTS if checkpoint.zoo == zoo), None)


_SIZES = dict(h='H', l='L', b='B', s='S', t='Ti')


def _architecture(model: Mapping[str, Any]) -> str:
    """An architecture as papers call it: 'vit_h14_st' is a spatiotemporal ViT-H/14."""
    name = str(model.get('architecture') or '')
    kind, _, rest = name.partition('_')
    size, _, of = rest.partition('_')
    if kind in ('vit', 'mae') and size[:1] in _SIZES and size[1:].isdigit() and of in ('st', 'im'):
        what = 'spatiotemporal ViT' if of == 'st' else 'ViT'
        vit = f'{what}-{_SIZES[size[0]]}/{size[1:]}'
        return vit if kind == 'vit' else f'masked autoencoder with a {vit} encoder'
    return dict(resnext50_im='ResNeXt-50', VideoGenerator='GPT over the codes of a 3-D VQGAN').get(name, name)


def _millions(number: int) -> str:
    return f'{number / 1e6:,.0f} million' if number >= 1e7 else f'{number / 1e6:.1f} million'


def _name(path: Any) -> str:
    return str(path).replace('\\', '/').rstrip('/').rpartition('/')[2]


def _done(record: Mapping[str, Any]) -> Iterator[str]:
    command = record['command'][1]
    yield from filter(None, SENTENCES[command](record) if command in SENTENCES else [])


def _look_for_gaps(record: Mapping[str, Any], result: Described) -> None:
    if (name := record['command'][1]) not in SENTENCES:
        result.gaps.append(f'videozoo {printable(name)} is no command that this version knows: what it did is not told')
    if record.get('exit_code') == 1:
        result.gaps.append(
            f'videozoo {record["command"][1]} ended with exit code 1: files were left out or lack a part, which the '
            f'paper should say'
        )


def _software(records: Sequence[Mapping[str, Any]]) -> str:
    """The sentence about software and machine; of several versions all are told."""
    commands = {record['command'][1] for record in records}
    told: list[str] = []
    for name, called in {'videozoo-timm': 'videozoo-timm', **_SOFTWARE}.items():
        of = _OF_COMMAND.get(name)
        versions = _versions(records, name)
        if not versions or (of and not commands.intersection(of)):
            continue
        cited = in_text(name) if name in CITED else ''
        ffmpeg = _versions(records, 'ffmpeg') if name == 'av' else ''
        told.append(f'{called} {versions}{f" with FFmpeg {ffmpeg}" if ffmpeg else ""}{cited}')
    python = _versions(records, 'python')
    machines = dict.fromkeys(_machine(record.get('machine', {})) for record in records if record.get('machine'))
    types = dict.fromkeys(
        model['dtype'] for record in records for model in record.get('models', ()) if model.get('dtype')
    )
    computed = f'; computations were in {" and ".join(types)}' if types else ''
    where = f' on {" and ".join(machines)}' if machines else ''
    return f'We ran {_listed(told)} under Python {python}{where}{computed}.'


def _versions(records: Sequence[Mapping[str, Any]], name: str) -> str:
    found = dict.fromkeys(str(v) for record in records if (v := record.get('versions', {}).get(name)))
    return ' and '.join(found)


def _machine(machine: Mapping[str, Any]) -> str:
    system = str(machine.get('system', '')).split('-')[0]
    parts = machine.get('gpus') or [machine.get('processor')]
    names = ', '.join(dict.fromkeys(str(part) for part in parts if part))
    return f'{system} ({names})' if names else system


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f'{", ".join(words[:-1])} and {words[-1]}'
