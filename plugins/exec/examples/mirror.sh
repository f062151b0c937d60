#!/bin/sh
# A profilesync plugin that keeps every profile as a JSON file in a folder.
#
#     sh mirror.sh FOLDER
#
# Any POSIX shell will do, and needs no JSON parser: the hello below asks for requests as lines (PROTOCOL.md, "Lines"). To
# write to something else, change `put`, `get` and `check`. Try it with
#
#     profilesync plugin test -- sh mirror.sh /tmp/try
set -u
LC_ALL=C
export LC_ALL

folder=${1:?usage: mirror.sh FOLDER}
umask 077

# Where an account is kept. Its name is anything at all, and longer than a file name may be: as hexadecimal digits it cannot
# mean anything to the file system.
place() {
    hex=$(printf '%s' "$account" | od -An -v -tx1 | tr -d ' \n' | fold -w 200)
    file=$folder/$sdk_app_id/$(printf '%s' "$hex" | tr '\n' /)
}

# The revision in a file's first line; 0 when there is none.
revision_in() {
    held=0
    [ ! -f "$1" ] || read -r held <"$1"
}

# Holds the document, unless a newer one is held. A destroyed account's document stays too: it says "destroyed", which counts
# as nothing held, and its revision keeps an older document from coming back.
put() {
    # What `profilesync plugin test` wants refused, to see that no other is taken along.
    if [ "$account" = "${PROFILESYNC_TEST_REJECT-}" ]; then
        outcome=rejected reason='it is the one to be refused'
        return
    fi
    place
    revision_in "$file.json"
    if [ "$revision" -gt "$held" ]; then
        mkdir -p "${file%/*}" &&
            printf '%s\n%s\n' "$revision" "$document" >"$file.new" &&
            sync "$file.new" &&
            mv "$file.new" "$file.json" || {
            outcome=fault reason='the file cannot be written, see the log'
            return
        }
    fi
    outcome=delivered
}

# What is held of the account: JSON, or null.
get() {
    place
    json=null
    [ ! -f "$file.json" ] || { read -r held && IFS= read -r json; } <"$file.json"
}

# Is the outside reachable? This makes nothing: `check --probe` may be run by another user.
check() {
    outcome=ok
    existing=$folder
    until [ -e "$existing" ]; do existing=$(dirname -- "$existing"); done
    { [ -d "$existing" ] && [ -w "$existing" ]; } || outcome=fault reason='the folder cannot be written to'
}

answer() {
    case $outcome in
    delivered | ok) printf '{"id":%s,"outcome":"%s"}\n' "$id" "$outcome" ;;
    # `reason` is one of the texts above. A text of others would have to be escaped for JSON.
    *) printf '{"id":%s,"outcome":"%s","reason":"%s"}\n' "$id" "$outcome" "$reason" ;;
    esac
}

read -r hello # which protocol, which target
printf '{"protocol":1,"format":"lines","revisions":true,"read_back":true}\n'

# A request is a block of lines, each a name, a space and a value, and ends with an empty line. Texts are escaped for
# `printf %b`; `account` is used as it comes, for it only has to be the same each time.
while IFS= read -r line; do
    value=${line#* }
    case $line in
    'deliver '* | 'read '* | 'probe '*) request=${line%% *} id=$value ;;
    'sdk_app_id '*) sdk_app_id=$value ;;
    'account '*) account=$value ;;
    'revision '*) revision=$value ;;
    'document '*) document=$value ;;
    '')
        case $request in
        deliver)
            put
            answer
            ;;
        read)
            get
            printf '{"id":%s,"held":%s}\n' "$id" "$json"
            ;;
        probe)
            check
            answer
            ;;
        esac
        ;;
    esac
done
