/*
 * spot.c: a fleet of simulated GPUs that come and go as a trace says, each with an engine of its own, and
 * one backlog of requests that never ends. What a machine takes with it when it goes, what the next one
 * reads again, and what loading the model costs, in shares of the time that was paid for.
 *
 *   spot SECONDS_LOAD SECONDS_INTERVAL SECONDS_NOTICE   < events
 *
 * An event is a line `MILLISECONDS add|remove NODE`, in order of time; NODE is a number below 1024. With
 * an interval of 0 there are no checkpoints: whole requests are lost. With a notice the machine is told so
 * long before; MARGIN_MS before it goes (worker.drain_margin, as it ships) it writes a checkpoint of
 * everything and stops: what it is paid for after that is its own account. Prints one line, key=value.
 *
 * The prices of a step are those of Llama 3.1 8B in bf16 on an H200, for which 790 TFLOP/s and
 * 4.3 TB/s were measured; 70 and 85 % of these are taken as reached:
 *   a row                     6.98e9 weights of the layers, 13.96 GFLOP: 25.2 us. A batch of 256
 *                             computes for longer than it reads weights, so these cost nothing more
 *   a row that is sampled     0.525e9 weights of the head: 1.9 us
 *   attention of an answer    128 KiB of K and V for each token touched, from memory: 36.7 us per 1,024
 *   attention of a prompt     computes: 4 x 4,096 x 32 layers FLOP for each token touched, at
 *                             300 TFLOP/s, less than FlashAttention on that chip: 1.79 us per 1,024
 *   a step                    0.5 ms for launches and what is between two
 * With 1,000 tokens in and 1,000 out that is 9,000 tokens a second, three quarters of the roofline.
 * One sequence here stands for EACH real ones, so a batch is 256.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/log.h"
#include "kernels/engine.h"

enum { NODES = 1024, SEQUENCES = 16, EACH = 16, PROMPT = 1000, OUTPUT = 1000, LETTERS = 255 };
enum { MARGIN_MS = 6000 };

#define SECOND 1000000000ull

struct request {
    struct request *next; /* in the backlog */
    uint32_t number;
    uint32_t tokens_max;
    uint32_t *saved; /* [saved_len] of its last checkpoint */
    uint32_t saved_len;
    uint64_t saved_ns; /* its cost at that checkpoint, of this attempt */
    uint64_t kept_ns;  /* its cost in checkpoints of attempts before */
};

struct event {
    uint64_t at_ms;
    uint32_t node;
    bool add;
};

struct node {
    struct engine *engine; /* NULL: not there */
    uint64_t began_ms;
    uint64_t leaves_ms; /* it works until then */
    uint64_t walked_ns; /* its clock at the last checkpoint */
    uint64_t step_ns;   /* length of the last step */
    uint32_t running;
    bool again; /* it takes the place of one that went */
};

struct fleet {
    uint64_t load_ns, interval_ns, notice_ms;
    struct node node[NODES];
    struct request *backlog; /* those that came back; new ones are made when it is empty */
    uint32_t made;
    uint32_t missing; /* nodes that went and were not yet replaced */

    uint64_t held_ns, lost_ns, recompute_ns, reload_ns, load_ns_all, idle_ns, left_ns;
    uint64_t removals, ended, tokens, tokens_again, again_max;
};

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "spot: %s\n", what);
        exit(1);
    }
}

/* 3/4 to 5/4 of it, and it on average. */
static uint32_t about(uint32_t size, uint32_t number)
{
    return size - size / 4 + number * 2654435761u % (size / 2 + 1);
}

/* ------------------------------------------------------------------------------- requests ---- */

static struct request *next_request(struct fleet *fleet)
{
    struct request *request = fleet->backlog;

    if (request) {
        fleet->backlog = request->next;
        return request;
    }
    request = xcalloc(1, sizeof *request);
    request->number = fleet->made++;
    request->tokens_max = about(OUTPUT, request->number);
    return request;
}

static void give_back(struct fleet *fleet, struct request *request)
{
    request->next = fleet->backlog;
    fleet->backlog = request;
}

static void free_request(struct request *request)
{
    free(request->saved);
    free(request);
}

static bool submit(struct node *node, struct request *request)
{
    uint32_t prompt[2 * PROMPT];
    uint32_t len = about(PROMPT, request->number ^ 0x5555);

    for (uint32_t i = 0; i < len; i++)
        prompt[i] = (request->number * 2654435761u + i * 40503u) >> 7 & LETTERS;
    return engine_submit(node->engine, &(struct engine_request){
                                           .tag = (uint64_t)(uintptr_t)request,
                                           .prompt = prompt,
                                           .prompt_len = len,
                                           .resumed = request->saved,
                                           .resumed_len = request->saved_len,
                                           .tokens_max = request->tokens_max,
                                           .sampling = {.top_p = 1, .seed = request->number},
                                       }) == ERR_OK;
}

