"""What a model's name or a checkpoint file is.

`resolve` is asked once in a run; the loaders, timm's builder, torch.hub and the command line take its answer. A name is
resolved without PyTorch, and a file is opened once, when something in it is first asked for.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from . import catalogue
from .catalogue import Checkpoint, Generator, PackagedGenerator
from .contents import Contents, serves
from .paths import as_path
from .text import printable
from .weights import Source

VIDEO_PARTS = ('video_gpt', 'video_vqgan', 'video_generator')  # architectures in headers: of a part, and of both
_NUM_FRAMES = 16  # of a clip, by default


@dataclass(frozen=True)
class Resolved:
    """What a model's name, or a file, is.

    Attributes:
        architecture: timm architecture; '' for a generator and for a file of none of this package's architectures.
        record: The published checkpoint or generator; None for a bare architecture, also of a user's own weights.
        contents: Contents of the file, if there is one.
        is_guess: The architecture was inferred from the tensors of a file that does not name it.
    """

    architecture: str
    record: Checkpoint | Generator | PackagedGenerator | None = None
    contents: Contents | None = None
    is_guess: bool = False

    @property
    def name(self) -> str:
        """Published name, or the architecture."""
        return self.record.name if self.record else self.architecture

    @property
    def zoo(self) -> str | None:
        return self.record.zoo if self.record else None

    @property
    def tag(self) -> str:
        """timm tag; '' for a bare architecture and for generators."""
        return self.record.tag if isinstance(self.record, Checkpoint) else ''

    @property
    def timm_name(self) -> str:
        return f'{self.architecture}.{self.tag}' if self.tag else self.architecture

    @property
    def is_generator(self) -> bool:
        """Whether it generates images or videos."""
        return isinstance(self.record, Generator) or self.is_video_generator

    @property
    def is_video_generator(self) -> bool:
        return isinstance(self.record, PackagedGenerator)

    @property
    def kind(self) -> str:
        """What a generator is called in errors."""
        return 'a video generator' if self.is_video_generator else 'an image generator'

    @property
    def takes_images(self) -> bool:
        return catalogue.takes_images(self.architecture)

    @property
    def is_mae(self) -> bool:
        return self.architecture.startswith('mae_')

    @property
    def whole(self) -> 'Resolved':
        """The image MAE whose encoder was named, if its decoder is there; anything else as it is."""
        record = self.record.whole if isinstance(self.record, Checkpoint) else None
        if record is None or (self.contents and 'decoder_pred.weight' not in self.contents.shapes):
            return self
        return replace(self, architecture=record.architecture, record=record)

    @cached_property
    def published(self) -> Checkpoint | None:
        """The published checkpoint; for a bare architecture, its default one."""
        if isinstance(self.record, Checkpoint):
            return self.record
        every = (*catalogue.CHECKPOINTS, *catalogue.WHOLE)
        return next((c for c in every if c.architecture == self.architecture), None)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Input size, mean, std and interpolation of the published checkpoint, as in timm's `PretrainedCfg`."""
        record = self.published
        return catalogue.preprocessing(*(record.img_size, record.trained_on_images) if record else (224, True))

    @cached_property
    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's `PretrainedCfg`: as published; for a bare architecture with a file, as the file says."""
        cfg = {'architecture': self.architecture, 'num_classes': 0, **self.preprocessing}
        if self.published and (self.tag or self.contents is None):
            return cfg | self.published.pretrained_cfg() | dict(tag=self.published.tag)
        return cfg | (self.contents.pretrained_cfg if self.contents else {})

    @property
    def num_frames(self) -> int | None:
        """Frames per clip; None for models that take images."""
        told = self.contents.num_frames if self.contents else None
        return told or (_NUM_FRAMES if self.architecture.endswith('_st') else None)

    def sources(self, cache_dir: str | Path | None = None) -> list[Source]:
        """Where its published weights are: one file, or the two of a generator.

        Raises:
            ValueError: None are published.
        """
        if isinstance(self.record, Generator):
            return [source for _, source in self.parts(cache_dir).values()]
        if isinstance(self.record, PackagedGenerator):
            about = dict(name=self.name, zoo=self.zoo, architecture='video_generator')
            return [Source(file=self.record.packaged, about=about)]
        return [source_of(self.pretrained_cfg, cache_dir)]

    def parts(
        self,
        cache_dir: str | Path | None = None,
        files: Mapping[str, str | Path] | None = None,
    ) -> dict[str, tuple[dict[str, Any], Source]]:
        """Arguments and source of a generator's 'gpt' and 'vqgan'; `files` names local files instead.

        Raises:
            ValueError: It is no generator, or was resolved with a single file.
        """
        if not isinstance(self.record, Generator):
            raise ValueError(f'{self.name!r} is no image generator')
        if self.contents:
            raise ValueError(
                f'{self.name!r} is an image generator, which has two files: load_model({self.name!r}, '
                f'files=dict(gpt=..., vqgan=...))'
            )
        record, files = self.record, files or {}
        return {
            kind: (args, generator_source(record, kind, cache_dir, files.get(kind)))
            for kind, args in record.part_args.items()
        }

    def timm_args(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `timm.create_model` that load the file; for a bare architecture with the sizes that it has.

        Args:
            given: Arguments of the caller, which take precedence.

        Raises:
            ValueError: The file is of another model, or does not say which it is.
        """
        contents, args = self.contents, dict(given)
        if contents is None:
            return args
        if self.is_guess:
            raise ValueError(f'{contents.path} does not say which model it is: name it')
        self.check(any_size='img_size' in args or not self.tag)
        overlay = {**(args.get('pretrained_cfg_overlay') or {}), 'file': str(contents.path), 'contents': contents}
        if not self.tag:  # nothing is known of it but what it says itself
            told = {k: v for k, v in contents.pretrained_cfg.items() if k != 'label_names'}
            overlay = told | overlay
            own = dict(num_classes=overlay['num_classes'])
            if 'input_size' in told and self.architecture != 'resnext50_im':  # a ResNet has no size of its own
                own['img_size'] = tuple(told['input_size'][1:])
            if contents.num_frames is not None:
                own['num_frames'] = contents.num_frames
            args = own | args
        return args | dict(pretrained_cfg_overlay=overlay)

    def check(self, any_size: bool = False) -> None:
        """Refuse a file that contradicts the model that was named.

        Raises:
            ValueError: Every contradiction, listed.
        """
        contents, expected = self.contents, self.preprocessing
        if contents is None:
            return
        header, problems = contents.header, []
        contents.check(self.architecture)
        problems += [
            f'{printable(key, 80)} {list(v.shape)} is empty' for key, v in contents.shapes.items() if not v.numel()
        ][:4]
        stored = contents.architecture
        # Conversions of version 0.1.0 hold the decoder of an image MAE, and say that they are of the encoder.
        has_decoder = 'decoder_pred.weight' in contents.shapes
        encoder = self.architecture.replace('mae_', 'vit_', 1)
        if stored and not serves(stored, self.architecture) and not (has_decoder and stored == encoder):
            problems.append(f'architecture {stored}, the model is {self.architecture}')
        theirs, ours = contents.record, self.published if self.tag else None
        if theirs and ours and (theirs.repo, theirs.safetensors) != (ours.repo, ours.safetensors):
            problems.append(f'name {theirs.name} of {theirs.zoo}, the model is {self.timm_name}')
        if ours and contents.num_classes != ours.num_classes:
            problems.append(f'{contents.num_classes} classes, the model has {ours.num_classes}')
        told, size = header.get('input_size'), contents.input_size
        if told and size and told[1] * told[2] != size[1] * size[2]:  # of one that is not square the area is known
            problems.append(f'its header says input size {list(told)}, its tensors are for {list(size)}')
        size = told or size
        if size and tuple(size) != expected['input_size'] and not any_size:
            problems.append(f'input size {list(size)}, the model takes {list(expected["input_size"])}')
        for field in ('mean', 'std') if ours else ():
            if field in header and tuple(header[field]) != expected[field]:
                problems.append(f'{field} {list(header[field])}, the model has {list(expected[field])}')
        if problems:
            raise ValueError(f'{contents.path} is not {self.timm_name}: ' + '; '.join(problems))


def resolve(name: str | None = None, file: str | Path | Contents | None = None, zoo: str | None = None) -> Resolved:
    """Resolve a name, a file, or a file together with the name of its model.

    Args:
        name: Published name (`'vit_hvm1@448_none'`), timm name (`'vit_h14_st.hvm1_448'`) or architecture; None takes
            what the file's header says, without one what its tensors are.
        file: Local checkpoint, `.pth` or `.safetensors`. If a name is given too, the file is not opened here.
        zoo: Which zoo is meant; needed only for the six names that stand in two.

    Raises:
        TypeError: The name is no string.
        ValueError: No such model, with the nearest names; or not in this zoo; or neither a name nor a file.
        FileNotFoundError: No such file.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f'the name of a model is wanted, got {type(name).__name__}')
    contents = Contents(as_path(file)) if isinstance(file, (str, os.PathLike)) else file
    if name is None:
        if contents is None:
            raise ValueError('name a model (get_available_models() lists them) or a file')
        name, stored_in = contents.header.get('name') or contents.header.get('architecture'), contents.header.get('zoo')
        if not name:
            return Resolved(contents.recognized or '', contents=contents, is_guess=True)
        if zoo and stored_in and zoo != stored_in:
            raise ValueError(f'{contents.path} is {name} of the zoo {stored_in!r}, not of {zoo!r}')
        zoo = stored_in or zoo
    if name in catalogue.ALL_ARCHITECTURES and zoo is None:
        return Resolved(name, contents=contents)
    generator = catalogue.find_generator(name, zoo)
    if generator := generator or catalogue.find_video_generator(name, zoo):
        return Resolved('', generator, contents)
    if name in VIDEO_PARTS and contents is not None:
        raise ValueError(f'{contents.path} holds (a part of) a video generator: load_generator, `videozoo generate`')
    record = catalogue.find(name, zoo)
    return Resolved(record.architecture, record, contents)


