"""What stays in the kernel: trainings, looks into networks, and the link of the state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import resteutils as ru
from resteutils.explorer import Explorer
from resteutils.explorer.shelf import recipe_label
from resteutils.explorer.sights import look, sights
from resteutils.explorer.trainer import own_recipe
from resteutils.recipes import item_recipes, recipe


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Folders with a trained binary network of the smoke profile and its float twin."""
    folder = tmp_path_factory.mktemp("explorer")
    places = {"runs_dir": str(folder / "runs"), "results_dir": str(folder / "results"), "data_dir": ""}
    for name in ("resnet20-1w1a", "resnet20-fp"):
        ru.load_or_train(recipe(f"table1/{name}", "smoke"), device="cpu", **places)
    return places


def asked(explorer: Explorer, monkeypatch, *messages: dict) -> list[dict]:
    """What the page is sent after it asked for something, trainings waited for."""
    sent: list[dict] = []
    monkeypatch.setattr(explorer.trainer, "tell", sent.append)
    monkeypatch.setattr(explorer, "send", sent.append)
    for message in messages:
        explorer._asked(None, message, [])
        if explorer.trainer.thread:
            explorer.trainer.thread.join(120)
    return [message for message in sent if message["kind"] != "heard"]


def test_train_this_leaves_an_ordinary_run_of_the_page_s_estimator(folders, tmp_path, monkeypatch) -> None:
    own = folders | {"runs_dir": str(tmp_path / "own"), "results_dir": str(tmp_path / "results")}
    explorer = Explorer("smoke", device="cpu", **own)
    explorer.estimator = {"name": "reste", "o": 2.0, "t": 1.5, "m": 0.1, "path": "cosine"}
    sent = asked(explorer, monkeypatch, {"kind": "train", "bits": "1/1", "epochs": 3, "seed": 1})
    assert [message["done"] for message in sent] == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0, 1.0]
    assert "Done: " in sent[-1]["text"] and not sent[-1]["running"]
    (run,) = explorer.shelf.own()
    assert run.recipe == recipe("table1/resnet20-1w1a", "smoke", seed=1, epochs=3, estimator=ru.ReSTE(o=2))
    assert explorer.own_runs[0]["history"]["epoch"] == [1, 2, 3]


def test_what_goes_wrong_is_one_line_on_the_page(folders, tmp_path, monkeypatch) -> None:
    blocked = tmp_path / "own"
    blocked.write_text("a file where the folder should be")
    explorer = Explorer("smoke", device="cpu", results_dir=str(tmp_path / "results"))
    explorer.trainer.folders["runs_dir"] = str(blocked)
    sent = asked(
        explorer,
        monkeypatch,
        {"kind": "train", "bits": "1/1", "epochs": 1, "seed": 0},
        {"kind": "train", "bits": "8/8", "epochs": 1, "seed": 0},
        {"kind": "train", "bits": "1/1", "epochs": 100, "seed": 0},
        {"kind": "inside", "run": "gone"},
    )
    texts = [message["text"] for message in sent[1:]]
    assert str(blocked) in texts[0] and "\n" not in texts[0]
    assert "bits = '8/8'" in texts[1] and "epochs = 100" in texts[2] and "gone" in texts[3]


def test_a_look_inside_is_what_the_network_computes(folders, monkeypatch) -> None:
    explorer = Explorer("smoke", **folders)
    key = next(key for key, label in explorer.pairs if "float twin" not in label)
    (sent,) = asked(explorer, monkeypatch, {"kind": "inside", "run": key})
    made = sent["sights"]
    assert [network["packed"] for network in made["networks"]] == [True, False]
    run = explorer.shelf.runs[key]
    from resteutils.recipes.build import open_data

    data = open_data(run.recipe, "")
    images = data.normalise(data.test_images[:10])
    answers = run.model()(images).softmax(1)
    torch.testing.assert_close(torch.tensor(made["networks"][0]["answers"]), answers.detach(), atol=1e-4, rtol=0)
    name = made["layers"][0]["name"].split(": ")[1]
    assert list(look(run.model(), [name], images).maps[0].shape[1:])[1:] == made["layers"][0]["shape"][1:]
    assert sights(run, None)["networks"][0]["label"] == "Binary network"
    assert asked(explorer, monkeypatch, {"kind": "inside", "run": ""}) == [{"kind": "inside", "sights": None}]


