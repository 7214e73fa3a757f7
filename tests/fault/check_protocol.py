"""I4, I5, I6 and I10: everything ends, nobody writes what is not his, offsets told to Kafka are true,
nothing is left over. Each function yields a sentence per violation."""
import json
from collections import defaultdict

from check_evidence import batch, chunk_of, worker_name
from check_rows import FINAL, some

SECOND = 1_000_000 # of the tables' microseconds
FRESH = 5 * SECOND # a job that was sealed so short a time ago may not have been noticed yet
TEMPORARY_MAX = 8 # tables of one session; a commit has two


# ---- I4: what was accepted ends

def accepted_jobs_end(e):
    for job in e.accepted.values():
        if job.state not in FINAL:
            done = job.completed + job.failed + job.cancelled + job.expired
            missing = [c.chunk for c in e.chunks_of[job.job] if c.missing]
            yield (f"{batch(job.job)} is still {job.state}: {done} of {job.lines} lines are counted"
                   + (f", chunks {some(missing)} are missing" if missing else ""))
        elif getattr(job, f"{job.state}_at") is None:
            yield f"{batch(job.job)} is {job.state}, and {job.state}_at is null"


def ended_jobs_ended_as_they_must(e):
    """A state follows from the rows: a wish that came true, or none."""
    for job in e.accepted.values():
        rows = [row.status for row in e.rows_of[job.job].values()]
        if job.state == "completed" and ("cancelled" in rows or "expired" in rows):
            yield f"{batch(job.job)} is completed, and has cancelled or expired rows"
        if job.state == "expired" and "expired" not in rows:
            yield f"{batch(job.job)} is expired, and has no expired row"
        if "cancelled" in rows and job.wish != "cancel":
            yield f"{batch(job.job)} has cancelled rows, and nobody asked for that (its wish is {job.wish})"
        if "expired" in rows and job.wish != "expire":
            yield f"{batch(job.job)} has expired rows, and its wish is {job.wish}"


def progress_is_folded(e):
    if e.job_deltas:
        jobs = {batch(d.job) for d in e.job_deltas}
        yield f"{len(e.job_deltas)} deltas were never folded, of {some(jobs)}"


def the_dead_are_buried(e):
    for worker in e.workers:
        late = e.now - worker.lease_until
        if worker.closed_at is None and late > 3 * worker.lease_ms * 1000 + 10 * SECOND:
            yield (f"{worker_name(e, worker.worker)} is open, and its lease ran out"
                   f" {late // SECOND} s ago")
    for part in e.partitions:
        owner = e.worker.get(part.owner)
        if part.owner and (owner is None or owner.closed_at is not None):
            yield f"{part.topic}/{part.part} is owned by {worker_name(e, part.owner)}, which is closed"


# ---- I5: only the holder writes

def commits_are_numbered_without_gaps(e):
    for worker in e.workers:
        numbers = [l.seq for l in e.ledger_of[worker.worker]]
        if numbers != list(range(1, len(numbers) + 1)):
            gap = next(i for i, n in enumerate(numbers + [None], 1) if n != i)
            yield f"{worker_name(e, worker.worker)} has no commit {gap} between its {len(numbers)} ledger rows"
        if worker.ledger_seq != (numbers[-1] if numbers else 0):
            yield (f"{worker_name(e, worker.worker)} says its last commit is {worker.ledger_seq}, and its"
                   f" last ledger row is {numbers[-1] if numbers else 'none'}")
    for unknown in e.ledger_of.keys() - e.worker.keys():
        if e.ledger_of[unknown]:
            yield f"{len(e.ledger_of[unknown])} ledger rows are of {unknown}, which is no worker"


def nobody_writes_after_the_end(e):
    """Neither a commit nor a row of a worker is later than its burial, or earlier than itself."""
    for worker in e.workers:
        last = 0
        for entry in e.ledger_of[worker.worker]:
            if worker.closed_at is not None and entry.at > worker.closed_at:
                yield (f"{worker_name(e, worker.worker)} was closed, and its commit {entry.seq} came"
                       f" {(entry.at - worker.closed_at) / 1000:.3f} ms later")
            if entry.at < last:
                yield (f"{worker_name(e, worker.worker)} made commit {entry.seq} before the one that"
                       " goes before it")
            last = entry.at
    for row in e.results:
        worker = e.worker.get(row.worker)
        if row.worker and worker is None:
            yield f"{batch(row.job)} line {row.line} is of {row.worker}, which is no worker"
        elif worker and worker.closed_at is not None and row.finished_at > worker.closed_at:
            yield (f"{batch(row.job)} line {row.line} was written by {worker_name(e, row.worker)}"
                   f" {(row.finished_at - worker.closed_at) / 1000:.3f} ms after that was closed")
        elif worker and row.finished_at < worker.registered_at:
            yield (f"{batch(row.job)} line {row.line} was written by {worker_name(e, row.worker)} before"
                   " that was registered")


def estimates_close_the_books(e):
    """What a burial estimates is the last ledger row of a worker that is closed."""
    for worker in e.workers:
        for entry in e.ledger_of[worker.worker]:
            if entry.estimated and (worker.closed_at is None or entry.seq != worker.ledger_seq):
                yield (f"{worker_name(e, worker.worker)} commit {entry.seq} is an estimate, and not the"
                       " last of a closed worker")


