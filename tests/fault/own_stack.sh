# own_stack.sh: servers for the long forms of the fault tests: those of MSERVE_POSTGRES_DSN and
# MSERVE_KAFKA_BROKERS, or else a stack of their own in .stack-fault, deleted at the end. And the file
# of results, one JSON object a line. Source it from a script in tests/fault.
# shellcheck shell=bash
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
if [ -z "${MSERVE_POSTGRES_DSN:-}" ] || [ -z "${MSERVE_KAFKA_BROKERS:-}" ]; then
    export MSERVE_STACK_DIR=${MSERVE_STACK_DIR:-$tree/.stack-fault}
    "$tree/scripts/stack" start >&2 || exit
    stack_exports=$("$tree/scripts/stack" env) && eval "$stack_exports" || exit
    trap '"$tree/scripts/stack" delete >&2' EXIT
    trap 'exit 130' INT TERM
fi

# What a result is worth depends on these two.
cpu_name() { sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo | tr -d '"\\'; }
commit_name() { # with a mark where the tree is not as committed
    git -C "$tree" describe --always --abbrev=12 --dirty --exclude '*' 2>/dev/null || echo unknown
}
