// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a disk's back-end did, for tests that kill it
 *
 * In a file it is text.  A disk has a sector for each line, with the rest of it zeroes, and
 * it survives the VM.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm2vm_dev.h"
#include "vm2vm_log.h"

#define SECTOR	512

static int log_fd = -1;
static bool log_sectors;
static uint8_t *sector;

void log_open(const char *path)
{
	struct stat st;

	if (!path)
		return;
	log_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0644);
	if (log_fd < 0 || fstat(log_fd, &st))
		die("%s: %m", path);
	log_sectors = S_ISBLK(st.st_mode);
	if (!log_sectors)
		return;
	close(log_fd);
	log_fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT | O_DSYNC);
	sector = aligned_alloc(SECTOR, SECTOR);
	if (log_fd < 0 || !sector)
		die("%s: %m", path);
	/* Behind the last line of one before us */
	do {
		if (read(log_fd, sector, SECTOR) != SECTOR)
			die("%s: is full", path);
	} while (sector[0]);
	if (lseek(log_fd, -SECTOR, SEEK_CUR) < 0)
		die("%s: %m", path);
}

void log_request(char what, uint32_t queue, uint64_t counter, uint64_t at, size_t len,
		 const uint8_t *data)
{
	char line[SECTOR] = "";
	uint64_t word[2];
	ssize_t n;

	if (log_fd < 0)
		return;
	memcpy(word, data, sizeof(word));
	n = snprintf(line, sizeof(line), "%c %u %" PRIu64 " %" PRIu64
		     " %zu %" PRIx64 " %" PRIx64 "\n",
		     what, queue, counter, at, len, word[0], word[1]);
	if (log_sectors) {
		memcpy(sector, line, SECTOR);
		n = SECTOR;
	}
	if (write(log_fd, log_sectors ? sector : (uint8_t *)line, n) != n)
		die("writing the log: %m");
}
