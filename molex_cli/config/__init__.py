"""Settings: the schema, the command line, the id of a run."""
