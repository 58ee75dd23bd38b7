#!/usr/bin/env bash
# Makes the models that come with the package, from nothing but its own drawn videos:
#     examples/make_shapes.sh [FOLDER]
# 50 minutes of pretraining and 40 of finetuning on two cores. Run again after an interruption, it goes on.
set -euo pipefail
work=${1:-shapes}
# glibc gives large blocks back to the system after each step, and fetching them again costs an eighth of the time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000

videozoo pretrain drawn:200000@1 --model mae_t14_st --from-scratch --init local --out "$work/mae" --resume \
    --steps 2800 --batch-size 16 --repeat-aug 2 --span 65 --crop-scale 0.5 1 \
    --mask-type random random center center temporal --mask-ratio 0.9 0.9 0.5 0.75 0.75 \
    --lr 2e-3 --warmup 0.02 --clip-grad 1 --num-workers 1 --device cpu --seed 0

shared=(--matched --repeat-aug 1 --crop-scale 0.6 0.9 --hflip 0 --aa '' --mixup 0 --cutmix 0 --smoothing 0 --drop 0
    --drop-path 0 --layer-decay 1 --num-workers 1 --device cpu --seed 0 --resume)
# The eight motions of a scene come in one batch, seen alike: only the motion tells them apart. First on a quarter of the
# tokens, which is fast, then on all of them, which is what the model gets later.
videozoo finetune --train drawn:100000@2 --val drawn:160@3 --model vit_t14_st --weights "$work/mae/model.safetensors" \
    --out "$work/quarter" --steps 1500 --batch-size 32 --patch-drop 0.75 --lr 2e-3 --warmup 0.04 --validate-every 300 \
    "${shared[@]}"
videozoo finetune --train drawn:100000@4 --val drawn:160@3 --model vit_t14_st --weights "$work/quarter/model.safetensors" \
    --out "$work/vit" --steps 200 --batch-size 16 --lr 1e-3 --warmup 0.1 --validate-every 100 "${shared[@]}"

for name in mae_shapes_none vit_shapes_motion; do
    videozoo convert "$work/${name%%_*}/model.safetensors" "$work/$name.safetensors" --model "$name" --dtype float16 --force
done
(cd "$work" && sha256sum -- *_shapes_*.safetensors > SHA256SUMS)
