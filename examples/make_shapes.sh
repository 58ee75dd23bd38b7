#!/usr/bin/env bash
# Makes the models that come with the package, from nothing but its own drawn videos:
#     examples/make_shapes.sh [FOLDER]
# An hour of pretraining and three quarters of finetuning on two cores. Run again after an interruption, it goes on.
set -euo pipefail
work=${1:-shapes}
# glibc gives large blocks back to the system after each step, and fetching them again costs an eighth of the time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000

videozoo pretrain drawn:40000@1 --model mae_t14_st --from-scratch --init local --out "$work/mae" --resume \
    --steps 3600 --batch-size 16 --repeat-aug 2 --span 65 --crop-scale 0.5 1 \
    --mask-type random random center center temporal --mask-ratio 0.9 0.9 0.5 0.75 0.75 \
    --lr 2e-3 --warmup 0.02 --clip-grad 1 --num-workers 1 --device cpu --seed 0

videozoo finetune --train drawn:40000@2 --val drawn:160@3 --model vit_t14_st --weights "$work/mae/model.safetensors" \
    --out "$work/vit" --resume --steps 2400 --batch-size 32 --repeat-aug 2 --crop-scale 0.5 0.9 --hflip 0 --aa '' \
    --mixup 0 --cutmix 0 --smoothing 0 --drop 0 --drop-path 0 --patch-drop 0.75 --lr 2e-3 --layer-decay 1 \
    --validate-every 400 --num-workers 1 --device cpu --seed 0

for name in mae_shapes_none vit_shapes_motion; do
    videozoo convert "$work/${name%%_*}/model.safetensors" "$work/$name.safetensors" --model "$name" --dtype float16 --force
done
(cd "$work" && sha256sum -- *_shapes_*.safetensors > SHA256SUMS)
