"""The chapters: one folder each, with its notebook and what the notebook calls."""
