"""Studies: hypotheses, budgets, tuning and seeds in one file, from nothing to verdicts; no torch.

`definition.py` reads the file, `arms.py` turns it into jobs, `tuning.py` chooses settings, `race.py` decides,
`conduct.py` is the whole of it from top to bottom, and `report.py` says what came of it.
"""