def test_the_first_labels_tell_all_rows_apart() -> None:
    recipes = [*item_recipes("table3", "short", seeds="0"), recipe("table3/ste", "short", lr=0.05)]
    assert len({recipe_label(r) for r in recipes}) == len(recipes)
    own = recipe("table1/resnet20-1w1a", epochs=6, bits="1/32", estimator=ru.ReSTE(o=2, t=1.2), lr=0.05)
    assert recipe_label(own) == "resnet20 1/32 ReSTE, o = 2, t = 1.2, lr = 0.05, digits 6 ep, seed 0"


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="profile = 'tiny', expected one of smoke"):
        Explorer("tiny")
    with pytest.raises(ValueError, match="profile = 'tiny'"):
        own_recipe(ru.ReSTE(), "1/1", 1, 0, "tiny")


def test_a_misspelt_parameter_is_refused_as_papermill_gives_it() -> None:
    namespace = {"profile": "smoke", "In": [""], "ru": ru, "profil": "smoke"}
    with pytest.raises(ValueError, match=r"unknown parameter 'profil': did you mean profile\?; known: profile, inter"):
        Explorer(**ru.parameters(namespace))


def test_nothing_is_downloaded_that_was_not_asked_for(folders, tmp_path, monkeypatch) -> None:
    """A look into a network on CIFAR-10, where no CIFAR-10 is: the page gets a button, and the button a download."""
    explorer = Explorer("smoke", **folders | {"data_dir": str(tmp_path)})
    key = next(key for key, _ in explorer.pairs)
    run = explorer.shelf.runs[key]
    monkeypatch.setitem(explorer.shelf.runs, key, replace(run, recipe=recipe("table3/reste", "short")))
    opened = []
    monkeypatch.setattr("resteutils.explorer.explorer.sights", lambda *given: opened.append(given) or {})
    (sent,) = asked(explorer, monkeypatch, {"kind": "inside", "run": key, "download": False})
    assert not opened and sent["download"] and f"CIFAR-10 is not in {tmp_path}" in sent["text"]
    assert asked(explorer, monkeypatch, {"kind": "inside", "run": key, "download": True})[-1]["sights"] == {}
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert "sights" in asked(explorer, monkeypatch, {"kind": "inside", "run": key})[-1]


def test_below_the_widget_stands_what_to_do_where_there_is_none(folders, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *given, **how: shown.append(given[0]))
    Explorer("smoke", **folders)._ipython_display_()
    Explorer("smoke", interactive=False, **folders)._ipython_display_()
    widget, line, page = shown
    assert "application/vnd.jupyter.widget-view+json" in widget and 'class="rx-again"' in line.data
    assert list(page) == ["text/html", "text/plain"]


def test_without_a_widget_there_is_the_page(folders, tmp_path: Path) -> None:
    bundle = Explorer("smoke", interactive=False, **folders)._repr_mimebundle_()
    assert bundle["text/html"].startswith("<iframe title=") and "application/vnd" not in str(list(bundle))
    data, _ = Explorer("smoke", **folders)._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html"} <= set(data)
    written = Explorer("smoke", **folders).page(tmp_path / "page.html")
    assert written.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.slow
def test_the_notebook_runs_without_a_reader(root: Path, tmp_path: Path, folders) -> None:
    import papermill

    out = papermill.execute_notebook(
        root / "notebooks" / "explore_reste.ipynb",
        tmp_path / "out.ipynb",
        parameters={"profile": "smoke", "interactive": False, "device": "cpu", **folders},
        kernel_name="python3",
        progress_bar=False,
    )
    shown = [output["data"] for cell in out.cells for output in cell.get("outputs", ()) if "data" in output]
    assert [data["text/html"][:7] for data in shown] == ["<iframe"]


def test_a_port_that_is_taken_is_one_line_that_says_what_to_do(monkeypatch, capsys) -> None:
    from resteutils.explorer import serve

    def taken(*arguments: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(serve, "server", taken)
    monkeypatch.setattr("sys.argv", ["serve", "--port", "8866"])
    with pytest.raises(SystemExit):
        serve.main()
    said = capsys.readouterr().err
    assert "127.0.0.1:8866 cannot be served" in said and "Address already in use" in said and "PORT=" in said
