"""Packed networks give the model's own logits, from memory and from a file, and refuse what is not one of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import resteutils as ru
from resteutils import deploy, kernels, onebit, packed
from resteutils.folding import fold, pack_signs, unpack_signs


def trained(name: str, bits: str = "1/1", size: int = 32, seed: int = 0, **fields) -> nn.Module:
    """A network with the BatchNorm of a trained one: scales of both signs, statistics of its own activations."""
    torch.manual_seed(seed)
    model = ru.create(name, bits, image_size=size, **fields)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(8, fields.get("in_channels", 3), size, size))
    return model.eval()


def paths(bits: str = "1/1") -> list[str]:
    return ["torch", *(kernels.paths() if bits == "1/1" and kernels.available() else [])]


CASES = [
    ("resnet20", "1/1", {}),
    ("resnet20", "1/32", {}),
    ("resnet20", "1/1", {"scale": "channel", "num_classes": 7, "in_channels": 1}),
    ("resnet20", "1/1", {"scale": "none", "standardize": True}),
    ("resnet20_bireal", "1/1", {}),
    ("resnet18", "1/1", {}),
    ("vgg_small", "1/1", {}),
    ("vgg_small", "1/32", {}),
    ("resnet18_imagenet", "1/1", {}),
]


@pytest.mark.parametrize(("name", "bits", "fields"), CASES)
def test_logits_are_the_models_own(name, bits, fields):
    size = 16 if name == "resnet18" else 32
    model = trained(name, bits, size, **fields)
    x = torch.randn(3, fields.get("in_channels", 3), size, size)
    with torch.no_grad():
        expected = model(x)
        model_in_float = model.double()(x.double()).float() if bits == "1/32" else expected
    small = ru.pack(model.float(), input_size=tuple(x.shape[1:]))
    for path in paths(bits):
        result = packed.PackedModel(small.header, small.program, path)(x)
        # bits leave nothing to round; 1/32 sums floats, in another order where the scale comes later
        tolerance = 1e-5 * max(1, expected.abs().max().item()) if bits == "1/1" else 1e-3 * expected.abs().max().item()
        assert (result - expected).abs().max() <= tolerance, path
        assert torch.equal(result.argmax(1), model_in_float.argmax(1)), path


def test_every_sign_between_the_layers_is_the_models_own():
    """Not only the logits: the signs that each binary convolution of VGG-small sees."""
    model = trained("vgg_small")
    x = torch.randn(4, 3, 32, 32)
    seen = []
    for _, layer in ru.binary_layers(model):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(ru.sign(inputs[0])))
    with torch.no_grad():
        model(x)
    small = ru.pack(model)
    values = [x]
    for number, step in enumerate(small.program.steps):
        values.append(small._step(number, step, values))
    inputs = [values[s["source"]] for s in small.program.steps if s["do"] in ("binary", "threshold")]
    assert [s["do"] for s in small.program.steps].count("threshold") == 4
    for mine, theirs in zip(inputs, seen, strict=True):
        assert torch.equal(ru.sign(mine), theirs)


def test_thresholds_equal_batch_norm_at_every_integer():
    torch.manual_seed(0)
    layer, norm = ru.BinaryConv2d(3, 40, 3), nn.BatchNorm2d(40).eval()
    with torch.no_grad():
        norm.weight.normal_().view(-1)[:3] = 0  # constant channels
        norm.bias.normal_()
        norm.running_mean.normal_().mul_(2)
        norm.running_var.uniform_(0.1, 3)
        model = nn.Sequential(
            nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3), layer, nn.ReLU(), norm,
            ru.BinaryConv2d(40, 2, 1), nn.BatchNorm2d(2),
        ).eval()  # fmt: skip
        program = fold(model)
        step = next(i for i, s in enumerate(program.steps) if s["do"] == "threshold")
        cuts = program.of(step, "cuts").view(-1, 1)
        flip = unpack_signs(program.of(step, "flip").view(1, 1, 1, -1), 40).view(-1, 1) < 0
        n = torch.arange(-27.0, 28.0)
        y = norm((n * layer.weight.abs().mean()).relu().view(-1, 1, 1, 1).expand(-1, 40, -1, -1))[:, :, 0, 0].T
        assert torch.equal((n < cuts) ^ flip, y < 0)
        assert 3 < ((y < 0).any(1) & (y >= 0).any(1)).sum()  # the test would fail for constant channels alone


def test_folded_batch_norm_is_torchs_own_to_the_last_bit():
    """Where a sum is near zero the last bit decides a sign; ``torch.sqrt`` is not BatchNorm's root on every machine."""
    torch.manual_seed(0)
    layer, norm = ru.BinaryConv2d(3, 4096, 1), nn.BatchNorm2d(4096).eval()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
        program = fold(nn.Sequential(layer, norm))
        x = torch.randn(2, 4096, 4, 4)
        gain, offset = (program.of(0, name).double().view(1, -1, 1, 1) for name in ("gain", "offset"))
        assert torch.equal((x.double() * gain + offset).float(), norm(x))  # fused: rounded once


