// SPDX-License-Identifier: GPL-2.0
/*
 * Files of /proc, /sys and the like: what include/vm2vm_knob.h declares.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm2vm_knob.h"

/* The beginning of a file; false: it has none. */
static bool knob_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

long knob_read(const char *path)
{
	char buf[32];

	return knob_text(path, buf, sizeof(buf)) ? strtol(buf, NULL, 0) : -1;
}

bool knob_has(const char *path, const char *word)
{
	char buf[256];

	return knob_text(path, buf, sizeof(buf)) && strstr(buf, word);
}

bool knob_write(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, val, strlen(val)) == (ssize_t)strlen(val);
	close(fd);
	return done;
}

bool knob_write_long(const char *path, long val)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "%ld", val);
	return knob_write(path, buf);
}
