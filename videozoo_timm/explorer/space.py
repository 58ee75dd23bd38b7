"""A folder that runs as a Space of Hugging Face: the page for strangers, with chosen videos and models alone."""

import os
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import __version__
from ..files import atomic_write
from ..outputs import Output
from ..synthetic import is_drawn
from .choices import given_videos, offered_models

__all__ = ['write_space']

_APP = '''\
"""The explorer of videozoo-timm as a Space; `python app.py` runs it on any machine."""

import os
from pathlib import Path

from videozoo_timm.explorer.serving import Explorer, serve

VIDEOS = {videos}
MODELS = {models}  # none: those that come with videozoo-timm

if __name__ == '__main__':  # videos are read by processes that import this file
    os.chdir(Path(__file__).resolve().parent)
    explorer = Explorer(
        VIDEOS,
        MODELS,
        only_given=True,  # visitors download no others
        host=os.environ.get('GRADIO_SERVER_NAME', '0.0.0.0'),
        port=int(os.environ.get('GRADIO_SERVER_PORT', '7860')),
        max_upload=50_000_000,  # bytes
    )
    serve(explorer, lambda address: print(address, flush=True))
'''
_README = """\
---
title: videozoo explore
emoji: 🎬
colorFrom: gray
colorTo: yellow
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: app.py
short_description: What video models fill in, look at and expect
---

Try models of videos by hand: hide a part of a video and see what is filled in, see where a model looks, which places
look alike to it, and what surprises it. Made by `videozoo explore` of
[videozoo-timm](https://github.com/eminorhan/videozoo-timm).
"""


def write_space(folder: str | os.PathLike[str], paths: Sequence[str] = (), models: Sequence[str] = ()) -> None:
    """Write a folder that runs as a Space of Hugging Face: `app.py`, `requirements.txt`, `README.md` and the videos.

    Args:
        folder: A new or empty folder.
        paths: Videos, folders, names of synthetic videos; files are copied. None stand for some synthetic ones.
        models: Names of the models that visitors can choose, and files, which are copied; none stand for those of the
            package.

    Raises:
        ImportError: Gradio is not installed, whose version the Space asks for.
        FileNotFoundError, ValueError: As `given_videos` and `offered_models`; there is something in the folder.
        WriteError: It cannot be written.
    """
    output = Output(Path(folder), out='space')
    output.check_folder()
    if output.exists:
        raise output.refusal('is there already')
    offered = offered_models(models)
    try:
        gradio = version('gradio')
    except PackageNotFoundError as error:
        raise ImportError("the explorer needs Gradio: pip install 'videozoo-timm[explore]'") from error
    given = given_videos(paths).values() if paths else ()
    files = [video for video in given if not is_drawn(video.path)]
    videos = (*['videos'][: len(files)], *[video.path for video in given if is_drawn(video.path)])
    own = {offer.file: f'models/{offer.name}{Path(offer.file).suffix}' for offer in offered.values() if offer.file}
    named = tuple(own.get(name, name) for name in models)
    output.path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output.path.absolute()) as partial:
        partial.mkdir()
        (partial / 'app.py').write_text(_APP.format(videos=repr(videos), models=repr(named)), encoding='utf-8')
        (partial / 'requirements.txt').write_text(f'videozoo-timm[explore]=={__version__}\n', encoding='utf-8')
        (partial / 'README.md').write_text(_README.format(gradio=gradio), encoding='utf-8')
        for video in files:
            copy = partial / 'videos' / video.label
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(video.path, copy)
        for path, copy in own.items():
            (partial / copy).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, partial / copy)
