// SPDX-License-Identifier: GPL-2.0
/* What the kernel's tracepoints say: what include/vm2vm_trace.h declares. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "test_util.h"
#include "vm2vm_knob.h"
#include "vm2vm_trace.h"

#define TRACE_DIR	"/sys/kernel/tracing/"

static bool trace_enable(const char *events, bool enable)
{
	char path[128];

	snprintf(path, sizeof(path), TRACE_DIR "events/%s/enable", events);
	return knob_write_long(path, enable);
}

/* Whoever opens it to write, and truncates it, empties it. */
static bool trace_empty(void)
{
	int fd = open(TRACE_DIR "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

bool trace_start(const char *events)
{
	if (access(TRACE_DIR "trace", F_OK))
		mount("tracefs", TRACE_DIR, "tracefs", 0, NULL);
	return trace_empty() && trace_enable(events, true);
}

char *trace_stop(const char *events)
{
	size_t len = 0, size = 1 << 20;
	char *text = malloc(size);
	ssize_t r;
	int fd;

	trace_enable(events, false);
	fd = open(TRACE_DIR "trace", O_RDONLY | O_CLOEXEC);
	TEST_ASSERT(text && fd >= 0, TRACE_DIR "trace: %s", strerror(errno));
	while ((r = read(fd, text + len, size - 1 - len)) > 0)
		len += r;
	text[len] = '\0';
	close(fd);
	return text;
}
