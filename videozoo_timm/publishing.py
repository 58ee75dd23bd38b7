"""From a model to what others load: a folder in timm's layout with a model card, a repository on the Hub."""

import difflib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn

from . import __version__, catalogue
from ._compat import save_config_for_hf
from .cards import model_card
from .errors import UserError
from .files import atomic_write
from .identity import find_source, generator_source
from .models.building import MAY_BE_LEFT
from .models.protocols import TimmModel
from .outputs import Output
from .weights import Source, cached, hub_errors, locate, read_weights, to_timm, verify
from .weights.pickles import ENDINGS
from .weights.writing import save_tensors

_logger = logging.getLogger(__name__)

# What a configuration says of the published weights, and of no others.
_OF_THE_PUBLISHED = ('tag', 'license', 'description', 'origin_url', 'paper_name', 'paper_ids', 'notes')
_OF_THIS_MACHINE = ('file', 'url', 'source', 'state_dict', 'hf_hub_id', 'hf_hub_filename', 'hf_hub_revision')
_OTHERS = 'they are not the published ones'


def export(
    model: nn.Module,
    folder: str | Path,
    repo: str = 'ORGANIZATION/NAME',
    *,
    name: str | None = None,
    label_names: Sequence[str] | None = None,
    license: str | None = None,
    dtype: torch.dtype | None = None,
    force: bool = False,
    require_license: bool = False,
) -> Path:
    """Write a model as timm and transformers load it: `model.safetensors`, `config.json` and a model card.

    `timm.create_model('local-dir:FOLDER', pretrained=True)` and transformers' `AutoModel.from_pretrained(FOLDER)` load
    it, and once it is on the Hub `timm.create_model('hf-hub:REPO', pretrained=True)` does; all of them after
    `import videozoo_timm`.

    Args:
        model: A timm model of this package, modified or trained as one likes.
        folder: Folder to write; appears whole or not at all.
        repo: Hub repository that the model card names.
        name: The published model that it is. Its training, classes and license are stated if its tensors are the
            published ones (`unproven`); otherwise the card says that this is not known, and a warning is logged.
        label_names: Names of the classes, if `name` does not say them.
        license: License of the weights, as the Hub spells it, if `name` does not say it.
        dtype: Data type of the written floating-point tensors; None keeps that of each.
        force: Replace an exported model that is there.
        require_license: Write nothing whose license is not known, as whoever publishes has to say it.

    Raises:
        ValueError: `folder` is there, the model is not timm's, `name` or `label_names` do not fit it, or the license is
            not known though required.
        OSError: The disk is full or read-only.
    """
    folder = Path(folder)
    check_folder(folder, force)
    cfg = getattr(model, 'pretrained_cfg', None)
    if not isinstance(cfg, dict) or not hasattr(model, 'forward_features'):
        raise ValueError(f'{type(model).__name__} is no timm model; features_only models cannot be exported either')
    timm_model, record = cast('TimmModel', model), catalogue.find(name) if name else None
    if record and (record.architecture, record.num_classes) != (cfg['architecture'], timm_model.num_classes):
        raise ValueError(f'name={name!r}: the model is {cfg["architecture"]} with {timm_model.num_classes} classes')
    doubt = unproven(model, record) if record else None
    if record and doubt:
        _logger.warning('not identified as %s of %s: %s', record.name, record.zoo, doubt)
        # Weights that were compared and are others are one's own, of which nothing more is to be said.
        doubt = '' if doubt.startswith(_OTHERS) else f'said to be `{record.name}` of {record.zoo}, but {doubt}'
        record = None
    if require_license and license is None:
        check_license(record)
    rows = getattr(timm_model.get_classifier(), 'out_features', 0)
    if rows != timm_model.num_classes:
        raise ValueError(
            f'its head has {rows} rows, but num_classes={timm_model.num_classes}; make it with num_classes={rows}'
        )
    known = record.pretrained_cfg() if record else {}
    labels = (
        dict(label_names=list(label_names))
        if label_names
        else {k: known[k] for k in ('label_names', 'label_descriptions') if k in known}
    )
    if labels and len(labels['label_names']) != timm_model.num_classes:
        raise ValueError(f'{len(labels["label_names"])} names of classes, the model has {timm_model.num_classes}')
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as partial:
        partial.mkdir()
        save_config_for_hf(model, str(partial / 'config.json'), model_config=dict(labels))
        config = json.loads((partial / 'config.json').read_text())
        # It stands at the top already; transformers' wrapper fails on it in both places.
        config.get('model_args', {}).pop('num_classes', None)
        stored = config['pretrained_cfg']
        for field in ('label_names', 'label_descriptions', *_OF_THIS_MACHINE, *(() if record else _OF_THE_PUBLISHED)):
            stored.pop(field, None)
        if license:
            stored['license'] = license
        (partial / 'config.json').write_text(json.dumps(config, indent=2))
        about = {'format': 'pt', 'architecture': cfg['architecture']}
        about |= dict(name=record.name, zoo=record.zoo) if record else {}
        about |= {k: stored[k] for k in ('input_size', 'mean', 'std')} | dict(label_names=labels.get('label_names'))
        tensors = {
            k: v.detach().to('cpu', dtype if v.is_floating_point() else None).contiguous()
            for k, v in model.state_dict().items()
        }
        save_tensors(tensors, partial / 'model.safetensors', about)
        (partial / 'README.md').write_text(model_card(timm_model, repo, record, license, doubt), encoding='utf-8')
    return folder


