"""Generators of videos: a GPT samples a grid of codes behind a start token, a 3-D VQGAN decodes it.

Paper: https://arxiv.org/abs/2204.03638 (TATS), whose layout https://github.com/eminorhan/vqgan-gpt-video keeps.
"""

from collections.abc import Callable, Iterator
from math import ceil, prod
from typing import Any, NamedTuple

import torch

from .code_generator import CodeGenerator
from .gpt import GPT
from .sampling import SamplingConfig
from .video_vqgan import VideoVQGAN

__all__ = ['PUBLISHED_VIDEO', 'Continuation', 'VideoGenerator']

PUBLISHED_VIDEO = SamplingConfig(top_k=2048, top_p=0.92)
_START = 0  # the code that stands before all others


class Continuation(NamedTuple):
    """Clips whose first frames were given.

    Attributes:
        given: The frames that were given, [N, 3, context, H, W] in [0, 1].
        drawn: The frames that were sampled, [N, samples, 3, T - context, H, W].
        decoded: What the VQGAN decodes of all codes, the given frames included, [N, samples, 3, T, H, W].
    """

    given: torch.Tensor
    drawn: torch.Tensor
    decoded: torch.Tensor


class VideoGenerator(CodeGenerator):
    """A GPT and the 3-D VQGAN whose codes it samples. `gpt, vqgan = generator` takes it apart.

    Clips are float in [0, 1], [N, 3, T, H, W]. Codes are int64 [N, T', H', W'], in the order in which they are sampled:
    frame by frame, rows from top to bottom, each from left to right. A start token stands before the first, so that the
    GPT predicts every code.

    Args:
        gpt: GPT with the vocabulary size of the codebook, and a block of whole latent frames.
        vqgan: Encodes and decodes them.
        span: Length of a clip in frames at 30 a second, over which its frames are spread evenly.

    Attributes:
        grid_size: Codes along time, height and width that the GPT sees at once.
        num_frames: Frames of these.
        pretrained_cfg: Input size and preprocessing, in the words of timm's configurations, for `clip_transform`.
        view_fields: What else it asks of the views of a file.

    Raises:
        ValueError: The two do not belong together.
    """

    def __init__(self, gpt: GPT, vqgan: VideoVQGAN, span: int = 57) -> None:
        config = vqgan.config
        frames, rows, columns = config.grid_size
        if gpt.vocab_size != config.num_codes or gpt.block_size % (rows * columns):
            raise ValueError(
                f'this GPT samples {gpt.block_size} of {gpt.vocab_size} codes, this VQGAN has {frames} x {rows} x '
                f'{columns} of {config.num_codes}'
            )
        if span < 1:
            raise ValueError(f'span={span}: must be at least 1')
        super().__init__(gpt, vqgan, pixel_scale=1)
        self.span = span
        self.grid_size: tuple[int, int, int] = gpt.block_size // (rows * columns), rows, columns
        self.num_frames: int = self.grid_size[0] * config.downsample[0]
        self.view_fields = dict(short_side=config.resolution)
        self.pretrained_cfg: dict[str, Any] = dict(
            architecture='video_generator',
            input_size=(config.in_channels, config.resolution, config.resolution),
            mean=(0.0,) * config.in_channels,
            std=(1.0,) * config.in_channels,
            interpolation='bilinear',
            crop_pct=1.0,
            num_classes=0,
        )

    @torch.no_grad()
    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips [N, 3, T, H, W] in [0, 1] -> codes [N, T', H', W'].

        T is a multiple of the frames of a code, and need not be the model's.

        Raises:
            ValueError: Another size or range.
        """
        self._check_clips(clips)
        return self._encode(clips)

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [N, T', H', W'] -> clips [N, 3, T, H, W] in [0, 1].

        Raises:
            ValueError: A code that is not in the codebook, or another grid.
            NotFiniteError: The clips hold NaN.
        """
        _, rows, columns = self.grid_size
        if codes.ndim != 4 or codes.shape[2:] != (rows, columns) or not codes.shape[1]:
            raise ValueError(f"codes must be [N, T', {rows}, {columns}], got {list(codes.shape)}")
        return self._decode(codes, 'a clip')

    def reconstruct(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips [N, 3, T, H, W] in [0, 1] through the codebook and back.

        Raises:
            ValueError: As in `encode`.
        """
        return self.decode(self.encode(clips))

    def generate(
        self,
        num_videos: int,
        *,
        num_frames: int | None = None,
        window: int | None = None,
        sampling: SamplingConfig = PUBLISHED_VIDEO,
        batch_size: int | None = None,
        use_cache: bool = True,
        progress: Callable[[float], Any] = lambda videos: None,
        **fields: Any,
    ) -> torch.Tensor:
        """Sample clips.

        Args:
            num_videos: How many.
            num_frames: Frames of each; None for the model's. More are sampled by a sliding window.
            window: Latent frames that such a window keeps of what was sampled before, 1 to the model's less 1; None for
                as many as it can. The published `temporal_sample_pos`.
            sampling: How codes are sampled.
            batch_size: Clips at a time; None for as many as fit the free memory. The same seed gives the same clips
                only in the same batches.
            use_cache: As in `GPT.sample`.
            progress: Called with how many more clips were sampled, a fraction at a time.
            **fields: Fields of `sampling` to replace: `generate(4, seed=0, top_p=0.8)`.

        Returns:
            [N, 3, T, H, W] in [0, 1].

        Raises:
            ValueError: An invalid setting.
        """
        options: dict[str, Any] = dict(batch_size=batch_size, use_cache=use_cache, progress=progress)
        sampling = sampling.with_fields(fields)
        return torch.cat(
            list(self.batches(num_videos, num_frames=num_frames, window=window, sampling=sampling, **options))
        )

    def batches(
        self,
        num_videos: int,
        *,
        num_frames: int | None = None,
        window: int | None = None,
        sampling: SamplingConfig = PUBLISHED_VIDEO,
        batch_size: int | None = None,
        use_cache: bool = True,
        progress: Callable[[float], Any] = lambda videos: None,
        **fields: Any,
    ) -> Iterator[torch.Tensor]:
        """As `generate`, which has the arguments too, but batch by batch, for more clips than memory holds."""
        if num_videos < 1:
            raise ValueError(f'num_videos={num_videos}: must be at least 1')
        total = self._checked_frames(num_frames)
        none = torch.empty(num_videos, 0, *self.grid_size[1:], dtype=torch.int64, device=self._code_device)
        grids = self._extend(none, total, window, sampling.with_fields(fields), batch_size, use_cache, progress)
        return (self.decode(grid)[:, :, :total] for grid in grids)

    def continue_(
        self,
        clips: torch.Tensor,
        *,
        context: int | None = None,
        samples: int = 1,
        num_frames: int | None = None,
        window: int | None = None,
        encode_whole: bool = False,
        sampling: SamplingConfig = PUBLISHED_VIDEO,
        batch_size: int | None = None,
        use_cache: bool = True,
        progress: Callable[[float], Any] = lambda videos: None,
        **fields: Any,
    ) -> Continuation:
        """Sample the rest of clips whose first frames are given.

        Args:
            clips: [N, 3, T, H, W] in [0, 1]; of their frames only the first `context` are needed.
            context: Frames that are given, a multiple of the frames of a code; None for half of the model's.
            samples: Continuations of each clip.
            num_frames: As in `generate`, the given ones included.
            window: As in `generate`.
            encode_whole: Encode the whole clips and take the first codes, as published. These codes have seen some of
                the frames that follow, since the encoder looks ahead; by default the given frames are encoded alone.
            sampling: As in `generate`.
            batch_size: As in `generate`.
            use_cache: As in `generate`.
            progress: As in `generate`.
            **fields: As in `generate`.

        Returns:
            What was given and what was drawn.

        Raises:
            ValueError: Another size or range of the clips, or an invalid setting.
        """
        if samples < 1:
            raise ValueError(f'samples={samples}: must be at least 1')
        total = self._checked_frames(num_frames)
        step: int = self.vqgan.config.downsample[0]
        if context is None:
            context = self.num_frames // 2 // step * step
        if not 0 < context < total or context % step:
            raise ValueError(
                f'context={context}: must be a multiple of {step}, the frames of a code, and less than {total}'
            )
        if clips.ndim == 5 and clips.shape[2] < context:
            raise ValueError(f'context={context}: these clips have {clips.shape[2]} frames')
        codes = self.encode(clips if encode_whole else clips[:, :, :context])[:, : context // step]
        codes = codes.to(self._code_device).repeat_interleave(samples, dim=0)  # [N * samples, T', H', W']
        grids = self._extend(codes, total, window, sampling.with_fields(fields), batch_size, use_cache, progress)
        decoded = self.decode(torch.cat(list(grids)))[:, :, :total].unflatten(0, (len(clips), samples))
        return Continuation(clips[:, :, :context], decoded[:, :, :, context:], decoded)

    @torch.no_grad()
    def log_likelihood(self, clips: torch.Tensor) -> torch.Tensor:
        """Log-likelihood of each code of clips under the GPT, given all codes before it.

        It is at most 0; its negative is the surprise, the cross-entropy that the GPT was trained to lower.

        Args:
            clips: [N, 3, T, H, W] in [0, 1], of at most the model's frames.

        Returns:
            float32 [N, T', H', W'], in nats.

        Raises:
            ValueError: Another size or range, or more frames.
        """
        return self.log_likelihood_of_codes(self.encode(clips))

    @torch.no_grad()
    def log_likelihood_of_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """The same of codes int64 [N, T', H', W'], of at most the model's latent frames.

        Raises:
            ValueError: More latent frames, or another grid.
        """
        return self._log_likelihood(self._behind_start(codes)).unflatten(1, codes.shape[1:])

    @torch.no_grad()
    def embed(self, clips: torch.Tensor) -> torch.Tensor:
        """Features for linear probes: the mean of the GPT's last hidden states over all codes but the last.

        Args:
            clips: [N, 3, T, H, W] in [0, 1], of at most the model's frames.

        Returns:
            float32 [N, C].

        Raises:
            ValueError: Another size or range, or more frames.
        """
        return self._hidden_mean(self._behind_start(self.encode(clips))[:, :-1], first=1)

    def _extend(
        self,
        grids: torch.Tensor,
        num_frames: int,
        window: int | None,
        sampling: SamplingConfig,
        batch_size: int | None,
        use_cache: bool,
        progress: Callable[[float], Any],
    ) -> Iterator[torch.Tensor]:
        """Grids [N, T', H', W'], continued to `num_frames`, batch by batch.

        What the GPT sees at once is sampled at once. Of more frames each is sampled given the `window` latent frames
        before it, which stand right behind the start token, as published.
        """
        own, area = self.grid_size[0], prod(self.grid_size[1:])
        total = ceil(num_frames / self.vqgan.config.downsample[0])
        if own == 1 < total:
            raise ValueError(f'num_frames={num_frames}: this model sees {self.num_frames} at once, and none before')
        if window is not None and not 1 <= window < own:
            raise ValueError(
                f'window={window}: must be from 1 to {own - 1}, as this model sees {own} latent frames at once'
            )
        window = own - 1 if window is None else window
        generator, given = sampling.generator(self._code_device), grids.shape[1]

        def extend(codes: torch.Tensor) -> torch.Tensor:
            per_code = len(codes) / ((total - given) * area)
            while (done := codes.shape[1]) < total:
                if total <= own:
                    seen, more = codes, total - done
                elif done < window:
                    seen, more = codes, window - done
                else:
                    seen, more = codes[:, done - window :], 1
                start, length = self._behind_start(seen), 1 + (seen.shape[1] + more) * area
                drawn = self._sample(start, length, sampling, generator, use_cache, progress, per_code)
                new = drawn[:, start.shape[1] :].unflatten(1, (-1, *self.grid_size[1:]))
                codes = torch.cat([codes, new], dim=1)
            return codes

        return map(extend, grids.split(self._batches_of(len(grids), batch_size)))

    def _behind_start(self, codes: torch.Tensor) -> torch.Tensor:
        """Grids [N, T', H', W'] as the GPT reads them: [N, 1 + T' * H' * W'].

        Raises:
            ValueError: They are no grids of this model, or longer than it reads at once.
        """
        frames, rows, columns = self.grid_size
        if codes.is_floating_point():
            raise ValueError(f'codes must be whole numbers, got {codes.dtype}')
        if codes.ndim != 4 or codes.shape[2:] != (rows, columns) or codes.shape[1] > frames:
            raise ValueError(
                f'codes must be [N, {frames} or fewer, {rows}, {columns}], which are {self.num_frames} frames, got '
                f'{list(codes.shape)}'
            )
        return torch.nn.functional.pad(codes.to(self._code_device).flatten(1), (1, 0), value=_START)

    def _checked_frames(self, num_frames: int | None) -> int:
        if num_frames is None:
            return self.num_frames
        if num_frames < 1:
            raise ValueError(f'num_frames={num_frames}: must be at least 1')
        return num_frames

    def _check_clips(self, clips: torch.Tensor) -> None:
        config = self.vqgan.config
        step, side, channels = config.downsample[0], config.resolution, config.in_channels
        fits = clips.ndim == 5 and (clips.shape[1], *clips.shape[3:]) == (channels, side, side)
        if not fits or clips.shape[2] % step or not clips.shape[2]:
            frames = f'T a multiple of {step}, ' if step > 1 else ''
            raise ValueError(f'clips must be [N, {channels}, T, {side}, {side}], {frames}got {list(clips.shape)}')
        self._check_pixels(clips, 'clips')
