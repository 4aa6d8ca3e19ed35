_molex() {
    local cur=${COMP_LINE:0:COMP_POINT} IFS=$'\n' reply
    cur=${cur##*[[:space:]]}
    COMPREPLY=()
    # bash takes what stands behind a `=` or `:` for a word of its own.
    local before=
    if [[ $COMP_WORDBREAKS == *=* && $cur == *=* ]]; then before=${cur%"${cur##*=}"}; fi
    if [[ $COMP_WORDBREAKS == *:* && ${cur#"$before"} == *:* ]]; then before=${cur%"${cur##*:}"}; fi
    while read -r reply; do
        reply=${reply#"$before"}
        [[ $reply == *[[:space:]\'\"\&\;\(\)]* ]] && printf -v reply %q "$reply"
        [[ $reply == *[=/.] ]] || reply="$reply "
        COMPREPLY+=("$reply")
    done < <(COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT "${COMP_WORDS[0]}" -sc query=bash 2>/dev/null)
}
complete -o nospace -o default -F _molex molex
