// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"slices"
	"testing"
)

func TestExported(t *testing.T) {
	got := exported(`
/** EVENT2_EXPORT_SYMBOL int in_a_comment(void); */
EVENT2_EXPORT_SYMBOL
struct event_base *event_base_new(void);
EVENT2_EXPORT_SYMBOL
void evbuffer_file_segment_add_cleanup_cb(struct evbuffer_file_segment *seg,
	evbuffer_file_segment_cleanup_cb cb, void* arg);
EVENT2_EXPORT_SYMBOL
typedef void not_a_function;
EVENT2_EXPORT_SYMBOL int evbuffer_add_printf(struct evbuffer *buf, const char *fmt, ...)
#ifdef __GNUC__
  __attribute__((format(printf, 2, 3)))
#endif
;
int not_exported(void);
`)
	want := []string{"evbuffer_add_printf", "evbuffer_file_segment_add_cleanup_cb", "event_base_new"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestExcuses(t *testing.T) {
	got := excuses("| `a_function` | because of this |\n| `without_reason` | |\n`in_text`\n")
	if len(got) != 1 || !got["a_function"] {
		t.Errorf("got %v", got)
	}
	got = excuses("## Functions that not every libevent has\n| `a_function` | because of this |\n## Flags\n| `a_flag` | so |\n")
	if always, named := got["a_function"]; len(got) != 1 || !named || always {
		t.Errorf("got %v", got)
	}
}

func TestCalledIn(t *testing.T) {
	const source = "rc = event_add(ev); p = C.evbuffer_new()"
	for function, want := range map[string]bool{"event_add": true, "evbuffer_new": true, "event_ad": false, "event_add_x": false} {
		if got := calledIn(source, function); got != want {
			t.Errorf("%s: got %v", function, got)
		}
	}
}
