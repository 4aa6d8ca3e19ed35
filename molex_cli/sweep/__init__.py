"""Many runs from one command line: frozen at launch, isolated from each other, told as one."""
