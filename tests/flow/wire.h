/*
 * wire.h: a proxy between libpq and PostgreSQL that loses or holds back one message, so that a test
 * can break a connection at a chosen point of a commit.
 *
 * It listens on loopback, in a thread of its own, and forwards whole messages of the protocol. One
 * rule is armed at a time; it strikes once. Connections that the proxy carries can be used by
 * children of fork() too; the other calls are for the process that opened it.
 */
#ifndef MSERVE_TESTS_FLOW_WIRE_H
#define MSERVE_TESTS_FLOW_WIRE_H

#include "sql/db.h"

enum wire_side { WIRE_CLIENT, WIRE_SERVER }; /* who sends the message */

enum wire_action {
    WIRE_CUT,       /* both sides are closed; the message is lost */
    WIRE_CUT_ALL,   /* so are all other connections, as when the process is killed */
    WIRE_HOLD,      /* the message and all behind it wait for wire_go() */
    WIRE_HOLD_HALF, /* likewise, but its first half is forwarded */
};

struct wire;

struct wire *wire_open(void);
void wire_close(struct wire *wire);

/* pg_options(), through the proxy; valid until wire_close(). */
struct db_options wire_options(const struct wire *wire);

/*
 * Strikes at the next message from `side` of this type ('Q' query, 'd' rows of COPY, 'c' their end,
 * 'C' a command's completion …) whose content begins so.
 */
void wire_when(struct wire *wire, enum wire_side side, char type, const char *begins,
               enum wire_action action);

/* The n-th message from `side` from now on, counted from 0, whatever it is. */
void wire_when_nth(struct wire *wire, enum wire_side side, uint32_t n, enum wire_action action);

bool wire_struck(struct wire *wire);

/* Nothing strikes any more. */
void wire_disarm(struct wire *wire);

/* Waits until the rule has struck. Asserts that it does within 10 s. */
void wire_wait(struct wire *wire);

/* What is held goes on. */
void wire_go(struct wire *wire);

#endif
