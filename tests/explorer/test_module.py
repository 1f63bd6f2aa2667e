"""The page's module computes what the Python classes compute, at 1e-12, and ends where the reader pressed."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from helpers.every_estimator import EVERY

import resteutils as ru
from resteutils.explorer.compact import MOST_BYTES, compact, compact_run, dumps
from resteutils.explorer.page import document, page_data, script
from resteutils.explorer.shelf import FIRST_ITEMS, Shelf, apart
from resteutils.explorer.specs import accepts, specs
from resteutils.recipes import recipe

NODE = shutil.which("node")
node = pytest.mark.skipif(NODE is None, reason="no node: apt-get install nodejs")
Z = sorted({*(round(-3 + i / 64, 6) for i in range(385)), *(0.1, -0.1, 1.5, -1.5, 1e-12, -1e-300)})


def run_in_node(folder: Path, code: str, given: object = None) -> object:
    """What ``code`` prints as JSON, with the module's names in scope and ``given`` as an object."""
    (folder / "given.json").write_text(json.dumps(given))
    read = f"const given = JSON.parse(readFileSync({str(folder / 'given.json')!r}));\n"
    prelude = f"import {{readFileSync}} from 'node:fs';\n{read}"
    (folder / "test.mjs").write_text(prelude + script(entry=False) + "\n" + code, encoding="utf-8")
    done = subprocess.run([NODE, str(folder / "test.mjs")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def grid() -> list[ru.ReSTE]:
    """Every estimator at the ends, the quarters and the middle of every slider, and at the tests' own parameters."""
    found = [e for e in EVERY if "inf" not in e.to_dict().values()]
    for spec in specs():
        cls, sliders = ru.ESTIMATORS[spec["name"]], [f for f in spec["fields"] if "low" in f]
        places = [
            [low := f["low"], f["high"], *(low + share * (f["high"] - low) for share in (0.25, 0.5, 0.75))]
            for f in sliders
        ]
        for values in itertools.product(*places):
            chosen = {f["name"]: round(v) if f["whole"] else v for f, v in zip(sliders, values, strict=True)}
            if accepts(cls, **chosen):
                found.append(cls(**chosen))
    return found


@node
def test_the_module_and_the_classes_agree(tmp_path: Path) -> None:
    chosen = grid()
    assert len(chosen) > 400 and {e.name for e in chosen} == set(ru.ESTIMATORS)
    asked = [{"name": e.name, "p": asdict(e)} for e in chosen]
    code = """console.log(JSON.stringify(given.asked.map(({name, p}) => ({
        f: given.z.map(z => FORMULAS[name].f(z, p)), d: given.z.map(z => FORMULAS[name].d(z, p)),
        path: [0, 0.3, 0.77, 1].map(share => onPath({name}, p, share))}))));"""
    answers = run_in_node(tmp_path, code, {"asked": asked, "z": Z})
    z = torch.tensor(Z, dtype=torch.float64)
    for e, answer in zip(chosen, answers, strict=True):
        for key, expected in (("f", e.surrogate(z)), ("d", e.derivative(z))):
            torch.testing.assert_close(
                torch.tensor(answer[key], dtype=torch.float64), expected, rtol=1e-12, atol=1e-12, msg=f"{e}: {key}"
            )
        for share, at in zip((0, 0.3, 0.77, 1), answer["path"], strict=True):
            expected = asdict(e.at(share))
            assert at.pop("path", None) == expected.pop("path", None)
            assert at == pytest.approx(expected, rel=1e-12), f"{e} at {share}"


@node
def test_every_order_of_presets_and_estimators_ends_with_what_was_pressed(tmp_path: Path) -> None:
    code = """const data = {estimators: given}, reste = given.find(spec => spec.name === "reste"), out = [];
        const powers = [1, 3, 10, 100];
        for (const first of powers) for (const second of powers) for (const other of [null, ...given]) {
            const state = freshState(data);
            setValues(state, reste, {...defaults(reste), o: first});
            if (other) { state.estimator = other.name; setValues(state, other, defaults(other)); }
            state.estimator = "reste";
            setValues(state, reste, {...defaults(reste), o: second});
            const p = values(state), again = fromLink(toLink(state, data), data);
            out.push([second, p.o, formula(reste).d(0, p), values(again).o]);
        }
        console.log(JSON.stringify(out));"""
    pressed = run_in_node(tmp_path, code, specs())
    assert len(pressed) == 16 * (1 + len(ru.ESTIMATORS))
    for wanted, o, gain, linked in pressed:
        assert (o, linked) == (wanted, wanted)
        assert gain == pytest.approx(0.1 ** ((1 - wanted) / wanted), rel=1e-12)


@node
def test_what_a_class_refuses_cannot_be_set(tmp_path: Path) -> None:
    code = """const out = [];
        for (const spec of given) for (const field of spec.fields)
        for (const value of [-1e9, field.low, field.high, 1e9, NaN, "x"]) {
            const state = freshState({estimators: given});
            setValues(state, spec, {[field.name]: value});
            out.push([spec.name, state.own[spec.name]]);
        }
        console.log(JSON.stringify(out));"""
    for name, p in run_in_node(tmp_path, code, specs()):
        assert accepts(ru.ESTIMATORS[name], **p), (name, p)


@node
def test_a_link_carries_the_whole_state_and_a_damaged_one_the_fresh_state(tmp_path: Path) -> None:
    code = """const data = {estimators: given}, state = freshState(data);
        Object.assign(state, {tab: "training", estimator: "dsq", progress: 40, compare: ["ede"], runs: ["a"]});
        state.dataset = "digits";
        setValues(state, given.find(spec => spec.name === "dsq"), {alpha: 0.4});
        state.pins = [{name: "reste", p: {o: 5, t: 1.5, m: 0.1, path: "cosine"}}];
        const again = fromLink(toLink(state, data), data), fresh = JSON.stringify(freshState(data));
        const damaged = ["explorer=%7B", "explorer=null", "explorer=%7B%22estimator%22%3A%22none%22%7D", "x=1",
            "explorer=%22a%22"];
        console.log(JSON.stringify([JSON.stringify(again) === JSON.stringify(state), toLink(freshState(data), data),
            ...damaged.map(text => JSON.stringify(fromLink(text, data)) === fresh)]));"""
    assert run_in_node(tmp_path, code, specs()) == [True, "", True, True, True, True, True]


@node
def test_a_link_of_nonsense_gives_a_state_that_the_page_can_draw(tmp_path: Path) -> None:
    code = """const data = {estimators: given}, fresh = freshState(data);
        const read = kept => fromLink(`explorer=${encodeURIComponent(JSON.stringify(kept))}`, data);
        const nonsense = [{values: {reste: null}}, {values: {reste: "o"}}, {values: 5}, {pins: [null, 3]}, {pins: {}},
            {image: -1, layer: -2}, {image: 0.5, layer: 0.9}, {progress: 1000}, {compare: null}, []];
        const same = nonsense.map(kept => JSON.stringify(read(kept)) === JSON.stringify(fresh));
        const one = {name: "reste", p: 5}, pins = read({pins: Array(1000).fill(one)}).pins;
        const whole = read({values: {fda: {n: 3.7}}, compare: ["ste", "ste"], progress: 12.6});
        const told = [values(whole, "fda").n, whole.compare, whole.progress];
        console.log(JSON.stringify([same, pins.length, pins[0].p, ...told]));"""
    same, count, pinned, n, compared, progress = run_in_node(tmp_path, code, specs())
    assert all(same), same
    assert (count, pinned["o"], n, compared, progress) == (5, 3, 4, ["ste"], 13)


@node
def test_an_exploded_run_does_not_flatten_the_others(tmp_path: Path) -> None:
    code = """const line = (...y) => ({y});
        const found = limits([line(2, 1.5), line(2.1, 1.4), line(900, 800)], false);
        console.log(JSON.stringify([found, limits([line(null)], false)]));"""
    (low, high), nothing = run_in_node(tmp_path, code)
    assert low >= 0 and 2.1 < high < 5
    assert nothing == [0, 1]


@node
def test_signs_are_unpacked_as_python_packs_them(tmp_path: Path) -> None:
    from resteutils.explorer.sights import _maps

    maps = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    code = "console.log(JSON.stringify([...unpacked(given, 60, true)]));"
    pixels = run_in_node(tmp_path, code, _maps(maps, True))
    assert pixels == [255 if value >= 0 else 0 for value in maps.flatten().tolist()]


def test_an_estimator_nobody_has_thought_of_is_drawn_from_its_values(monkeypatch) -> None:
    from resteutils.estimators import base

    @dataclass(frozen=True)
    class Triangle(ru.estimators.Estimator):
        """A triangle."""

        name: ClassVar[str] = "triangle"
        label: ClassVar[str] = "Triangle"

        def surrogate(self, z):
            return z.clamp(-1, 1)

        @staticmethod
        def slope(z):
            return (1 - z.abs()).clamp(min=0)

    monkeypatch.setitem(base.ESTIMATORS, "triangle", Triangle)
    spec = next(spec for spec in specs() if spec["name"] == "triangle")
    assert spec["fields"] == [] and spec["table"]["d"][400] == 1.0 and len(spec["table"]["f"]) == 801


def test_every_field_has_bounds_that_its_class_accepts() -> None:
    for spec in specs():
        cls = ru.ESTIMATORS[spec["name"]]
        for field in spec["fields"]:
            for value in field.get("options", [field.get("low"), field.get("high"), field["default"]]):
                assert accepts(cls, **{field["name"]: value}), (spec["name"], field["name"], value)
    power = specs()[0]["fields"][0]
    assert (power["name"], power["low"], power["high"], power["log"]) == ("o", 1.0, 100.0, True)
    assert [(s["name"], f["name"], f["below"]) for s in specs() for f in s["fields"] if "below" in f] == [
        ("reste", "m", "t"),
        ("ste_gain", "m", "t"),
        ("dsq", "l", "u"),
    ]


def test_the_committed_runs_travel_in_100_kb_and_the_pair_in_200(root: Path) -> None:
    shelf = Shelf(runs_dir=str(root / "nowhere"), results_dir=str(root / "results"))
    made = compact(shelf.measured())
    first = [run for run in shelf.measured() if run.recipe.item in FIRST_ITEMS]
    assert len(first) >= 30 and [run["id"] for run in made[: len(first)]] == [run.recipe.run_id for run in first]
    assert len(dumps(made).encode()) <= MOST_BYTES
    assert (root / "resteutils/explorer/static/inside.json").stat().st_size <= 200_000
    few = compact(shelf.measured(), most_bytes=3000)
    assert few and len(dumps(few).encode()) <= 3000
    run = next(run for run in shelf.measured() if run.recipe.row == "reste")
    small = compact_run(run)
    assert (small["o"], small["top1"], small["paired"]) == (3.0, round(run.result["top1"], 2), False)
    assert small["history"]["test_top1"][-1] == pytest.approx(run.result["top1"], rel=1e-3)


def test_the_page_needs_nothing_from_elsewhere(root: Path) -> None:
    text = document(str(root / "results"))
    assert "</script>" not in dumps({"a": "</script>"})
    assert text.count("<script") == 2 and "import " not in script(entry=False).split("\n", 3)[0]
    assert not [word for word in ('src="http', 'href="http', "@import", "fetch(", "XMLHttpRequest") if word in text]
    assert page_data(Shelf(results_dir=str(root / "results")))["inside"]["networks"][0]["packed"]


@pytest.mark.parametrize("row", ["ste-adam", "reste-decay", "reste-before"])
def test_rows_by_another_recipe_are_no_points_of_table_3s(row: str) -> None:
    """They would move the means of the powers, whose labels they share."""
    assert apart(recipe(f"why/{row}", "short"))
    for item, usual, profile in (
        ("table3", "ste", "short"),
        ("table3", "reste", "paper"),
        ("figure4", "resnet20-o5", "short"),
    ):
        assert not apart(recipe(f"{item}/{usual}", profile))
    assert apart(recipe("table3/ste", "short", lr=0.05)) == ["lr = 0.05"]


@node
def test_the_plane_shows_the_budget_that_most_runs_have(tmp_path: Path) -> None:
    code = "console.log(JSON.stringify(given.map(of => usualEpochs(of.map(epochs => ({epochs}))))))"
    assert run_in_node(tmp_path, code, [[10, 10, 40], [10, 40], [3], []]) == [10, 40, 3, 0]
