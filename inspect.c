/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect.c: the state of a record in words, for tests and for a person with a debugger.
 */

#include <stdarg.h>
#include <stdio.h>

#include "bev.h"

static const char *const lives[] = {"LIVE", "FLUSHING", "DISCARDING", "QUIET"};
static const char *const links[] = {"UNLINKED", "LOOKING_UP", "TRYING", "GAVE_UP", "CONNECTING", "OPEN"};
static const char *const types[] = {"SOCKET", "PAIR", "FILTER"};

static const char *const reasons[] = {
	"unlinked", "moving", "full", "lent_input", "lent_output", "fast_read", "fast_write", "digesting",
	"waiting",
};

static const char *name_of(const char *const *names, size_t n, int8_t value)
{
	return (size_t)value < n ? names[value] : "?";
}

#define NAME(names, value) name_of((names), sizeof(names) / sizeof((names)[0]), (value))

struct text {
	char *at, *end;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->at, (size_t)(t->end - t->at), format, args);
	va_end(args);
	if (n > 0)
		t->at += n < t->end - t->at ? n : t->end - t->at - 1;
}

static void say_off(struct text *t, const struct glev_off *off)
{
	size_t i;

	say(t, " held=%#x off_because=", (unsigned)off->held);
	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (off->because & 1 << i)
			say(t, "%s,", reasons[i]);
}

/* Without the lock, which a thread that hangs may have. */
void glev_bev_describe(struct glev_bev *r, char *buf, int size)
{
	struct text t = {buf, buf + size};

	say(&t, "%s %s %s closures=%#x loop_only=%d door=%d", NAME(types, r->type), NAME(lives, r->life),
	    NAME(links, r->link), (unsigned)r->closures, r->loop_only, r->door != NULL);
	say_off(&t, &r->off);
	say(&t, "\n  set: limits=%#x was_limited=%d timed=%#x write_timed=%d priority=%d",
	    (unsigned)r->set.limits, r->set.was_limited, (unsigned)r->set.timed, r->set.write_timed, r->set.priority);
	say(&t, "\n  mark: low=%zu high=%zu write_low=%zu drained=%d; owed: events=%#x read=%d written=%d mute=%d touched=%d put_off=%d kept=%#x",
	    r->mark.low, r->mark.high, r->mark.write_low, r->mark.drained, (unsigned)r->owed.events, r->owed.read,
	    r->owed.written, r->owed.mute, r->owed.touched, r->owed.put_off, (unsigned)r->owed.kept);
	say(&t, "\n  ending: shut=%d finished=%d watched=%d; stack: under=%d above=%d partner=%d",
	    r->ending.shut, r->ending.finished, r->ending.out_cb != NULL, r->stack.under != NULL,
	    r->stack.above != NULL, r->stack.partner != NULL);
	say(&t, "\n  fast: on=%d plain=%d paused=%d reading=%d writing=%d spilled=%d direct=%d queued=%d read_error=%d receiver=%d room=%u",
	    r->fast.on, r->fast.plain, r->fast.paused, r->fast.reading, r->fast.writer ? r->fast.writer->writing : -1,
	    r->fast.spilled, r->fast.direct, r->fast.unsent, r->fast.read_error, r->fast.receiver, r->fast.room);
	say(&t, "\n  in: lent=%d frozen=%#x; out: lent=%d frozen=%#x in_file=%d", r->in.lent, (unsigned)r->in.frozen,
	    r->out.lent, (unsigned)r->out.frozen, r->out.in_file != NULL);
}
