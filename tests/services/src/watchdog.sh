# watchdog FOLDER SIGNAL PROGRAM [ARGUMENT]...: runs a program until standard input ends, which it does
# when the process at the other end of the pipe is gone: killed, panicked or done. Then the program gets
# SIGNAL, nothing of it is left, nor of its folder. The program writes to FOLDER/log.
dir=$1
signal=$2
shift 2
exec 3<&0
"$@" 3<&- </dev/null >"$dir/log" 2>&1 &
service=$!
trap '' HUP INT TERM
(
  read -r _ <&3
  : >"$dir/over"
  kill -"$signal" "$service"
  # One that takes its time is not waited for any longer.
  tries=100
  while [ $((tries -= 1)) -gt 0 ] && kill -0 "$service"; do sleep 0.1; done
  kill -KILL "$service"
) 2>/dev/null &
guard=$!
wait "$service" 2>/dev/null
if [ ! -e "$dir/over" ]; then
  echo "$1 exited unexpectedly; its last output:" >&2
  tail -n 20 "$dir/log" >&2
fi
kill -KILL "$guard" 2>/dev/null
rm -rf "$dir"
