"""Comparisons of many models, in four words.

A *study* is a comparison: rows, columns, data, seeds, a baseline. A *job* is one folder to be completed: a model to
train, or a control, and the parts of its evaluation. The *pool* completes jobs, here or on a cluster. A *report* is
what a study's document is written to.
"""
