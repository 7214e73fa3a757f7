/* submit_command.c: the options of mserve-submit. */
#include "producer/submit_command.h"

struct submit_options submit_typed = {.on_invalid = "fail"};
const char *submit_config;

static const struct option rows[] = {
    {"tier", 't', OPTION_TEXT, "NAME", &submit_typed.tier,
     .sentence = "The tier that runs the job. Without it, the model of the lines says which."},
    {"any-model", 0, OPTION_FLAG, NULL, &submit_typed.any_model,
     .sentence = "With --tier: whatever model the lines name, that tier runs them."},
    {"endpoint", 'e', OPTION_TEXT, "URL", &submit_typed.endpoint,
     .sentence = "What the url of every line must be. Without it, the first line says."},
    {"completion-window", 'w', OPTION_TEXT, "TIME", &submit_typed.window,
     .sentence = "Within which time the job is to be done, like 24h, 90m or 7d; then it expires."},
    {"metadata", 'm', OPTION_PAIRS, "KEY=VALUE", &submit_typed.metadata,
     .sentence = "A pair of your own that stays with the job; may be given 16 times.", .max = 16},
    {"priority", 'p', OPTION_TEXT, "NUMBER", &submit_typed.priority,
     .sentence = "Higher goes first among your own jobs: -1000 to 1000, 0 is normal."},
    {"idempotency-key", 'k', OPTION_TEXT, "KEY", &submit_typed.idempotency_key,
     .sentence = "Names the job: the same key, content and options are the same job, others are "
                 "refused. Without it the content and these options are the name."},
    {"new", 0, OPTION_FLAG, NULL, &submit_typed.renew,
     .sentence = "Another job, where the same file was submitted before."},
    {"on-invalid", 0, OPTION_CHOICE, "WHAT", &submit_typed.on_invalid,
     .sentence = "What lines that are not valid do: fail refuses the file, skip turns them into "
                 "failed rows.",
     .choices = "fail|skip"},
    {"webhook", 0, OPTION_TEXT, "NAME|URL", &submit_typed.webhook,
     .sentence = "An endpoint that hears how the job ends; `mserve webhook add` makes one."},
    {"wait", 0, OPTION_FLAG, NULL, &submit_typed.wait,
     .sentence = "Stays until the job has ended; the exit status says how."},
    {"output", 'o', OPTION_PATH, "FILE", &submit_typed.output,
     .sentence = "Waits, then writes the results there, in input order; - is standard output."},
    {"dry-run", 'n', OPTION_FLAG, NULL, &submit_typed.dry_run,
     .sentence = "Validates and says what would be sent; sends nothing."},
    {"json", 'j', OPTION_FLAG, NULL, &submit_typed.json,
     .sentence = "Prints the job, or all errors, as JSON on standard output."},
    {"documents", 'D', OPTION_PATH, "WHERE", &submit_typed.documents,
     .sentence = "Instead of FILE: a folder, a tar file, or a list of paths (- reads either from "
                 "standard input); each document becomes a request."},
    {"template", 'T', OPTION_PATH, "FILE", &submit_typed.template,
     .sentence = "With --documents: the body of a request as JSON, in its strings {{document}}, "
                 "{{path}} and {{part}}."},
    {"include", 0, OPTION_LIST, "PATTERN", &submit_typed.include,
     .sentence = "With --documents: only those whose path matches one of these, like '*.txt' or "
                 "'notes/**'."},
    {"exclude", 0, OPTION_LIST, "PATTERN", &submit_typed.exclude,
     .sentence = "With --documents: none whose path, or a folder above it, matches one of these."},
    {"since", 0, OPTION_TEXT, "TIME", &submit_typed.since,
     .sentence = "With --documents: only those changed since then: 24h, 2026-11-21, "
                 "2026-11-21T03:00."},
    {"encoding", 0, OPTION_TEXT, "NAME", &submit_typed.encoding,
     .sentence = "With --documents: what those that are not UTF-8 are in, as iconv(1) calls it."},
    {"split-tokens", 0, OPTION_U32, "TOKENS", &submit_typed.split_tokens,
     .sentence =
         "With --documents: a longer one becomes parts of at most so many tokens, cut where a "
         "paragraph ends, else a line, a sentence, a word.",
     .min = 16, .max = UINT32_MAX},
    {"overlap", 0, OPTION_U32, "TOKENS", &submit_typed.overlap,
     .sentence = "With --split-tokens: about so many tokens at the end of a part come again in the "
                 "next.",
     .max = UINT32_MAX},
    {"series", 's', OPTION_TEXT, "NAME", &submit_typed.series,
     .sentence = "With --documents: the job is one of those of that name, as every night's is."},
    {"changed", 0, OPTION_FLAG, NULL, &submit_typed.changed,
     .sentence = "With --series: leaves out documents that the series has done or that still run, "
                 "unless their bytes have changed."},
    {"config", 'c', OPTION_PATH, "FILE", &submit_config,
     .sentence = "The settings; else $MSERVE_CONFIG, ./config/mserve.yaml, "
                 "/etc/mserve/mserve.yaml."},
};

const struct options_command submit_command = {
    .name = "mserve-submit",
    .arguments = "FILE|-|--documents WHERE",
    .summary = "Validates a file of requests and puts it on the queue.",
    .details = "FILE has one request a line in the OpenAI batch format, plain or packed with\n"
               "zstd; - is standard input. Nothing is sent while a line is not valid. Killed at\n"
               "any moment and run again, the same command finishes the same job; a job that is\n"
               "on the queue already is shown, not repeated.\n"
               "With --documents the requests are made here, one of each document by --template.\n"
               "\n"
               "Exit status: 0 done, 1 usage, 2 input not valid, 3 Kafka or PostgreSQL\n"
               "unreachable, 4 the job failed or was cancelled, 5 the key belongs to other\n"
               "content or options, 6 some requests failed, 7 expired, 8 no such file, 9 denied,\n"
               "10 disk or memory, 12 interrupted.",
    .row = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
    .arguments_min = 0, /* submit_options.c asks for one, or for --documents */
    .arguments_max = 1,
    .files = true,
};