def test_signs_survive_packing():
    signs = torch.randn(5, 13, 3, 2).sign()
    assert torch.equal(unpack_signs(pack_signs(signs), 13), signs)
    if kernels.available():
        assert torch.equal(pack_signs(signs), kernels.pack_bits(signs))


@pytest.mark.parametrize(
    ("name", "limit", "times"), [("resnet20", 60_000, 20), ("resnet18", 2_300_000, 19), ("vgg_small", 1_000_000, 19)]
)
def test_file_is_small_and_gives_the_same_logits(tmp_path, name, limit, times):
    model = trained(name)
    small = ru.pack(model)
    path = small.save(tmp_path / "model.rbit")
    size = path.stat().st_size
    assert size == small.bytes < limit
    torch.save(ru.create(name, "32/32").state_dict(), tmp_path / "float.pt")
    assert (tmp_path / "float.pt").stat().st_size > times * size
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(packed.load(path)(x), small(x))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = ru.pack(trained("resnet20")).save(tmp_path / "model.rbit")
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    for position in (8 + size + 5, len(whole) - 1):  # a bit of the first tensor, a bit of the last
        damaged = bytearray(whole)
        damaged[position] ^= 1
        (tmp_path / "damaged.rbit").write_bytes(damaged)
        with pytest.raises(packed.PackedFileError, match="checksum"):
            packed.load(tmp_path / "damaged.rbit")
    for content in (b"", b"hello", whole[:-100], whole[100:]):
        (tmp_path / "damaged.rbit").write_bytes(content)
        with pytest.raises(packed.PackedFileError, match="damaged"):
            packed.load(tmp_path / "damaged.rbit")
    changed = whole.replace(b'\\"model\\":\\"', b'\\"model\\":\\"r', 1)[:8] + whole[8:].replace(b"ResNet", b"ResNot")
    (tmp_path / "damaged.rbit").write_bytes(changed)
    with pytest.raises(packed.PackedFileError, match="checksum"):
        packed.load(tmp_path / "damaged.rbit")
    (tmp_path / "version.rbit").write_bytes(whole.replace(b'\\"version\\":1', b'\\"version\\":7'))
    with pytest.raises(packed.PackedFileError, match="version 7"):
        packed.load(tmp_path / "version.rbit")
    save_file({"w": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(packed.PackedFileError, match="not a packed model"):
        packed.load(tmp_path / "foreign.safetensors")
    with pytest.raises(FileNotFoundError):
        packed.load(tmp_path / "nowhere.rbit")


@pytest.mark.parametrize(
    ("step", "fields", "message"),
    [
        (20, {"skip": 1}, r"step 20: skips over to \(64, 8, 8\) from"),  # would read beyond its memory
        (1, {"source": 5}, "source = 5"),
        (2, {"skip": 0}, "skip = 0"),
        (1, {"kernel": [9, 9]}, "'bits' is .* expected"),
        (1, {"stride": [0, 0]}, "stride"),
        (1, {"padding": [2**40, 2**40]}, "padding"),
        (1, {"out": 17}, "expected torch.uint8"),
        (1, {"channels": 2**30}, "its source has 16"),
        (1, {"channels": 2**62}, "channels = .* is impossible"),
        (1, {"activations": 32}, "activations = 32 at 1/1"),
        (2, {"bits": False}, "step 3: its source is not kept in the form"),
        (1, {"do": "explode"}, "unknown operation 'explode'"),
        (1, {"more": 1}, "fields"),
        (1, {"relu": None}, "relu = None"),
    ],
)
def test_a_program_that_does_not_hold_together_is_refused(tmp_path, step, fields, message):
    """With a checksum that is right: the file is whole, and wrong."""
    small = ru.pack(trained("resnet20"))
    small.program.steps[step] |= fields
    with pytest.raises(packed.PackedFileError, match=message):
        packed.load(small.save(tmp_path / "crafted.rbit"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel": [5000, 5000], "padding": [2500, 2500]}, "a kernel of 5000 with padding 2500 for a source of"),
        ({"kernel": [4, 4], "padding": [3, 3]}, "a kernel of 4 with padding 3"),
    ],
)
def test_a_pool_that_would_take_for_ever_is_refused(tmp_path, fields, message):
    small = ru.pack(trained("vgg_small"))
    next(step for step in small.program.steps if step["do"] == "max_pool").update(fields)
    with pytest.raises(packed.PackedFileError, match=message):
        packed.load(small.save(tmp_path / "crafted.rbit"))


def test_many_large_values_are_refused_together(tmp_path, monkeypatch):
    from resteutils import program_check

    small = ru.pack(trained("resnet20"))
    monkeypatch.setattr(program_check, "_LARGEST", 100_000)  # each is smaller
    with pytest.raises(packed.PackedFileError, match="the values up to step 6 hold 1.*too many"):
        packed.load(small.save(tmp_path / "large.rbit"))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("2.gain", torch.ones(3), "expected torch.float32"),
        ("2.gain", torch.full((16,), torch.nan), "not finite"),
        ("1.bits", torch.zeros(16, 3, 3, 1, dtype=torch.uint8), "'bits' is"),
        ("0.weight", torch.ones(16, 3, 3, 3, dtype=torch.float64), "expected torch.float32"),
        ("99.w", torch.ones(1), "belong to no step"),
        ("2.gain", None, "'gain' is missing"),
    ],
)
def test_tensors_that_do_not_fit_the_program_are_refused(tmp_path, name, tensor, message):
    small = ru.pack(trained("resnet20"))
    small.program.tensors.pop(name, None)
    if tensor is not None:
        small.program.tensors[name] = tensor
    with pytest.raises(packed.PackedFileError, match=message):
        packed.load(small.save(tmp_path / "crafted.rbit"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("classes", ["a"]), ("classes", [1] * 10), ("input", [3, 0, 0]), ("input", ["a", 1, 1]), ("input", [3, 2**31, 9]),
     ("mean", [0.0]), ("std", [0.0] * 3), ("std", [float("nan")] * 3), ("bits", "9/9"), ("version", True)],
)  # fmt: skip
def test_a_header_that_does_not_fit_is_refused(tmp_path, field, value):
    small = ru.pack(trained("resnet20"))
    small.header[field] = value
    with pytest.raises(packed.PackedFileError, match="version" if field == "version" else f"{field}|input"):
        packed.load(small.save(tmp_path / "crafted.rbit"))


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ValueError, match="no binary layers"):
        ru.pack(ru.create("resnet20", "32/32"))
    model = trained("resnet20")
    model.blocks[0].first[0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        ru.pack(model)
    with pytest.raises(ValueError, match="Sigmoid"):
        fold(nn.Sequential(ru.BinaryConv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Sigmoid()))
    with pytest.raises(ValueError, match="expected"):
        ru.pack(trained("resnet20"))(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="input_size"):  # another size of images than it was built for
        ru.pack(trained("vgg_small", size=16))


# --- a trained run: export, predict, bench ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    recipe = ru.recipe("deploy/resnet20-1w1a", profile="smoke")
    return ru.load_or_train(recipe, runs_dir=folder / "runs", results_dir=folder / "results", device="cpu")


def test_export_predict_and_bench(run, tmp_path):
    from PIL import Image

    file = deploy.export_run(run, "packed", tmp_path / "digits.rbit")
    model = packed.load(file)
    assert model.header["run_id"] == run.recipe.run_id and model.header["classes"] == [str(i) for i in range(10)]
    assert model.header["top1"] == pytest.approx(run.result["top1"])
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    found = deploy.predict(file, [tmp_path / "a.png", tmp_path / "a.png"])
    assert len(found) == 2 and len(found[0]["top"]) == 5
    probabilities = [entry["probability"] for entry in found[0]["top"]]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.00001
    assert json.loads(deploy.show_predictions(found, as_json=True)) == found
    assert "█" in deploy.show_predictions(found)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ValueError, match="not an image"):
        deploy.predict(file, [tmp_path / "b.png"])
    rows = deploy.bench_model(file, batches=(1,), repeats=3)
    assert all(row["packed_ms"] > 0 and row["turns"] == 3 for row in rows)


