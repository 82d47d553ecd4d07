"""Benchmarks: the speed of softvq, compared with the limits of the machine and with other programs.

    python -m benchmarks            # everything; about half an hour on two cores
    python -m benchmarks --quick    # tiny sizes, only to check that it runs
    python -m benchmarks --threads 1 --clock cpu step    # one section, in processor time

``pip install -e '.[bench]'`` installs the other programs; those that are missing are skipped and reported.
"""