static struct request *request_of(uint64_t tag)
{
    return (struct request *)(uintptr_t)tag;
}

/* ------------------------------------------------------------------------------- one node ---- */

static void add(struct fleet *fleet, struct node *node, uint64_t now_ms, uint64_t leaves_ms)
{
    const struct engine_options options = {
        .backend = "sim",
        .sequences_max = SEQUENCES,
        .waiting_max = SEQUENCES,
        .rows_max = 2048 / EACH,
        .context_max = 3 * PROMPT,
        .sim = {.load_ns = fleet->load_ns,
                .fixed_ns = 500000,
                .row_ns = 25200 * EACH,
                .kv_ns = 36700 * EACH,
                .chunk_kv_ns = 1790 * EACH,
                .head_ns = 1900 * EACH},
    };

    must(!node->engine, "a node is added twice");
    *node = (struct node){.began_ms = now_ms, .leaves_ms = leaves_ms, .again = fleet->missing > 0};
    must(engine_open(&options, &node->engine) == ERR_OK, "no engine");
    fleet->load_ns_all += fleet->load_ns;
    if (node->again) {
        fleet->missing--;
        fleet->reload_ns += fleet->load_ns;
    }
}

static void collect(struct fleet *fleet, struct node *node)
{
    struct engine_event event;

    while (engine_poll(node->engine, &event)) {
        fleet->ended++;
        fleet->tokens += event.tokens_len;
        node->running--;
        free_request(request_of(event.tag));
    }
}

static void save(struct request *request, const struct engine_checkpoint *live)
{
    request->saved = xrealloc(request->saved, live->tokens_len, sizeof *request->saved);
    memcpy(request->saved, live->tokens, live->tokens_len * sizeof *request->saved);
    request->saved_len = live->tokens_len;
    request->saved_ns = live->cost_ns;
}

static void checkpoint(struct fleet *fleet, struct node *node)
{
    struct engine_checkpoint live;
    uint32_t cursor = 0;

    must(engine_flush(node->engine) == ERR_OK, "no flush");
    collect(fleet, node);
    while (engine_checkpoint(node->engine, &cursor, &live))
        if (live.moved)
            save(request_of(live.tag), &live);
    node->walked_ns = engine_clock_ns(node->engine);
}

/* Steps until its clock has come to `until_ns`. */
static void run(struct fleet *fleet, struct node *node, uint64_t until_ns)
{
    while (engine_clock_ns(node->engine) < until_ns) {
        struct engine_step_info info;

        while (node->running < SEQUENCES) {
            struct request *request = next_request(fleet);

            must(submit(node, request), "a request does not fit");
            node->running++;
        }
        must(engine_step(node->engine, &info) == ERR_OK, "a step failed");
        node->step_ns = info.end_ns - info.begin_ns;
        collect(fleet, node);
        if (fleet->interval_ns > 0 &&
            engine_clock_ns(node->engine) - node->walked_ns >= fleet->interval_ns)
            checkpoint(fleet, node);
    }
}

/* What is in flight is gone too: it is counted as a whole step. */
static void take_away(struct fleet *fleet, struct node *node)
{
    struct engine_checkpoint live;
    struct engine_books books;
    uint32_t cursor = 0;
    uint64_t again = 0;

    if (fleet->notice_ms > 0)
        checkpoint(fleet, node);
    else
        fleet->lost_ns += node->step_ns, fleet->held_ns += node->step_ns;
    engine_books(node->engine, &books);
    while (engine_checkpoint(node->engine, &cursor, &live)) {
        struct request *request = request_of(live.tag);

        again += live.tokens_len - request->saved_len;
        fleet->lost_ns += live.cost_ns - request->saved_ns;
        request->kept_ns += request->saved_ns;
        request->saved_ns = 0;
        give_back(fleet, request);
    }
    fleet->tokens_again += again * EACH;
    fleet->again_max = again * EACH > fleet->again_max ? again * EACH : fleet->again_max;
    fleet->held_ns += books.held_ns;
    fleet->recompute_ns += books.recompute_ns;
    fleet->idle_ns += books.idle_ns;
    engine_close(node->engine);
    node->engine = NULL;
}

static void remove_node(struct fleet *fleet, struct node *node, uint64_t now_ms)
{
    must(node->engine, "a node is removed that is not there");
    take_away(fleet, node);
    fleet->held_ns += (now_ms - node->leaves_ms) * 1000000;
    fleet->left_ns += (now_ms - node->leaves_ms) * 1000000;
    fleet->removals++;
    fleet->missing++;
}

/* --------------------------------------------------------------------------------- the fleet ---- */

