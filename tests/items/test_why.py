"""What ReSTE's lead is made of: blocks, their rules, and the equivalence of a gain and smaller weights."""

from __future__ import annotations

import pytest
from helpers.made_up import fake_runs

from resteutils.evidence.comparison import Rows
from resteutils.items import blocks, equivalence, why
from resteutils.recipes import ITEMS, recipe

BASE = {"ste": 53.8, "reste-o1": 57.2, "ste-gain": 57.8, "ste-gain-clip": 61.3, "reste": 60.3}


def outcomes(levels: dict[str, float], seeds: str = "0,1,2", step: float = 0.3) -> dict[str, why.Outcome]:
    runs = fake_runs("why", rows=",".join(levels), seeds=seeds, score=lambda row, s: levels[row] + step * (s % 3 - 1))
    return {outcome.block.name.split(" ")[0]: outcome for outcome in why.measure(runs)}


def test_the_cells_are_the_runs_of_table_3() -> None:
    for row in BASE:
        assert recipe(f"why/{row}", "short").identity == recipe(f"table3/{row}", "short").identity
    assert (
        recipe("why/reste-before", "short").identity == recipe("table3/reste", "short", scale_order="before").identity
    )
    assert recipe("why/ste-long", "short").epochs == 40
    assert recipe("why/reste-adam", "short").weight_decay == 0.0


def test_every_row_serves_a_block() -> None:
    assert set(ITEMS["why"].rows) == {row for block in why.BLOCKS for row in block.rows}
    for block in why.BLOCKS:
        assert {row for weights in block.contrasts.values() for row in weights} <= set(block.rows), block.name


def test_blocks_that_have_no_runs_are_named_as_not_run() -> None:
    found = outcomes(BASE)
    assert found["2x2"].complete and "clip above 0, gain above 0" in found["2x2"].words
    assert {name for name, outcome in found.items() if outcome.words == "not run"} == set("C C2 A B D H G".split())
    assert "reste 3 of 7" in found["E"].words
    assert "C (order of scaling): not run." in why.words(list(found.values()))
    judged = why.judge(fake_runs("why", rows=",".join(BASE)), list(found.values()), "short")
    assert judged.status != "supported" and "B (proxy)" in judged.text and "F (ablations on the proxy)" in judged.text


@pytest.mark.parametrize("block", why.BLOCKS, ids=lambda block: block.name)
def test_a_block_is_complete_once_its_own_rows_have_their_seeds(block: blocks.Block) -> None:
    """Beside what stands before it: the cells and ReSTE with three seeds each, block C with three."""
    standing = ",".join([*BASE, "reste-before"])
    runs = fake_runs("why", rows=standing, seeds="0,1,2", score=lambda row, s: 50.0 + s)
    own = fake_runs(
        "why", rows=",".join(block.own), seeds=",".join(map(str, range(block.n))), score=lambda row, s: 50.0 + s % 3
    )
    merged = {run.recipe.run_id: run for run in [*runs, *own]}
    (outcome,) = (each for each in why.measure(merged.values()) if each.block == block)
    assert outcome.complete, outcome.lacking


def test_a_block_that_has_begun_says_how_far_it_is_and_decides_nothing() -> None:
    found = outcomes({**BASE, "reste-before": 64.0})["C"]
    assert not found.complete and "reste-before 3 of 3" not in found.words
    assert found.words.startswith("undecided, not complete: ste-before 0 of 3, ste-gain-clip-before 0 of 3")
    assert found.found["reste, scaled before above after"].estimate == pytest.approx(3.7)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ((53.8, 60.3), "the order of scaling stays a switch, and no claim is restricted to its order"),
        ((58.0, 64.5), "the paper's order becomes the default, and no claim is restricted to its order"),
        ((60.0, 64.5), "the paper's order becomes the default, and each claim holds for its order only"),
        ((53.8, 61.5), "the order of scaling stays a switch, and no claim is restricted to its order"),
    ],
)
def test_the_rule_of_the_order(before: tuple[float, float], words: str) -> None:
    rows = {**BASE, "ste-before": before[0], "reste-before": before[1], "ste-gain-clip-before": 62.0}
    assert outcomes(rows)["C"].words == words


def test_further_seeds_of_one_side_that_change_the_word_make_it_borderline() -> None:
    rows = {**BASE, "ste-before": 53.8, "reste-before": 61.5, "ste-gain-clip-before": 62.0}
    runs = fake_runs("why", rows=",".join(rows), seeds="0,1,2", score=lambda row, s: rows[row] + 0.3 * (s - 1))
    more = fake_runs("why", rows="reste", seeds="3,4,5,6", score=lambda row, s: 59.0 + 0.3 * (s % 2))
    found = next(outcome for outcome in why.measure([*runs, *more]) if outcome.block.name.startswith("C ("))
    assert found.planned["reste, scaled before above after"].estimate == pytest.approx(1.2)
    assert found.found["reste, scaled before above after"].estimate == pytest.approx(61.5 - (60.3 * 3 + 59.15 * 4) / 7)
    assert found.words.startswith("borderline") and "becomes the default" in found.words
    assert "seeds 0 to 2, as planned: the order of scaling stays a switch" in found.words
    alone = next(outcome for outcome in why.measure(runs) if outcome.block.name.startswith("C ("))
    assert not alone.planned and "borderline" not in alone.words


