"""What the checker looks at, as it was found: files, tables, the log, the workers' logs.

Nothing here asks mserve anything: tables are read by plain SELECTs in one snapshot, Kafka by an
ordinary client, and what was submitted and acknowledged stands in the files of the submitter.
"""
import hashlib
import json
import os
import re
import subprocess
import time
from collections import defaultdict
from types import SimpleNamespace

TABLES = ["jobs", "chunks", "workers", "partitions", "results", "attempts", "worker_ledger",
          "job_deltas", "checkpoints"]


class CannotLook(Exception):
    """The evidence is not there or cannot be read: nothing is said about mserve."""


# ---- the tables

def ask(dsn, statements):
    """What psql prints for these statements, line by line, in one snapshot."""
    script = ("\\set ON_ERROR_STOP on\n\\set FETCH_COUNT 20000\n"
              "begin isolation level repeatable read read only;\n" + statements + "\ncommit;\n")
    psql = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", "-d", dsn], text=True, encoding="utf-8",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    psql.stdin.write(script)
    psql.stdin.close()
    yield from (line.rstrip("\n") for line in psql.stdout)
    said = psql.stderr.read()
    if psql.wait() != 0:
        raise CannotLook(f"psql: {said.strip()}")


def shown_as(name, kind):
    """How a column is selected so that a row is one line of JSON: bytes as their digest, times in
    microseconds, stored JSON as the text that it is."""
    quoted = f'"{name}"'
    if kind == "bytea":
        return f"encode(sha256({quoted}), 'hex') as {quoted}"
    if kind in ("json", "jsonb", "bit varying"):
        return f"{quoted}::text as {quoted}"
    if kind.startswith("timestamp"):
        return f"(extract(epoch from {quoted}) * 1000000)::bigint as {quoted}"
    if kind == "numeric":
        return f"{quoted}::text as {quoted}"
    return quoted


def columns_of_tables(dsn):
    columns = defaultdict(list)
    for line in ask(dsn, """
            select c.relname || '|' || a.attname || '|' || format_type(a.atttypid, null)
              from pg_class c join pg_namespace n on n.oid = c.relnamespace
              join pg_attribute a on a.attrelid = c.oid
              where n.nspname = 'mserve' and c.relkind in ('r', 'p') and a.attnum > 0
                and not a.attisdropped order by c.relname, a.attnum;"""):
        table, column, kind = line.split("|")
        columns[table].append((column, kind))
    return columns


def read_tables(dsn, keep_answers):
    """All rows as objects, by table; and what else of the database is looked at."""
    columns = columns_of_tables(dsn)
    if not columns["jobs"]:
        raise CannotLook("the database has no schema mserve")
    statements = ["select 'now|' || (extract(epoch from clock_timestamp()) * 1000000)::bigint;",
                  "select 'temp|' || n.nspname || '|' || count(*) from pg_class c join pg_namespace n"
                  " on n.oid = c.relnamespace where n.nspname ~ '^pg_temp_[0-9]+$' and c.relkind = 'r'"
                  " group by n.nspname;"]
    for table in TABLES:
        if columns[table]:
            chosen = ", ".join(shown_as(name, kind) for name, kind in columns[table])
            statements.append(f"select '{table}|' || row_to_json(t) from"
                              f" (select {chosen} from mserve.{table}) t;")
    rows = {table: [] for table in TABLES}
    found = SimpleNamespace(rows=rows, now=0, temp={})
    for line in ask(dsn, "\n".join(statements)):
        table, text = line.split("|", 1)
        if table == "now":
            found.now = int(text)
        elif table == "temp":
            schema, count = text.split("|")
            found.temp[schema] = int(count)
        else:
            rows[table].append(row_of(table, text, keep_answers))
    return found


def row_of(table, text, keep_answers):
    row = SimpleNamespace(**json.loads(text))
    if table == "results":
        row.digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        row.answer = answer_of(row) if keep_answers else None
        row.response = None
    return row


# ---- what an answer says, without what differs from run to run