def source_of(cfg: Mapping[str, Any], cache_dir: str | Path | None = None) -> Source:
    """Where a configuration's weights are, with what their converted file shall say of itself.

    Args:
        cfg: timm's `PretrainedCfg` as a dictionary.
        cache_dir: Another cache for downloads and conversions.

    Raises:
        ValueError: The configuration names no weights.
    """
    timm_name = '.'.join(filter(None, (cfg['architecture'], cfg.get('tag'))))
    file, url = cfg.get('file'), cfg.get('url')
    repo, filename = cfg.get('hf_hub_id') or '', cfg.get('hf_hub_filename') or ''
    stored = catalogue.stored_in(repo, filename) or catalogue.packaged_as(file)
    if stored:  # as published, whatever the caller overlays
        about: dict[str, Any] = dict(name=stored.name, zoo=stored.zoo, architecture=stored.architecture)
        about |= {k: v for k, v in stored.pretrained_cfg().items() if k in ('input_size', 'mean', 'std')}
        if stored.packaged:
            about['source'] = 'examples/make_shapes.sh'
    else:
        about = {'name': timm_name} | {k: cfg.get(k) for k in ('architecture', 'input_size', 'mean', 'std')}
    cache_dir = cache_dir and Path(cache_dir).expanduser()
    if file:
        return Source(file=Path(file).expanduser(), about=about)
    if url and not repo:
        from ._compat import download_cached_file

        return Source(file=Path(download_cached_file(url, check_hash=False, cache_dir=cache_dir)), about=about)
    if not repo:
        raise ValueError(
            f'no weights are published for {timm_name!r}: make it with pretrained=False, or name a file '
            f'(pretrained_cfg_overlay=dict(file=...))'
        )
    return Source(
        repo=repo,
        filename=filename or 'model.safetensors',
        cache_dir=cache_dir,
        label=catalogue.find(timm_name).name if stored else '',
        about=about,
        digests=catalogue.digests_of(repo),
        series={c.name: c.safetensors for c in catalogue.CHECKPOINTS if c.series == stored.series and c != stored}
        if stored and stored.series
        else {},
    )


