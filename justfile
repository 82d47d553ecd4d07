# One word for developers; each line is a plain command.

# Format, lint, types and the quick tests, in the environment at hand.
check: format lint types quick

format:
    ruff format .

lint:
    ruff check --fix .

types:
    mypy

# What needs neither a trained model nor a second process.
quick:
    python -m pytest -m quick -n 2

# The whole suite but for what is marked slow.
test:
    python -m pytest -n 2 --dist worksteal

slow:
    python -m pytest -m slow

# The reference of the commands, from their help pages.
docs:
    python docs/generate.py

ci:
    bash .ci/run
