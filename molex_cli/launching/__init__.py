"""Many runs from one command line, and runs in several processes."""
