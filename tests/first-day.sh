#!/usr/bin/env bash
# What a new user of each original does on the first day, with that original's own clients: about five steps a job.
# usage: [GANTRY=BINARY] tests/first-day.sh [JOB…]     (default: the development build, all jobs of tests/first-day/)
# Prints a row per job and ends with 1 when a step failed. A job whose clients are missing says `skipped: X not found`.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
if [ -z "${GANTRY:-}" ]; then
  cargo build --quiet || exit 1
  GANTRY=${CARGO_TARGET_DIR:-target}/debug/gantry
fi
GANTRY=$(realpath "$GANTRY")
PYTHON=${GANTRY_TEST_PYTHON:-python3}
work=$(mktemp -d)
export NO_COLOR=1

# Everything a job starts in the background; ended by pid, last started first.
started=()
background() { "$@" & started+=("$!"); }
end_all() {
  local index
  for ((index = ${#started[@]} - 1; index >= 0; index--)); do
    kill -TERM "${started[index]}" 2>/dev/null && wait "${started[index]}" 2>/dev/null
  done
  started=()
}
trap 'end_all; rm -rf "$work"' EXIT

# step WHAT COMMAND…: one thing the user does. Its output is shown when it fails; what it sets stays set.
step() {
  local what=$1
  shift
  steps=$((steps + 1))
  if "$@" >"$work/step.log" 2>&1; then
    passed=$((passed + 1))
  else
    printf '  failed: %s: %s\n%s\n' "$job" "$what" "$(tail -n 15 "$work/step.log" | sed 's/^/    /')"
  fi
}

# eventually SECONDS COMMAND…: until it succeeds.
eventually() {
  local until=$((SECONDS + $1)) output
  shift
  until output=$("$@" 2>&1); do
    [ "$SECONDS" -lt "$until" ] || { printf '%s\n' "$output"; return 1; }
    sleep 0.2
  done
  printf '%s\n' "$output"
}

# says PATTERN COMMAND…: its output matches the extended regular expression.
says() {
  local pattern=$1 output
  shift
  output=$("$@" 2>&1) || { printf '%s\n' "$output"; return 1; }
  grep -Eq -- "$pattern" <<<"$output" || { printf 'no %s in\n%s\n' "$pattern" "$output"; return 1; }
}

# refuses PATTERN COMMAND…: it fails and says why.
refuses() {
  local pattern=$1 output
  shift
  if output=$("$@" 2>&1); then printf 'accepted:\n%s\n' "$output"; return 1; fi
  grep -Eq -- "$pattern" <<<"$output" || { printf 'no %s in\n%s\n' "$pattern" "$output"; return 1; }
}

# needs PROGRAM…: ends the job with a note when one is missing.
needs() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || { missing=$program; return 1; }
  done
}

# bring_up NAME DIR: a `gantry up`; sets $kubeconfig, $gateway, $metrics, $console, $api_server.
bring_up() {
  local log=$work/$1.log
  background "$GANTRY" up "$2" --data-dir "$work/$1" --ports auto --output json >"$log" 2>"$log.err"
  eventually 120 grep -q '"ready":true' "$log" >/dev/null || { cat "$log" "$log.err"; return 1; }
  eval "$(python3 - "$log" <<'PY'
import json, sys
report = next(line for line in map(json.loads, open(sys.argv[1])) if line.get("ready"))
for variable, name in ("api_server", "apiServer"), ("gateway", "gateway"), ("metrics", "metrics"), ("console", "console"):
    print(f"{variable}={report['addresses'][name]}")
print(f"kubeconfig={report['kubeconfig']}")
PY
)"
  export KUBECONFIG=$kubeconfig
}

# all_passed: every step of a job that has some; a job without steps has shown nothing.
all_passed() { [ "$steps" -gt 0 ] && [ "$passed" = "$steps" ]; }

# free_port: a port that nothing holds.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# A name that is no job would run nothing and look like success.
for wanted in "$@"; do
  compgen -G "tests/first-day/[0-9][0-9]-$wanted.sh" >/dev/null || {
    echo "error: no job $wanted in tests/first-day, there are:" tests/first-day/*.sh >&2
    exit 1
  }
done

failures=0
rows=()
for file in tests/first-day/*.sh; do
  job=$(basename "$file" .sh)
  job=${job#*-}
  if [ $# -gt 0 ] && [[ " $* " != *" $job "* ]]; then continue; fi
  steps=0 passed=0 missing=
  # shellcheck source=/dev/null
  source "$file"
  end_all
  unset KUBECONFIG
  if [ -n "$missing" ]; then
    rows+=("$(printf '%-14s %7s   skipped: %s not found' "$job" - "$missing")")
  else
    rows+=("$(printf '%-14s %3d of %-3d %s' "$job" "$passed" "$steps" "$(all_passed && echo ok || echo FAILED)")")
    all_passed || failures=$((failures + 1))
  fi
done
printf '\n%-14s %s\n' job steps
printf '%s\n' "${rows[@]}"
[ "$failures" = 0 ]