def test_predictions_of_the_file_are_those_of_the_run(run, tmp_path):
    from resteutils.training import open_data

    data = open_data(run.recipe)
    model, small = run.model(), packed.load(deploy.export_run(run, "packed", tmp_path / "digits.rbit"))
    with torch.no_grad():
        for images, _ in data.test_batches(100):
            assert torch.equal(small(images).argmax(1), model(images).argmax(1))
    assert torch.equal(small.normalise(data.test_images[:3]), data.normalise(data.test_images[:3]))


def test_exports_of_other_formats(run, tmp_path):
    from safetensors.torch import load_file

    state = load_file(deploy.export_run(run, "state-dict", tmp_path / "state.safetensors"))
    assert set(state) == set(run.model().state_dict())
    with pytest.raises(ValueError, match="packed, onnx, state-dict"):
        deploy.export_run(run, "tflite")


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["1/1", "32/32"])
def test_onnx_opens_in_onnxruntime_with_equal_logits(tmp_path, bits):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = trained("resnet20", bits, 16), torch.randn(5, 3, 16, 16)
    file = deploy.export_onnx(model, (3, 16, 16), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        expected = model(x)
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-5, atol=1e-5)


def test_a_run_is_found_by_its_names(run):
    folder = run.path.parent
    results = folder.parent / "results"
    for name in (run.recipe.run_id, run.recipe.run_id[:20], "deploy/resnet20-1w1a", str(run.path)):
        assert deploy.find_run(name, str(folder), str(results)).recipe == run.recipe
    with pytest.raises(ValueError, match="no finished run"):
        deploy.find_run("table9/none", str(folder), str(results))


