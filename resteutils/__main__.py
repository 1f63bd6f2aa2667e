"""`python -m resteutils ...` is `resteutils ...`; the form that torchrun takes (`torchrun -m resteutils train ...`)."""

from resteutils.cli.commands import main

if __name__ == "__main__":
    main()
