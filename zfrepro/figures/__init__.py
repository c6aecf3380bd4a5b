"""Figures in the paper's layout, one module a chapter: tensors and records in, a matplotlib figure out."""
