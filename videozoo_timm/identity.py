"""What a model's name or a checkpoint file is.

`resolve` is asked once in a run; the loaders, timm's builder, torch.hub and the command line take its answer. A name is
resolved without PyTorch, and a file is opened once, when something in it is first asked for.
"""
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import catalogue
from .catalogue import Checkpoint, Generator
from .text import printable
from .weights import Source

if TYPE_CHECKING:
    import torch

    from .weights import Tensors, Weights

# Builders of what timm's registry does not know, by which files are recognized too; `models` enters its own.
builders: dict[str, Callable[..., Any]] = {}
_NUM_FRAMES = 16  # of a clip, by default
_KEYS_OF_PARTS = {'gpt': 'tok_emb.weight', 'vqgan': 'quantize.embedding.weight'}  # by which they are told apart


@dataclass(frozen=True)
class Contents:
    """What a local checkpoint holds. The file is opened when this is first asked, and stays as it was read then.

    Attributes:
        path: `.pth` or `.safetensors`.
        mapped: As in `read_weights`.
    """
    path: Path
    mapped: bool | None = None

    @cached_property
    def weights(self) -> 'Weights':
        from .weights import read_weights
        return read_weights(self.path, self.mapped)

    @cached_property
    def header(self) -> dict[str, Any]:
        """What the file says of itself; empty of pickles."""
        return self.weights.header

    @cached_property
    def shapes(self) -> 'Tensors':
        """Its tensors in timm's layout, without their values (on the meta device)."""
        import torch

        from .weights import to_timm
        return to_timm({k: torch.empty(v.shape, device='meta') for k, v in self.weights.tensors.items()})

    @cached_property
    def recognized(self) -> str | None:
        """The architecture of this package that its tensors belong to, or 'gpt' or 'vqgan'; needs `models` imported."""
        return recognize({k: tuple(v.shape) for k, v in self.shapes.items()})

    @property
    def architecture(self) -> str | None:
        """What its header says, or else what its tensors are."""
        return self.header.get('architecture') or self.recognized

    @property
    def record(self) -> Checkpoint | None:
        """The published checkpoint that its header names."""
        name = self.header.get('name')
        is_published = any(name == c.name for c in catalogue.CHECKPOINTS)
        return catalogue.find(name, self.header.get('zoo')) if name and is_published else None

    @property
    def num_classes(self) -> int:
        """Rows of its head, 0 without one."""
        head = self._ranked('head.weight', 2)
        head = self._ranked('fc.weight', 2) if head is None else head
        return 0 if head is None else head.shape[0]

    @property
    def input_size(self) -> tuple[int, int, int] | None:
        """Channels, height and width that its tensors were made for; None if unknown."""
        kernel = self._ranked('patch_embed.proj.weight', 4, 5)
        spatial, positions = self._ranked('pos_embed_spatial', 3), self._ranked('pos_embed', 3)
        if kernel is None:
            return None
        if spatial is not None:
            number = spatial.shape[1]
        elif positions is not None:
            number = positions.shape[1] - 1
        else:
            return None
        side = math.isqrt(number)
        return (kernel.shape[1], side * kernel.shape[-2], side * kernel.shape[-1]) if side ** 2 == number else None

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip that its tensors were made for; None if it is no video model."""
        steps, kernel = self._ranked('pos_embed_temporal', 3), self._ranked('patch_embed.proj.weight', 5)
        return None if steps is None or kernel is None else steps.shape[1] * kernel.shape[2]

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The fields of timm's `PretrainedCfg` that it tells."""
        told = {k: self.header[k] for k in ('mean', 'std', 'interpolation', 'label_names') if k in self.header}
        size = self.header.get('input_size') or self.input_size
        return told | dict(num_classes=self.num_classes) | (dict(input_size=size) if size else {})

    def take(self) -> 'Tensors':
        """Its tensors, handed over: what is known of the file stays, its values are not held twice."""
        _ = self.header, self.shapes
        return self.__dict__.pop('weights').tensors

    def check(self, architecture: str) -> None:
        """Raise a ValueError if its tensors cannot be of an architecture."""
        first = 'conv1.weight' if architecture.startswith('resne') else 'patch_embed.proj.weight'
        is_video = architecture.endswith('_st')
        kind = 'video model' if is_video else architecture
        fits = self._ranked(first, 5 if is_video else 4) is not None
        if catalogue.takes_images(architecture):
            fits = fits and bool(self.architecture)
        if not fits:
            found = [printable(key, 80) for key in islice(self.shapes, 4)]
            raise ValueError(f'{self.path} is no {kind}: its tensors are {found} and so on')

    def _ranked(self, key: str, *ranks: int) -> 'torch.Tensor | None':
        """A tensor, if it is there, has values and one of these numbers of dimensions."""
        tensor = self.shapes.get(key)
        return tensor if tensor is not None and tensor.ndim in ranks and tensor.numel() else None


