"""Tables: mean, std and n per line, published figures beside them, and the statistics of Table 3."""

from __future__ import annotations

import math

import pytest
from helpers.made_up import diverged, fake_run, fake_runs, record_only

from resteutils.estimators import DSQ, EDE, FDA, RBNN, STE, ApproxSign, GainSTE, ReSTE
from resteutils.evidence import html as pages
from resteutils.evidence import paper, stats
from resteutils.evidence import summary as measured
from resteutils.items import table1, table2, table3
from resteutils.items.rationality import rationality
from resteutils.recipes import item_recipes, recipe
from resteutils.runs.records import Runs


def test_table1_has_exactly_the_columns_that_were_promised() -> None:
    frame = table1.table(fake_runs("table1"), "short").frame
    promised = "row backbone method bits published source measured_mean measured_std n profile epochs"
    assert list(frame.columns) == promised.split()
    assert frame.row.is_unique


def test_a_line_is_mean_and_std_over_seeds_of_the_last_epoch() -> None:
    runs = fake_runs(
        "table1", rows="resnet20-1w1a,resnet20-1w1a-ste", seeds="0,1,2", score=lambda row, seed: 60.0 + seed
    )
    line = table1.table(runs, "short").frame.set_index("row").loc["resnet20-1w1a"]
    assert (line.measured_mean, line.measured_std, line.n, line.epochs) == (61.0, 1.0, 3, 10)
    assert line.published == paper.published("table1", "resnet20-1w1a").value
    assert line.source == "sourced [RM; SR]"
    assert (line.backbone, line.method, line.bits) == ("ResNet-20", "ReSTE", "1/1")


def test_twins_have_no_published_figure_and_say_so() -> None:
    frame = table1.table(fake_runs("table1"), "short").frame.set_index("row")
    assert math.isnan(frame.published["resnet20-1w1a-ste"])
    assert frame.source["resnet20-1w1a-ste"] == "not in the paper"
    assert frame.source["resnet20-fp"] == "not sourced"
    assert (frame.method["resnet20-fp"], frame.bits["resnet20-fp"]) == ("FP", "32/32")


def test_runs_of_different_epochs_are_never_averaged() -> None:
    row = "resnet20-1w1a"
    runs = [fake_run(recipe(f"table1/{row}", "short", 0, epochs=e), 50.0 + e) for e in (10, 40)]
    frame = table1.table(runs, "short").frame
    assert list(frame.epochs) == [10, 40]
    assert list(frame.measured_mean) == [60.0, 90.0]
    assert list(frame.n) == [1, 1]


def test_the_page_shows_best_on_test_and_marked_competitors() -> None:
    text = table1.table(fake_runs("table1"), "short").to_markdown()
    assert "Best on test" in text
    assert "recalled, unverified" in text
    assert "71.00 ± 1.00" in text  # last epoch
    assert "71.50 ± 1.00" in text  # best epoch of the hand-made runs
    for cell in paper.competitors("table1"):
        assert f"| {cell.method} |" in text


def test_table2_has_top5_beside_top1() -> None:
    table = table2.table(fake_runs("table2"), "short")
    line = table.frame.set_index("row").loc["resnet18-1w1a"]
    assert line.published_top5 == paper.published("table2", "resnet18-1w1a", "top5").value
    assert line.measured_top5_mean == 90.0
    assert "Top-5 published" in table.to_markdown()


def test_what_overrides_changed_is_said_under_the_table_and_in_the_verdict() -> None:
    runs = fake_runs("table1", rows="resnet20-1w1a,resnet20-1w1a-ste", overrides="lr=0.05,accumulate=2")
    for said in (measured.caption(runs, "short"), table1.judge(runs, "short").text):
        assert "Every run with accumulate = 2, lr = 0.05." in said
    assert "with" not in measured.caption(fake_runs("table1", epochs=3), "short")


def test_rows_that_are_one_run_count_once_in_the_pooled_variance() -> None:
    """Table 2 outside the paper profile: four of its rows are one recipe."""
    runs = fake_runs("table2", seeds="0,1,2", score=lambda row, seed: len(row) + seed * (3.0 if "fp" in row else 1.0))
    names = {row: check.shown for check in table2.judge(runs, "short").checks if (row := check.claim)}
    alone = [run for run in runs if not run.recipe.row.endswith(("b512", "b750"))]
    for check in table2.judge(alone, "short").checks:
        if check.kind == "ordering":
            assert names[check.claim] == check.shown


