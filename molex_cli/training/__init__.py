"""The loop, the evaluation around it, the state a run resumes from, its summary."""