@dataclass(frozen=True)
class Resolved:
    """What a model's name, or a file, is.

    Attributes:
        architecture: timm architecture; '' of a generator, and of a file of no architecture of this package.
        record: The published checkpoint or generator; None of a bare architecture, and of weights of one's own.
        contents: What the file holds, if it is one.
        is_guess: Nothing but the tensors of the file says the architecture.
    """
    architecture: str
    record: Checkpoint | Generator | None = None
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
        """timm tag; '' of a bare architecture and of generators."""
        return self.record.tag if isinstance(self.record, Checkpoint) else ''

    @property
    def timm_name(self) -> str:
        return f'{self.architecture}.{self.tag}' if self.tag else self.architecture

    @property
    def is_generator(self) -> bool:
        return isinstance(self.record, Generator)

    @property
    def takes_images(self) -> bool:
        return catalogue.takes_images(self.architecture)

    @property
    def is_mae(self) -> bool:
        return self.architecture.startswith('mae_')

    @cached_property
    def published(self) -> Checkpoint | None:
        """The published checkpoint, of a bare architecture its default."""
        if isinstance(self.record, Checkpoint):
            return self.record
        return next((c for c in catalogue.CHECKPOINTS if c.architecture == self.architecture), None)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Input size, mean, std, interpolation and the like of the published checkpoint, as in timm's `PretrainedCfg`."""
        record = self.published
        return catalogue.preprocessing(*(record.img_size, record.trained_on_images) if record else (224, True))

    @cached_property
    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's `PretrainedCfg`: as published, of a bare architecture in a file with what that tells instead."""
        cfg = {'architecture': self.architecture, 'num_classes': 0, **self.preprocessing}
        if self.published and (self.tag or self.contents is None):
            return cfg | self.published.pretrained_cfg() | dict(tag=self.published.tag)
        return cfg | (self.contents.pretrained_cfg if self.contents else {})

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip; None of what takes images."""
        told = self.contents.num_frames if self.contents else None
        return told or (_NUM_FRAMES if self.architecture.endswith('_st') else None)

    @property
    def part(self) -> str:
        """Which part of the generator the file holds, 'gpt' or 'vqgan'.

        Raises:
            ValueError: Neither.
        """
        if isinstance(self.record, Generator) and self.contents:
            shapes = {k: tuple(v.shape) for k, v in self.contents.shapes.items()}
            for kind, args in _parts_of(self.record).items():
                if _KEYS_OF_PARTS[kind] in shapes and shapes == _shapes_of(kind, args):
                    return kind
        raise ValueError(f'{self.contents and self.contents.path} is neither the GPT nor the VQGAN of {self.name}')

    def sources(self, cache_dir: str | Path | None = None) -> list[Source]:
        """Where its published weights are: one file, of a generator two.

        Raises:
            ValueError: None are published.
        """
        if isinstance(self.record, Generator):
            return [source for _, source in self.parts(cache_dir).values()]
        return [source_of(self.pretrained_cfg, cache_dir)]

    def parts(
            self,
            cache_dir: str | Path | None = None,
            files: Mapping[str, str | Path] | None = None,
    ) -> dict[str, tuple[dict[str, Any], Source]]:
        """Of a generator the arguments and the source of its 'gpt' and its 'vqgan'; `files` names local ones instead.

        Raises:
            ValueError: It was asked with one file, or is no generator.
        """
        if self.contents or not isinstance(self.record, Generator):
            what = 'an image generator, which has two files' if self.is_generator else 'no image generator'
            raise ValueError(f'{self.name!r} is {what}: load_model({self.name!r}, files=dict(gpt=..., vqgan=...))')
        record, files = self.record, files or {}
        return {kind: (args, generator_source(record, kind, cache_dir, files.get(kind)))
                for kind, args in _parts_of(record).items()}

    def timm_args(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `timm.create_model` that load the file; of a bare architecture with what the file tells.

        Args:
            given: Arguments of the caller, which come first.

        Raises:
            ValueError: The file is of another model, or does not say which it is.
        """
        contents, args = self.contents, dict(given)
        if contents is None:
            return args
        if self.is_guess:
            raise ValueError(f'{contents.path} does not say which model it is: name it')
        self.check(any_size='img_size' in args or not self.tag)
        overlay = {**(args.get('pretrained_cfg_overlay') or {}), 'file': str(contents.path)}
        if not self.tag:  # nothing is known of it but what it says itself
            told = {k: v for k, v in contents.pretrained_cfg.items() if k != 'label_names'}
            overlay = told | overlay
            own = dict(num_classes=overlay['num_classes'])
            if 'input_size' in told and self.architecture != 'resnext50_im':  # a ResNet has no size of its own
                own['img_size'] = tuple(told['input_size'][1:])
            if contents.num_frames is not None:
                own['num_frames'] = contents.num_frames
            args = own | args
        return args | dict(pretrained_cfg_overlay=overlay, contents=contents)

    def check(self, any_size: bool = False) -> None:
        """Refuse a file that contradicts the model it shall be.

        Raises:
            ValueError: Every contradiction, listed.
        """
        contents, expected = self.contents, self.preprocessing
        if contents is None:
            return
        header, problems = contents.header, []
        contents.check(self.architecture)
        problems += [f'{printable(key, 80)} {list(v.shape)} is empty'
                     for key, v in contents.shapes.items() if not v.numel()][:4]
        stored = contents.architecture
        if stored and not serves(stored, self.architecture):
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
    """What a name, a file, or a file of a model that is named is.

    Args:
        name: Published name (`'vit_hvm1@448_none'`), timm name (`'vit_h14_st.hvm1_448'`) or architecture; None takes
            what the file's header says, without one what its tensors are.
        file: Local checkpoint, `.pth` or `.safetensors`. If a name is given too, the file is not opened here.
        zoo: Which zoo is meant; needed only for the six names that stand in two.

    Raises:
        ValueError: No such model, with the nearest names; or not in this zoo; or neither a name nor a file.
        FileNotFoundError: No such file.
    """
    contents = Contents(Path(file)) if isinstance(file, (str, Path)) else file
    if name is None:
        if contents is None:
            raise ValueError('name a model or a file')
        name, stored_in = contents.header.get('name') or contents.header.get('architecture'), contents.header.get('zoo')
        if not name:
            return Resolved(contents.recognized or '', contents=contents, is_guess=True)
        if zoo and stored_in and zoo != stored_in:
            raise ValueError(f'{contents.path} is {name} of the zoo {stored_in!r}, not of {zoo!r}')
        zoo = stored_in or zoo
    if name in catalogue.ALL_ARCHITECTURES and zoo is None:
        return Resolved(name, contents=contents)
    generator = catalogue.find_generator(name, zoo)
    if generator:
        return Resolved('', generator, contents)
    record = catalogue.find(name, zoo)
    return Resolved(record.architecture, record, contents)


