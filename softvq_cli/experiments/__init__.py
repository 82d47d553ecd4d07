"""Comparisons of many models, called studies.

A *study* is a comparison with rows, columns, data, seeds and a baseline. A *job* is one folder to complete: a model to
train, or a control, and the parts of its evaluation. The *pool* completes jobs, on this machine or on a cluster. A
*report* presents the document of a study.
"""
