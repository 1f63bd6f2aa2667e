import tyro

from benchmarks import main

tyro.cli(main)
