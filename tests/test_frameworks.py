"""Other people's libraries run the models unchanged. They are the real ones: `pip install -e '.[test,frameworks]'`.

A limit that timm's own ViT has too is asserted for timm's own ViT as well, so that it is known when it falls.
"""

import copy
import os
import re
import subprocess
import sys

import pytest
import timm
import torch
from conftest import CLIPS, REPOSITORY, relative_error
from documents import blocks_of
from forked_python import run_forked, run_ranks
from PIL import Image

import videozoo_timm
from videozoo_timm.publishing import export
from videozoo_timm.video import prepare_clip, read_clip

pytestmark = pytest.mark.frameworks

PAGE = (REPOSITORY / 'docs' / 'frameworks.md').read_text()
SNIPPETS = {
    title: [block.text for block in blocks_of(text) if block.language == 'python' and block.reason is None]
    for title, text in re.findall(r'^## ([^\n]+)\n(.*?)(?=\n## |\Z)', PAGE, flags=re.S | re.M)
}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CLIP, IMAGE = random(2, 3, 16, 112, 112), random(2, 3, 112, 112)
INPUTS = pytest.mark.parametrize('x', [CLIP, IMAGE], ids=['clips', 'images'])


@pytest.fixture(scope='module')
def vit():
    return videozoo_timm.load_model('vit_shapes_motion').requires_grad_(False)


@pytest.fixture(scope='module')
def folder(vit, tmp_path_factory):
    return export(vit, tmp_path_factory.mktemp('exported') / 'vit', name='vit_shapes_motion')


def test_the_pipeline_that_a_card_names_loads_the_model(vit, tmp_path):
    from huggingface_hub import ModelCard
    from PIL import Image
    from transformers import pipeline

    image = Image.new('RGB', (120, 112), (200, 30, 40))
    for name, model in {
        'motion': vit,
        'video': timm.create_model('vit_t14_st', num_classes=0),
        'mae': videozoo_timm.load_model('mae_shapes_none'),
        'image': timm.create_model('vit_t16_im', num_classes=0),
        'classes': timm.create_model('vit_t16_im', num_classes=3),
    }.items():
        exported = export(model, tmp_path / name)
        task = ModelCard.load(exported / 'README.md').data.get('pipeline_tag')
        assert (task is None) == (name == 'motion')
        if task:
            assert pipeline(task, model=str(exported))(image)


