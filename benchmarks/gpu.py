"""One table of what a machine with a GPU does, within 8 minutes; needs nothing but the package with its extra [video].

    python benchmarks/gpu.py [--device cuda] [--folder /tmp]
    python benchmarks/gpu.py --device cpu --small        # the same steps with small models, to see that they run

Weights are random, and none are fetched. Speeds are medians, in bfloat16, as fractions of the rate at which the device
multiplies large matrices. What there is no time for any more is left out, and said so.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import videozoo_timm  # noqa: F401  registers the models
from videozoo_timm import catalogue
from videozoo_timm.bench import PlainViT, matrix_product_rate, measure
from videozoo_timm.inference import pipeline
from videozoo_timm.inference.pipeline import evaluating, groups_of, placement_of, process, views_of
from videozoo_timm.inference.running import compiled_blocks
from videozoo_timm.models import GPT, VQGAN, ImageGenerator
from videozoo_timm.training.loop import Schedule, make_optimizer
from videozoo_timm.video import View

LIMIT = 7 * 60.0  # seconds after which nothing more is begun


@dataclass(frozen=True)
class Scale:
    """What is measured: at full size, or small."""

    vit: str
    mae: str
    sizes: tuple[int, int]  # pixels
    batches: tuple[int, int]  # clips at these sizes
    runs: int
    clips: int  # of the pipeline
    files: int
    gpt: dict[str, Any]
    vqgan: dict[str, Any]
    images: int


def full() -> Scale:
    alef = catalogue.find_generator('say_alef')
    return Scale('vit_h14_st', 'mae_h14_st', (224, 448), (16, 4), 5, 256, 32, alef.gpt_args, alef.vqgan_args, 4)


def small() -> Scale:
    gpt = dict(vocab_size=32, block_size=15, depth=1, num_heads=2, embed_dim=32)
    vqgan = dict(num_codes=32, embed_dim=8, z_channels=8, resolution=16, ch=32, ch_mult=(1, 2, 2), attn_resolutions=())
    return Scale('vit_t14_st', 'mae_t14_st', (56, 112), (2, 1), 1, 4, 2, gpt, vqgan, 1)


class Table:
    """Rows that are measured while there is time, and printed at once."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.begin = device, time.perf_counter()

    def row(self, name: str, measured: Callable[[], str]) -> None:
        if time.perf_counter() - self.begin > LIMIT:
            value = 'left out: no time'
        else:
            try:
                value = measured()
            except (RuntimeError, ValueError, ImportError) as error:  # one that fails does not end the others
                value = f'failed: {str(error).splitlines()[0][:100]}'
        print(f'| {name} | {value} |', flush=True)
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()

    def seconds(self, run: Callable[[], Any], runs: int) -> float:
        """The median, after a first time that does not count."""
        run()
        times = []
        for _ in range(runs):
            self._wait()
            begin = time.perf_counter()
            run()
            self._wait()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)


