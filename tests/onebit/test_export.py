"""A trained run is found, exported, asked about images and timed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.packable import small_network, trained

import resteutils as ru
from resteutils.onebit import export as deploy
from resteutils.onebit import model as packed
from resteutils.runs.find import find_run


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
    from resteutils.recipes.build import open_data

    data = open_data(run.recipe)
    model, small = run.model(), packed.load(deploy.export_run(run, "packed", tmp_path / "digits.rbit"))
    with torch.no_grad():
        for images, _ in data.test_batches(100):
            assert torch.equal(small(images).argmax(1), model(images).argmax(1))
    assert torch.equal(small.normalise(data.test_images[:3]), data.normalise(data.test_images[:3]))
    mine = packed.load(ru.pack(model, run).save(tmp_path / "mine.rbit"))  # packed by hand it is the same file
    assert mine.header == small.header


@pytest.mark.parametrize("dataset", ["imagenet", "digits-folder", "cifar10", ""])
def test_images_are_seen_as_the_network_was_scored(tmp_path, dataset):
    """One that learned from a folder sees the middle of a wide image, others all of it."""
    from PIL import Image

    from resteutils.data.folder import central_crop
    from resteutils.data.reading import decode

    small = ru.pack(small_network(), input_size=(3, 32, 32))
    small.header |= {"dataset": dataset, "mean": [0.4] * 3, "std": [0.2] * 3}
    file = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)).save(file)
    if dataset in ("imagenet", "digits-folder"):
        seen = central_crop(32)(decode(file))
    else:
        seen = torch.from_numpy(np.array(Image.open(file).resize((32, 32), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    expected = small(small.normalise(seen[None])).softmax(1)[0]
    (found,) = deploy.predict(small.save(tmp_path / "model.rbit"), [file], top=5)
    for entry in found["top"]:
        assert entry["probability"] == pytest.approx(expected[int(entry["class"])].item(), abs=1e-6)


def test_what_onnx_export_needs_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="ONNX export needs onnx: pip install"):
        deploy.export_onnx(small_network(), (3, 32, 32), tmp_path / "model.onnx")


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


def test_a_run_is_found_by_its_names(run, monkeypatch):
    folder = run.path.parent
    results = folder.parent / "results"
    for name in (run.recipe.run_id, run.recipe.run_id[:20], "deploy/resnet20-1w1a", str(run.path)):
        assert find_run(name, str(folder), str(results)).recipe == run.recipe
    monkeypatch.chdir(run.path)
    assert find_run(".", str(folder), str(results)).recipe == run.recipe
    for name in ("table9/none", ""):
        with pytest.raises(ValueError, match=f"no finished run is called '{name}'; `resteutils list ITEM"):
            find_run(name, str(folder), str(results))


@pytest.mark.parametrize("name", ["table1/resnet20-1w1a", "table3/reste", "figure6/o3", "figure4/resnet20-o3"])
def test_a_row_of_any_item_finds_the_run_they_share_and_no_shorter_one(name, tmp_path, monkeypatch):
    from resteutils.runs import find, records

    full, brief = ru.recipe("table3/reste", "short"), ru.recipe("table1/resnet20-1w1a", "short", epochs=3)
    found = [records.Run(r, tmp_path / r.run_id, {}) for r in (brief, full)]
    monkeypatch.setattr(find, "ended_runs", lambda *folders: records.Runs(found))
    assert find_run(name).recipe == full
    monkeypatch.setattr(find, "ended_runs", lambda *folders: records.Runs(found[:1]))
    assert find_run("table1/resnet20-1w1a").recipe == brief  # better than none: its record says what it is


def test_a_run_that_diverged_is_said_to_have_no_network(tmp_path, monkeypatch):
    from resteutils.runs import find, records

    chosen = ru.recipe("table3/reste", "short")
    gone = records.Diverged(chosen, tmp_path / chosen.run_id, {"diverged": "the loss is not finite"})
    monkeypatch.setattr(find, "ended_runs", lambda *folders: records.Runs([], [gone]))
    for name in (chosen.run_id, "table3/reste"):
        with pytest.raises(ValueError, match=f"{chosen.run_id} diverged and left no network: the loss is not finite"):
            find_run(name)
