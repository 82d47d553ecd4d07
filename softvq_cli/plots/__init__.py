"""Figures for papers: functions that draw arrays to a file, one module per kind of figure."""
