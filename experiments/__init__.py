"""Ablation drivers: what a table of a paper needs."""
