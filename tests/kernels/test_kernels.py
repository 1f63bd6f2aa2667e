"""The compiled kernels: every code path of this machine against torch's convolution of the signs, bit for bit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.signs import FORMATS, PATHS, available, images, sign, windows
from hypothesis import given, settings
from hypothesis import strategies as st

from resteutils import kernels
from resteutils.kernels import build


@st.composite
def convolutions(draw):
    channels = draw(st.one_of(st.integers(1, 70), st.sampled_from([96, 128, 256])))
    return draw(st.integers(0, 3)), channels, draw(st.integers(1, 70)), *draw(windows())


@available
@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None)
@given(convolutions(), st.sampled_from(FORMATS), st.integers(0, 1000))
def test_equals_the_convolution_of_the_signs(path, convolution, layout, seed):
    n, channels, out, kernel, stride, padding, size = convolution
    x = images(n, channels, *size, seed=seed).to(memory_format=layout)
    weight = images(out, channels, *kernel, seed=seed + 1)
    expected = F.conv2d(sign(x), sign(weight), stride=stride, padding=padding)
    result = kernels.binary_conv2d(x, weight, stride, padding, path)
    assert torch.equal(result, expected)
    packed = kernels.pack_weight(weight, path)
    assert torch.equal(kernels.binary_conv2d_packed(x, packed, stride, padding), expected)


@st.composite
def grouped_convolutions(draw):
    groups, per_group, out = draw(st.integers(1, 9)), draw(st.integers(1, 20)), draw(st.integers(1, 40))
    kernel, stride, padding, size = draw(windows())
    dilation = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    least = [d * (k - 1) + 1 - 2 * p for k, p, d in zip(kernel, padding, dilation, strict=True)]
    size = tuple(max(n, m) for n, m in zip(size, least, strict=True))
    return draw(st.integers(0, 3)), per_group, out, groups, kernel, stride, padding, dilation, size


@available
@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None)
@given(grouped_convolutions(), st.sampled_from(FORMATS), st.integers(0, 1000))
def test_equals_it_with_groups_and_dilation(path, convolution, layout, seed):
    n, per_group, out, groups, kernel, stride, padding, dilation, size = convolution
    x = images(n, groups * per_group, *size, seed=seed).to(memory_format=layout)
    weight = images(groups * out, per_group, *kernel, seed=seed + 1)
    expected = F.conv2d(sign(x), sign(weight), None, stride, padding, dilation, groups)
    result = kernels.binary_conv2d(x, weight, stride, padding, path, dilation=dilation, groups=groups)
    assert torch.equal(result, expected)


@available
@pytest.mark.parametrize("path", PATHS)
def test_long_rows_and_many_threads(path, threads):
    """More bits a row than 16-bit counters hold, in one block of channels and in two; and more tiles than threads."""
    x, weight = images(1, 9000, 3, 3), images(40, 9000, 3, 3, seed=1)
    for out in (5, 40):
        assert torch.equal(kernels.binary_conv2d(x, weight[:out], path=path), F.conv2d(sign(x), sign(weight[:out])))
    ones = torch.ones(1, 9000, 3, 3)
    assert kernels.binary_conv2d(ones, -ones, path=path).item() == -81000
    x, weight = images(4, 64, 17, 17), images(96, 64, 3, 3, seed=1)
    threads(2)
    assert torch.equal(kernels.binary_conv2d(x, weight, 1, 1, path), F.conv2d(sign(x), sign(weight), padding=1))


@available
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(path, dtype):
    x, weight = images(2, 12, 5, 5, dtype=dtype), images(7, 12, 3, 3, seed=1, dtype=dtype)
    result = kernels.binary_conv2d(x, weight, 1, 1, path)
    assert result.dtype == dtype
    assert torch.equal(result, F.conv2d(sign(x).double(), sign(weight).double(), padding=1).to(dtype))


@available
@pytest.mark.parametrize("path", PATHS)
def test_signs_of_the_smallest_numbers_and_of_zero(path):
    x = torch.tensor([-5e-324, 5e-324, -0.0, 0.0, -torch.inf, torch.inf], dtype=torch.float64).view(6, 1, 1, 1)
    result = kernels.binary_conv2d(x, torch.ones(1, 1, 1, 1), path=path).flatten()
    assert result.tolist() == [-1, 1, 1, 1, -1, 1]


@available
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nan_is_never_hidden(path, layout, dtype):
    x, weight = images(3, 20, 6, 6, dtype=dtype), images(5, 20, 3, 3, seed=1, dtype=dtype)
    expected = F.conv2d(sign(x), sign(weight), padding=1)
    x[1, 7, 2, 2] = weight_nan = torch.nan
    expected[1] = torch.nan
    result = kernels.binary_conv2d(x.to(memory_format=layout), weight, 1, 1, path)
    assert torch.equal(result.isnan(), expected.isnan())
    assert torch.equal(result[0], expected[0])
    weight[2, 3, 0, 0] = weight_nan
    result = kernels.binary_conv2d(images(3, 20, 6, 6, dtype=dtype).to(memory_format=layout), weight, 1, 1, path)
    assert result[:, 2].isnan().all() and not result[:, [0, 1, 3, 4]].isnan().any()
    with pytest.raises(ValueError, match="NaN"):
        kernels.pack_weight(weight, path)


@available
@pytest.mark.parametrize("path", PATHS)
def test_bits_have_the_documented_layout(path):
    x = images(2, 13, 5, 4)
    bits = kernels.pack_bits(x, path)
    assert bits.shape == (2, 5, 4, 2)
    c, byte, bit = 10, 1, 2
    assert torch.equal((bits[..., byte] >> bit) & 1, (x[:, c] < 0).to(torch.uint8))


def test_operators_are_registered_properly():
    if not kernels.available():
        pytest.skip(kernels.why_not())
    ops, path = torch.ops.resteutils, kernels.paths()[0]
    x, weight = images(2, 9, 6, 5), images(4, 9, 3, 3, seed=1)
    packed = kernels.pack_weight(weight)
    cases = [
        (ops.pack_bits, (x,)),
        (ops.prepare_weight, (kernels.pack_bits(weight), 9, path)),
        (
            ops.conv2d_packed,
            (x.to(memory_format=torch.channels_last), packed.blob, 4, (3, 3), (1, 1), (1, 1), (1, 1), path),
        ),
        (ops.conv2d, (x, weight, (1, 1), (1, 1))),
        (ops.conv2d, (images(2, 18, 6, 5), weight, (1, 1), (1, 1), (2, 1), 2)),
        (ops.reste_backward, (x, x, 0.5, -0.5, 2.0, 0.1, 1.5)),
    ]
    for op, arguments in cases:
        torch.library.opcheck(op.default, arguments)


@available
def test_traces_into_a_full_graph():
    x, weight = images(2, 9, 6, 5), images(4, 9, 3, 3, seed=1)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def twice(x, weight):
        return 2 * kernels.binary_conv2d(x, weight, (1, 1), (1, 1)) if kernels.available() else x

    assert torch.equal(twice(x, weight), 2 * F.conv2d(sign(x), sign(weight), padding=1))


@available
def test_wrong_arguments_are_named():
    x, weight = images(2, 9, 6, 5), images(4, 9, 3, 3)
    with pytest.raises(RuntimeError, match=r"\(N, C, H, W\)"):
        kernels.binary_conv2d(x, weight[:, :8])
    with pytest.raises(RuntimeError, match="does not fit"):
        kernels.binary_conv2d(x[..., :2], weight)
    with pytest.raises(RuntimeError, match="sse9"):
        kernels.binary_conv2d(x, weight, path="sse9")
    with pytest.raises(RuntimeError, match="floating-point"):
        kernels.binary_conv2d(x.int(), weight)
    with pytest.raises(ValueError, match="expected"):
        kernels.binary_conv2d_packed(x[:, :8], kernels.pack_weight(weight))


# --- ReSTE's backward pass --------------------------------------------------------------------------------------------


def reference_slope(z, o, m, t):
    z = z.double().abs()
    plateau, power = m ** ((1 - o) / o), z ** ((1 - o) / o) / o
    return torch.where(z <= torch.tensor(m).float(), plateau, torch.where(z <= torch.tensor(t).float(), power, 0.0))


@available
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("o", [1.0, 1.05, 1.7, 2.0, 3.0, 5.0, 20.0])
@pytest.mark.parametrize("m", [0.1, 1e-6])
def test_slope_is_good_to_a_millionth(path, o, m):
    """Sizes on both sides of the streaming threshold, odd ones, unaligned ones."""
    t = 1.5
    for size in (1, 7, 1000, (1 << 20) + 19):
        z = torch.rand(size + 1, generator=torch.Generator().manual_seed(size))[1:] * 4 - 2
        z = torch.where(z.abs() < 0.2, z.abs() ** 6, z)  # down to 1e-9 and smaller
        grad = torch.randn(size + 1, generator=torch.Generator().manual_seed(1))[1:]
        result = kernels.reste_backward(grad, z, 1 / o, (1 - o) / o, m ** ((1 - o) / o), m, t, path)
        expected = grad.double() * reference_slope(z, o, m, t)
        assert ((result.double() - expected).abs() <= 1e-6 * expected.abs()).all()


@available
@pytest.mark.parametrize("path", PATHS)
def test_slope_at_the_edges(path):
    z = torch.tensor([0.0, -0.0, 0.1, -0.1, 1.5, -1.5, 1.5000001, torch.nan, torch.inf, -torch.inf, 1e-40])
    o, m, t = 3.0, 0.1, 1.5
    plateau = m ** ((1 - o) / o)
    result = kernels.reste_backward(torch.ones_like(z), z, 1 / o, (1 - o) / o, plateau, m, t, path)
    edge = 1.5 ** ((1 - o) / o) / o
    expected = torch.tensor([*[plateau] * 4, edge, edge, 0.0, torch.nan, 0.0, 0.0, plateau])
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=0, equal_nan=True)
    grad = torch.full_like(z, torch.nan)
    assert kernels.reste_backward(grad, z, 1 / o, (1 - o) / o, plateau, m, t, path).isnan().all()


@available
def test_slope_follows_the_memory_format():
    z = images(2, 3, 4, 5).to(memory_format=torch.channels_last)
    grad = images(2, 3, 4, 5, seed=1)
    result = kernels.reste_backward(grad, z, 0.5, -0.5, 2.0, 0.1, 1.5)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        result, grad * reference_slope(z, 2.0, 0.1, 1.5).float() * (z.abs() > 0.1) + grad * 2 * (z.abs() <= 0.1)
    )


# --- building ---------------------------------------------------------------------------------------------------------


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def test_without_a_compiler_it_says_what_to_install(tmp_path):
    code = (
        "from resteutils import kernels; import torch, resteutils as ru\n"
        "print(kernels.ready(), kernels.available(), kernels.why_not())\n"
        "print(ru.BinaryConv2d(4, 4, 3).eval()(torch.ones(1, 4, 5, 5)).shape)"
    )
    done = python(code, CXX="no-such-compiler", TORCH_EXTENSIONS_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False False ") and "apt-get install g++" in done.stdout
    assert "[1, 4, 3, 3]" in done.stdout


def test_switched_off_and_forced_by_the_environment():
    done = python(
        "from resteutils import kernels; print(kernels.available(), kernels.why_not())", RESTEUTILS_KERNEL="off"
    )
    assert done.stdout.startswith("False") and "RESTEUTILS_KERNEL=off" in done.stdout
    if not kernels.available():
        return
    code = (
        "import torch; from resteutils import kernels as k\n"
        "print(k.binary_conv2d(torch.ones(1, 3, 1, 1), torch.ones(1, 3, 1, 1)))"
    )
    assert "3." in python(code, RESTEUTILS_KERNEL="scalar").stdout
    code = (
        "import torch; from resteutils import kernels as k\n"
        "print(k.paths()[0], k.pack_weight(torch.ones(1, 3, 1, 1)).path)"
    )
    assert python(code, RESTEUTILS_KERNEL="scalar").stdout.split() == ["scalar", "scalar"]
    assert "this machine offers" in python(code, RESTEUTILS_KERNEL="sse9").stderr


def library(folder: Path) -> Path:
    """A copy of the compiled library, with its checksum, in a cache of its own."""
    compiled = build.library_path()
    for path in (compiled, compiled.with_suffix(".sha256")):
        shutil.copyfile(path, folder / path.name)
    return folder / compiled.name


ASKED = "from resteutils import kernels; print(kernels.ready(), kernels.available(), kernels.why_not())"


@pytest.mark.faults("the kernel library is damaged")
@available
def test_a_library_that_is_whole_is_loaded_and_a_damaged_one_is_not(tmp_path):
    """Each kind of damage; with no compiler at hand nothing crashes, and what is lacking is said."""
    path = library(tmp_path)
    without = {"CXX": "no-such-compiler", "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    assert python(ASKED, **without).stdout.split() == ["True", "True"]
    whole, digest = path.read_bytes(), path.with_suffix(".sha256")
    known = digest.read_text()
    flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    for spoiled in (whole[: len(whole) // 2], whole[: len(whole) // 4], b"", b"garbage", flipped):
        path.write_bytes(spoiled)
        assert not build._whole(path)
    done = python(ASKED, **without)
    assert (done.returncode, done.stdout[:12]) == (0, "False False "), done.stderr
    assert "apt-get install g++" in done.stdout
    path.write_bytes(whole)
    assert build._whole(path)
    for text in ("", "no checksum", known.replace(known[3], "0" if known[3] != "0" else "1")):
        digest.write_text(text)
        assert not build._whole(path)


@pytest.mark.faults("two processes compile the kernels at once")
@available
@pytest.mark.slow
def test_a_damaged_library_is_compiled_again_by_one_of_two_processes(tmp_path):
    path = library(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", ASKED], env=environment, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=500) for process in both]
    assert [out.split()[1] for out, _ in said] == ["True", "True"], said
    assert sum("Compiling the 1-bit kernels" in err for _, err in said) == 1
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.with_suffix(".sha256").read_text().strip()


@pytest.mark.faults("another user may change the kernel library")
@available
@pytest.mark.parametrize("who", ["others may write it", "user 12345 owns it"])
def test_a_library_that_another_user_may_change_is_not_loaded(tmp_path, who):
    path = library(tmp_path)
    if who.startswith("user"):
        if os.getuid() != 0:
            pytest.skip("only root may give files away")
        os.chown(path, 12345, 12345)
    else:
        path.chmod(0o666)
    done = python(ASKED, TORCH_EXTENSIONS_DIR=str(tmp_path))
    assert done.returncode == 0 and done.stdout.startswith("False False ")
    assert who in done.stdout and "TORCH_EXTENSIONS_DIR" in done.stderr and "chmod go-w" in done.stderr


@pytest.mark.faults("the compiler is lost midway")
def test_a_compiler_that_is_lost_midway_leaves_nothing_and_says_what_to_check(tmp_path):
    """The compiler answers what torch asks of it at first, and is killed when it compiles."""
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-c*) kill -9 $$ ;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    done = python(ASKED, CXX=str(compiler), TORCH_EXTENSIONS_DIR=str(tmp_path / "cache"))
    assert done.returncode == 0 and done.stdout.startswith("False False "), done.stderr
    assert "everything else works without them" in done.stdout and "apt-get install g++" in done.stdout
    (lock,) = (tmp_path / "cache").glob("*.lock")
    (tmp_path / "cache" / f"building-{lock.stem}-killed").mkdir()  # as a process that is killed itself leaves it
    python(ASKED, CXX=str(compiler), TORCH_EXTENSIONS_DIR=str(tmp_path / "cache"))
    left = [path.name for path in (tmp_path / "cache").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []


@available
def test_a_library_that_cannot_be_loaded_says_what_to_do(tmp_path, monkeypatch, capsys):
    """As where the folder is mounted noexec: neither the one that is there nor a new one."""
    from torch.utils import cpp_extension

    def refuse(*arguments, **options):
        raise OSError("Could not load this library: failed to map segment from shared object")

    path = library(tmp_path)
    monkeypatch.setattr(build, "library_path", lambda: path)
    monkeypatch.setattr(torch.ops, "load_library", refuse)
    monkeypatch.setattr(cpp_extension, "load", refuse)
    said = build.load.__wrapped__()
    assert "Could not load this library" in said and "everything else works without them" in said
    for remedy in ("apt-get install g++ libgomp1", str(tmp_path), "noexec", "TORCH_EXTENSIONS_DIR"):
        assert remedy in said
    assert "cannot be loaded here and is compiled again" in capsys.readouterr().err


def test_importing_builds_nothing():
    code = "import sys, resteutils.kernels; print('torch.utils.cpp_extension' in sys.modules)"
    assert python(code).stdout.strip() == "False"


# --- in training ------------------------------------------------------------------------------------------------------


@available
@pytest.mark.parametrize("name", ["resnet20", "vgg_small"])
def test_a_training_step_on_packed_bits_is_the_float_one(name):
    """Loss and every gradient: the forward pass yields the same integers, and the backward pass is the same code."""
    import resteutils as ru

    torch.manual_seed(0)
    model, x = ru.create(name, estimator=ru.ReSTE(o=1.7), image_size=16), images(4, 3, 16, 16)
    found = []
    for packed in (False, True):
        for _, layer in ru.binary_layers(model):
            layer.packed = packed
        model.zero_grad()
        loss = F.cross_entropy(model.train()(x), torch.tensor([0, 1, 2, 3]))
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    for float_path, packed_path in zip(*found, strict=True):
        torch.testing.assert_close(packed_path, float_path, rtol=1e-5, atol=1e-7)