ENVIRONMENT = dict(os.environ, PYTHONPATH=str(REPOSITORY), HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1')
# Compiling takes its time by the block.
QUICKER = {
    'Compiled and exported': """
import videozoo_timm
def one_block(name, load_model=videozoo_timm.load_model):
    model = load_model(name)
    model.blocks = model.blocks[:1]
    return model
videozoo_timm.load_model = one_block
"""
}


@pytest.mark.parametrize('name', [name for name, snippets in SNIPPETS.items() if snippets])
def test_snippets_of_the_handbook(name, tmp_path):
    (tmp_path / 'docs').symlink_to(REPOSITORY / 'docs')
    for snippet in SNIPPETS[name]:
        done = run_forked([], QUICKER.get(name, '') + snippet, ENVIRONMENT, tmp_path)
        assert done.returncode == 0, done.stderr


# timm


def test_timm_loads_what_timm_saves(vit, tmp_path):
    timm.models.save_for_hf(vit, tmp_path / 'saved', safe_serialization=True)
    model = timm.create_model(f'local-dir:{tmp_path / "saved"}', pretrained=True).eval()
    assert torch.equal(model(CLIP), vit(CLIP))
    torch.save({'state_dict_ema': {f'module.{k}': v for k, v in vit.state_dict().items()}}, tmp_path / 'last.pth.tar')
    model = timm.create_model('vit_t14_st', num_classes=8).eval()
    timm.models.load_checkpoint(model, tmp_path / 'last.pth.tar')
    assert torch.equal(model(CLIP), vit(CLIP))


def test_timm_trains(tmp_path):
    from timm.data import create_dataset, create_loader, resolve_model_data_config
    from timm.optim import create_optimizer_v2
    from timm.utils import ModelEmaV3

    for k in range(4):
        path = tmp_path / 'train' / f'class{k % 2}' / f'{k}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((random(40, 60, 3, seed=k).sigmoid() * 255).byte().numpy()).save(path)
    model = timm.create_model('vit_t14_st.shapes_motion', pretrained=True, num_classes=2)
    assert 'label_names' not in model.pretrained_cfg  # the eight motions are not its two classes
    config = resolve_model_data_config(model)
    assert config['input_size'] == (3, 112, 112) and config['mean'] == (0.45, 0.45, 0.45)
    loader = create_loader(
        create_dataset('', str(tmp_path), split='train'),
        batch_size=4,
        is_training=True,
        num_workers=0,
        use_prefetcher=False,
        **{k: config[k] for k in ('input_size', 'mean', 'std', 'interpolation', 'crop_pct')},
    )
    optimizer = create_optimizer_v2(model, 'adamw', lr=1e-2, weight_decay=0.05, layer_decay=0.7)
    scales = {group['lr_scale'] for group in optimizer.param_groups}
    assert len(scales) == 7 and max(scales) == 1.0  # embedding, 5 blocks, head
    average, before = ModelEmaV3(model, decay=0.5), copy.deepcopy(model.state_dict())
    images, targets = next(iter(loader))
    torch.nn.functional.cross_entropy(model(images), targets).backward()
    optimizer.step()
    average.update(model)
    for name in ('head.weight', 'blocks.0.attn.qkv.weight', 'pos_embed_temporal'):
        middle = (before[name] + model.state_dict()[name]) / 2
        assert not torch.equal(before[name], middle)
        assert torch.allclose(average.module.state_dict()[name], middle, atol=1e-6)


@pytest.mark.parametrize('kind', ['getter', 'hook', 'fx'])
@INPUTS
def test_timm_features_only(vit, kind, x):
    model = timm.create_model(
        'vit_t14_st.shapes_motion', pretrained=True, features_only=True, feature_cls=kind, out_indices=(1, 4)
    ).eval()
    features = model(x)
    expected = vit.forward_intermediates(x, indices=(1, 4), intermediates_only=True)
    if kind != 'getter':  # tokens, as those of timm's own ViT
        expected = [vit.blocks[:2](vit._embed(x)), vit.blocks(vit._embed(x))]
    for ours, theirs in zip(features, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_every_tag_has_a_transform():
    architectures = videozoo_timm.catalogue.ALL_ARCHITECTURES
    names = [name for name in timm.list_pretrained() if name.split('.')[0] in architectures]
    assert len(names) == len((*videozoo_timm.catalogue.CHECKPOINTS, *videozoo_timm.catalogue.WHOLE))
    image = Image.new('RGB', (500, 400))
    for name in names:
        cfg = timm.get_pretrained_cfg(name)
        transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg.to_dict()))
        assert tuple(transform(image).shape) == cfg.input_size


SCRIPT = """
import argparse, os, sys, timm, beside
parser = argparse.ArgumentParser()
parser.add_argument('--model_name')
args = parser.parse_args()
model = timm.create_model(args.model_name)
# In one piece: torchrun's processes write unbuffered, and print would mix their words.
sys.stdout.write(f"{__name__} {os.environ.get('RANK')} {type(model).__name__} {sys.argv[0]}\\n")
sys.exit(beside.code)
"""


def test_scripts_that_know_timm_only(run, tmp_path):
    (tmp_path / 'scripts').mkdir()
    (tmp_path / 'scripts' / 'train.py').write_text(SCRIPT)
    (tmp_path / 'scripts' / 'beside.py').write_text('code = 7')
    done = run('run', 'scripts/train.py', '--model_name', 'vit_t14_st', check=False)
    assert done.returncode == 7
    assert done.stdout.split() == ['__main__', 'None', 'VideoVisionTransformer', 'scripts/train.py']
    done = run('run', 'scripts/trian.py', check=False)
    assert done.returncode == 2 and 'no script scripts/trian.py' in done.stderr
    done = run('run', 'scripts/train.py', '--model_name', 'vit_t99_st', check=False)
    assert done.returncode == 1 and 'Traceback' in done.stderr and 'vit_t99_st' in done.stderr
    (tmp_path / 'scripts' / 'beside.py').write_text('code = 0')
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node',
            '2',
            '-m',
            'videozoo_timm',
            'run',
            'scripts/train.py',
            '--model_name',
            'vit_t14_st',
        ],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == ['0', '1']