def serves(stored: str | None, architecture: str) -> bool:
    """Whether a file of one architecture holds the weights of another: an MAE's file holds its encoder, a ViT."""
    return stored in (architecture, architecture.replace('vit_', 'mae_', 1))


def source_of(cfg: Mapping[str, Any], cache_dir: str | Path | None = None) -> Source:
    """Where a configuration's weights are, with what their converted file shall say of itself.

    Args:
        cfg: timm's `PretrainedCfg` as a dictionary.
        cache_dir: Another cache for downloads and conversions.

    Raises:
        ValueError: The configuration names no weights.
    """
    timm_name = '.'.join(filter(None, (cfg['architecture'], cfg.get('tag'))))
    file, url, repo = cfg.get('file'), cfg.get('url'), cfg.get('hf_hub_id')
    stored = catalogue.stored_in(repo, cfg.get('hf_hub_filename')) or catalogue.packaged_as(file)
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
            f'(pretrained_cfg_overlay=dict(file=...))')
    return Source(
        repo=repo, filename=cfg.get('hf_hub_filename') or 'model.safetensors', cache_dir=cache_dir,
        label=catalogue.find(timm_name).name if stored else '', about=about, digests=catalogue.digests_of(repo))


def find_source(name: str, zoo: str | None = None, cache_dir: str | Path | None = None) -> Source:
    """Where the published weights of a model with one file are."""
    return resolve(name, zoo=zoo).sources(cache_dir)[0]


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
        repo=record.repo, filename=published.rsplit('.', 1)[0] + '.safetensors', published=published,
        cache_dir=cache_dir and Path(cache_dir).expanduser(), label=record.name, about=about,
        digests=catalogue.digests_of(record.repo))


def _parts_of(record: Generator) -> dict[str, dict[str, Any]]:
    return dict(gpt=record.gpt_args, vqgan=record.vqgan_args)


def recognize(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The architecture of this package, or 'gpt' or 'vqgan' of a generator, whose tensors have these names and shapes.

    It is found by building each on the meta device, so `models` must have been imported.
    """
    for kind, key in _KEYS_OF_PARTS.items():
        if key in shapes:
            every = {repr(args): args for g in catalogue.GENERATORS for args in (_parts_of(g)[kind],)}
            return kind if any(shapes == _shapes_of(kind, args) for args in every.values()) else None
    from timm import create_model
    for architecture in catalogue.ALL_ARCHITECTURES:
        model = create_model(architecture, num_classes=0, device='meta', weight_init='skip')
        # Position embeddings follow the input's size, the head the classes.
        fixed = {k: tuple(v.shape) for k, v in model.state_dict().items() if 'pos_embed' not in k}
        rest = {k for k in shapes if k not in fixed and 'pos_embed' not in k}
        if catalogue.takes_images(architecture):  # an image MAE's file holds a decoder, which is not in this package
            rest = {k for k in rest if not k.startswith(('decoder_', 'mask_token'))}
        heads = {'head.weight', 'head.bias', 'fc.weight', 'fc.bias'}
        if all(shapes.get(k) == shape for k, shape in fixed.items()) and rest <= heads:
            return architecture
    return None


def _shapes_of(kind: str, args: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in builders[kind](**args, device='meta').state_dict().items()}