def plain_answer(body):
    """A response body without its id, its time and what it found in a cache."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("error"), dict):
        return {"error": body["error"].get("code")}
    plain = {key: value for key, value in body.items() if key not in ("id", "created")}
    if isinstance(plain.get("usage"), dict):
        plain["usage"] = {key: value for key, value in plain["usage"].items()
                          if key != "prompt_tokens_details"}
    return plain


def answer_of(row):
    if row.response is not None:
        return canonical(plain_answer(json.loads(row.response)))
    return canonical({"error": (json.loads(row.error) if row.error else {}).get("code")})


def canonical(value):
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest_of(value):
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def read_reference(path):
    """custom_id -> answer, of a file of OpenAI output lines."""
    answers = {}
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        if row.get("response"):
            answers[row["custom_id"]] = canonical(plain_answer(row["response"]["body"]))
        else:
            answers[row["custom_id"]] = canonical({"error": (row.get("error") or {}).get("code")})
    return answers


# ---- what was submitted, and what was acknowledged

def is_comparable(body):
    """Greedy, seeded, or not sampled at all: the same answer is owed in every run."""
    return body.get("temperature") == 0 or body.get("seed") is not None or "input" in body


def read_input(path):
    """The requests of a submitted file: name, digest of the body, whether its answer is owed."""
    if path.endswith(".zst"):
        lines = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
    else:
        with open(path, "rb") as file:
            lines = file.read()
    requests = []
    for line in lines.split(b"\n"):
        if not line.strip():
            continue
        request = SimpleNamespace(name=None, body=None, comparable=False)
        try:
            read = json.loads(line)
            request.name = read["custom_id"] if isinstance(read["custom_id"], str) else None
            request.body = digest_of(read["body"])
            request.comparable = is_comparable(read["body"])
        except (ValueError, KeyError, TypeError, AttributeError):
            pass # not valid: with --on-invalid skip it has a row all the same
        requests.append(request)
    return SimpleNamespace(path=path, base=os.path.basename(path), requests=requests)


ACK = re.compile(r"^batch_([0-9a-f]{32}) (?:(\w+)(?:, ([0-9,]+) requests?\b.*)?|is accepted and runs.*)$")


def uuid_of(digits):
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def read_acks(path):
    """job -> how many requests mserve-submit said it accepted (None: it did not say how many)."""
    acks = {}
    for line in open(path, encoding="utf-8", errors="replace"):
        said = ACK.match(line.rstrip())
        if said and (said[2] is None or said[3]):
            count = int(said[3].replace(",", "")) if said[3] else acks.get(uuid_of(said[1]))
            acks[uuid_of(said[1])] = count
        elif line.startswith("{"):
            try:
                read = json.loads(line)
            except ValueError:
                continue
            if read.get("object") == "batch" and read.get("in_progress_at"):
                acks[uuid_of(read["id"].removeprefix("batch_"))] = read["request_counts"]["total"]
    return acks


# ---- Kafka

PATIENCE_S = 30


def read_log(brokers, topics):
    """Every message of these topics, the ends of their partitions, and the offsets committed."""
    try:
        from confluent_kafka import Consumer, KafkaException, TopicPartition
    except ImportError:
        raise CannotLook("Python has no confluent_kafka: run scripts/install test") from None
    log = SimpleNamespace(messages=defaultdict(list), ends={}, committed={})
    try:
        for topic in topics:
            group = ".workers.".join(topic.rsplit(".requests.", 1))
            consumer = Consumer({"bootstrap.servers": brokers, "group.id": group,
                                 "enable.auto.commit": False, "enable.partition.eof": True,
                                 "auto.offset.reset": "error"})
            known = consumer.list_topics(topic, PATIENCE_S).topics[topic].partitions
            parts = [TopicPartition(topic, part) for part in known]
            for part in consumer.committed(parts, PATIENCE_S):
                if part.offset >= 0:
                    log.committed[topic, part.partition] = part.offset
            for part in parts:
                part.offset, end = consumer.get_watermark_offsets(part, PATIENCE_S)
                log.ends[topic, part.partition] = (part.offset, end)
            read_messages(consumer, [part for part in parts
                                     if part.offset < log.ends[topic, part.partition][1]], log)
            consumer.close()
    except KafkaException as error:
        raise CannotLook(f"Kafka: {error}") from None
    return log


def read_messages(consumer, parts, log):
    left = {part.partition for part in parts}
    if not left:
        return
    consumer.assign(parts) # not subscribe: nobody's partitions move
    heard = time.monotonic()
    while left:
        messages = consumer.consume(500, 0.1)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() > heard + PATIENCE_S:
            raise CannotLook(f"Kafka gave no message of partitions {sorted(left)} for {PATIENCE_S} s")
        for message in messages:
            if message.error():
                if message.error().name() != "_PARTITION_EOF":
                    raise CannotLook(f"Kafka: {message.error()}")
                left.discard(message.partition())
            else:
                add_message(message, log)


def add_message(message, log):
    headers = dict(message.headers() or [])
    if len(headers.get("job", b"")) != 16:
        return # not a request
    body = None
    if message.value():
        try:
            body = digest_of(json.loads(message.value()))
        except ValueError:
            body = "unreadable"
    key = uuid_of(headers["job"].hex()), int(headers["line"])
    log.messages[key].append(SimpleNamespace(
        topic=message.topic(), part=message.partition(), offset=message.offset(),
        name=headers.get("custom_id", b"").decode("utf-8", "replace"), body=body))


# ---- the workers' logs

REPORT = re.compile(r"(Address|Leak|Memory|Thread|UndefinedBehavior)Sanitizer|runtime error: |"
                    r"[Aa]ssertion .*failed|stack smashing|corrupted size|free\(\): invalid|"
                    r"event=(bug|books\.gap|sha256\.failed)\b|\"event\":\"(bug|books\.gap)\"")
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def read_logs(folder):
    """Which worker wrote which file, which chunks it took, and lines that should not be there."""
    logs = SimpleNamespace(files=0, taken=defaultdict(set), reports=[])
    names = sorted(os.path.join(at, name) for at, _, found in os.walk(folder) for name in found)
    for path in names:
        logs.files += 1
        worker = None
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if REPORT.search(line):
                    logs.reports.append((path, number, line.strip()))
                if "worker.registered" in line:
                    worker = pairs_of(line).get("worker")
                    logs.taken[worker] # it has a log, even if it took nothing
                elif "chunk.taken" in line and worker:
                    pairs = pairs_of(line)
                    logs.taken[worker].add((uuid_of(pairs["job"]), int(pairs["chunk"])))
    return logs


def pairs_of(line):
    if line.startswith("{"):
        return json.loads(line)
    return {key: value.strip('"') for key, value in PAIR.findall(line)}


# ---- all of it

def gather(options):
    found = read_tables(options.dsn, options.reference is not None)
    e = SimpleNamespace(**found.rows, now=found.now, temp=found.temp)
    e.options = options
    e.job = {job.job: job for job in e.jobs}
    e.worker = {worker.worker: worker for worker in e.workers}
    e.accepted = {job.job: job for job in e.jobs if job.lines is not None}
    e.chunks_of = defaultdict(list)
    for chunk in sorted(e.chunks, key=lambda c: (c.job, c.chunk)):
        e.chunks_of[chunk.job].append(chunk)
    e.rows_of = defaultdict(dict)
    for row in e.results:
        e.rows_of[row.job].setdefault(row.line, row)
    e.ledger_of = defaultdict(list)
    for entry in sorted(e.worker_ledger, key=lambda l: (l.worker, l.seq)):
        e.ledger_of[entry.worker].append(entry)
    e.acks = read_acks(options.acks) if options.acks else None
    e.inputs = [read_input(path) for path in options.input]
    e.log = read_log(options.brokers, sorted({j.topic for j in e.jobs})) if options.brokers else None
    e.logs = read_logs(options.logs) if options.logs else None
    e.reference = read_reference(options.reference) if options.reference else None
    e.input_of = {job.job: input_of(e, job) for job in e.accepted.values()}
    return e


def input_of(e, job):
    """The file that a job was made from: by its name, else by what the log has for its first line."""
    fitting = [i for i in e.inputs if len(i.requests) == job.lines]
    named = [i for i in fitting if i.base == os.path.basename(job.input_name)]
    if len(named) == 1:
        return named[0]
    if e.log and job.lines:
        first = {message.name for message in e.log.messages[job.job, 0]}
        fitting = [i for i in named or fitting if i.requests[0].name in first]
    return fitting[0] if len(fitting) == 1 else None


def batch(job):
    return "batch_" + job.replace("-", "")


def worker_name(e, worker):
    known = e.worker.get(worker)
    return f"worker {known.name} ({worker})" if known else f"worker {worker}"


def chunk_of(e, job, line):
    """The chunk that a line lies in; None: in none."""
    chunks = e.chunks_of[job]
    low, high = 0, len(chunks)
    while low < high:
        middle = (low + high) // 2
        if chunks[middle].first_line + chunks[middle].lines <= line:
            low = middle + 1
        else:
            high = middle
    if low < len(chunks) and chunks[low].first_line <= line:
        return chunks[low]
    return None