# transformers


@INPUTS
def test_transformers(vit, folder, x, tmp_path):
    from transformers import AutoModel, AutoModelForImageClassification

    classifier = AutoModelForImageClassification.from_pretrained(folder).eval()
    assert torch.equal(classifier(x).logits, vit(x))
    assert tuple(classifier.config.id2label.values()) == vit.pretrained_cfg['label_names']
    backbone = AutoModel.from_pretrained(folder).eval()
    assert torch.equal(backbone(x).last_hidden_state, vit.forward_features(x))
    assert torch.equal(backbone(x).pooler_output, vit.forward_head(vit.forward_features(x), pre_logits=True))
    classifier.save_pretrained(tmp_path / 'again')
    again = AutoModelForImageClassification.from_pretrained(tmp_path / 'again').eval()
    assert torch.equal(again(x).logits, vit(x))


def test_transformers_from_pixels_to_names(vit, folder):
    from transformers import AutoImageProcessor, pipeline

    image = Image.open(REPOSITORY / 'docs' / 'static' / 'clip.jpg').convert('RGB')
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(vit))
    processed = AutoImageProcessor.from_pretrained(folder)(image, return_tensors='pt')['pixel_values']
    assert torch.equal(processed, transform(image).unsqueeze(0))
    best = pipeline('image-classification', model=str(folder))(image)[0]
    probabilities = vit(processed).softmax(dim=-1)[0]
    assert best['label'] == vit.pretrained_cfg['label_names'][probabilities.argmax()]
    assert abs(best['score'] - probabilities.max().item()) < 1e-5


@INPUTS
def test_transformers_backbone(vit, x, tmp_path):
    from safetensors.torch import load_file
    from transformers import TimmBackbone, TimmBackboneConfig

    backbone = TimmBackbone.from_pretrained('vit_t14_st.shapes_motion', out_indices=(1, 3)).eval()
    expected = vit.forward_intermediates(x, indices=(1, 3), intermediates_only=True)
    assert all(map(torch.equal, backbone(x).feature_maps, expected))
    backbone.save_pretrained(tmp_path / 'saved')
    again = TimmBackbone(TimmBackboneConfig.from_pretrained(tmp_path / 'saved')).eval()
    again.load_state_dict(load_file(tmp_path / 'saved' / 'model.safetensors'))
    assert all(map(torch.equal, again(x).feature_maps, expected))


def test_a_limit_of_transformers(tmp_path):
    """What TimmBackbone saves, its own from_pretrained does not find, whatever model it is (docs/limits.md)."""
    from transformers import TimmBackbone, TimmBackboneConfig

    for name in ('vit_t14_st', 'vit_tiny_patch16_224'):
        backbone = TimmBackbone(TimmBackboneConfig(backbone=name))
        backbone.save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match='no source prefix'):
            TimmBackbone.from_pretrained(str(tmp_path / name))


# segmentation_models_pytorch


@pytest.mark.parametrize('decoder, encoder', [('DPT', 'vit_t16_im'), ('Unet', 'resnext50_im'), ('FPN', 'resnext50_im')])
def test_segmentation_models(decoder, encoder):
    import segmentation_models_pytorch as smp

    model = getattr(smp, decoder)(f'tu-{encoder}', encoder_weights=None, classes=3)
    masks = model(random(2, 3, 64, 96) if decoder != 'DPT' else random(2, 3, 224, 224))
    assert masks.shape[:2] == (2, 3)
    masks.square().mean().backward()
    first = model.encoder.model.get_parameter('conv1.weight' if 'resnext' in encoder else 'patch_embed.proj.weight')
    assert first.grad.abs().sum() > 0


