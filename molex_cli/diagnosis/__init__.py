"""What works on this machine, found out in seconds; no torch in this process."""
