"""Plain torch modules that know no settings."""
