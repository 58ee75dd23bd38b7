"""What a file must be like to be read."""


class VideoError(RuntimeError):
    """A file out of which no video can be read; the message names the file and the reason."""
