complete -r molex; unset -f _molex
