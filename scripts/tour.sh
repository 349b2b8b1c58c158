#!/usr/bin/env bash
# Runs the README's tour against a running gateway (make run) and upstream (make upstream) and prints commands and answers.
# --write puts the answers into the README instead. --commands only prints the commands, one block after another, for the tests.
set -eu
cd "$(dirname "$0")/.."
mode=${1:-print}
inside=no block= command= answer=
written=$(mktemp)
trap 'rm -f "$written"' EXIT

keep() { printf '%s\n' "$1" >>"$written"; }

while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    '<!-- tour:begin'*) inside=yes ;;
    '<!-- tour:end'*) inside=no ;;
  esac
  if [ $inside = no ]; then keep "$line"; continue; fi
  case $block:$line in
    :'```sh') block=command command= ; keep "$line" ;;
    :'```'?*) block=answer; keep "$line"; [ -z "$answer" ] || keep "$answer" ;;
    command:'```')
      block=; keep "$line"
      if [ "$mode" = --commands ]; then printf '%s\0' "$command"; continue; fi
      # Two answers of one command may stand on one line: each JSON answer gets its own.
      answer=$(bash -c "$command" | tr -d '\r' | sed 's/}{"/}\n{"/g')
      [ "$mode" = --write ] || printf '$ %s\n%s\n\n' "$command" "$answer" ;;
    answer:'```') block=; keep "$line" ;;
    command:*) command+="${command:+$'\n'}$line"; keep "$line" ;;
    answer:*) ;;
    *) keep "$line" ;;
  esac
done <README.md

[ "$mode" != --write ] || cp "$written" README.md
