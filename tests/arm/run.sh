#!/bin/sh
# The NEON path without an ARM machine: a Python, a torch and the compiled kernels for aarch64, run by qemu-user. Slow, and
# good for results only, never for speed. Needs Debian 12's qemu-user and g++-aarch64-linux-gnu; nothing is installed, all of
# it lies in a folder outside the checkout, which the next call finds again. Called by `make test-arm`.
set -eu
cd "$(dirname "$0")/../.."
python=$(command -v "${PYTHON:-.venv/bin/python}")
work=${XDG_CACHE_HOME:-$HOME/.cache}/resteutils/arm
version=3.11 # of Debian 12's Python
torch="torch==2.9.1 torchvision==0.24.1" # whose wheels for this processor come without CUDA, unlike those of 2.14.1

for program in qemu-aarch64 aarch64-linux-gnu-g++ dpkg-deb; do
  command -v "$program" >/dev/null || { echo "test-arm: no $program; on Debian 12: apt-get install qemu-user g++-aarch64-linux-gnu" >&2; exit 1; }
done

if [ ! -e "$work/ready" ]; then
  echo "== Python $version and torch for aarch64, once, about 250 MB, into $work"
  rm -rf "$work"
  mkdir -p "$work/root" "$work/apt/lists/partial" "$work/apt/archives/partial"
  apt="apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State=$work/apt -o Dir::State::status=/dev/null
    -o Dir::Cache=$work/apt -o APT::Sandbox::User= -o APT::Install-Recommends=0 -o Debug::NoLocking=1"
  # shellcheck disable=SC2086  # options are words
  $apt update
  # shellcheck disable=SC2086
  $apt --download-only install "libpython$version-stdlib" "python$version-minimal" libstdc++6
  for package in "$work"/apt/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  # pip reads the markers of dependencies for this machine, not for the other: every package is therefore named
  # shellcheck disable=SC2086
  "$python" -m pip install --quiet --no-deps --only-binary=:all: --target "$work/site" --python-version "$version" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_26_aarch64 \
    --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    $torch numpy pandas python-dateutil six safetensors pillow filelock typing-extensions setuptools sympy mpmath networkx \
    jinja2 markupsafe fsspec packaging tqdm hypothesis sortedcontainers pytest pluggy iniconfig pygments
  touch "$work/ready"
fi

PATH=$(cd "$(dirname "$python")" && pwd):$PATH # ninja
export PATH
export PYTHONHOME=/usr PYTHONPATH="$work/site:$PWD" PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=
export CXX=aarch64-linux-gnu-g++ XDG_CACHE_HOME="$work" OMP_NUM_THREADS=1
emulated="qemu-aarch64 -L $work/root $work/root/usr/bin/python$version"
$emulated -c 'import torch; from resteutils import kernels; print("==", torch.__version__, kernels.paths(), kernels.why_not())'
# Left out: tests that start a second Python, which this machine's system could not run.
# shellcheck disable=SC2086
$emulated -m pytest -q -o addopts= -p no:cacheprovider tests/kernels/test_kernels.py -k "not compiler and not switched_off and not importing" ${PYTEST_ARGS:-}