def test_without_the_kernels_no_layer_is_timed_and_the_figure_says_so(monkeypatch):
    import pandas as pd

    monkeypatch.setattr(kernels, "available", lambda: False)
    by_layer = onebit.layers()
    assert by_layer.empty
    assert list(by_layer.columns) == onebit.LAYER_COLUMNS
    values = {"times_faster": 1.0, "low": 0.9, "high": 1.1, "packed_ms": 2.0}
    speeds = pd.DataFrame([{"network": "ResNet-20", "batch": 1, **values}])
    picture = onebit.figure(speeds, by_layer, {})
    assert "no compiled kernels here" in [text.get_text() for text in picture.axes[0].texts]


@pytest.mark.parametrize("name", ["table1/resnet20-1w1a", "table3/reste", "figure6/o3", "figure4/resnet20-o3"])
def test_a_row_of_any_item_finds_the_run_they_share_and_no_shorter_one(name, tmp_path, monkeypatch):
    from resteutils import records, runs

    full, brief = ru.recipe("table3/reste", "short"), ru.recipe("table1/resnet20-1w1a", "short", epochs=3)
    found = [records.Run(r, tmp_path / r.run_id, {}) for r in (brief, full)]
    monkeypatch.setattr(runs, "finished_runs", lambda *folders: found)
    assert deploy.find_run(name).recipe == full
    monkeypatch.setattr(runs, "finished_runs", lambda *folders: found[:1])
    assert deploy.find_run("table1/resnet20-1w1a").recipe == brief  # better than none: its record says what it is


def small_network(*changed: nn.Module, at: int = 0) -> nn.Sequential:
    """A network that can be packed, with ``changed`` in the place of the module at ``at``."""
    parts = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        ru.BinaryConv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ]
    parts[at : at + len(changed)] = changed
    return nn.Sequential(*parts).eval()


