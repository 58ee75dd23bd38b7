#!/usr/bin/env bash
# Loads models of this package by the toolboxes of others, runs them on drawn stimuli and compares the features:
#     examples/toolboxes.sh [brainscore] [thingsvision] [physion]
# Each toolbox gets an environment of its own, as they want other versions of NumPy and more. A line for each says which
# version was run, and how it went; what could not be run is said there too. Needs Python 3.11 (PYTHON names another), the
# package index, and some GB of disk for one environment at a time, which is removed behind it. TORCH_FROM=PYTHON names an
# interpreter whose packages (PyTorch and timm among them) are taken where a toolbox allows it, not installed anew.
# PHYSION_EVALUATOR=DIR is a checkout of physion_evaluator, which is fetched from GitHub otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
failed=0

[ $# -gt 0 ] || set -- brainscore thingsvision physion
for name in "$@"; do
    "${PYTHON:-python3.11}" -m venv "$work/$name"
    python=$work/$name/bin/python
    install=("$python" -m pip install --quiet --no-compile)
    packages='import site; print(site.getsitepackages()[0])'
    if [ -n "${TORCH_FROM:-}" ]; then
        "$TORCH_FROM" -c "$packages" > "$("$python" -c "$packages")/torch_from.pth"
    fi
    case $name in
        brainscore)
            "${install[@]}" '.[video]' 'brainscore-vision==2.4.2'
            ;;
        thingsvision)
            # It pins torchvision 0.15.2, safetensors < 0.6 and transformers 4.40.1. With these there is no PyTorch that
            # this package can use, so the pins are left out, and what it imports is installed by itself.
            "${install[@]}" '.[video]' 'numpy<2' 'tensorflow<2.16' h5py pillow requests scipy torchtyping
            "${install[@]}" --no-deps 'thingsvision==2.7.3'
            ;;
        physion)
            # Not on the package index: `physion` is another program there. It comes without an __init__.py, so that pip
            # would install nothing; it is imported where it lies.
            "${install[@]}" '.[video]' h5py 'imageio[ffmpeg]' pillow
            evaluator=${PHYSION_EVALUATOR:-$work/physion_evaluator}
            [ -d "$evaluator" ] || git clone --quiet --depth 1 \
                https://github.com/neuroailab/physion_evaluator "$evaluator" || true
            export PYTHONPATH=$evaluator
            ;;
        *)
            echo "no toolbox $name: brainscore, thingsvision, physion" >&2
            exit 2
            ;;
    esac
    "$python" examples/toolboxes.py "$name" "$work" || failed=1
    unset PYTHONPATH
    rm -rf "${work:?}/$name"
done
exit $failed
