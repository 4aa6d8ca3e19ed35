"""What may be chosen of a comparison; nothing is imported, for these stand in --help."""

SPLITS = ("validation", "test", "train")
SHOWN = ("median", "trained")
FAMILIES = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
"""How p-values are adjusted, by what is typed."""