@pytest.mark.parametrize(
    ("at", "module", "message"),
    [
        (0, nn.Conv2d(3, 8, 3, padding=1), "a convolution with a bias has no packed form"),
        (0, nn.Conv2d(3, 8, 3, padding=1, bias=False, padding_mode="reflect"), "padding_mode = 'reflect'"),
        (0, nn.Conv2d(3, 8, 3, padding=2, bias=False, dilation=2), r"dilation = \(2, 2\)"),
        (0, nn.Conv2d(3, 8, 3, padding="same", bias=False), "padding = 'same'"),
        (1, nn.BatchNorm2d(8, affine=False), "affine = False"),
        (1, nn.BatchNorm2d(8, track_running_stats=False), "track_running_stats = False"),
        (5, nn.MaxPool2d(3, ceil_mode=True), "ceil_mode = True"),
        (5, nn.MaxPool2d(2, dilation=2), "dilation = 2"),
        (6, nn.AdaptiveAvgPool2d(2), "output_size = 2"),
        (8, ru.BinaryLinear(8, 5), "BinaryLinear has no packed form"),
        (8, nn.Tanh(), "Tanh has no packed form"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_would_be_computed_otherwise_is_refused(at: int, module: nn.Module, message: str):
    with pytest.raises(ValueError, match=message):
        packed.pack(small_network(module, at=at), input_size=(3, 8, 8))


@pytest.mark.parametrize("bias", [True, False])
def test_a_network_of_one_s_own_gives_the_same_logits(bias: bool):
    torch.manual_seed(0)
    model, x = small_network(nn.Linear(8, 5, bias=bias), at=8), torch.randn(6, 3, 8, 8)
    for path in ("", "torch"):
        small = packed.pack(model)
        small = packed.PackedModel(small.header | {"input": [3, 8, 8]}, small.program, path)
        torch.testing.assert_close(small(x), model(x).detach(), rtol=1e-5, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert small(x).equal(small(x.clone()))
            assert small(x).dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_not_hidden(bad: float):
    small, x = packed.pack(small_network()), torch.randn(3, 3, 32, 32)
    x[1, 2, 3, 4] = bad
    logits = small(x)
    assert logits[1].isnan().all()
    assert logits[[0, 2]].isfinite().all()


def test_images_of_another_dtype_are_refused_by_name():
    with pytest.raises(ValueError, match="images are torch.float64 on cpu; a packed network takes float32 on the CPU"):
        packed.pack(small_network())(torch.randn(1, 3, 32, 32, dtype=torch.float64))


def test_packing_leaves_the_network_as_it_is():
    model, x = trained("resnet20", "1/1", 16).double().train(), torch.randn(2, 3, 16, 16)
    before = {name: value.clone() for name, value in model.state_dict().items() if torch.is_tensor(value)}
    packed.pack(model, input_size=(3, 16, 16))(x)
    assert model.training
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items() if name in before)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items() if name in before)


@pytest.mark.cifar
@pytest.mark.slow
@pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")
def test_a_network_trained_on_cifar10_predicts_the_same_in_one_bit(cifar_dir, root):
    """The kept model of results/models, on all 10,000 test images, against float convolutions."""
    from safetensors.torch import load_file

    from resteutils.data import open_images

    path = sorted((root / "results" / "models").glob("resnet20-1w1a-reste3-cifar10-*.safetensors"))[0]
    model = ru.create("resnet20")
    model.load_state_dict(load_file(path))
    model = onebit.float_arithmetic(model.eval())
    small, right = ru.pack(model), 0
    data = open_images("cifar10", cifar_dir, normalization="imagenet")
    with torch.inference_mode():
        for images, labels in data.test_batches(500):
            expected, result = model(images), small(images)
            assert torch.equal(result.argmax(1), expected.argmax(1))
            assert (result - expected).abs().max() < 1e-5
            right += int((result.argmax(1) == labels).sum())
    assert right == round(100 * json.loads(path.with_suffix(".json").read_text())["top1"])


def test_the_deploy_item_judges_a_run(run):
    import pandas as pd

    files = onebit.networks([run])
    (line,) = files.itertuples()
    assert line.identical == line.images > 0 and line.logits <= 1e-5
    assert line.top1_packed == pytest.approx(run.result["top1"], abs=1e-3)
    none = pd.DataFrame()
    verdict = onebit.judge(files, none, none, "smoke")
    assert verdict.status == "supported" and len(verdict.checks) == 2
    broken = files.assign(identical=0)
    assert onebit.judge(broken, none, none, "smoke").status == "contradicted"
