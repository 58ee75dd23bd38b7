"""Which stream of a container holds the pictures, and what decodes it."""

from typing import Any

from .checks import VideoError

# FFmpeg's own decoders leave transparency out, which WebM stores beside the pictures.
_WITH_ALPHA = {'vp8': 'libvpx', 'vp9': 'libvpx-vp9'}


def main_stream(container: Any) -> Any:
    """PyAV's main video stream, None if there is none; cover art and the thumbnails of chapters are no videos."""
    from av.stream import Disposition

    best = container.streams.best('video')
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return best if best is None or best in moving else next(iter(moving), None)


def no_pictures(container: Any) -> str:
    """What a container without a video stream holds instead, in words."""
    sound = 'audio only' if container.streams.audio else 'no audio either'
    return f'{sound}, beside a cover picture' if container.streams.video else sound


def decoder_of(stream: Any) -> Any:
    """What decodes a stream's packets: its own context; of transparent VP8 or VP9 one that keeps the transparency.

    Raises:
        VideoError: FFmpeg was built without the library that can.
    """
    import av

    own = stream.codec_context
    name = _WITH_ALPHA.get(own.name)
    if name is None or stream.metadata.get('alpha_mode') != '1':
        return own
    if name not in av.codecs_available:
        raise VideoError(f'its transparency needs an FFmpeg with {name}, as in the wheels of PyAV')
    decoder = av.CodecContext.create(name, 'r')
    decoder.thread_count, decoder.options = own.thread_count, dict(own.options)
    return decoder