def find_source(name: str, zoo: str | None = None, cache_dir: str | Path | None = None) -> Source:
    """Where the published weights of a model with one file are."""
    return resolve(name, zoo=zoo).sources(cache_dir)[0]


def on_disk(record: Checkpoint) -> Path | None:
    """The safetensors file of a checkpoint, if it is on this machine."""
    return record.packaged or in_cache(record.repo, record.safetensors)


def in_cache(repo: str, filename: str) -> Path | None:
    """A safetensors file of the Hub, if it is on this machine."""
    from .weights import cached

    return cached(Source(repo=repo, filename=filename))


def generator_source(
    record: Generator,
    kind: str,
    cache_dir: str | Path | None = None,
    file: str | Path | None = None,
) -> Source:
    """Where the GPT or the VQGAN of a generator is; `file` names a local one instead."""
    published = record.gpt_filename if kind == 'gpt' else record.vqgan_filename
    about = dict(name=record.name if kind == 'gpt' else record.vqgan, zoo=record.zoo, architecture=kind)
    if file is not None:
        return Source(file=Path(file).expanduser(), about=about)
    return Source(
        repo=record.repo,
        filename=published.rsplit('.', 1)[0] + '.safetensors',
        published=published,
        cache_dir=cache_dir and Path(cache_dir).expanduser(),
        label=record.name,
        about=about,
        digests=catalogue.digests_of(record.repo),
    )