def test_the_caption_says_profile_data_epochs_and_n() -> None:
    runs = fake_runs("table1", "short", seeds="0,1,2")
    said = measured.caption(runs, "short")
    assert said == ("Profile short. CIFAR-10 (32 x 32 pixels, all training images). 10 epochs. n = 3 seeds a row.")
    assert "n = 1 or 3 seeds" in measured.caption(runs + fake_runs("table1", seeds="5", epochs=12), "short")
    for table in (table1.table(runs, "short"), table3.table(fake_runs("table3"), "short")):
        assert table.caption in table.to_markdown()
        assert table.caption in table.to_html()


def test_small_profiles_warn_against_comparing() -> None:
    assert "not comparable" in table1.table(fake_runs("table1", "demo"), "demo").to_markdown()
    assert "not comparable" not in table1.table(fake_runs("table1", "short"), "short").to_markdown()
    for profile, words in (("demo", "published (the paper's data)"), ("short", "published")):
        figure = table1.figure(fake_runs("table1", profile))
        assert words in [text.get_text() for text in figure.legends[0].get_texts()]


# --- verdicts of the tables ------------------------------------------------------------------------------------------


def better_reste(row: str, seed: int) -> float:
    order = ["-ste", "resnet20-1w1a", "resnet20-bireal-1w1a", "resnet20-1w32a"]
    rank = 0 if row.endswith("-ste") else order.index(row) if row in order else 2
    return 70.0 + 5 * rank + 0.1 * seed


def test_table1_is_supported_where_the_order_is_the_papers() -> None:
    found = table1.judge(fake_runs("table1", score=better_reste), "short")
    assert found.status == "supported"
    worse = fake_runs("table1", score=lambda row, seed: better_reste(row, seed) - 20 * (row == "resnet20-1w1a"))
    assert table1.judge(worse, "short").status == "contradicted"


def test_full_length_runs_are_held_against_the_published_number() -> None:
    published = paper.published("table1", "resnet20-1w1a").value
    for shift, status in ((0.4, "supported"), (-0.6, "contradicted")):
        runs = fake_runs("table1", "paper", rows="resnet20-1w1a", score=lambda row, seed, s=shift: published + s)
        (check,) = [c for c in table1.judge(runs, "paper").checks if c.kind == "number"]
        assert check.status == status


def test_a_part_of_a_tables_rows_does_not_support_the_whole() -> None:
    runs = fake_runs("table1", rows="resnet20-1w1a,resnet20-1w1a-ste", score=better_reste)
    found = table1.judge(runs, "short")
    assert [c.status for c in found.checks if c.kind == "ordering"] == ["supported"]
    assert found.status == "undecided"
    assert "Not run, and so the claim as a whole is open: resnet18-1w1a, resnet20-1w32a" in found.text
    runs = fake_runs("table3", rows="ste,reste,ede", score=lambda row, seed: 70 + 5 * (row == "reste") + 0.1 * seed)
    assert "open: dsq, fda, rbnn." in table3.judge(runs, "short").text


def test_images_that_are_not_imagenets_are_named() -> None:
    runs = fake_runs("table2", rows="resnet18-1w1a")
    for classes, name in ((10, "a folder of images in 10 classes"), (1000, "ImageNet")):
        for run in runs:
            run.record["result"]["num_classes"] = classes
        table = table2.table(runs, "short")
        assert f"Profile short. {name} (224 x 224 pixels" in table.caption
        assert ("not comparable" in table.to_markdown()) is (classes == 10)


def test_a_shortened_recipe_cannot_speak_about_the_number() -> None:
    runs = fake_runs("table1", "paper", rows="resnet20-1w1a", epochs=10)
    assert table1.judge(runs, "paper").status == "undecided"


# --- table 3 ---------------------------------------------------------------------------------------------------------


