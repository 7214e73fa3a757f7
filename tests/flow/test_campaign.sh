#!/usr/bin/env bash
# A small campaign: 60 kills of workers, schedulers and submitters while jobs run, or on a slow machine as
# many as three minutes have room for. The long form is tests/fault/campaign itself.
exec "$(dirname "$0")/../fault/campaign" --kills 60 --minutes 3 --results /dev/null
