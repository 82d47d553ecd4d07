"""How fast it is, compared with what the machine can do and with other programs.

    python -m benchmarks            # everything; about half an hour on two cores
    python -m benchmarks --quick    # tiny sizes, only to see that it runs
    python -m benchmarks --threads 1 --clock cpu step    # one section, in processor time

``pip install -e '.[bench]'`` adds the peers that are not needed otherwise; what is missing is left out and named.
"""
