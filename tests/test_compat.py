"""Private names of timm and torch are in one file and there, and what torch may be set to changes no result's kind."""

import ast
import importlib
from pathlib import Path

import pytest
import timm
import torch

import videozoo_timm
from videozoo_timm import _compat, load_model
from videozoo_timm.analysis.attention import attend, strongest_head
from videozoo_timm.analysis.completion import complete
from videozoo_timm.analysis.embedding import embed
from videozoo_timm.analysis.evaluation import ClassFolders, class_folders, evaluate
from videozoo_timm.analysis.feature_maps import patch_tokens, pca_colors
from videozoo_timm.analysis.probing import PROBES, FrozenFeatures, frozen_features, probe

PACKAGE = Path(videozoo_timm.__file__).parent
READS_PICKLES = PACKAGE / 'weights' / 'pickles.py'  # what a pickle may name is torch's own layout of files
LIBRARIES = ('timm', 'torch', 'huggingface_hub', 'safetensors')


def private_names(path):
    """Modules and names that a file takes from timm or torch and that begin with an underscore."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.split('.')[0] in LIBRARIES:
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, '') for alias in node.names if alias.name.split('.')[0] in LIBRARIES}
        elif isinstance(node, ast.Attribute) and ast.unparse(node).split('.')[0] in LIBRARIES:
            found.add((ast.unparse(node.value), node.attr))
    return {
        (module, name)
        for module, name in found
        if any(part[:1] == '_' != part[1:2] for part in f'{module}.{name}'.split('.'))
    }  # `__version__` is public


@pytest.mark.parametrize('module, name', sorted(private_names(Path(_compat.__file__))))
def test_the_private_names_are_there(module, name):
    library = module.split('.')[0]
    version = importlib.import_module(library).__version__
    try:
        holder = importlib.import_module(module)
    except ImportError:  # torch.ops.mkldnn is no module
        parent, _, last = module.rpartition('.')
        holder = getattr(importlib.import_module(parent), last, None)
    assert hasattr(holder, name), f'{library} {version} has no {module}.{name}: mend videozoo_timm/_compat.py'


def test_no_other_file_uses_private_names():
    files = [path for path in PACKAGE.rglob('*.py') if path not in (Path(_compat.__file__), READS_PICKLES)]
    assert {str(path): private_names(path) for path in files if private_names(path)} == {}
    assert len(private_names(Path(_compat.__file__))) >= 6  # the search finds them


def test_forward_hooks_are_listed():
    module = torch.nn.Linear(2, 2)
    assert _compat.forward_hooks(module) == []
    handle = module.register_forward_hook(print)
    assert _compat.forward_hooks(module) == [print]
    handle.remove()
    assert _compat.forward_hooks(module) == []


@pytest.fixture(scope='module')
def models():
    return load_model('vit_shapes_motion'), load_model('mae_shapes_none')


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_results_may_be_changed_and_trained_on(models):
    (vit, mae), x = models, torch.randn(3, 16, 112, 112)
    completion = complete(mae, x)
    results = dict(
        embed=embed(vit, ['drawn:3/up/000000']).features,
        attend=attend(vit, x).weights,
        patch_tokens=patch_tokens(vit, x),
        completed=completion.completed,
        mask=completion.mask.float(),
        evaluate=evaluate(vit, class_folders('drawn:8@3')).log_probabilities,
        frozen=frozen_features(vit, class_folders('drawn:8@3'), tokens=True).tokens.float(),
    )
    for name, tensor in results.items():
        assert not tensor.is_inference() and not tensor.requires_grad, name
        tensor -= tensor.mean()
        weight = torch.ones(tensor.shape[-1], requires_grad=True)
        (tensor * weight).sum().backward()
        assert weight.grad is not None, name


def test_results_are_the_same_whatever_the_default_dtype_is(models, double):
    (vit, mae), generator = models, torch.Generator().manual_seed(0)
    tokens = torch.randn(8, 4, 8, 16, generator=generator, dtype=torch.float32)
    x = torch.randn(3, 16, 112, 112, generator=generator, dtype=torch.float32)
    files = ClassFolders(['a', 'b'], list('abcd'), [0, 0, 1, 1], 'x')
    frozen = FrozenFeatures(tokens[0, 0, :4], tokens[0, :4, :5].half(), files, [])

    def results():
        answers = [
            pca_colors([tokens])[0],
            attend(vit, x).weights,
            strongest_head(tokens[0].movedim(-1, 0).abs()),
            complete(mae, x).completed,
            embed(vit, ['drawn:3/up/000000']).features,
        ]
        return answers + [probe(name, frozen, frozen, epochs=1).evaluation.log_probabilities for name in PROBES]

    under_double = results()
    torch.set_default_dtype(torch.float32)
    for k, (ours, theirs) in enumerate(zip(under_double, results(), strict=True)):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3, msg=lambda words, k=k: f'result {k}: {words}')


def test_a_model_is_traced_whatever_the_default_dtype_is(double):
    model = timm.create_model('vit_t16_im', img_size=64, depth=1, dtype=torch.float32).eval()
    x = torch.randn(1, 3, 32, 80, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(model, x)(x), model(x), atol=1e-4, rtol=1e-4)
