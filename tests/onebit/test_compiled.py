"""Both executors of a packed network give the same numbers, and batches do not change them."""

from __future__ import annotations

import pytest
import torch
from helpers.packable import trained
from hypothesis import given, settings
from hypothesis import strategies as st

import resteutils as ru
from resteutils import kernels
from resteutils.nn.layers import binary_layers
from resteutils.onebit.compiled import compiled, fits_planes
from resteutils.onebit.fold import fold
from resteutils.onebit.program import Program, pack_signs

AVX2 = kernels.available() and "avx2" in kernels.paths()


@st.composite
def programs(draw) -> tuple[Program, tuple[int, int, int]]:
    """A stem, then binary layers of up to 64 channels that give floats, bits or both, with and without skips."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))

    def numbers(*shape):
        return torch.randn(*shape, generator=random)

    channels, size = draw(st.integers(1, 64)), (draw(st.integers(1, 40)), draw(st.integers(1, 70)))
    program, image, places = Program(), (2, *size), {}
    weight = {"weight": numbers(channels, 2, 1, 1), "gain": numbers(channels), "offset": numbers(channels) / 4}
    one = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "channels": 2}
    value = program.add("stem", 0, weight, **one, relu=draw(st.booleans()), out=channels, floats=True, bits=True)
    places[channels, size] = value
    for _ in range(draw(st.integers(1, 4))):
        out, stride = draw(st.integers(1, 64)), draw(st.integers(1, 2))
        signs = torch.where(numbers(out, channels, 3, 3) < 0, -1.0, 1.0)
        common = {"kernel": (3, 3), "stride": (stride, stride), "padding": (1, 1), "channels": channels, "out": out}
        common |= {"activations": 1, "relu": draw(st.booleans())}
        size = tuple((n - 1) // stride + 1 for n in size)
        if draw(st.booleans()):
            cuts = (numbers(out) * 3 * channels**0.5).round().to(torch.int16)
            tensors = {"bits": pack_signs(signs), "cuts": cuts, "flip": flips(numbers(out))}
            value = program.add("threshold", value, tensors, **common, floats=False, bits=True)
        else:
            tensors = {"bits": pack_signs(signs), "alpha": numbers(draw(st.sampled_from([1, out]))).abs() / 30}
            tensors |= {"gain": numbers(out), "offset": numbers(out) / 4}
            skip = {"skip": places[out, size]} if (out, size) in places else {}
            value = program.add("binary", value, tensors, **common, **skip, floats=True, bits=True)
            places[out, size] = value
        channels = out
    tensors = {"bits": pack_signs(torch.ones(3, channels, 3, 3)), "alpha": torch.ones(1), "gain": torch.ones(3)}
    value = program.add("binary", value, tensors | {"offset": torch.zeros(3)}, kernel=(3, 3), stride=(1, 1),
                        padding=(1, 1), channels=channels, out=3, activations=1, relu=False, floats=True,
                        bits=False)  # fmt: skip
    program.add("flatten", value, out=3 * size[0] * size[1], floats=True, bits=False)
    return program, image


def flips(numbers):
    return pack_signs(numbers.view(1, -1, 1, 1)).flatten()


@pytest.mark.skipif(not AVX2, reason="needs AVX2")
@settings(max_examples=60, deadline=None)
@given(programs(), st.integers(1, 3))
def test_planes_and_blocks_are_equal_to_the_last_bit(drawn, batch):
    program, image = drawn
    assert fits_planes(program, "avx2")
    x = torch.randn(batch, *image, generator=torch.Generator().manual_seed(0))
    on_planes, in_blocks = (compiled(program, image, "avx2", planes)(x) for planes in (True, False))
    assert torch.equal(on_planes, in_blocks)


def test_planes_are_for_avx2_and_few_channels():
    narrow, wide = fold(trained("resnet20")), fold(trained("vgg_small"))
    assert fits_planes(narrow, "avx2") and fits_planes(fold(trained("resnet20_bireal")), "avx2")
    assert not fits_planes(wide, "avx2")
    assert not any(fits_planes(narrow, path) for path in ("avx512", "neon", "scalar"))


@pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "-")
@pytest.mark.parametrize(("name", "size"), [("resnet20", 32), ("resnet18", 16), ("vgg_small", 16)])
def test_a_large_batch_is_cut_up_and_put_together(name: str, size: int):
    """37 images run in four parts; each has the network's own logits."""
    model, x = trained(name, size=size), torch.randn(37, 3, size, size)
    for _, layer in binary_layers(model):
        layer.packed = False
    small = ru.pack(model, input_size=(3, size, size))
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-4)
    assert small(x[:0]).shape == (0, 10)


@pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "-")
@pytest.mark.parametrize("name", ["resnet20", "vgg_small"])
def test_threads_share_a_large_batch_and_change_no_bit(name: str, threads):
    """32 images run in two parts, one on each thread; torch's threads do not know the caller's modes by themselves."""
    small, x = ru.pack(trained(name, size=16), input_size=(3, 16, 16)), torch.randn(32, 3, 16, 16)
    threads(2)
    logits = small(x)
    with torch.inference_mode():
        assert torch.equal(small(x), logits) and not logits.is_inference()
    threads(1)
    assert torch.equal(small(x), logits)


@pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "-")
def test_an_error_on_a_thread_of_torch_is_the_callers(threads):
    threads(2)
    program = compiled(fold(trained("vgg_small", size=16)), (3, 16, 16), kernels.paths()[0])
    program.code[-1, 1] = 1  # the classifier reads the stem
    with pytest.raises((RuntimeError, IndexError)):
        program(torch.randn(32, 3, 16, 16))


@pytest.mark.skipif(not AVX2, reason="needs AVX2")
def test_a_program_that_does_not_fit_its_tensors_is_refused():
    program = compiled(fold(trained("resnet20")), (3, 32, 32), "avx2")
    program.tensors[5] = program.tensors[5][:-1]
    with pytest.raises(RuntimeError, match="damaged program"):
        program(torch.randn(1, 3, 32, 32))
    with pytest.raises(RuntimeError, match="not for scalar"):
        torch.ops.resteutils.run_planes(torch.randn(1, 3, 32, 32), program.tensors, program.code, 10, "scalar")


@pytest.mark.skipif(not AVX2, reason="needs AVX2")
def test_running_on_planes_is_an_operation_that_torch_can_trace():
    small = compiled(fold(trained("resnet20")), (3, 32, 32), "avx2")
    arguments = (torch.randn(2, 3, 32, 32), small.tensors, small.code, small.classes, small.path)
    torch.library.opcheck(torch.ops.resteutils.run_planes.default, arguments)
