/*
 * source_inside.h: a source's state, shared by source.c (its ranges, from the first to the last) and
 * source_lines.c (what their messages become). Intake thread only.
 */
#ifndef MSERVE_CONSUMER_SOURCE_INSIDE_H
#define MSERVE_CONSUMER_SOURCE_INSIDE_H

#include "consumer/source.h"

enum { SOURCE_RETRY_MS = 500 };

struct source {
    int32_t part;
    struct mail_list chunks;     /* behind the one being read */
    struct claim_chunk *reading; /* NULL: none */
    uint8_t seen[CHUNK_MAP_BYTES];
    uint32_t found;              /* open lines of it that became tasks */
    uint32_t unreadable;         /* messages of its range, in this reading */
    struct arena arena;          /* of its checkpoints */
    struct checkpoint_row *left; /* [left_count] what earlier attempts left, by line */
    uint32_t left_count;
    uint32_t resumed;         /* tasks that go on from one */
    bool asked;               /* for its checkpoints */
    bool begun;               /* its range was given to the reader */
    bool again;               /* it is read for the second time */
    bool told;                /* that it cannot be read */
    bool refused;             /* a body was not had from the store: nothing is known of its line */
    struct arena known_arena; /* of `known` */
    struct quarantine_line *known; /* [known_count] what deaths say of its lines, by line */
    uint32_t known_count;
    bool judged;       /* that was asked for */
    uint64_t wait_ns;  /* not before this time, after a failure */
    uint64_t moved_ns; /* when something last came, or could not have come */
};

/* source.c */

/* The line has no row, and no task was made of it in this reading. */
bool source_is_open(const struct source *source, uint32_t index);
struct task *source_new_task(const struct source *source, uint32_t index, struct slice custom_id);
void source_add_task(struct source *source, struct source_tools *tools, struct task *task);

/* Before what could not be had now is asked for again. */
void source_wait_a_while(struct source *source, uint64_t now_ns);

/* source_lines.c */

/* What earlier attempts left, and what is known of suspects. False: the database cannot be asked now. */
bool source_ask_for_checkpoints(struct source *source, struct source_tools *tools, uint64_t now_ns);
bool source_ask_for_suspects(struct source *source, struct source_tools *tools, uint64_t now_ns);

/* Makes it a task, when it is one of the chunk's open lines. */
void source_take_message(struct source *source, struct source_tools *tools,
                         const rd_kafka_message_t *raw);

#endif
