"""The command line: what it prints, the statuses it leaves with, and its errors, each one line."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resteutils.cli import commands as cli
from resteutils.cli import options as console
from resteutils.recipes import ITEMS

SMOKE = ("--profile", "smoke", "--device", "cpu")


def one_line(text: str) -> bool:
    return text.startswith("resteutils: ") and text.count("\n") == 1 and "Traceback" not in text


# --- help ------------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_statuses(run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for command in cli.COMMANDS:
        assert f"• {command} " in out, command
    assert "3 the loss was no longer finite" in " ".join(out.split())


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert cli.COMMANDS[command].__doc__.splitlines()[0].split(":")[0][:40] in out
    assert "NotImplemented" not in out
    assert "(default: )" not in out and "(default: '')" not in out
    words = " ".join(re.sub(r"[│╭╰─╮╯]", " ", out).split())
    example = cli.COMMANDS[command].__doc__.splitlines()[2].strip()
    assert example.startswith(f"Example: resteutils {command}") and example in words


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "reproduce",
            (
                "ITEM... ",
                f"{' '.join(ITEMS)}, or all, which ends",
                "demo: small digits, minutes",
                "GPU-days (default: demo)",
            ),
        ),
        ("list", ("[ITEM] lists the rows of this item; empty: all items.",)),
        ("predict", ("MODEL IMAGE...", "as when scored. (required)")),
    ],
)
def test_help_says_what_is_needed_and_what_a_profile_is(run, command: str, said: tuple) -> None:
    words = " ".join(re.sub(r"[│╭╰─╮╯]", " ", run(command, "--help")[1]).split())
    for text in said:
        assert text in words, words


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "resteutils", "--help"], capture_output=True, text=True, check=True)
    assert "usage: resteutils" in done.stdout


# --- wrong usage: status 2, one line, what is accepted ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reproduce", "table9"), ("table9", *ITEMS)),
        (("reproduce",), ("which item", *ITEMS)),
        (("reproduce", "all", "--rows", "ste"), ("--rows", "belong to one item")),
        (("reproduce", "all", "--set", "lr=0.05"), ("--set", "belong to one item")),
        (("reproduce", "table3", "--set", "speed=2"), ("speed", "batch_size")),
        (("reproduce", "table3", "--set", "seed=2"), ("seed", "rows and seeds")),
        (("reproduce", "figure1", "--set", "lr=0.05"), ("lr=0.05", "figure1", "no training runs")),
        (("reproduce", "figure3", "--epochs", "3"), ("--epochs 3: figure3 has no training runs",)),
        (("reproduce", "lemma", "--seeds", "0,1"), ("--seeds 0,1: lemma has no training runs",)),
        (("reproduce", "figure1", "--rows", "foo"), ("--rows foo: figure1 has no training runs",)),
        (("launch", "table3", "--set", "lr=-1"), ("lr", "-1", "above 0")),
        (("reproduce", "table3", "--rows", "nope"), ("nope", "reste-weights")),
        (("reproduce", "table3", "--seeds", "one"), ("one", "whole numbers")),
        (("reproduce", "all", "--seeds", "one"), ("one", "whole numbers")),
        (("reproduce", "all", "--epochs", "-1"), ("epochs = -1", "at least 1")),
        (("train", "table1"), ("name a row too: table1/resnet18-1w1a", "resnet20-1w1a")),
        (("train", "resnet20-1w1a"), ("expected ITEM/ROW", "table1 and deploy have this row")),
        (("predict", "m.rbit", "a.png", "--top", "-1"), ("top = -1", "at least 1")),
        (("train", "table1/resnet7"), ("resnet7", "resnet20-1w1a")),
        (("train", "lemma/x"), ("lemma", "no training runs")),
        (("train", "table1/resnet20-1w1a", "--set", "epochs=3,lr=-1"), ("lr", "-1", "above 0")),
        (("train", "table1/resnet20-1w1a", "--set", "lr"), ("'lr'", "NAME=VALUE")),
        (("train", "table1/resnet20-1w1a", "--set", "speed=2"), ("speed", "batch_size")),
        (("train", "table1/resnet20-1w1a", "--set", "learning_rate=1"), ("learning_rate", "did you mean lr?")),
        (("train", "table1/resnet20-1w1a", "--set", "batchsize=1"), ("batchsize", "did you mean batch_size?")),
        (("train", "table1/resnet20-1w1a", "--set", "lr=-1"), ("lr", "-1", "above 0")),
        (("train", "table1/resnet20-1w1a", "--set", "seed=3"), ("--set seed", "--seed")),
        (("train", "table1/resnet20-1w1a", "--set", "item=table3"), ("--set item", "ITEM/ROW")),
        (("train", "table1/resnet20-1w1a", "--set", "epochs=ten"), ("epochs", "'ten'", "whole number")),
        (("train", "table1/resnet20-1w1a", "--set", 'estimator={"o":3}'), ("estimator", "no name", "reste")),
        (("train", "table1/resnet20-1w1a", "--set", "epochs=2.5"), ("epochs", "2.5", "whole number")),
        (("train", "table3/reste", "--set", 'estimator={"name":"reste","o":0.5}'), ("0.5",)),
        (("list", "table9"), ("table9", *ITEMS)),
        (("launch", "table9"), ("table9", *ITEMS)),
        (("launch", "figure1"), ("figure1", "no training runs")),
        (("launch", "table3", "--parallel", "0"), ("parallel = 0", "at least 1")),
        (("launch", "table3", "--threads", "-1"), ("threads = -1", "at least 0")),
        (("launch", "table3", "--minutes", "0"), ("minutes = 0", "at least 1")),
        (("launch", "table3", "--cluster", "slurm_partition=gpu"), ("slurm_partition", "on = slurm")),
        (("launch", "table3", "--on", "slurm", "--cluster", "foo=3"), ("no setting foo", "gpus_per_node", "slurm_qos")),
        (
            ("launch", "table3", "--on", "slurm", "--cluster", "cpus_per_task=two"),
            ("cpus_per_task = 'two'", "expected int"),
        ),
        (("launch", "table3", "--on", "slurm", "--cluster", "timeout_min=9"), ("timeout_min", "--minutes")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and value[0] in cli.COMMANDS else "",
)
def test_wrong_usage_is_one_line_that_names_what_is_accepted(run, arguments: tuple, said: tuple) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert one_line(err), err
    for words in said:
        assert words in err


@pytest.mark.parametrize(
    "command", ["reproduce lemma", "train table3/ste", "launch table3", "publish table3/ste", "verify-models"]
)
def test_a_device_or_a_tracking_mode_that_cannot_be_is_wrong_usage(run, monkeypatch, command: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, said in (("gpu", "expected auto, cpu, cuda"), ("cuda", "sees no GPU; use device=cpu")):
        status, _, err = run(*command.split(), "--device", device)
        assert status == 2 and one_line(err) and said in err, err
    monkeypatch.setenv("WANDB_MODE", "foo")
    status, _, err = run(*command.split(), "--device", "cpu")
    assert status == 2 and one_line(err) and "WANDB_MODE = 'foo', expected online" in err, err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("trian",),
        ("train",),
        ("train", "a/b", "--seed", "x"),
        ("train", "a/b", "--profil", "smoke"),
        ("report", "--profile", "smoke"),
        ("list", "--no"),
    ],
)
def test_what_the_parser_refuses_is_one_line_too(run, arguments: tuple) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert out == "" and one_line(err) and len(err) < 250, err
    assert all(word in err for word in arguments if word in ("trian", "--seed", "--no"))
    assert "did you mean --profile?" in err or "--profil" not in arguments
    assert " ".join(["resteutils", *(word for word in arguments[:1] if word != "trian"), "--help"]) in err


def test_what_is_about_runs_passes_by_the_items_without_any_where_all_are_asked_for(run, monkeypatch) -> None:
    from resteutils.results import reproduce

    asked = {}
    monkeypatch.setattr(reproduce, "reproduce_all", lambda **options: asked.update(options))
    assert run("reproduce", "all", "--epochs", "3", "--seeds", "0")[0] == 0
    assert (asked["epochs"], asked["seeds"]) == (3, "0")


# --- failures --------------------------------------------------------------------------------------------------------


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTEUTILS_DEBUG", "1")
    with pytest.raises(console.UsageError):
        cli.main(["reproduce", "table9"])


def test_the_statuses_of_interrupted_and_diverged_trainings(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.runs import store as runs
    from resteutils.training import stopping

    def raising(error: BaseException):
        def load_or_train(*_, **__):
            raise error

        return load_or_train

    cases = [
        (stopping.Interrupted("stopped, saved", signal.SIGINT), 130),
        (stopping.Interrupted("stopped, saved", signal.SIGTERM), 143),
        (stopping.NonFinite("loss is nan at o = 3, lr = 0.1, step 7"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device"), 1),
        (BrokenPipeError(32, "Broken pipe"), 1),  # to a worker: the output is read
        (ZeroDivisionError("division by zero"), 1),
    ]
    for error, expected in cases:
        monkeypatch.setattr(runs, "load_or_train", raising(error))
        status, _, err = run("train", "table3/reste", *SMOKE)
        assert status == expected, error
        assert one_line(err), err
    assert "ZeroDivisionError" in err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = f"{sys.executable} -m resteutils list | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a place where not even root may write")
def test_results_that_cannot_be_written_name_their_setting(run) -> None:
    status, _, err = run("reproduce", "lemma", "--profile", "smoke", "--results-dir", "/proc/nowhere")
    assert status == 1 and one_line(err), err
    assert "/proc/nowhere" in err and "set RESULTS_DIR elsewhere" in err


def test_bench_of_a_model_that_is_not_there_prints_the_error_alone(run) -> None:
    status, out, err = run("bench", "--model", "nofile.rbit")
    assert (status, out) == (1, "") and one_line(err) and "nofile.rbit" in err


# --- commands that work ----------------------------------------------------------------------------------------------


def test_list_names_every_item_and_the_rows_of_one(run) -> None:
    status, out, _ = run("list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1 : 1 + len(ITEMS)]] == list(ITEMS)
    status, out, _ = run("list", "figure6", "--profile", "paper")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        f"figure6/{r}" for r in ITEMS["figure6"].rows for _ in "012"
    ]


def test_version(run) -> None:
    status, out, err = run("--version")
    assert (status, err) == (0, "") and re.fullmatch(r"resteutils \d+\.\d+\S*\n", out)


def test_launch_and_reproduce_share_their_profile() -> None:
    from resteutils.results.reproduce import reproduce
    from resteutils.runs.launch import launch

    assert len({inspect.signature(function).parameters["profile"].default for function in (launch, reproduce)}) == 1
    defaults = [inspect.signature(cli.COMMANDS[name]).parameters["profile"].default for name in ("launch", "reproduce")]
    assert defaults == ["demo", "demo"]


def test_reproduce_ends_with_table_verdict_and_path(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from resteutils.results import reproduce

    (tmp_path / "table.md").write_text("# title\n\nProse.\n\n| row | top-1 |\n| --- | --- |\n| a | 1 |\n\n| other |\n")
    (tmp_path / "verdict.json").write_text('{"status": "supported", "text": "Three\\nclaims. And more."}')
    monkeypatch.setattr(reproduce, "reproduce", lambda *_, **__: tmp_path)
    assert run("reproduce", "table3", *SMOKE)[1].splitlines() == [
        *("| row | top-1 |", "| --- | --- |", "| a | 1 |", "supported: Three claims", str(tmp_path))
    ]


def test_explore_opens_the_notebook_in_jupyterlab(run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list = []
    monkeypatch.setattr(cli.subprocess, "run", lambda command, **_: called.append(command) or DONE)
    assert run("explore")[0] == 0
    assert called[0][:3] == [sys.executable, "-m", "jupyterlab"] and called[0][3].endswith("explore_reste.ipynb")
    config = Path(called[0][4].removeprefix("--config="))
    assert config.is_file()
    assert f" --config={config.relative_to(root)}" in (root / "Makefile").read_text()


def test_explore_outside_a_checkout_opens_a_copy_that_stays(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resteutils.results import reproduce

    called: list = []
    monkeypatch.setattr(cli.subprocess, "run", lambda command, **_: called.append(command) or DONE)
    monkeypatch.chdir(tmp_path)
    for module in (cli, reproduce.settings):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    shipped = tmp_path / "site" / "resteutils" / "results" / "reproduce.py"
    (shipped.parents[1] / "notebooks").mkdir(parents=True)
    (shipped.parents[1] / "notebooks" / "explore_reste.ipynb").write_text("shipped")
    monkeypatch.setattr(reproduce, "__file__", str(shipped))
    mine = tmp_path / "explore_reste.ipynb"
    assert run("explore")[0] == 0 and called[-1][3] == str(mine) and mine.read_text() == "shipped"
    mine.write_text("changed")
    assert run("explore")[0] == 0 and mine.read_text() == "changed"


DONE = subprocess.CompletedProcess([], 0)


def test_what_an_output_cannot_show_does_not_stop_a_command() -> None:
    program = "from resteutils.cli import commands as cli; from resteutils.cli.models import _block\n"
    program += "cli._run(['--version']); print(_block(), '\u732b')"
    for encoding, bar in (("ascii", "#"), ("latin-1", "#"), ("utf-8", "\u2588")):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding).splitlines()[-1].startswith(bar)


def test_export_of_a_profile_lies_in_the_results_folder(run, results_dir: Path) -> None:
    assert run("train", "deploy/resnet20-1w1a", *SMOKE)[0] == 0
    status, out, err = run("export", "deploy/resnet20-1w1a", "--profile", "smoke", "--to", "state-dict")
    (file,) = (results_dir / "exports").iterdir()
    assert status == 0 and out.startswith(f"{file} ("), err
    status, _, err = run("export", "deploy/resnet20-1w1a", "--profile", "paper")
    assert status == 2 and one_line(err) and "no finished run" in err


def test_list_shows_the_top1_of_finished_runs(run) -> None:
    assert run("train", "table3/ste", *SMOKE)[0] == 0
    out = run("list", "table3", "--profile", "smoke")[1]
    assert re.search(r"^table3/ste +finished +\d+\.\d\d % ", out, re.MULTILINE), out


def test_list_says_that_an_item_has_no_runs(run) -> None:
    assert run("list", "figure1") == (0, "figure1 has no training runs\n", "")


def test_train_then_list_shows_it_finished_and_training_again_reads_it(run, runs_dir: Path) -> None:
    command = "train table3/ste --seed 4 --epochs 1 --set lr=0.05 --set momentum=0.8".split() + list(SMOKE)
    status, out, err = run(*command)
    assert status == 0, err
    assert "table3/ste smoke seed 4: top-1 " in out and "at epoch 1, " in out
    (record,) = runs_dir.glob("*/record.json")
    written = record.read_bytes()
    status, again, _ = run(*command)
    assert status == 0
    assert again.splitlines()[-1] == out.splitlines()[-1]
    assert record.read_bytes() == written
    assert "1 finished run on this disk" in run("list")[1]


def test_under_torchrun_only_the_first_process_prints_the_result(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.runs import store as runs

    finished = runs.Run(None, Path("place"), {"history": {}, "result": {"top1": 50.0, "epochs": 2}, "provenance": {}})
    monkeypatch.setattr(runs, "load_or_train", lambda *_, **__: finished)
    monkeypatch.setenv("RANK", "1")
    assert run("train", "table3/ste", *SMOKE) == (0, "", "")
    monkeypatch.setenv("RANK", "0")
    assert "top-1 50.00 % at epoch 2, place" in run("train", "table3/ste", *SMOKE)[1]


def test_a_log_file_grows_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; from resteutils.cli import commands; commands._run(['--help']); print(sys.stdout.line_buffering)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