/* Everybody up to this time; requests go to and fro between events only. */
static void run_all(struct fleet *fleet, uint64_t now_ms)
{
    for (int i = 0; i < NODES; i++) {
        struct node *node = &fleet->node[i];
        const uint64_t until_ms = now_ms < node->leaves_ms ? now_ms : node->leaves_ms;

        if (node->engine && until_ms > node->began_ms)
            run(fleet, node, (until_ms - node->began_ms) * 1000000);
    }
}

static void free_live(struct fleet *fleet, struct node *node)
{
    struct engine_checkpoint live;
    uint32_t cursor = 0;

    collect(fleet, node);
    while (engine_checkpoint(node->engine, &cursor, &live))
        free_request(request_of(live.tag));
}

/* The trace is over: what runs is nobody's loss. */
static void end_all(struct fleet *fleet)
{
    for (int i = 0; i < NODES; i++) {
        struct node *node = &fleet->node[i];
        struct engine_books books;

        if (!node->engine)
            continue;
        engine_books(node->engine, &books);
        fleet->held_ns += books.held_ns;
        fleet->recompute_ns += books.recompute_ns;
        fleet->idle_ns += books.idle_ns;
        free_live(fleet, node);
        engine_close(node->engine);
    }
    while (fleet->backlog)
        free_request(next_request(fleet));
}

static double share(const struct fleet *fleet, uint64_t part_ns)
{
    return 100.0 * (double)part_ns / (double)fleet->held_ns;
}

static uint64_t seconds(const char *text)
{
    char *end;
    const double value = strtod(text, &end);

    must(*text && !*end && value >= 0 && value <= 3600, "spot LOAD INTERVAL NOTICE, in seconds");
    return (uint64_t)(value * 1e9);
}

/* Checks and keeps all events of standard input; *ret is the caller's. */
static size_t read_events(struct event **ret)
{
    struct event *event = NULL;
    unsigned long long at_ms;
    size_t len = 0;
    char word[8];
    unsigned node;

    while (scanf("%llu %7s %u", &at_ms, word, &node) == 3) {
        must(node < NODES && at_ms <= 1ull << 40 && (len == 0 || at_ms >= event[len - 1].at_ms),
             "an event is out of order or of no such node");
        event = xrealloc(event, len + 1, sizeof *event);
        event[len++] = (struct event){at_ms, node, strcmp(word, "add") == 0};
    }
    must(feof(stdin) != 0, "an event cannot be read");
    *ret = event;
    return len;
}

/* When the node that comes with this event stops working: the margin before it goes, or never. */
static uint64_t leaves_ms(const struct fleet *fleet, const struct event *event,
                          const struct event *end)
{
    const uint64_t margin = fleet->notice_ms < MARGIN_MS ? fleet->notice_ms : MARGIN_MS;
    const struct event *gone = event + 1;

    while (gone < end && gone->node != event->node)
        gone++;
    if (gone == end)
        return UINT64_MAX;
    return gone->at_ms - event->at_ms > margin ? gone->at_ms - margin : event->at_ms;
}

static void replay(struct fleet *fleet, const struct event *event, const struct event *end)
{
    for (; event < end; event++) {
        struct node *node = &fleet->node[event->node];

        run_all(fleet, event->at_ms);
        if (event->add)
            add(fleet, node, event->at_ms, leaves_ms(fleet, event, end));
        else
            remove_node(fleet, node, event->at_ms);
    }
}

int main(int argc, char **argv)
{
    static struct fleet fleet;
    struct event *events;
    size_t len;

    log_init("spot", LOG_WARN, LOG_LOGFMT, true);
    must(argc == 4, "spot LOAD INTERVAL NOTICE, in seconds, and events on standard input");
    fleet.load_ns = seconds(argv[1]);
    fleet.interval_ns = seconds(argv[2]);
    fleet.notice_ms = seconds(argv[3]) / 1000000;
    len = read_events(&events);
    replay(&fleet, events, events + len);
    end_all(&fleet);
    free(events);
    must(fleet.held_ns > 0, "nobody was there for any time");
    printf("hours=%.2f removals=%llu requests=%llu lost_percent=%.4f recompute_percent=%.4f "
           "reload_percent=%.4f load_percent=%.4f idle_percent=%.4f left_percent=%.4f "
           "again_mean=%.1f again_max=%llu\n",
           (double)fleet.held_ns / (double)SECOND / 3600, (unsigned long long)fleet.removals,
           (unsigned long long)fleet.ended * EACH, share(&fleet, fleet.lost_ns),
           share(&fleet, fleet.recompute_ns), share(&fleet, fleet.reload_ns),
           share(&fleet, fleet.load_ns_all), share(&fleet, fleet.idle_ns),
           share(&fleet, fleet.left_ns),
           fleet.removals > 0 ? (double)fleet.tokens_again / (double)fleet.removals : 0.0,
           (unsigned long long)fleet.again_max);
    return 0;
}
