#!/bin/sh
# The bare loop: recv into 256 KiB and write to a file, a thread per connection. Not a tus server:
# what the same bytes cost with everything left out. Built with the load generator.
set -eu
case $1 in
  install) test -x "$LOADGEN" ;;
  version) echo "of the load generator" ;;
  files) echo "$LOADGEN" ;;
  command) printf '%s\n' "$LOADGEN" bare-loop "$2" "$3" ;;
esac
