#!/usr/bin/env bash
# Makes a generator of videos from nothing but drawn videos:
#     examples/make_gen_shapes.sh [FOLDER] [DEVICE] [PROCESSES THAT TRAIN] [PROCESSES THAT DRAW, FOR EACH OF THESE]
# First the tokenizer, which turns 16 frames of 64 pixels into 8 x 8 x 8 codes, then the prior over these codes. Run
# again after an interruption, it goes on. On a GPU: examples/make_gen_shapes.sh gen_shapes cuda 1 14
set -euo pipefail
work=${1:-gen_shapes} processes=${3:-2}
export OMP_NUM_THREADS=1  # two processes of one thread each are faster than one process of two
# glibc gives large blocks back to the system after each step, and fetching them again costs an eighth of the time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000
videozoo=(torchrun --nproc-per-node "$processes" --no-python videozoo)

# Clips start in the first half of what a video has room for: there, what grows is small and what shrinks is large, so
# that a clip tells its direction of time. (Of the whole video, what grows is the mirror of what shrinks.)
shared=(--latest-start 0.5 --device "${2:-cpu}" --num-workers "${4:-1}" --seed 0 --resume)
tokenizer=(--betas 0.9 0.99 --clip-grad 1 --restart 0.1)
# Small boxes of many clips: of few clips, batch normalization tells little about their colors, and what is
# reconstructed stays gray for long. Then larger boxes of all frames, which have a middle.
"${videozoo[@]}" pretrain-tokenizer drawn:200000@1 --out "$work/small_boxes" --img-size 64 --num-frames 16 \
    --downsample 2 8 8 --channels 8 --num-codes 512 --code-dim 64 --crop 8 16 16 --batch-size "$((32 / processes))" \
    --steps 2400 --lr 2e-3 --warmup 0.02 --checkpoint-every 200 --pictures-every 400 "${tokenizer[@]}" "${shared[@]}"
"${videozoo[@]}" pretrain-tokenizer drawn:200000@3 --out "$work/tokenizer" --weights "$work/small_boxes/model.safetensors" \
    --crop 16 32 32 --batch-size "$((8 / processes))" --steps 400 --lr 1e-3 --warmup 0.05 --checkpoint-every 100 \
    --pictures-every 200 "${tokenizer[@]}" "${shared[@]}"
prior=(--batch-size "$((8 / processes))" --opt muon --warmup 0.03 --clip-grad 1 --checkpoint-every 200 --pictures-every 1500)
"${videozoo[@]}" pretrain-prior drawn:200000@2 --out "$work/whole_clips" --tokenizer "$work/tokenizer/model.safetensors" \
    --depth 4 --heads 4 --width 160 --positions sines --steps 4000 --lr 0.01 "${prior[@]}" "${shared[@]}"
# The encoder looks ahead: the last codes of frames that are to be continued are not those that they have in a whole clip.
"${videozoo[@]}" pretrain-prior drawn:200000@4 --out "$work/prior" --weights "$work/whole_clips/model.safetensors" \
    --steps 1500 --lr 0.004 --encode-alone 0.5 "${prior[@]}" "${shared[@]}"

python - "$work/prior/model.safetensors" "$work/gen_shapes_64.safetensors" <<'PYTHON'
import sys
from pathlib import Path

from videozoo_timm import load_generator
from videozoo_timm.models.generator_files import save_video_generator

generator = load_generator(sys.argv[1])
for parameter in generator.parameters():  # 6 MB instead of 12; computed in float32 all the same
    parameter.data = parameter.half()  # not the running variances, which are up to 342,000: more than it holds
save_video_generator(generator, Path(sys.argv[2]), dict(name='gen_shapes_64', zoo='shapes'))
PYTHON