def partitions_changed_hands_by_claims(e):
    """Rows of a partition, in order of time, come in runs of one writer: each new run needs a claim,
    and each claim raises the epoch. A writer who came back without one makes a run too many."""
    writers = defaultdict(list)
    for row in e.results:
        chunk = chunk_of(e, row.job, row.line)
        if chunk and row.worker:
            writers[chunk.topic, chunk.part].append((row.finished_at, row.worker))
    for part in e.partitions:
        runs = []
        for _, worker in sorted(writers[part.topic, part.part]):
            if not runs or runs[-1] != worker:
                runs.append(worker)
        needed = len(runs) + (part.owner is not None and (not runs or runs[-1] != part.owner))
        if needed > part.epoch:
            order = ", ".join(worker_name(e, w) for w in runs[-4:])
            held = f", now held by {worker_name(e, part.owner)}" if part.owner else ""
            yield (f"{part.topic}/{part.part} was claimed {part.epoch} times, and its rows come from"
                   f" {len(runs)} turns of writing ({order}{held}): somebody wrote without a claim")


def workers_wrote_what_they_took(e):
    """By its log, a worker took the chunk of each row that it ran."""
    if e.logs is None:
        return
    strange = defaultdict(set)
    for row in e.results:
        if row.status in ("completed", "failed") and row.worker in e.logs.taken:
            chunk = chunk_of(e, row.job, row.line)
            if chunk and (row.job, chunk.chunk) not in e.logs.taken[row.worker]:
                strange[row.worker, row.job, chunk.chunk].add(row.line)
    for (worker, job, chunk), lines in strange.items():
        yield (f"{worker_name(e, worker)} wrote lines {some(lines)} of {batch(job)} chunk {chunk}, and"
               " its log never says that it took that chunk")


def epochs_ascend(e):
    for path in e.options.earlier:
        with open(path, encoding="utf-8") as file:
            before = json.load(file)["epochs"]
        for part in e.partitions:
            if part.epoch < before.get(f"{part.topic} {part.part}", 0):
                yield (f"{part.topic}/{part.part} is at epoch {part.epoch}, and was at"
                       f" {before[f'{part.topic} {part.part}']} when {path} was made")


# ---- I6: what lag tools see is true

def unfinished_offsets(e):
    """(topic, part) -> the lowest offset of a message whose request has no row."""
    lowest = {}
    for job in e.accepted.values():
        if e.options.live and job.in_progress_at > e.now - FRESH:
            continue
        rows = e.rows_of[job.job]
        for chunk in e.chunks_of[job.job]:
            for line in range(chunk.first_line, chunk.first_line + chunk.lines):
                if line not in rows:
                    offsets = [m.offset for m in e.log.messages.get((job.job, line), [])
                               if chunk.first_offset <= m.offset <= chunk.last_offset]
                    at = chunk.topic, chunk.part
                    lowest[at] = min(lowest.get(at, chunk.last_offset), *offsets, chunk.last_offset)
    return lowest


def committed_offsets_are_true(e):
    if e.log is None:
        return
    lowest = unfinished_offsets(e)
    for (topic, part), offset in e.log.committed.items():
        end = e.log.ends[topic, part][1]
        if offset > end:
            yield (f"{topic}/{part}: offset {offset} is committed to Kafka, and the log ends at {end}")
        if offset > lowest.get((topic, part), offset):
            yield (f"{topic}/{part}: offset {offset} is committed to Kafka, and the message at"
                   f" {lowest[topic, part]} has no row yet")


def committed_offsets_do_not_go_back(e):
    if e.log is None or e.options.live:
        return
    for path in e.options.earlier:
        with open(path, encoding="utf-8") as file:
            before = json.load(file)["committed"]
        for (topic, part), offset in e.log.committed.items():
            if offset < before.get(f"{topic} {part}", 0):
                yield (f"{topic}/{part}: offset {offset} is committed to Kafka, and it was"
                       f" {before[f'{topic} {part}']} when {path} was made")


# ---- I10: nothing is left over, nobody complained

def checkpoints_are_of_open_lines(e):
    for checkpoint in e.checkpoints:
        job = e.job.get(checkpoint.job)
        if checkpoint.line in e.rows_of[checkpoint.job]:
            yield (f"{batch(checkpoint.job)} line {checkpoint.line} has its row, and a checkpoint of"
                   f" {checkpoint.tokens} tokens and {checkpoint.gpu_ns} ns is left over")
        elif job is None or job.lines is None or job.state in FINAL:
            yield (f"a checkpoint of line {checkpoint.line} is left over of {batch(checkpoint.job)},"
                   f" which is {job.state if job else 'not there'}")


def logs_have_no_reports(e):
    for path, number, line in e.logs.reports if e.logs else []:
        yield f"{path} line {number}: {line[:200]}"


def temporary_tables_do_not_pile_up(e):
    for schema, count in e.temp.items():
        if count > TEMPORARY_MAX:
            yield f"{schema} holds {count} temporary tables, and no session needs more than {TEMPORARY_MAX}"
