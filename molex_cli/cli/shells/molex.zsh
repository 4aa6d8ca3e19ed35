(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_molex() {
    local -a found open
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    found=(${(f)"$(COMP_LINE=$line "$words[1]" -sc query=zsh 2>/dev/null)"})
    open=(${(M)found:#*[=/.]})
    found=(${found:#*[=/.]})
    (( $#open )) && compadd -S '' -- $open
    (( $#found )) && compadd -- $found
    (( $#open + $#found )) || _files
}
compdef _molex molex
