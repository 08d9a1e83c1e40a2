// SPDX-License-Identifier: GPL-2.0-only
/*
 * verify DISK MIB THREADS [LOG]: write to a disk in random order and look whether it is there.
 *
 * Each thread has a part of the disk, fills it, and then writes and reads blocks at random, by
 * one request at a time, until SIGTERM; then everything is read.  A block says where it belongs
 * and which write of it this is, so that one that is lost, or done again after a later one, is
 * seen.  LOG gets a line for each write that is done: first block, which write of it, blocks.
 *
 * Exit status: 1 if something is not as it was written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK		4096u
#define WORDS		(BLOCK / 8)
/* Blocks of a request */
#define MAX_BLOCKS	8

static volatile sig_atomic_t ended;
static int disk;
static FILE *record;
static uint32_t *times;		/* that each block was written */
static unsigned long writes, reads;

struct part {
	pthread_t thread;
	uint64_t first, nr;
	unsigned int seed;
	uint64_t *buffer;
};

static void end(int signal)
{
	ended = 1;
}

static void __attribute__((noreturn)) fail(const char *what, uint64_t block, uint64_t is,
					   uint64_t want)
{
	printf("verify: block %" PRIu64 ": %s: is 0x%" PRIx64 ", should be 0x%" PRIx64 "\n", block,
	       what, is, want);
	fflush(stdout);
	_exit(1);
}

static void fill(uint64_t *words, uint64_t block)
{
	unsigned int i;

	words[0] = block;
	words[1] = times[block];
	for (i = 2; i < WORDS; i++)
		words[i] = (block << 32 | times[block]) * 0x9e3779b97f4a7c15ULL + i;
}

static void compare(const uint64_t *words, uint64_t block)
{
	uint64_t want[WORDS];
	unsigned int i;

	fill(want, block);
	for (i = 0; i < WORDS; i++) {
		if (words[i] != want[i])
			fail(i == 1 ? "which write" : "a word", block, words[i], want[i]);
	}
}

static void write_blocks(struct part *part, uint64_t block, unsigned int nr)
{
	unsigned int i;
	ssize_t n;

	for (i = 0; i < nr; i++) {
		times[block + i]++;
		fill(part->buffer + i * WORDS, block + i);
	}
	n = pwrite(disk, part->buffer, nr * BLOCK, block * BLOCK);
	if (n != (ssize_t)(nr * BLOCK))
		fail("cannot be written", block, n < 0 ? errno : n, nr * BLOCK);
	__atomic_add_fetch(&writes, 1, __ATOMIC_RELAXED);
	if (record)
		fprintf(record, "%" PRIu64 " %u %u\n", block, times[block], nr);
}

static void read_blocks(struct part *part, uint64_t block, unsigned int nr)
{
	unsigned int i;
	ssize_t n;

	n = pread(disk, part->buffer, nr * BLOCK, block * BLOCK);
	if (n != (ssize_t)(nr * BLOCK))
		fail("cannot be read", block, n < 0 ? errno : n, nr * BLOCK);
	for (i = 0; i < nr; i++)
		compare(part->buffer + i * WORDS, block + i);
	__atomic_add_fetch(&reads, 1, __ATOMIC_RELAXED);
}

static void *run(void *data)
{
	struct part *part = data;
	uint64_t i, at;
	unsigned int nr;

	for (i = 0; i < part->nr; i += nr) {
		nr = part->nr - i < MAX_BLOCKS ? part->nr - i : MAX_BLOCKS;
		write_blocks(part, part->first + i, nr);
	}
	while (!ended) {
		nr = 1 + rand_r(&part->seed) % MAX_BLOCKS;
		at = rand_r(&part->seed) % (part->nr - nr + 1);
		if (rand_r(&part->seed) % 3)
			write_blocks(part, part->first + at, nr);
		else
			read_blocks(part, part->first + at, nr);
		if (rand_r(&part->seed) % 64 == 0 && fdatasync(disk))
			fail("cannot be flushed", at, errno, 0);
	}
	for (i = 0; i < part->nr; i += nr) {
		nr = part->nr - i < MAX_BLOCKS ? part->nr - i : MAX_BLOCKS;
		read_blocks(part, part->first + i, nr);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned int threads = argc > 3 ? atoi(argv[3]) : 0, i;
	uint64_t blocks = argc > 2 ? strtoull(argv[2], NULL, 0) * ((1 << 20) / BLOCK) : 0;
	struct part *parts = calloc(threads + 1, sizeof(*parts));

	times = calloc(blocks + 1, sizeof(*times));
	if (argc > 5 || !threads || blocks / threads < MAX_BLOCKS || !parts || !times) {
		fprintf(stderr, "usage: verify DISK MIB THREADS [LOG]\n");
		return 2;
	}
	disk = open(argv[1], O_RDWR | O_DIRECT);
	record = argc > 4 ? fopen(argv[4], "w") : NULL;
	if (disk < 0 || (argc > 4 && !record)) {
		perror(argv[1]);
		return 1;
	}
	signal(SIGTERM, end);
	for (i = 0; i < threads; i++) {
		parts[i].first = blocks / threads * i;
		parts[i].nr = blocks / threads;
		parts[i].seed = i + getpid();
		if (posix_memalign((void **)&parts[i].buffer, BLOCK, MAX_BLOCKS * BLOCK) ||
		    pthread_create(&parts[i].thread, NULL, run, &parts[i]))
			return 1;
	}
	for (i = 0; i < threads; i++)
		pthread_join(parts[i].thread, NULL);
	printf("verified: %lu writes, %lu reads\n", writes, reads);
	return 0;
}
