"""How well labels follow drawn shapes, by motion: mean J over several scenes, by tokens and by pixels.

    python benchmarks/propagation.py                                   # an hour
    python benchmarks/propagation.py --motions grow --sides 224 392    # minutes
    python benchmarks/propagation.py --cost                            # a minute: of a ViT-H, against the model alone

Each row has the J of the true labels of each frame, by patches of that size and back to pixels, which is about the
highest that there can be, and the J that was reached. Frames are a tenth of a second apart.
"""

import argparse
import time

import timm
import torch
import torch.nn.functional as F

from videozoo_timm import load_model
from videozoo_timm.analysis import propagate, propagate_labels, score_labels
from videozoo_timm.analysis.propagation import _tokens, each_propagated, nearest, to_label_map
from videozoo_timm.catalogue import MOTIONS
from videozoo_timm.synthetic.scenes import SIZE, _distance, make_scene

BLOCK = 2  # pixels of the patches that are compared by their pixels


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='vit_shapes_motion')
    parser.add_argument('--motions', nargs='+', default=list(MOTIONS), choices=MOTIONS)
    parser.add_argument('--scenes', type=int, default=3)
    parser.add_argument('--frames', type=int, default=15)
    parser.add_argument('--sides', type=int, nargs='*', default=[224, 392])
    parser.add_argument('--cost', action='store_true', help='Measure what labels cost beside the model instead.')
    return parser.parse_args()


def scenes_of(motion, number):
    """The first scenes in which nothing but the shape is in front of the background."""
    found, k = [], 0
    while len(found) < number:
        scene = make_scene(0, k, motion)
        found += [scene] if len(scene.layers) == 2 else []
        k += 1
    return found


def masks_of(scene, times):
    """Where the shape is, uint8 [T, H, W]."""
    shape = scene.layers[-1]
    x, y, radius, angle, _ = (value.view(-1, 1, 1) for value in shape.place(times))
    pixels = (torch.arange(SIZE) + 0.5) / SIZE
    dx, dy, cos, sin = pixels - x, pixels[:, None] - y, angle.cos() / radius, angle.sin() / radius
    return (_distance(shape.shape, cos * dx + sin * dy, cos * dy - sin * dx) <= 0).byte()


def region(labels, masks):
    return score_labels(zip(labels[1:-1], masks[1:-1], strict=True), [1])[0].region


def highest(masks, grid, patch):
    """J of the true labels of patches."""
    small = [F.one_hot(nearest(mask, (grid, grid)).long(), 2).movedim(-1, 0).float() for mask in masks]
    return region([to_label_map(fractions, (patch, patch), (SIZE, SIZE)) for fractions in small], masks)


def by_pixels(frames, masks):
    grid = SIZE // BLOCK
    pixels = F.unfold(frames.movedim(-1, 1) / 255 - 0.5, BLOCK, stride=BLOCK).transpose(1, 2)
    fractions = propagate(pixels, nearest(masks[0], (grid, grid)))
    return [masks[0], *(to_label_map(each, (BLOCK, BLOCK), (SIZE, SIZE)) for each in fractions)]


@torch.no_grad()
def cost(labels=4, sources=8, size=(480, 854)):
    """CPU time of a frame of 480p: of a ViT-H that sees the least, two frames, and of carrying the labels on."""
    model = timm.create_model('vit_h14_st', num_frames=2).eval()
    grid = tuple(side // patch for side, patch in zip(size, model.patch_embed.patch_size, strict=True))
    clip = torch.rand(3, 2, *(side * patch for side, patch in zip(grid, model.patch_embed.patch_size, strict=True)))
    tokens, first = torch.randn(sources + 1, grid[0] * grid[1], model.embed_dim), torch.randint(labels, grid)

    def time_of(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    frames = each_propagated(iter(tokens), first, num_previous=sources - 1)
    for _ in range(sources - 1):
        next(frames)
    carried, alone = time_of(lambda: next(frames)), time_of(lambda: _tokens(model, clip, -1, False))
    print(f'{size[1]}x{size[0]}, {grid[0]} x {grid[1]} patches, {labels} labels, {sources} frames as sources')
    ratio = 1 + carried / alone
    print(f'the model alone {alone:.1f} s of CPU time, labels {carried:.2f} s: {ratio:.3f} times (target 1.2)')


def main():
    args = parse_args()
    if args.cost:
        return cost()
    model = load_model(args.model)
    patch, times = model.patch_embed.patch_size[0], 1.5 + torch.arange(args.frames) / 10
    print('motion     labels by     true by patches  J     seconds of CPU time', flush=True)
    for motion in args.motions:
        drawn = [(scene.render(times), masks_of(scene, times)) for scene in scenes_of(motion, args.scenes)]
        for side in (None, *args.sides):
            start, values = time.process_time(), []
            for frames, masks in drawn:
                if side is None:
                    values.append((highest(masks, SIZE // BLOCK, BLOCK), region(by_pixels(frames, masks), masks)))
                else:
                    followed = propagate_labels(model, frames, masks[0], short_side=side, whole_patches=True)
                    values.append((highest(masks, side // patch, patch), region(followed, masks)))
            most, reached = torch.tensor(values).mean(dim=0).tolist()
            what = f'{BLOCK} x {BLOCK} pixels' if side is None else f'tokens, {side}'
            used = time.process_time() - start
            print(f'{motion:10} {what:13} {most:.2f}             {reached:.2f}  {used:.0f}', flush=True)


if __name__ == '__main__':
    main()
