#!/usr/bin/env bash
# Makes a generator of videos from nothing but drawn videos:
#     examples/make_gen_shapes.sh [FOLDER] [DEVICE] [PROCESSES THAT DRAW]
# First the tokenizer, which turns 16 frames of 64 pixels into 8 x 8 x 8 codes, then the prior over these codes. Run
# again after an interruption, it goes on.
set -euo pipefail
work=${1:-gen_shapes}
# glibc gives large blocks back to the system after each step, and fetching them again costs an eighth of the time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000

# Clips start in the first half of what a video has room for: there, what grows is small and what shrinks is large, so
# that a clip tells its direction of time. (Of the whole video, what grows is the mirror of what shrinks.)
shared=(--latest-start 0.5 --device "${2:-cpu}" --dtype bfloat16 --num-workers "${3:-1}" --seed 0 --resume)
# Small boxes of many clips: of few clips, batch normalization tells little about their colors, and what is
# reconstructed stays gray for long.
videozoo pretrain-tokenizer drawn:200000@1 --out "$work/tokenizer" --img-size 64 --num-frames 16 --downsample 2 8 8 \
    --channels 8 --num-codes 512 --code-dim 64 --crop 8 16 16 --steps 3000 --batch-size 32 --lr 2e-3 --betas 0.9 0.99 \
    --warmup 0.02 --clip-grad 1 --restart 0.1 --checkpoint-every 200 --pictures-every 500 "${shared[@]}"
videozoo pretrain-prior drawn:200000@2 --tokenizer "$work/tokenizer/model.safetensors" --out "$work/prior" \
    --depth 4 --heads 4 --width 192 --steps 6500 --batch-size 8 --opt muon --positions sines --lr 0.01 --warmup 0.03 \
    --clip-grad 1 --checkpoint-every 200 --pictures-every 1000 "${shared[@]}"

python - "$work/prior/model.safetensors" "$work/gen_shapes_64.safetensors" <<'PYTHON'
import sys
from pathlib import Path

from videozoo_timm import load_generator
from videozoo_timm.models.generator_files import save_video_generator

generator = load_generator(sys.argv[1]).half()  # 7 MB instead of 14; computed in float32 all the same
save_video_generator(generator, Path(sys.argv[2]), dict(name='gen_shapes_64'))
PYTHON
