"""Figures fit for a paper: functions that take arrays and write a file, one kind of figure a module."""
