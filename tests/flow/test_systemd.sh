#!/usr/bin/env bash
# The unit file that ships: systemd understands it, and it leaves a worker the time that it takes.
. "$(dirname "$0")/lib.sh"

unit=$tree/deploy/systemd/mserve-worker@.service
mkdir "$work/units"
sed "s|/usr/bin/mserve-worker|$(readlink -f "$MSERVE_BIN")/consumer/mserve-worker|" "$unit" >"$work/units/mserve-worker@.service"
if command -v systemd-analyze >/dev/null; then
    is "$(systemd-analyze --man=no verify "$work/units/mserve-worker@demo.service" 2>&1 | grep -F mserve-worker)" "" "systemd finds nothing wrong with it"
    echo "Restart=sometimes" >>"$work/units/mserve-worker@.service"
    sed -i '/^\[Install\]/,$d; s/^Restart=.*/Restart=sometimes/' "$work/units/mserve-worker@.service"
    like "$(systemd-analyze --man=no verify "$work/units/mserve-worker@demo.service" 2>&1)" "sometimes" "and would say so"
else
    skip unit_file "systemd-analyze is not installed"
fi
drain_s=$(sed -n 's/^  # drain: \([0-9]*\)s$/\1/p' "$tree/config/mserve.yaml")
stop_s=$(sed -n 's/^TimeoutStopSec=\([0-9]*\)s$/\1/p' "$unit")
ok "it waits longer than a drain takes" [ "$stop_s" -gt "$drain_s" ]
done_testing