def test_a_limit_of_segmentation_models():
    import segmentation_models_pytorch as smp

    for name in ('vit_b14_im', 'vit_small_patch14_dinov2'):
        model = smp.DPT(f'tu-{name}', encoder_weights=None, classes=3, dynamic_img_size=True)
        with pytest.raises(RuntimeError, match='must match the size'):
            model(random(1, 3, 224, 224))


# Training


def test_lightning(tmp_path):
    import lightning

    class Finetuning(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = timm.create_model('vit_t14_st.shapes_motion', pretrained=True)

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.model.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(CLIP, torch.tensor([1, 2])), batch_size=2)
    module = Finetuning()
    plain = copy.deepcopy(module.model)
    trainer = lightning.Trainer(
        max_steps=1, accelerator='cpu', logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(module, data)
    torch.nn.functional.cross_entropy(plain(CLIP), torch.tensor([1, 2])).backward()
    for name, parameter in plain.named_parameters():
        expected = parameter - 0.1 * parameter.grad
        assert torch.allclose(module.model.get_parameter(name), expected, atol=1e-6), name
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    again = Finetuning.load_from_checkpoint(tmp_path / 'last.ckpt', weights_only=False)
    assert torch.equal(again.model.head.weight, module.model.head.weight)


def test_accelerate_and_its_wrapping_by_block(vit):
    from accelerate import Accelerator, FullyShardedDataParallelPlugin

    accelerator = Accelerator(cpu=True)
    model = copy.deepcopy(vit).requires_grad_(True)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    accelerator.backward(model(CLIP).square().mean())
    before = model.head.bias.clone()
    optimizer.step()
    assert not torch.equal(before, model.head.bias)
    for name in ('vit_t14_st', 'mae_t14_st', 'vit_t16_im'):
        model = timm.create_model(name)
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy='transformer_based_wrap')
        plugin.set_auto_wrap_policy(model)  # asks the model for its unit
        assert plugin.auto_wrap_policy.keywords['transformer_layer_cls'] == {type(model.blocks[0])}


@pytest.mark.parametrize('name', ['vit_t14_st.shapes_motion', 'mae_t14_st.shapes', 'vit_t16_im'])
def test_fsdp2_on_cpus(name, tmp_path):
    """A step of two processes, sharded by block, equals a step of one with both batches."""
    code = f"""
import copy, torch, timm, torch.distributed as dist, videozoo_timm
from torch.distributed.fsdp import fully_shard
dist.init_process_group('gloo')
torch.manual_seed(0)
model = timm.create_model({name!r}, pretrained={'shapes' in name})
plain = copy.deepcopy(model)
for block in (*model.blocks, *getattr(model, 'decoder_blocks', ())):
    fully_shard(block)
fully_shard(model)
x = torch.randn(2, 3, *((16, 112, 112) if {'_st' in name} else (224, 224)))
noise = dict(noise=torch.rand(2, 512)) if {name.startswith('mae')} else dict()
def loss(model, part):
    out = model(x[part], **{{k: v[part] for k, v in noise.items()}})
    return out[0] if noise else out.square().mean()
rank = dist.get_rank()
optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, plain)]
loss(model, slice(rank, rank + 1)).backward()
loss(plain, slice(0, 2)).backward()
for optimizer in optimizers:
    optimizer.step()
for key, value in plain.state_dict().items():
    ours = model.state_dict()[key].full_tensor()
    assert torch.allclose(ours, value, atol=1e-5), (key, (ours - value).abs().max())
print('equal', flush=True)
dist.destroy_process_group()
"""
    done = run_ranks(2, [], ENVIRONMENT, tmp_path, code)
    assert done.returncode == 0 and done.stdout.count('equal') == 2, done.stderr