def test_table3_differences_are_those_of_the_means_and_pooled() -> None:
    noise = {("ste", 0): 0.3, ("reste", 1): -0.2, ("ede", 2): 0.5}
    runs = fake_runs("table3", score=lambda row, seed: 70 + 2 * (row == "reste") + seed + noise.get((row, seed), 0.0))
    frame = table3.table(runs, "short").frame
    assert list(frame.columns) == table3.COLUMNS
    frame = frame.set_index("row")
    groups = {row: values for (row, _), values in measured.lines(runs).items()}
    expected = stats.difference(groups["reste"], groups["ste"], stats.pool(groups))
    assert frame.difference["reste"] == pytest.approx(2 - 0.5 / 3)
    assert (frame.ci_low["reste"], frame.ci_high["reste"]) == pytest.approx((expected.low, expected.high))
    assert frame.smallest_detectable["ede"] == pytest.approx(stats.smallest_detectable(stats.pool(groups), 3))
    assert math.isnan(frame.difference["ste"])
    assert frame.seconds_per_epoch["ste"] == 2.0


@pytest.mark.parametrize(
    ("estimator", "rational"),
    [
        (STE(), True),
        (STE(clip=math.inf), True),
        (ReSTE(o=1.5), True),
        (ReSTE(o=3), True),
        (ReSTE(o=10), True),
        (ReSTE(o=3, path="linear"), True),
        (ApproxSign(), True),
        (DSQ(alpha=0.2), True),
        (EDE(), False),
        (FDA(), False),
        (RBNN(), False),
        (GainSTE(), False),
    ],
)
def test_rational_on_the_grid(estimator, rational: bool) -> None:
    assert rationality(estimator).rational is rational


def test_rationality_says_where_it_fails_and_what_the_path_does() -> None:
    found = rationality(FDA().at(1.0))
    assert 0.8 < found.first < found.last
    assert str(found).startswith("no: above the identity's for |z| in ")
    reste = rationality(ReSTE(o=3))
    assert reste.error_end < reste.error_start
    assert str(reste) == "yes"


def test_controls_are_named_by_the_side_they_act_on() -> None:
    frame = table3.table(fake_runs("table3"), "short").frame.set_index("row")
    assert frame.type["reste-weights"] == "power (weights), identity (activations)"
    assert frame.type["reste"] == "power"
    assert frame.rational["ede"] == "no"
    assert frame.flexible["reste"] == "yes"


def test_exploded_weights_are_said_beside_the_accuracy_that_they_made() -> None:
    ede = [
        record_only(recipe("table3/ede", "short", seed), 28.0, error_definition=e) for seed, e in ((0, 900), (1, 21604))
    ]
    runs = [record_only(recipe("table3/reste", "short"), 60.0), *ede]
    said = "ede at 10 epochs: the latent weights exploded on the way with seed 1 (e as defined up to 21,604)."
    assert said in table3.table(runs, "short").notes
    assert said in table3.judge(runs, "short").text
    assert not measured.exploded(
        [record_only(r) for r in item_recipes("table1", "short", seeds="0")]
    )  # float twins too


def test_table3_says_how_far_single_estimators_scatter() -> None:
    runs = fake_runs("table3", rows="ste,reste,ede", score=lambda row, seed: 70 + seed * (3.0 if row == "ede" else 0.5))
    (said,) = (note for note in table3.table(runs, "short").notes if note.startswith("Spread from seed to seed"))
    assert "1.78 points (6 degrees of freedom); single estimators 0.50 to 3.00;" in said
    (alone,) = (note for note in table3.table(fake_runs("table3", rows="ste"), "short").notes if "Spread" in note)
    assert "single estimators" not in alone


def test_table3_verdict_asks_every_rival() -> None:
    runs = fake_runs("table3", score=lambda row, seed: 70 + 5 * (row == "reste") + 0.1 * seed)
    assert table3.judge(runs, "short").status == "supported"
    tie = fake_runs("table3", score=lambda row, seed: 70 + 5 * (row in ("reste", "fda")) + 0.1 * ((seed * 7) % 3))
    assert table3.judge(tie, "short").status == "undecided"
    control = fake_runs("table3", score=lambda row, seed: 70 + 5 * row.startswith(("reste", "ste-gain")) + 0.1 * seed)
    assert table3.judge(control, "short").status == "supported"  # a control explains, it does not refute


# --- how tables are written ------------------------------------------------------------------------------------------