def made(name: str, device: torch.device, dtype: torch.dtype, **options: Any) -> Any:
    """A model with random weights."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name, device=device, dtype=dtype, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return model


def flash(model: Any, x: torch.Tensor) -> str:
    """Whether the model runs if flash attention is the only attention allowed."""
    try:
        with torch.inference_mode(), sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            model(x)
    except RuntimeError as error:
        return f'no ({str(error).splitlines()[0][:80]})'
    return 'yes'


def flash_of_mae(scale: Scale, device: torch.device, dtype: torch.dtype) -> str:
    mae = made(scale.mae, device, dtype)
    return flash(mae, torch.randn(1, 3, mae.num_frames, *mae.patch_embed.img_size, device=device, dtype=dtype))


def speed(model: Any, x: torch.Tensor, rate: float, runs: int, compile: bool = False) -> str:
    with compiled_blocks(model) if compile else nullcontext():
        found = measure(model, x, rate, runs)
    memory = '' if found.peak_memory is None else f', {found.peak_memory / 1e9:.2f} GB'
    return f'{found.rate:.3g} clips/s, {found.share:.0%} of a matrix product{memory}'


def plain_speed(model: Any, x: torch.Tensor, runs: int) -> str:
    plain = PlainViT(model).to(x.device).eval()
    rate = matrix_product_rate(x.device, torch.float32, runs)
    found = measure(plain, x.float()[:1], rate, runs)
    return f'{found.rate:.3g} clips/s in float32'


def loading(scale: Scale, device: torch.device, folder: Path) -> str:
    from safetensors.torch import save_file

    file = folder / 'model.safetensors'
    save_file(made(scale.vit, torch.device('cpu'), torch.float32).state_dict(), file, metadata={'format': 'pt'})
    begin = time.perf_counter()
    model = timm.create_model(
        scale.vit, pretrained=True, pretrained_cfg_overlay=dict(file=str(file)), num_classes=0, device=device
    )
    next(model.parameters()).sum().item()
    return f'{time.perf_counter() - begin:.2f} s for {file.stat().st_size / 1e9:.2f} GB, file in the cache'


def pipelines(model: Any, batch_size: int, scale: Scale, table: Table, paths: list[str]) -> Iterator[str]:
    """The model alone, and fed by the pipeline from memory and from files."""
    place, views = placement_of(model), views_of(model)
    x = torch.randn(batch_size, 3, model.num_frames, views.size, views.size).to(**place)
    with evaluating(model):
        number = max(1, scale.clips // batch_size)
        alone = batch_size / table.seconds(lambda: [model(x) for _ in range(number)], 1) * number
    yield f'{alone:.3g} clips/s'
    view = View(torch.randn(x.shape[1:]), 0.0, 1.0, 0.5, 1.0, 1)

    def fed(files: list[str], workers: int) -> float:
        """Clips a second from the first batch on, when the processes are there."""
        done, begin = 0, None
        with evaluating(model):
            for batch in process(
                model, groups_of(len(files), views, batch_size), files, views, batch_size=batch_size,
                num_workers=workers, **place,
            ):  # fmt: skip
                if begin is not None:
                    done += len(batch.files)
                begin = begin or time.perf_counter()
        return done / (time.perf_counter() - (begin or 0.0))

    load_views = pipeline.load_views
    pipeline.load_views = lambda jobs, *_, **__: (item for job in jobs for item in ((job, view), (job, None)))
    try:
        rate = fed([f'{k}.mp4' for k in range(number * batch_size + batch_size)], 0)
    finally:
        pipeline.load_views = load_views
    yield f'{rate:.3g} clips/s, {rate / alone:.0%} of the model alone (goal 90%)'
    workers = max(1, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    rate = fed(paths, workers)
    yield f'{rate:.3g} clips/s with {workers} workers, {rate / alone:.0%} of the model alone'


def training_step(scale: Scale, device: torch.device, table: Table) -> str:
    torch.manual_seed(0)
    model: Any = timm.create_model(scale.mae, device=device).train()
    optimizer = make_optimizer(model, Schedule(steps=1, lr=1e-4))
    clips = torch.randn(scale.batches[0], 3, model.num_frames, *model.patch_embed.img_size, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(clips)[0]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = table.seconds(step, scale.runs)
    return f'{seconds:.3g} s, {scale.batches[0] / seconds:.3g} clips/s'


def generation(scale: Scale, device: torch.device, table: Table) -> str:
    gpt = GPT(**scale.gpt, device=device, dtype=torch.bfloat16).eval()
    generator = ImageGenerator(gpt, VQGAN(**scale.vqgan, device=device).eval())
    seconds = table.seconds(lambda: generator.generate(scale.images, seed=0), 1)
    return f'{seconds:.3g} s for {scale.images} images of {scale.gpt["block_size"] + 1} codes'


def videos_in(folder: Path, scale: Scale) -> list[str]:
    """Videos of 640x360 with a key frame every 250 frames."""
    from videos import make_video

    make_video(folder / 'video.mp4', 0)
    paths = [folder / f'{k}.mp4' for k in range(8 * scale.files)]
    for path in paths:
        os.link(folder / 'video.mp4', path)
    return [str(path) for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--small', action='store_true', help='small models, to see that the script runs')
    parser.add_argument('--folder', help='where files are made')
    args = parser.parse_args()
    device, dtype = torch.device(args.device), torch.bfloat16
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('there is no GPU that PyTorch can use; --device cpu --small shows that the script runs')
    scale, table = small() if args.small else full(), Table(device)
    card = torch.cuda.get_device_name(device) if device.type == 'cuda' else f'{os.cpu_count()} cores'
    print(f'{card}, torch {torch.__version__}, bfloat16, {scale.vit}\n\n| | |\n|---|---|')
    rate = matrix_product_rate(device, dtype, scale.runs)
    table.row('matrix product', lambda: f'{rate / 1e12:.3g} TFLOP/s')
    for size, batch_size in zip(scale.sizes, scale.batches, strict=True):
        model = made(scale.vit, device, dtype, img_size=size)
        x = torch.randn(batch_size, 3, model.num_frames, size, size, device=device, dtype=dtype)
        name = f'ViT at {size} px'
        table.row(f'{name}: flash attention alone', lambda model=model, x=x: flash(model, x))
        for compile in (False, True):
            how = 'compiled' if compile else 'eager'
            table.row(
                f'{name}, {batch_size} clips, {how}',
                lambda model=model, x=x, compile=compile: speed(model, x, rate, scale.runs, compile),
            )
        table.row(f'{name}, plain implementation', lambda model=model, x=x: plain_speed(model, x, scale.runs))
        del model, x
    table.row('MAE: flash attention alone', lambda: flash_of_mae(scale, device, dtype))
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        table.row('loading to the device', lambda: loading(scale, device, folder))
        table.row('training step of the MAE', lambda: training_step(scale, device, table))
        table.row('generation, alef', lambda: generation(scale, device, table))
        model = made(scale.vit, device, dtype, img_size=scale.sizes[0])
        rows = pipelines(model, scale.batches[0], scale, table, videos_in(folder, scale))
        for name in ('model alone, fed again and again', 'pipeline from memory', 'pipeline from files'):
            table.row(name, lambda: next(rows, 'not measured'))
    print(f'\n{time.perf_counter() - table.begin:.0f} s in all')


if __name__ == '__main__':
    main()