def test_peft(vit, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    vit, clip = copy.deepcopy(vit).double(), CLIP.double()  # so exact that what is asked for needs no luck
    model = get_peft_model(copy.deepcopy(vit), LoraConfig(r=4, target_modules=['qkv'], modules_to_save=['head']))
    assert torch.allclose(model(clip), vit(clip), atol=1e-9)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 5 * 2 + 2 and all('lora_' in name or 'head' in name for name in trained)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(clip).square().mean().backward()
    optimizer.step()
    assert not torch.allclose(model(clip), vit(clip), atol=1e-3)
    model.save_pretrained(tmp_path / 'lora')
    again = PeftModel.from_pretrained(copy.deepcopy(vit), tmp_path / 'lora')
    assert torch.allclose(again(clip), model(clip), atol=1e-9)
    assert torch.allclose(again.merge_and_unload()(clip), model(clip), atol=1e-9)


@INPUTS
def test_torchao(vit, x):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = copy.deepcopy(vit)
    quantize_(model, Int8WeightOnlyConfig())
    assert type(model.blocks[0].attn.qkv.weight) is not torch.nn.Parameter
    assert 0 < relative_error(model(x), vit(x)) < 0.05


# Compiled and exported


def two_blocks(name, **kwargs):
    """Compiling takes its time by the block."""
    torch.manual_seed(0)
    return timm.create_model(name, depth=2, **kwargs).eval().requires_grad_(False)


ANY_BATCH = ({0: torch.export.Dim('batch', min=1, max=64)},)
MODELS = pytest.mark.parametrize(
    'name, x',
    [('vit_t14_st', CLIP), ('vit_t14_st', IMAGE), ('mae_t14_st', CLIP), ('vit_t16_im', random(2, 3, 224, 224))],
    ids=['ViT with clips', 'ViT with images', 'encoder of the MAE', 'image encoder'],
)


def exportable(name):
    """The ViT with a head; of the MAE the encoder, which is what its forward_features is."""
    if not name.startswith('mae'):
        return two_blocks(name, num_classes=5)
    return timm.create_model(name, depth=2, features_only=True, out_indices=(1,)).eval().requires_grad_(False)


def output_of(result):
    return result[0] if isinstance(result, (list, tuple)) else result


@MODELS
def test_compile(name, x, request):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = exportable(name)
    # The code of a video ViT is generated for the page's snippet above and for AOTInductor below.
    backend = 'inductor' if request.node.callspec.id == 'image encoder' else 'aot_eager'
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    for batch in (x, torch.cat([x, x, x])):
        assert relative_error(output_of(compiled(batch)), output_of(model(batch))) < 1e-5
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1


@MODELS
def test_export(name, x):
    model = exportable(name)
    program = torch.export.export(model, (x,), dynamic_shapes=ANY_BATCH)
    batch = torch.cat([x, x[:1]])
    assert relative_error(output_of(program.module()(batch)), output_of(model(batch))) < 1e-5


def test_aot_inductor(tmp_path):
    model = exportable('vit_t14_st')
    model.blocks = model.blocks[:1]
    program = torch.export.export(model, (CLIP,), dynamic_shapes=ANY_BATCH)
    package = torch._inductor.aoti_compile_and_package(
        program,
        package_path=str(tmp_path / 'model.pt2'),
        inductor_configs={'aot_inductor.compile_wrapper_opt_level': 'O0'},  # the compiler's time, not the model's
    )
    loaded, batch = torch._inductor.aoti_load_package(package), torch.cat([CLIP, CLIP[:1]])
    assert relative_error(loaded(batch), model(batch)) < 1e-5


@MODELS
def test_onnx(name, x, tmp_path):
    import onnxruntime

    model = exportable(name)
    torch.onnx.export(model, (x,), str(tmp_path / 'model.onnx'), dynamo=True, dynamic_shapes=ANY_BATCH)
    session = onnxruntime.InferenceSession(str(tmp_path / 'model.onnx'), providers=['CPUExecutionProvider'])
    batch = torch.cat([x, x[:1]])
    result = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0])
    assert relative_error(result, output_of(model(batch))) < 1e-4


# Features as vision scientists extract them


@INPUTS
def test_features_by_name(vit, x):
    from torchvision.models.feature_extraction import create_feature_extractor

    features = create_feature_extractor(vit, ['blocks.2', 'norm', 'head'])(x)
    seen = {}
    for name in ('blocks.2', 'norm'):
        vit.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.setdefault(name, output)
        )
    logits = vit(x)
    for module in (vit.blocks[2], vit.norm):
        module._forward_hooks.clear()
    assert torch.equal(features['blocks.2'], seen['blocks.2']) and torch.equal(features['norm'], seen['norm'])
    assert torch.equal(features['head'], logits)


