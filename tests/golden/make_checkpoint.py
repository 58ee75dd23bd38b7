"""Write a checkpoint of the published layout whose weights are made from their names: a stand-in, not a trained model.

    python tests/golden/make_checkpoint.py mae_huge_224 hvm1_none.pth
"""
import argparse
import json
from pathlib import Path

import recipe
import torch

if __name__ == '__main__':
    shapes = json.loads((Path(__file__).parent / 'manifest.json').read_text())['shapes']
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', choices=shapes)
    parser.add_argument('out')
    args = parser.parse_args()
    torch.save({'model': recipe.fill(shapes[args.name])}, args.out)
