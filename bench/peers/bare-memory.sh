#!/bin/sh
# The loop on httparse without files: sockets, runtime and parser.
set -eu
case $1 in
  install) test -x "$LAYERS" ;;
  version) echo "layers httparse, in memory" ;;
  files) echo "$LAYERS" ;;
  command) printf '%s\n' "$LAYERS" httparse "$2" memory ;;
esac
