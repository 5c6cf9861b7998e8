#!/bin/sh
# Uploads a file by curl: URL PATH. After each failure, HEAD returns the offset and PATCH sends the rest, without a pause.
set -u
endpoint=$1
path=$2
size=$(stat -c %s "$path")
tus() { curl -sS --fail -H 'Tus-Resumable: 1.0.0' -H 'Expect:' "$@"; }
# field NAME: the value of a field of a response.
field() { tr -d '\r' | sed -n "s/^$1: //Ip"; }

url=
until [ -n "$url" ]; do
  url=$(tus -X POST -H "Upload-Length: $size" -D - -o /dev/null "$endpoint" | field Location)
done
offset=0
until [ "$offset" = "$size" ]; do
  tail -c "+$((offset + 1))" "$path" |
    tus -X PATCH -H "Upload-Offset: $offset" -H 'Content-Type: application/offset+octet-stream' -T - "$url"
  offset=
  until [ -n "$offset" ]; do
    offset=$(tus -I "$url" | field Upload-Offset)
  done
done