class TimmExtractor:
    """How the toolboxes of vision science use timm: a name, an image loader, the activations of a module by name."""

    def __init__(self, name, pretrained):
        if name not in timm.list_models() and name.split('.')[0] not in timm.list_models():
            raise ValueError(name)
        self.model = timm.create_model(name, pretrained=pretrained).eval()
        self.transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=self.model))

    def extract(self, images, module_name, batch_size=2):
        collected = []
        handle = dict(self.model.named_modules())[module_name].register_forward_hook(
            lambda module, inputs, output: collected.append(output.detach())
        )
        loader = torch.utils.data.DataLoader([self.transform(image) for image in images], batch_size=batch_size)
        with torch.no_grad():
            for batch in loader:
                self.model(batch)
        handle.remove()
        return torch.cat(collected)


@pytest.mark.parametrize(
    'name, module, shape',
    [
        ('vit_t14_st.shapes_motion', 'blocks.3', (3, 513, 128)),
        ('vit_t14_st', 'norm', (3, 513, 128)),
        ('vit_t16_im', 'blocks.11.mlp.fc1', (3, 197, 768)),
        ('resnext50_im', 'layer2', (3, 512, 28, 28)),
    ],
)
def test_an_extractor_that_knows_timm_only(name, module, shape):
    images = [Image.fromarray((random(90, 120, 3, seed=k).sigmoid() * 255).byte().numpy()) for k in range(3)]
    extractor = TimmExtractor(name, pretrained='_st' in name)
    activations = extractor.extract(images, module)
    assert activations.shape == shape and activations.isfinite().all()
    assert torch.allclose(activations[2:], extractor.extract(images[2:], module), atol=1e-4)


def test_a_temporal_inferencer(vit):
    """As Brain-Score runs video models: a layer's activations of a clip, frame by frame, with the times they are of."""
    video = str(CLIPS / 'pans' / 'things' / 'cat.mp4')
    clip = read_clip(video)
    x = prepare_clip(clip.frames, 112, mean=0.45, std=0.225).unsqueeze(0)
    seen = {}
    handle = vit.blocks[3].register_forward_hook(lambda module, inputs, output: seen.update(tokens=output))
    vit(x)
    handle.remove()
    tokens = seen['tokens'][:, vit.num_prefix_tokens :]
    tokens = tokens.unflatten(1, vit.patch_embed.video_grid_size)  # [1, T', H', W', C]
    per_frame = tokens.repeat_interleave(vit.tubelet_size, dim=1)  # a tubelet's activation is that of its frames
    times = [clip.start + k * (clip.end - clip.start - 1 / 30) / 15 for k in range(16)]
    assert per_frame.shape == (1, len(times), 8, 8, 128) and times[-1] < clip.end
    # What happens in the last frames changes the last activations most: time is where it should be.
    y = x.clone()
    y[:, :, 14:] = 0
    handle = vit.patch_embed.register_forward_hook(lambda module, inputs, output: seen.update(tokens=output))
    before, after = (vit(z) is not None and seen['tokens'].clone() for z in (x, y))
    handle.remove()
    changed = (before - after).abs().amax(dim=(0, 2, 3, 4))  # [T']
    assert changed[:7].max() == 0 and changed[7] > 0


# Flash attention


@pytest.mark.skipif(not torch.cuda.is_available(), reason='flash attention: there is no GPU here')
@pytest.mark.parametrize('name, size', [('vit_h14_st', 224), ('vit_h14_st', 448), ('mae_h14_st', 224)])
def test_flash_attention_is_what_runs(name, size):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model = timm.create_model(name, img_size=size, depth=2, device='cuda', dtype=torch.bfloat16).eval()
    x = torch.randn(1, 3, 16, size, size, device='cuda', dtype=torch.bfloat16)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        assert output_of(model(x)).isfinite().all()
