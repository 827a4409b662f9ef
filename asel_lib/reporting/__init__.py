"""Figures and tables, from the results table alone."""
