"""Scores of saved runs that are no split of a task: lm-evaluation-harness, and the loss on a text."""
