"""quiet.py: how busy the machine was with other things while a program of ours ran.

    with Watch() as watch:
        subprocess.run(...)
    watch.others      share of all cores' time that was used by neither us nor our children
"""
import os
import resource
import time

LIMIT = 0.03  # a run is quiet while others use less than this share of the machine


def _busy_and_all():
    """Ticks of all cores since the machine started: not idle, and all. Stolen time is not idle."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _own_seconds():
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in own)


class Watch:
    """Children count when they have been waited for; `also` gives seconds of processes that are none."""

    def __init__(self, also=lambda: 0.0):
        self.also = also
        self.others = 0.0

    def __enter__(self):
        self._busy, self._all = _busy_and_all()
        self._own = _own_seconds() + self.also()
        return self

    def __exit__(self, *_):
        busy, total = _busy_and_all()
        own = (_own_seconds() + self.also() - self._own) * os.sysconf("SC_CLK_TCK")
        if total > self._all:
            self.others = max(0.0, busy - self._busy - own) / (total - self._all)

    @property
    def quiet(self):
        return self.others < LIMIT


def wait_for_quiet(seconds):
    """Returns when two seconds in a row were quiet, or after `seconds`; True when it is quiet."""
    end = time.monotonic() + seconds
    while True:
        with Watch() as watch:
            time.sleep(2)
        if watch.quiet or time.monotonic() > end:
            return watch.quiet
