complete --command molex --arguments '(env COMP_LINE=(commandline --cut-at-cursor --current-process) molex -sc query=fish 2>/dev/null)'
