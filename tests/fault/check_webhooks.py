#!/usr/bin/env python3
"""check_webhooks.py: what a witness wrote down, against what there was to tell.

    check_webhooks.py LOG EVENTS

LOG is of webhook_witness.py; a line of EVENTS is `evt_id|sha256 of its body`. Prints a sentence for each
violation, then how many deliveries and how many came again. Ends with 1 where something was violated.
"""
import collections
import sys


def violations(deliveries, events):
    bodies = collections.defaultdict(set)
    for event, sha256, kind, signed, there in deliveries:
        bodies[event].add(sha256)
        if signed != "yes":
            yield f"{event} was not signed with the secret of its endpoint"
        if there != "yes":
            yield f"{event} ({kind}) came before its results could be read"
    for event in sorted(set(events) - set(bodies)):
        yield f"{event} was lost"
    for event in sorted(set(bodies) - set(events)):
        yield f"{event} tells of nothing"
    for event, seen in sorted(bodies.items()):
        if event in events and seen != {events[event]}:
            yield f"{event} came with another body"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        deliveries = [line.rstrip("\n").split("\t") for line in file]
    with open(sys.argv[2], encoding="utf-8") as file:
        events = dict(line.strip().split("|") for line in file)
    found = list(violations(deliveries, events))
    print("\n".join(found + [f"{len(deliveries)} deliveries of {len(events)} events, "
                             f"{len(deliveries) - len({each[0] for each in deliveries})} again"]))
    sys.exit(1 if found else 0)


main()
