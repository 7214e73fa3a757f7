#!/usr/bin/env bash
# A small campaign: 60 kills at least, of workers, schedulers and submitters, while jobs run. The long
# form is tests/fault/campaign itself.
exec "$(dirname "$0")/../fault/campaign" --kills 60 --minutes 3 --results /dev/null
