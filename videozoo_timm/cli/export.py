"""videozoo export."""

from pathlib import Path

from ..notes import tell_placed
from .base import argument, command, option
from .output import echo
from .types import FILE, Choice

FORMATS = ('rsatoolbox', 'mat', 'hdf5', 'csv', 'devbench', 'netcdf')  # of `analysis.exporting`, without its imports


@command(
    results='out',
    examples="""
    videozoo export features.npz --to rsatoolbox
    videozoo export features.npz --to mat --out features.mat
    videozoo export features.npz --to devbench --stimuli manifest.csv --out things_hvm1.npy
""",
)
@argument('features', metavar='FEATURES', type=FILE, help='File or folder of `videozoo embed`.')
@option('--to', required=True, type=Choice(FORMATS), help='Format.')
@option('--out', type=FILE, metavar='FILE', show_default="FEATURES with the format's ending", help='File to write.')
@option('--block', type=int, metavar='B', show_default='all', help='Only the features of this block.')
@option(
    '--stimuli',
    type=FILE,
    metavar='FILE',
    help='Only the rows of these stimuli, in this order: names, one a line, or the first column of a .csv.',
)
@option(
    '--dissimilarity',
    type=Choice(['correlation', 'cosine', 'euclidean']),
    default='correlation',
    help="Of the RDMs that '--to rsatoolbox' writes beside the features.",
)
@option('--force', is_flag=True, help='Replace FILE.')
def export(
    features: Path,
    to: str,
    out: Path | None,
    block: int | None,
    stimuli: Path | None,
    dissimilarity: str,
    force: bool,
) -> int:
    """Write features for other toolboxes: rsatoolbox, MATLAB, HDF5, CSV, DevBench, xarray."""
    from ..analysis.behavior import read_names
    from ..analysis.exporting import FORMATS as ENDINGS
    from ..analysis.exporting import export as write
    from ..analysis.exporting import in_order, of_block
    from ..analysis.feature_reading import open_features
    from ..outputs import Output

    out = out or Path(f'{features.with_suffix("") if features.suffix else features}{ENDINGS[to]}')
    tell_placed(out)
    output = Output(out)
    output.check_file([ENDINGS[to]])
    output.refuse_existing(force)
    file = open_features(features)
    if block is not None:
        file = of_block(file, block)
    if stimuli is not None:
        file = in_order(file, read_names(stimuli))
    for written in write(file, to, out, dissimilarity=dissimilarity):
        echo(written)
    return 0
