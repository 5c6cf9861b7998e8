#!/bin/sh
# The same with httparse and a loop in the place of hyper.
set -eu
case $1 in
  install) test -x "$LAYERS" ;;
  version) echo "layers httparse" ;;
  files) echo "$LAYERS" ;;
  command) printf '%s\n' "$LAYERS" httparse "$2" "$3" ;;
esac
