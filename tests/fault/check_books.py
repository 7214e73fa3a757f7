"""I3 and I11: every nanosecond that a device was held is somewhere, once; and what was begun again is
bounded. Each function yields a sentence per violation."""
import json
from collections import defaultdict

from check_evidence import batch, worker_name

# held + taken over = the sum of these
ACCOUNTS = ("rows_ns", "handed_over_ns", "wip_ns", "shared_ns", "recompute_ns", "overhead_ns",
            "idle_ns", "lost_ns")


def sums(rows, key, *columns):
    """key(row) -> the sums of these columns."""
    total = defaultdict(lambda: dict.fromkeys(columns, 0))
    for row in rows:
        for column in columns:
            total[key(row)][column] += getattr(row, column)
    return total


def unexplained(entry):
    return entry.held_ns + entry.taken_over_ns - sum(getattr(entry, a) for a in ACCOUNTS)


# ---- I3: per worker

def ledger_rows_balance(e):
    for entry in e.worker_ledger:
        if unexplained(entry) != 0:
            figures = ", ".join(f"{a.removesuffix('_ns')} {getattr(entry, a)}" for a in ACCOUNTS)
            yield (f"{worker_name(e, entry.worker)} commit {entry.seq} held {entry.held_ns} ns and took"
                   f" over {entry.taken_over_ns} ns, and {unexplained(entry)} ns of it are in no"
                   f" account ({figures})")
        for account in ("held_ns", "taken_over_ns", *ACCOUNTS):
            if account != "wip_ns" and getattr(entry, account) < 0:
                yield (f"{worker_name(e, entry.worker)} commit {entry.seq} booked"
                       f" {getattr(entry, account)} ns as {account.removesuffix('_ns')}")


def workers_are_as_their_ledger(e):
    for worker in e.workers:
        entries = e.ledger_of[worker.worker]
        name = worker_name(e, worker.worker)
        held, wip = (sum(getattr(l, c) for l in entries) for c in ("held_ns", "wip_ns"))
        if worker.booked_ns != held:
            yield f"{name} says it booked {worker.booked_ns} ns, and its ledger rows held {held} ns"
        if worker.wip_ns != wip:
            yield f"{name} says {worker.wip_ns} ns are in progress, and its ledger rows say {wip} ns"
        by_job = sum(wip_of_jobs(worker).values())
        if worker.wip_ns != by_job:
            yield f"{name} says {worker.wip_ns} ns are in progress, and by job {by_job} ns"
        if worker.closed_at is not None and (worker.wip_ns != 0 or worker.reported_ns != worker.booked_ns):
            yield (f"{name} is closed with {worker.wip_ns} ns in progress and"
                   f" {worker.reported_ns - worker.booked_ns} ns reported and not booked")


def wip_of_jobs(worker):
    return {job: int(ns) for job, ns in json.loads(worker.wip_jobs or "{}").items()}


def commits_cost_what_their_rows_cost(e):
    """Of each commit: the rows that it wrote, by their time, cost what it booked as rows."""
    rows_of = defaultdict(list)
    for row in e.results:
        if row.worker:
            rows_of[row.worker].append(row)
        elif row.gpu_ns:
            yield f"{batch(row.job)} line {row.line} cost {row.gpu_ns} ns, and no worker wrote it"
    for worker in rows_of.keys() | e.ledger_of.keys():
        rows = sorted(rows_of[worker], key=lambda r: r.finished_at)
        at = 0
        for entry in e.ledger_of[worker]:
            cost = 0
            while at < len(rows) and rows[at].finished_at <= entry.at:
                cost += rows[at].gpu_ns
                at += 1
            if cost != entry.rows_ns:
                yield (f"{worker_name(e, worker)} commit {entry.seq} booked {entry.rows_ns} ns as rows,"
                       f" and the rows of that commit cost {cost} ns")
        for row in rows[at:]:
            yield (f"{batch(row.job)} line {row.line} is of {worker_name(e, worker)} and later than its"
                   f" last commit: no ledger row has booked its {row.gpu_ns} ns")


# ---- I3: in total, and what lies in between

def total_is_explained(e):
    total = {c: sum(getattr(l, c) for l in e.worker_ledger) for c in ("held_ns", "taken_over_ns", *ACCOUNTS)}
    on_rows = sum(row.gpu_ns for row in e.results)
    rest = (total["held_ns"] + total["taken_over_ns"] - on_rows
            - sum(total[a] for a in ACCOUNTS if a != "rows_ns"))
    if rest != 0:
        yield (f"{total['held_ns']} ns were held and {on_rows} ns are on result rows; with all other"
               f" accounts {rest} ns are unexplained")


def checkpoints_hold_what_was_handed_over(e):
    handed, taken = (sum(getattr(l, c) for l in e.worker_ledger)
                     for c in ("handed_over_ns", "taken_over_ns"))
    held = sum(c.gpu_ns for c in e.checkpoints)
    if handed - taken != held:
        yield (f"{handed} ns were handed over and {taken} ns taken over, so checkpoints should hold"
               f" {handed - taken} ns, and they hold {held} ns")


def attempts_are_in_the_ledger(e):
    lost = {(l.worker, l.seq): l.lost_ns for l in e.worker_ledger}
    for (worker, seq), of in sums(e.attempts, lambda a: (a.worker, a.seq), "gpu_ns").items():
        if of["gpu_ns"] == 0:
            continue # a burial that had nothing to book names the last commit, if there was one
        if (worker, seq) not in lost:
            yield (f"attempts of {of['gpu_ns']} ns name commit {seq} of {worker_name(e, worker)}, and"
                   " there is no such ledger row")
        elif of["gpu_ns"] > lost[worker, seq]:
            yield (f"{worker_name(e, worker)} commit {seq} booked {lost[worker, seq]} ns as lost, and"
                   f" its attempts lost {of['gpu_ns']} ns")


