"""Imported, it makes the networks of this process small for good."""

from tests.helpers.runs import shrunk_networks

_small = shrunk_networks()
_small.__enter__()
