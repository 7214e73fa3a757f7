"""I1, I2 and I8: every accepted request has one row, no other row is there, none ever changes, and
answers are those of a run that nobody disturbed. Each function yields a sentence per violation."""
import json
from collections import Counter

from check_evidence import batch, chunk_of

SHOWN = 5 # lines named in one sentence


def some(items):
    """The first few of a list, and how many there are."""
    items = sorted(items)
    text = ", ".join(str(item) for item in items[:SHOWN])
    return text if len(items) <= SHOWN else f"{text}, … ({len(items)} in all)"


# ---- I1: nothing is lost, nothing is invented

def acknowledged_jobs_are_there(e):
    """What mserve-submit printed as accepted is a sealed job with that many requests."""
    for job, count in (e.acks or {}).items():
        if job not in e.job:
            yield f"{batch(job)} was acknowledged, and there is no such job"
        elif job not in e.accepted:
            yield (f"{batch(job)} was acknowledged, and is not sealed: its state is"
                   f" {e.job[job].state} and lines is null")
        elif count is not None and e.job[job].lines != count:
            yield (f"{batch(job)} was acknowledged with {count} requests, and has"
                   f" {e.job[job].lines} lines")


def files_are_whole(e):
    """An accepted job has as many lines as its file, where the file is known by name."""
    for job in e.accepted.values():
        named = [i for i in e.inputs if i.base == job.input_name]
        if named and e.input_of[job.job] is None and all(len(i.requests) != job.lines for i in named):
            yield (f"{batch(job.job)} has {job.lines} lines, and {named[0].base} has"
                   f" {len(named[0].requests)} requests")


def accepted_lines_have_rows(e):
    for job in e.accepted.values():
        rows = e.rows_of[job.job]
        lost = [line for line in range(job.lines) if line not in rows]
        if lost:
            where = {chunk.chunk for line in lost if (chunk := chunk_of(e, job.job, line))}
            yield (f"{batch(job.job)} is {job.state} and accepted with {job.lines} lines, and lines"
                   f" {some(lost)} have no row (chunks {some(where) or 'none'}){in_log(e, job, lost)}")


def in_log(e, job, lines):
    if e.log is None:
        return ""
    there = sum(bool(e.log.messages.get((job.job, line))) for line in lines)
    return f"; the log has messages of {there} of them"


def rows_belong_to_accepted_lines(e):
    for job, rows in e.rows_of.items():
        if not rows:
            continue
        if job not in e.accepted:
            state = e.job[job].state if job in e.job else "not there"
            yield f"{batch(job)} was never accepted (it is {state}), and has {len(rows)} rows"
            continue
        beside = [line for line in rows if not 0 <= line < e.job[job].lines]
        if beside:
            yield f"{batch(job)} has {e.job[job].lines} lines, and rows of lines {some(beside)}"


def rows_carry_their_names(e):
    """The custom_id on a row is that of its line in the file."""
    for job, file in e.input_of.items():
        if file is None:
            continue
        for line, row in e.rows_of[job].items():
            wanted = file.requests[line].name if 0 <= line < len(file.requests) else None
            if wanted is not None and row.custom_id != wanted:
                yield (f"{batch(job)} line {line} is {wanted!r} in {file.base}, and its row says"
                       f" {row.custom_id!r}")


def chunks_cover_the_job(e):
    """The index of the log has every line of an accepted job, once and in order."""
    for job in e.accepted.values():
        at = 0
        for number, chunk in enumerate(e.chunks_of[job.job]):
            if chunk.chunk != number or chunk.first_line != at:
                yield (f"{batch(job.job)} chunk {chunk.chunk} begins at line {chunk.first_line}, and"
                       f" chunk {number} at line {at} was due")
                break
            at += chunk.lines
        else:
            if at != job.lines:
                yield (f"{batch(job.job)} was accepted with {job.lines} lines, and its chunks have"
                       f" {at}")


def bits_say_what_rows_there_are(e):
    """done_map has a bit for each row and for nothing else, and done_count is their number."""
    for chunk in e.chunks:
        rows = e.rows_of[chunk.job]
        wrong = [chunk.first_line + i for i, bit in enumerate(chunk.done_map)
                 if (bit == "1") != (chunk.first_line + i in rows)]
        if wrong:
            yield (f"{batch(chunk.job)} chunk {chunk.chunk}: done_map does not say which lines have"
                   f" a row: lines {some(wrong)}")
        if chunk.done_count != chunk.done_map.count("1"):
            yield (f"{batch(chunk.job)} chunk {chunk.chunk}: done_count is {chunk.done_count}, and"
                   f" done_map has {chunk.done_map.count('1')} bits")


def log_has_what_the_index_says(e):
    """Where a chunk is said to lie, there are the messages of its lines, with the submitted bodies."""
    if e.log is None:
        return
    for job, file in e.input_of.items():
        for chunk in e.chunks_of[job]:
            low, _ = e.log.ends.get((chunk.topic, chunk.part), (0, 0))
            if chunk.missing or low > chunk.first_offset:
                continue # said so, or retention has passed over it
            yield from chunk_in_log(e, chunk, file)