# ---- I3: per job

COUNTS = ("completed", "failed", "cancelled", "expired")
OF_ROWS = {"input_tokens": "input_tokens", "cached_tokens": "cached_tokens",
           "output_tokens": "output_tokens", "rows_ns": "gpu_ns"}


def folded(e):
    """job -> its figures with the deltas that wait to be folded."""
    columns = (*COUNTS, *OF_ROWS, "shared_ns", "recompute_ns", "lost_ns")
    return sums([*e.jobs, *e.job_deltas], lambda r: r.job, *columns)


def jobs_are_as_their_rows(e):
    figures = folded(e)
    for job in figures.keys() | e.rows_of.keys():
        rows = e.rows_of[job].values()
        for status in COUNTS:
            count = sum(row.status == status for row in rows)
            if figures[job][status] != count:
                yield (f"{batch(job)} counts {figures[job][status]} {status} rows with all deltas, and"
                       f" has {count}")
        for column, of_row in OF_ROWS.items():
            total = sum(getattr(row, of_row) for row in rows)
            if figures[job][column] != total:
                yield (f"{batch(job)} counts {figures[job][column]} {column} with all deltas, and its"
                       f" rows have {total}")


def jobs_bear_what_the_ledger_says(e):
    figures = folded(e)
    for column in ("shared_ns", "recompute_ns"):
        ledger = sum(getattr(l, column) for l in e.worker_ledger)
        jobs = sum(figures[job][column] for job in figures)
        if ledger != jobs:
            yield (f"the ledger booked {ledger} ns as {column.removesuffix('_ns')}, and the jobs bear"
                   f" {jobs} ns of it")
    ledger = sum(l.lost_ns for l in e.worker_ledger)
    jobs = sum(figures[job]["lost_ns"] for job in figures)
    if jobs > ledger:
        yield f"the ledger booked {ledger} ns as lost, and the jobs bear {jobs} ns"
    yield from lost_is_told_by_attempts(e, figures)


def lost_is_told_by_attempts(e, figures):
    """What a job lost is the sum of the attempts that lost it."""
    told = sums(e.attempts, lambda a: a.job, "gpu_ns")
    for job in figures.keys() | told.keys():
        if figures[job]["lost_ns"] != told[job]["gpu_ns"]:
            yield (f"{batch(job)} lost {figures[job]['lost_ns']} ns, and its attempts tell of"
                   f" {told[job]['gpu_ns']} ns")


# ---- I11: what is begun again

def attempts_are_bounded(e):
    most = e.options.attempts_max
    if most is None and e.options.kills is not None:
        most = e.options.kills + 1
    for row in e.results:
        if row.attempt < 1 or (most is not None and row.attempt > most):
            yield (f"{batch(row.job)} line {row.line} was done by attempt {row.attempt}, and"
                   f" {'attempts count from 1' if row.attempt < 1 else f'at most {most} are allowed'}")
    for attempt in e.attempts:
        if most is not None and attempt.attempt is not None and attempt.attempt > most:
            yield (f"{batch(attempt.job)} line {attempt.line} lost attempt {attempt.attempt}, and at"
                   f" most {most} are allowed")


def tokens_are_sampled_once(e):
    """All that was sampled is on rows and checkpoints, but for an interval at each kill; and nothing
    is on rows that nobody sampled."""
    interval, kills = e.options.interval_tokens, e.options.kills or 0
    if interval is None:
        return
    sampled = sum(l.sampled for l in e.worker_ledger)
    on_rows = sum(row.output_tokens for row in e.results)
    kept = on_rows + sum(c.tokens for c in e.checkpoints)
    if sampled > kept + kills * interval:
        yield (f"{sampled} tokens were sampled, and {kept} are kept: {kills} kills of {interval} tokens"
               f" each explain {kills * interval} of the {sampled - kept} that are not")
    if sampled < on_rows:
        yield f"{on_rows} tokens are on rows, and only {sampled} were sampled"


def resumed_requests_go_on(e):
    """A request that went on in a checkpoint began above 0, and behind what earlier attempts kept."""
    kept = defaultdict(int)
    for attempt in e.attempts:
        if attempt.line is not None and attempt.tokens_kept and attempt.why != "unusable":
            kept[attempt.job, attempt.line] = max(kept[attempt.job, attempt.line], attempt.tokens_kept)
    unusable = {(a.job, a.line) for a in e.attempts if a.why == "unusable"}
    for row in e.results:
        if row.resumed_tokens > row.output_tokens and row.status == "completed":
            yield (f"{batch(row.job)} line {row.line} has {row.output_tokens} tokens, and"
                   f" {row.resumed_tokens} of them from earlier attempts")
        if row.resumed_tokens > 0 and row.attempt < 2:
            yield (f"{batch(row.job)} line {row.line} went on at token {row.resumed_tokens}, and says"
                   " it is a first attempt")
        behind = kept[row.job, row.line]
        if (row.status == "completed" and row.resumed_tokens < behind
                and (row.job, row.line) not in unusable):
            yield (f"{batch(row.job)} line {row.line} began at token {row.resumed_tokens} in attempt"
                   f" {row.attempt}, and an earlier attempt had kept {behind} tokens")
