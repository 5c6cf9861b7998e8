#!/bin/sh
# A server with only the lower layers of Landfall: LAYER is hyper, httparse or memory (see bench/layers).
set -eu
case $1 in
  install) test -x "$LAYERS" ;;
  version) echo "layers $LAYER" ;;
  files) echo "$LAYERS" ;;
  command) printf '%s\n' "$LAYERS" "$LAYER" "$2" "$3" ;;
esac
