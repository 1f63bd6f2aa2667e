"""What is measured of GPUs: an acceptance run for where there is one, and counts on a runtime that computes nothing.

python -m benchmarks.gpu results/gpu/NAME           nine sections, under eight minutes on one H200
python -m benchmarks.gpu results/gpu/NAME --fake    the same without a GPU: whether it runs, no numbers
python -m benchmarks.gpu.material                   the images and the CPU's history, made before, where CIFAR-10 is
"""
