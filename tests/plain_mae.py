"""The spatiotemporal MAE written out plainly: every token is embedded, then the mask drops them.

What the tests and the benchmark of training compare with. It works on a state dict in timm's layout.
"""

import torch
import torch.nn.functional as F


def plain_loss(weights, clips, noise, num_heads, decoder_num_heads, mask_ratio=0.9):
    """The loss of one masked forward: clips [B, C, T, H, W], noise [B, N] of which the smallest are kept."""
    kernel = weights['patch_embed.proj.weight']  # [D, C, t, h, w]
    tokens = F.conv3d(clips, kernel, weights['patch_embed.proj.bias'], stride=kernel.shape[2:])  # [B, D, T', H', W']
    grid = tokens.shape[2:]
    tokens = tokens.flatten(2).transpose(1, 2) + _positions(weights, '', grid)
    num_tokens = tokens.shape[1]
    order = noise.argsort(dim=1, stable=True)
    kept = order[:, : int(num_tokens * (1 - mask_ratio))]
    x = torch.stack([sample[index] for sample, index in zip(tokens, kept, strict=True)])
    cls_token = (weights['cls_token'] + weights['pos_embed_class']).expand(len(x), -1, -1)
    x = torch.cat([cls_token, x], dim=1)
    for i in range(_depth(weights, 'blocks')):
        x = _block(weights, f'blocks.{i}.', x, num_heads)
    x = _norm(weights, 'norm', x)[:, 1:]

    x = _linear(weights, 'decoder_embed', x)
    full = weights['mask_token'].expand(len(x), num_tokens, -1).clone()
    full = torch.stack([all_.index_copy(0, index, some) for all_, index, some in zip(full, kept, x, strict=True)])
    full = full + _positions(weights, 'decoder_', grid)
    cls_token = (weights['decoder_cls_token'] + weights['decoder_pos_embed_class']).expand(len(x), -1, -1)
    x = torch.cat([cls_token, full], dim=1)
    for i in range(_depth(weights, 'decoder_blocks')):
        x = _block(weights, f'decoder_blocks.{i}.', x, decoder_num_heads)
    predicted = _linear(weights, 'decoder_pred', _norm(weights, 'decoder_norm', x))[:, 1:]

    steps, height, width = kernel.shape[2:]
    pixels = clips.unfold(2, steps, steps).unfold(3, height, height).unfold(4, width, width)  # [B, C, T', H', W', ...]
    pixels = pixels.permute(0, 2, 3, 4, 5, 6, 7, 1).flatten(4).flatten(1, 3)  # [B, N, t * h * w * C]
    dropped = torch.ones_like(noise).scatter(1, kept, 0.0)
    error = (predicted - pixels).pow(2).mean(dim=2)
    return (error * dropped).sum() / dropped.sum()


def _positions(weights, prefix, grid):
    spatial, temporal = weights[f'{prefix}pos_embed_spatial'], weights[f'{prefix}pos_embed_temporal']
    return spatial.repeat(1, grid[0], 1) + temporal.repeat_interleave(grid[1] * grid[2], dim=1)


def _depth(weights, name):
    return 1 + max(int(key.split('.')[1]) for key in weights if key.startswith(f'{name}.'))


def _linear(weights, name, x):
    return F.linear(x, weights[f'{name}.weight'], weights[f'{name}.bias'])


def _norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f'{name}.weight'], weights[f'{name}.bias'], 1e-6)


def _block(weights, prefix, x, num_heads):
    y = _norm(weights, f'{prefix}norm1', x)
    projections = zip(
        weights[f'{prefix}attn.qkv.weight'].chunk(3), weights[f'{prefix}attn.qkv.bias'].chunk(3), strict=True
    )
    q, k, v = (F.linear(y, weight, bias).unflatten(2, (num_heads, -1)).transpose(1, 2) for weight, bias in projections)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x + _linear(weights, f'{prefix}attn.proj', y)
    y = _norm(weights, f'{prefix}norm2', x)
    return x + _linear(weights, f'{prefix}mlp.fc2', F.gelu(_linear(weights, f'{prefix}mlp.fc1', y)))