def test_what_diverged_stands_in_the_table_the_picture_and_the_verdict() -> None:
    lost = [diverged(recipe("table3/ste-identity", "short", seed), [2.3]) for seed in (0, 1)]
    lost[1].record["diverged"] = "the loss is inf"
    runs = Runs(fake_runs("table3", rows="ste,reste", seeds="0,1"), lost)
    table = table3.table(runs, "short")
    line = table.frame.set_index("row").loc["ste-identity"]
    assert line["n"] == 0 and line["measured_mean"] != line["measured_mean"]
    assert "diverged: with seed 0, the loss is not finite; with seed 1, the loss is inf." in table.to_markdown()
    assert "2 of 6 runs diverged" in table.caption
    checks = {check.claim: check for check in table3.judge(runs, "short").checks}
    assert "ste-identity (seed 0, 1)" in checks["every run of the table finished or diverged"].shown
    assert checks["ReSTE above ste-identity after 10 epochs"].status == "undecided"
    assert "diverged" in [text.get_text() for text in table3.figure(runs).axes[0].texts]


def test_the_clean_contrast_of_the_weights_is_a_control() -> None:
    score = {"reste": 70.0, "ste": 69.0, "reste-weights": 71.0, "ste-gain": 66.0}
    runs = fake_runs("table3", rows=",".join(score), seeds="0,1,2", score=lambda row, seed: score[row] + 0.01 * seed)
    checks = {check.claim: check for check in table3.judge(runs, "short").checks}
    found = checks["ReSTE on the weights above their plateau gain alone after 10 epochs"]
    assert (found.kind, found.status) == ("control", "supported")
    assert not [claim for claim in checks if "clip" in claim]  # their rows are not there


def test_what_clip_and_gain_leave_to_the_curve_is_a_contrast_of_four_rows() -> None:
    score = {"reste": 71.0, "ste": 60.0, "ste-gain": 64.0, "reste-o1": 63.0, "ste-gain-clip": 70.5}
    runs = fake_runs("table3", rows=",".join(score), seeds="0,1,2", score=lambda row, seed: score[row] + 0.01 * seed)
    checks = {check.claim: check for check in table3.judge(runs, "short").checks}
    both = checks["the curve, if clip and gain add up: ReSTE above both after 10 epochs"]
    assert both.status == "supported" and both.shown.startswith("+4.00 points")
    direct = checks["ReSTE above ste-gain-clip after 10 epochs"]
    assert direct.kind == "control" and direct.shown.startswith("+0.50 points")


def test_table1_shows_a_row_of_which_every_run_diverged() -> None:
    row = "resnet20-1w1a"
    runs = Runs(fake_runs("table1", rows=f"{row}-ste", seeds="0,1"), [diverged(recipe(f"table1/{row}", "short"), [])])
    table = table1.table(runs, "short")
    assert table.frame.set_index("row").loc[row, "n"] == 0
    reading = table.sections["Measured beside published (top-1, %)"].set_index("Row")
    assert reading.loc[row, "Last epoch"] == "diverged"
    assert "diverged" in [text.get_text() for text in table1.figure(runs).axes[0].texts]


def test_rows_that_a_profile_makes_one_recipe_say_so() -> None:
    rows = ["resnet18-1w1a", "resnet18-1w1a-150ep-b512", "resnet18-1w1a-200ep-b512"]
    said = table2.table(fake_runs("table2", "short", rows=rows), "short").to_markdown()
    assert "resnet18-1w1a, resnet18-1w1a-150ep-b512 and resnet18-1w1a-200ep-b512 are one recipe" in said
    assert "are one recipe" not in table2.table(fake_runs("table2", "paper", rows=rows), "paper").to_markdown()


def test_markdown_and_html_escape_and_align() -> None:
    import pandas as pd

    frame = pd.DataFrame({"name": ["a|b", "<i>"], "value": [1.5, float("nan")], "text": ["70.00 ± 0.10", None]})
    assert pages.table_markdown(frame) == (
        "| name | value | text |\n| --- | ---: | ---: |\n| a\\|b | 1.5 | 70.00 ± 0.10 |\n| <i> | - | - |"
    )
    html = pages.table_html(frame)
    assert "&lt;i&gt;" in html
    assert '<td class="num">1.5</td>' in html