def chunk_in_log(e, chunk, file):
    absent, other = [], []
    for line in range(chunk.first_line, chunk.first_line + chunk.lines):
        copies = [m for m in e.log.messages.get((chunk.job, line), [])
                  if m.topic == chunk.topic and m.part == chunk.part
                  and chunk.first_offset <= m.offset <= chunk.last_offset]
        if not copies:
            absent.append(line)
        elif file and line < len(file.requests):
            wanted = file.requests[line]
            if any(m.body is not None and m.body != wanted.body for m in copies):
                other.append(line)
    where = (f"{batch(chunk.job)} chunk {chunk.chunk} lies in {chunk.topic}/{chunk.part} at offsets"
             f" {chunk.first_offset}..{chunk.last_offset}")
    if absent:
        yield f"{where}, and the log has no message of lines {some(absent)} there"
    if other:
        yield f"{where}, and the bodies of lines {some(other)} are not those of {file.base}"


# ---- I2: nothing is there twice, nothing that is final changes

def no_line_has_two_rows(e):
    seen = Counter((row.job, row.line) for row in e.results)
    for job in {job for (job, _), count in seen.items() if count > 1}:
        lines = [line for (of, line), count in seen.items() if of == job and count > 1]
        yield f"{batch(job)} has more than one row of lines {some(lines)}"


def no_name_has_two_rows(e):
    """A custom_id is as often in a job as in its file; without the file, once."""
    for job, rows in e.rows_of.items():
        file = e.input_of.get(job)
        wanted = Counter(r.name for r in file.requests) if file else {}
        for name, count in Counter(row.custom_id for row in rows.values()).items():
            if count > max(1, wanted.get(name, 0)) and (file is None or name in wanted):
                lines = [line for line, row in rows.items() if row.custom_id == name]
                yield f"{batch(job)} has {count} rows named {name!r}, lines {some(lines)}"


FINAL = ("completed", "failed", "expired", "cancelled")
GROWS_ON = ("lost_ns",) # of a job that has ended: a burial may come after


def frozen_job(job):
    return {key: value for key, value in vars(job).items() if key not in GROWS_ON}


def snapshot(e):
    """What must be found again, unchanged, by whoever looks later."""
    return {
        "rows": {f"{row.job} {row.line}": row.digest for row in e.results},
        "jobs": {job.job: frozen_job(job) for job in e.jobs if job.state in FINAL},
        "ledger": {f"{l.worker} {l.seq}": vars(l) for l in e.worker_ledger},
        "closed": {w.worker: w.closed_at for w in e.workers if w.closed_at is not None},
        "epochs": {f"{p.topic} {p.part}": p.epoch for p in e.partitions},
        "committed": {f"{t} {p}": offset for (t, p), offset in (e.log.committed if e.log else {}).items()},
    }


def nothing_final_changed(e):
    for path in e.options.earlier:
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
        now = snapshot(e)
        for what, kind in (("rows", "row"), ("jobs", "ended job"), ("ledger", "ledger row"),
                           ("closed", "burial of worker")):
            gone = [key for key in before[what] if key not in now[what]]
            changed = [key for key, value in before[what].items()
                       if key in now[what] and now[what][key] != value]
            for key in gone[:SHOWN]:
                yield f"the {kind} {key} was there when {path} was made, and is gone"
            for key in changed[:SHOWN]:
                yield f"the {kind} {key} has changed since {path} was made{change(before[what][key], now[what][key])}"


def change(before, now):
    if not isinstance(before, dict):
        return ""
    parts = [f"{key} was {before.get(key)} and is {now.get(key)}"
             for key in now if before.get(key) != now.get(key)]
    return ": " + ", ".join(parts)


# ---- I8: a resumed request says what an undisturbed one says

def answers_are_the_reference(e):
    if e.reference is None:
        return
    compared = 0
    for job, file in e.input_of.items():
        for line, row in e.rows_of[job].items():
            if row.status not in ("completed", "failed") or row.numerics_changed:
                continue # never ran to its end, or equality is not promised
            if file and line < len(file.requests) and not file.requests[line].comparable:
                continue
            compared += 1
            if row.custom_id not in e.reference:
                yield f"{batch(job)} line {line} ({row.custom_id!r}) is not in the reference"
            elif row.answer != e.reference[row.custom_id]:
                yield (f"{batch(job)} line {line} ({row.custom_id!r}, attempt {row.attempt}) says"
                       f" {first_difference(row.answer, e.reference[row.custom_id])}")
    e.compared = compared
    if compared == 0:
        yield "no row could be compared with the reference"


def first_difference(answer, wanted):
    at = next((i for i, (a, b) in enumerate(zip(answer, wanted)) if a != b),
              min(len(answer), len(wanted)))
    return (f"…{answer[max(0, at - 20):at + 30]!r}, and the reference …{wanted[max(0, at - 20):at + 30]!r}"
            f" (from byte {at})")
