compdef -d molex; unfunction _molex
