"""Importing this module makes the networks of the process small permanently."""

from tests.helpers.runs import shrunk_networks

_small = shrunk_networks()
_small.__enter__()
