#!/usr/bin/env bash
# Ends a rented GPU machine whose head is gone: without a head nobody gives it work, and nobody ends it.
#
#   head_watch.sh HEAD PORT SECONDS EVERY FILE COMMAND...
#
# It tries to connect to PORT of HEAD every EVERY seconds and runs COMMAND when each attempt of SECONDS has failed. A Ray
# that was started here for another head since wrote that head's ADDRESS:PORT into FILE, which then counts. Time is that of
# the machine's uptime: a clock that is set while it boots ends nothing.
set -u
head=$1 port=$2 seconds=$3 every=$4 file=$5
shift 5

# Prints the uptime in hundredths of a second.
now() {
  read -r uptime _ </proc/uptime
  echo $((10#${uptime/./}))
}

failing_since=
while true; do
  if [[ $(cat "$file" 2>/dev/null) =~ ^([A-Za-z0-9.-]+):([0-9]+)$ ]]; then
    head=${BASH_REMATCH[1]} port=${BASH_REMATCH[2]}
  fi
  if timeout 10 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$head" "$port" 2>/dev/null; then
    failing_since=
  else
    failing_since=${failing_since:-$(now)}
    if (($(now) - failing_since >= seconds * 100)); then
      echo "$head:$port has not answered for $seconds s: $*"
      "$@" && exit
    fi
  fi
  sleep "$every"
done
