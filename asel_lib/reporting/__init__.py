"""Figures and tables, from the results table alone."""

from asel_lib.extras import need

need("figures", "matplotlib")
