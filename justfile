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

# The generated pages, then the site, with strict links.
docs:
    python docs/generate.py
    mkdocs build --strict --config-file .mkdocs.yml

ci:
    bash .ci/run

# The quick tests with the lowest versions that pyproject.toml admits; it needs uv. Run it before a release.
lowest:
    .ci/lowest

# Wheel and source distribution in dist/, checked; it needs build, twine and check-wheel-contents.
package:
    .ci/package