def unproven(model: nn.Module, record: catalogue.Checkpoint) -> str | None:
    """Why a model's tensors are not known to be those of a published one; None if they are.

    They are compared, in the precision of the model, with the file that comes with this package or that was downloaded
    from the Hub before. Nothing is downloaded.
    """
    path = record.packaged or cached(find_source(record.timm_name))
    if path is None:
        return (
            'the published file is not on this machine, so they cannot be compared (`videozoo download '
            f'{record.timm_name}` fetches it)'
        )
    published = to_timm(read_weights(path, mapped=True).tensors)
    own = model.state_dict()
    if lost := [key for key in published if key not in own and not MAY_BE_LEFT.match(key)]:
        return f'{_OTHERS} ({lost[0]} is missing)'
    for key, ours in own.items():
        theirs = published.get(key)
        if theirs is None or not torch.equal(ours.cpu(), theirs.to(ours.dtype)):
            return f'{_OTHERS} ({key} differs)'
    return None


def check_license(record: catalogue.Checkpoint | None) -> None:
    """Raise a ValueError if nobody has said under which license the weights are that a record is of."""
    if record is None:
        raise UserError(
            'the license of these weights is not given: {license} states it, as the Hub spells it ({})',
            'mit, cc-by-4.0, other',
            license=None,
        )
    if record.license.startswith('not stated'):
        raise UserError(
            'the license of {} is {}: ask before you redistribute these weights, and then {license} states it',
            record.name,
            record.license,
            license=None,
        )


def check_folder(folder: Path, force: bool = False) -> None:
    """Raise a ValueError unless a model can be exported there."""
    output = Output(folder, 'folder')
    output.check_own_folder(('config.json', 'README.md', 'model.safetensors'), 'an exported model')
    output.refuse_existing(force)


def upload(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> str:
    """Upload an exported folder; the repository is made if it is not there, and a model card that is there stays.

    Args:
        folder: What `export` wrote.
        repo: `organization/name`.
        private: Make a new repository private.
        force: Replace a model that is there.
        say: Called with progress messages.

    Returns:
        Where it is.

    Raises:
        ValueError: The repository holds a model already, or is public but shall be private.
        PermissionError: Not logged in, or not allowed to write there.
        ConnectionError: The Hub is out of reach, or failed.
    """
    from huggingface_hub import HfApi

    check_login(repo)
    api = HfApi(library_name='videozoo-timm', library_version=__version__)
    with hub_errors(repo, f'nothing was published to {repo}'):
        is_new = not api.repo_exists(repo)
        if not is_new:
            if private and not api.model_info(repo).private:
                raise ValueError(f'{repo} is there and public; make it private on its page, or name another repository')
            if not force and api.file_exists(repo, 'model.safetensors'):
                raise UserError('{} holds a model already; {force} replaces it', repo, force=True)
        has_card = not is_new and api.file_exists(repo, 'README.md')
        if has_card:
            say(f'{repo} has a model card, which stays')
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        try:
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message='Upload with videozoo-timm',
                ignore_patterns=['README.md'] if has_card else None,
            )
        except BaseException:
            if is_new:
                say(f'{repo} was made and is still empty: publish again, or delete it on its page')
            raise
    return str(url)