@pytest.mark.parametrize(
    ("curve", "words"), [(0.0, "as good within 1 point"), (3.0, "the curve adds"), (-3.0, "costs")]
)
def test_the_rule_of_the_curve(curve: float, words: str) -> None:
    assert words in outcomes({**BASE, "reste": 61.3 + curve}, "0,1,2,3,4,5,6")["E"].words


@pytest.mark.parametrize(
    ("levels", "words"),
    [((50, 53, 56), "the curve is real"), ((50, 53, 53), "absent within 1.5"), ((50, 53, 50), "undecided")],
)
def test_the_rule_of_adam(levels: tuple[float, ...], words: str) -> None:
    rows = dict(zip(("ste-adam", "reste-o1-adam", "reste-adam"), map(float, levels), strict=True))
    assert words in outcomes({**BASE, **rows}, "0,1,2,3")["A"].words


@pytest.mark.parametrize(("gain", "words"), [(0.5, "is a transient"), (4.0, "not shown to be a transient")])
def test_the_rule_of_forgetting(gain: float, words: str) -> None:
    rows = {f"{row}-decay": 50.0 + gain * ("gain" in row) for row in BASE}
    assert words in outcomes({**BASE, **rows}, "0,1,2,3")["D"].words


@pytest.mark.parametrize(("lead", "words"), [(2.0, "shrinks"), (6.5, "undecided"), (12.0, "grows")])
def test_the_rule_of_the_budget(lead: float, words: str) -> None:
    rows = {"ste-long": 70.0, "reste-long": 70.0 + lead, "ste-gain-clip-long": 75.0}
    assert words in outcomes({**BASE, **rows})["H"].words


@pytest.mark.parametrize(
    ("ede", "words"), [(56.0, "with IR-Net's Hardtanh undecided"), (60.0, "with IR-Net's Hardtanh above 0")]
)
def test_the_rivals_stand_by_their_signs(ede: float, words: str) -> None:
    rows = {"dsq": 54.0, "fda": 60.4, "ste-hardtanh": 56.0, "ede-hardtanh": ede}
    said = outcomes({**BASE, **rows})["G"].words
    assert said.startswith("reste above dsq above 0, reste above fda undecided") and words in said


def test_equal_seeds_leave_a_block_undecided() -> None:
    assert outcomes(BASE, step=0.0)["2x2"].words == "undecided: no spread is known"


def test_table_verdict_and_picture_say_the_outcomes() -> None:
    runs = fake_runs("why", rows=",".join(BASE), seeds="0,1,2", score=lambda row, s: BASE[row] + 0.3 * s)
    found = why.measure(runs)
    shown = why.table(runs, found, "short").to_markdown()
    assert "| 2x2 | gain | +4.05 |" in shown and "not run" in shown
    verdict = why.judge(runs, found, "short")
    assert "2x2: clip above 0, gain above 0, interaction undecided." in verdict.text
    assert {c.kind for c in verdict.checks} == {"pipeline", "control"}
    axes = why.figure(found).axes[0]
    assert [text.get_text() for text in axes.texts].count("not run") == 7


def test_a_gain_trains_as_weights_smaller_by_it_do() -> None:
    trained = equivalence.compare(equivalence.small)
    differ = why.sign_differences(trained)
    assert differ["small"].max() == 0 and differ["plain"].iloc[-1] > 0
    assert sum(trained["gain"].flips()) > 0
    assert trained["small"].losses == pytest.approx(trained["gain"].losses, rel=1e-9)
    assert trained["plain"].losses != pytest.approx(trained["gain"].losses, rel=1e-6)
    runs = fake_runs("why", rows="ste,reste", seeds="0,1")
    check = why.judge(runs, why.measure(runs), "smoke", trained).checks[1]
    assert (check.kind, check.status) == ("formula", "supported")


def test_the_rule_of_the_explanation() -> None:
    levels = {**BASE, "reste-before": 63.0, "reste-random-gate": 62.5, "reste-half-gate": 60.3, "reste-early": 61.0}
    assert outcomes(levels)["C2"].words == "explained by reste-random-gate"
    assert outcomes({**levels, "reste-random-gate": 61.5})["C2"].words.startswith("open")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "the proxy is used"),
        ({"ste-gain-clip-proxy": 47.9}, "gain outside"),
        ({"ste-gain-proxy": 42.0}, "reste-o1 and ste-gain turns"),
    ],
)
def test_the_rule_of_the_proxy(changed: dict[str, float], words: str) -> None:
    proxy = {f"{row}-proxy": level - 10 for row, level in BASE.items()} | changed
    found = outcomes({**BASE, **proxy}, ",".join(map(str, range(30))))["B"]
    assert found.complete and words in found.words


def test_the_proxy_is_small_and_not_the_papers_data() -> None:
    small = recipe("why/reste-proxy", "short")
    assert (small.dataset, small.image_size, small.train_size, small.padding) == ("cifar10-16px", 16, 10_000, 2)
    assert recipe("why/reste-proxy", "demo").identity == recipe("why/reste", "demo").identity


def test_an_explanation_needs_two_seeds_beside_those_of_before() -> None:
    block = next(block for block in blocks.BLOCKS if block.name.startswith("C2"))
    values = {"reste-before": {0: 63.0, 1: 63.2}, **dict.fromkeys(blocks.EXPLAIN, {5: 63.0, 6: 63.0})}
    assert block.decide({}, Rows(values)).startswith("open")
    assert block.decide({}, Rows(values | {"reste-early": {0: 63.4, 1: 62.5}})) == "explained by reste-early"