def check_login(repo: str) -> None:
    """Raise a PermissionError, before gigabytes are moved, if nobody is logged in who could write to a repository."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise PermissionError(
            f'writing to {repo} needs a token of the Hub: `hf auth login`, or put one that may write into HF_TOKEN'
        )


def published_in(repo: str) -> list[Source]:
    """The files of the catalogue that a Hub repository holds, each once."""
    sources = [find_source(c.timm_name) for c in catalogue.CHECKPOINTS if c.repo == repo]
    sources += [generator_source(g, kind) for g in catalogue.GENERATORS if g.repo == repo for kind in ('gpt', 'vqgan')]
    return list({source.filename: source for source in sources}.values())


def offer_safetensors(
    repo: str,
    to: str | None = None,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Make and upload the `.safetensors` beside every published pickle of a Hub repository that lacks it.

    A file is a commit of its own, so what is done stays done, and the next call goes on from there. The downloaded and
    the converted files stay in their caches.

    Args:
        repo: Hub repository of the catalogue, `eminorhan/hvm-1` for instance.
        to: Upload into this repository instead.
        dry_run: Only say what would be done.
        say: Called with progress messages.

    Returns:
        What was left out, with the reasons.

    Raises:
        ValueError: The catalogue knows no file of this repository.
        FileNotFoundError, PermissionError, ConnectionError: As `weights.locate`.
    """
    from huggingface_hub import HfApi

    sources = published_in(repo)
    if not sources:
        known = {r.repo: r.zoo for r in (*catalogue.CHECKPOINTS, *catalogue.GENERATORS) if r.repo}
        near = difflib.get_close_matches(repo, [*known, *known.values()], n=3)
        hint = f'did you mean {" or ".join(near)}? ' if near else ''
        raise ValueError(
            f'no published model is known to be in {repo!r}; {hint}`videozoo info MODEL` tells the repository of a '
            f'model, and a zoo stands for all of its own: {", ".join(sorted(set(known.values())))}'
        )
    target = to or repo
    if not dry_run:
        check_login(target)
    api = HfApi(library_name='videozoo-timm', library_version=__version__)
    with hub_errors(repo, f'the files of {repo} cannot be listed'):
        there = set(api.list_repo_files(repo))
        done = there if target == repo else (set(api.list_repo_files(target)) if api.repo_exists(target) else set())
    left_out = [
        f'{name}: no published model of the catalogue'
        for name in sorted(there)
        if name.endswith(ENDINGS) and not any(name in s.pickles for s in sources)
    ]
    for source in sources:
        if source.filename in done:
            say(f'{source.filename}: is there already')
            continue
        published = next((name for name in source.pickles if name in there), None)
        if published is None and source.filename not in there:
            left_out.append(f'{source.pickles[0]}: is not in {repo}')
            continue
        if dry_run:
            say(f'{source.filename}: would be made of {published or source.filename} and uploaded to {target}')
            continue
        try:
            path = locate(source, refresh=True, say=say)
            verify(source)  # what is in the cache could be anything that says where it is from
        except (ValueError, FileNotFoundError) as error:
            left_out.append(f'{published or source.filename}: {error}')
            continue
        with hub_errors(target, f'{source.filename} was not uploaded to {target}'):
            if target != repo:
                api.create_repo(target, exist_ok=True)
            api.upload_file(
                path_or_fileobj=path,
                path_in_repo=source.filename,
                repo_id=target,
                commit_message=f'Add {source.filename}',
            )
        say(f'{source.filename}: uploaded to {target}')
    return left_out
