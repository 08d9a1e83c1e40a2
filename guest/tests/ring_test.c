// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rings by themselves: a driver that is right, one that is not, and a back-end that is
 * killed at any store.  Memory stands for the window.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vm2vm_dev.h"
#include "../vm2vm_inflight.h"
#include "../vm2vm_ring.h"

#define BASE	0xff000000ULL
#define SIZE	(1 << 20)
#define N	16u
#define DESC	BASE
#define AVAIL	(BASE + 0x1000)
#define USED	(BASE + 0x1100)
#define TABLE	(BASE + 0x2000)
#define BUFFERS	(BASE + 0x10000)

__thread struct vm2vm_dev dev;
static uint8_t memory[SIZE] __attribute__((aligned(4096)));
static bool hole;		/* nothing is approved any more */
static int until_killed = -1;	/* stores */
static jmp_buf killed;
static unsigned int failures, number;

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	exit(1);
}

bool in_window(uint64_t iova, uint64_t len)
{
	return iova >= BASE && iova - BASE <= SIZE && len <= SIZE - (iova - BASE);
}

static void must_be_in(uint64_t iova, uint64_t len)
{
	if (!in_window(iova, len))
		die("Bail out! access to %#llx+%#llx\n", (unsigned long long)iova,
		    (unsigned long long)len);
}

volatile void *window(uint64_t iova)
{
	static uint64_t ones;

	must_be_in(iova, 2);
	ones = ~0ULL;
	return hole ? (void *)&ones : memory + (iova - BASE);
}

void window_read(uint64_t iova, void *to, uint64_t len)
{
	must_be_in(iova, len);
	if (hole)
		memset(to, 0xff, len);
	else
		memcpy(to, memory + (iova - BASE), len);
}

void window_write(uint64_t iova, const void *from, uint64_t len)
{
	must_be_in(iova, len);
	if (!until_killed--)
		longjmp(killed, 1);
	if (!hole)
		memcpy(memory + (iova - BASE), from, len);
}

static void check(bool good, const char *what)
{
	if (!good) {
		printf("# %s\n", what);
		failures++;
	}
}

static void done(const char *name)
{
	printf("%s %u %s\n", failures ? "not ok" : "ok", ++number, name);
	if (failures)
		exit(1);
}

/* The driver */

static struct vring_desc *desc = (void *)memory;
static struct vring_avail *avail = (void *)(memory + 0x1000);
static struct vring_used *used = (void *)(memory + 0x1100);

static struct ring fresh(uint64_t features)
{
	struct ring r = { .size = N, .desc = DESC, .avail = AVAIL, .used = USED };

	r.features = features;
	memset(memory, 0, sizeof(memory));
	check(!ring_load(&r, 0), "a ring that is right");
	return r;
}

static void add(uint16_t head)
{
	avail->ring[avail->idx % N] = head;
	avail->idx++;
}

static void set(struct vring_desc *d, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	*d = (struct vring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

/* What is to be so */

static void test_chains(void)
{
	struct ring r = fresh(1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	struct vring_desc *table = (void *)(memory + 0x2000);
	struct chain c = {};
	char bytes[32];

	set(&desc[3], BUFFERS, 4, VRING_DESC_F_NEXT, 5);
	set(&desc[5], BUFFERS + 100, 6, VRING_DESC_F_NEXT, 1);
	set(&desc[1], BUFFERS + 200, 8, VRING_DESC_F_WRITE, 0);
	memcpy(memory + 0x10000, "abcd", 4);
	memcpy(memory + 0x10000 + 100, "efghij", 6);
	check(!ring_pop(&r, &c) && !ring_broken(&r), "nothing yet");
	add(3);
	check(ring_pop(&r, &c) && c.head == 3 && c.out == 10 && c.in == 8, "a chain of three");
	check(chain_read(&c, 2, bytes, 32) == 8 && !memcmp(bytes, "cdefghij", 8), "is read");
	check(chain_write(&c, 3, "0123456789", 10) == 5, "is written as far as there is room");
	check(!memcmp(memory + 0x10000 + 200, "\0\0\00001234", 8), "with that");
	ring_push(&r, 3, 8);
	check(used->idx == 1 && used->ring[0].id == 3 && used->ring[0].len == 8, "is used");
	set(&desc[7], TABLE, 2 * sizeof(*table), VRING_DESC_F_INDIRECT, 0);
	set(&table[0], BUFFERS, 4, VRING_DESC_F_NEXT, 1);
	set(&table[1], BUFFERS + 100, 6, VRING_DESC_F_WRITE, 0);
	add(7);
	check(ring_pop(&r, &c) && c.head == 7 && c.out == 4 && c.in == 6, "an indirect one");
	done("chains");
}

/* why: what the ring says of it. By another check, later, it might break, too. */
static void broken(uint64_t features, const char *what, void (*spoil)(void), const char *why)
{
	struct ring r = fresh(features);
	struct chain c = {};

	set(&desc[0], BUFFERS, 4, VRING_DESC_F_WRITE, 0);
	add(0);
	spoil();
	check(!ring_pop(&r, &c) && ring_broken(&r), what);
	check(strstr(r.wrong, why), what);
	memset(memory, 0, sizeof(memory));
	check(!ring_pop(&r, &c) && ring_broken(&r), "stays broken");
	check(!ring_load(&r, 0) && !ring_broken(&r), "until it is loaded");
	free(c.segments);
}

static void spoil_index(void) { avail->idx = N + 1; }
static void spoil_head(void) { avail->ring[0] = N; }
/* Long, so that what does not see a loop sees soon that it is too much */
static void spoil_loop(void) { set(&desc[0], BUFFERS, 1 << 16, VRING_DESC_F_NEXT, 0); }
static void spoil_next(void) { set(&desc[0], BUFFERS, 4, VRING_DESC_F_NEXT, N); }
static void spoil_end(void) { desc[0].addr = BASE + SIZE - 3; }
static void spoil_wrap(void) { desc[0].addr = ~0ULL; }
static void spoil_sum(void)
{
	/* Each is in the window, but what would a used length be? It is too long as a chain. */
	set(&desc[0], TABLE, 16 * (N + 1), VRING_DESC_F_INDIRECT, 0);
	for (uint16_t i = 0; i <= N; i++)
		set((struct vring_desc *)(memory + 0x2000) + i, BUFFERS, 4, VRING_DESC_F_NEXT,
		    i + 1);
}

static void spoil_nested(void)
{
	set(&desc[0], TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	set((struct vring_desc *)(memory + 0x2000), TABLE, 16, VRING_DESC_F_INDIRECT, 0);
}

static void spoil_indirect(void) { set(&desc[0], TABLE, 16, VRING_DESC_F_INDIRECT, 0); }
static void spoil_odd(void) { set(&desc[0], TABLE, 17, VRING_DESC_F_INDIRECT, 0); }
static void spoil_hole(void) { hole = true; }

static void test_hostile(void)
{
	uint64_t indirect = 1ULL << VIRTIO_RING_F_INDIRECT_DESC;

	broken(0, "an index that is too far", spoil_index, "bad available index");
	broken(0, "a head that is none", spoil_head, "bad descriptor index");
	broken(0, "a loop", spoil_loop, "is a loop");
	broken(0, "a next that is none", spoil_next, "bad descriptor index");
	broken(0, "a buffer over the end", spoil_end, "is not in the window");
	broken(0, "a buffer around the end", spoil_wrap, "is not in the window");
	broken(indirect, "an indirect chain that is too long", spoil_sum, "too long");
	broken(indirect, "indirect in an indirect table", spoil_nested, "is indirect");
	broken(0, "indirect, which was not agreed upon", spoil_indirect, "is indirect");
	broken(indirect, "an indirect table with half an entry", spoil_odd, "is indirect");
	hole = false;
	done("hostile");
}

static void test_hole(void)
{
	struct ring r = fresh(0);
	struct chain c = {};

	broken(0, "all-ones", spoil_hole, "bad available index");
	hole = false;
	r = fresh(0);
	set(&desc[2], BUFFERS, 4, VRING_DESC_F_WRITE, 0);
	add(2);
	check(ring_pop(&r, &c) && ring_there(&r, &c), "there");
	hole = true;
	check(!ring_there(&r, &c), "not there");
	hole = false;
	done("hole");
}

static void test_load(void)
{
	struct ring r = fresh(0), bad;

	bad = r, bad.size = 12, check(ring_load(&bad, 0), "no power of two");
	bad = r, bad.size = 0, check(ring_load(&bad, 0), "none");
	bad = r, bad.size = 65536, check(ring_load(&bad, 0), "too large");
	bad = r, bad.desc += 8, check(ring_load(&bad, 0), "descriptors not aligned");
	bad = r, bad.used += 2, check(ring_load(&bad, 0), "used not aligned");
	bad = r, bad.avail = BASE + SIZE - 4 - 2 * N, check(!ring_load(&bad, 0), "the last bytes");
	bad.features = 1ULL << VIRTIO_RING_F_EVENT_IDX;
	check(ring_load(&bad, 0), "no room for the event index");
	bad = r, bad.used = BASE - 4096, check(ring_load(&bad, 0), "before the window");
	done("load");
}

static void test_notifications(void)
{
	struct ring r = fresh(1ULL << VIRTIO_RING_F_EVENT_IDX);
	uint16_t *used_event = &avail->ring[N], *avail_event = (void *)&used->ring[N];
	struct chain c = {};

	check(!ring_want_kick(&r) && *avail_event == 0, "a kick for the first");
	add(0);
	check(ring_want_kick(&r), "it has come meanwhile");
	desc[0].addr = BUFFERS;
	check(ring_pop(&r, &c), "one");
	ring_push(&r, 0, 0);
	*used_event = 100;
	check(ring_must_tell(&r), "the first time, always");
	check(!ring_must_tell(&r), "nothing new");
	*used_event = 1;
	ring_push(&r, 0, 0);
	check(ring_must_tell(&r), "that it waits for");
	ring_push(&r, 0, 0);
	check(!ring_must_tell(&r), "not that after it");

	r = fresh(0);
	ring_no_kick(&r);
	check(used->flags == VRING_USED_F_NO_NOTIFY, "no kicks");
	ring_want_kick(&r);
	check(!used->flags && ring_must_tell(&r), "kicks");
	avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	check(!ring_must_tell(&r), "no interrupts");
	done("notifications");
}

/* Random bytes, in all of which something makes sense: nothing is touched outside */
static void test_nonsense(void)
{
	struct ring r = fresh(1ULL << VIRTIO_RING_F_INDIRECT_DESC |
			      1ULL << VIRTIO_RING_F_EVENT_IDX);
	static uint8_t bytes[4096];
	struct chain c = {};
	unsigned int i, n, taken = 0;

	for (i = 0; i < 20000; i++) {
		for (n = 0; n < N; n++) {
			set(&desc[n], BASE + rand() % (SIZE + 64), rand() % 2 ? 64 : 16, rand() & 7,
			    rand() % (N + 1));
			avail->ring[n] = rand() % (N + 1);
		}
		for (n = 0; n < 256; n++)
			memory[0x2000 + rand() % 4096] = rand();
		avail->idx = rand() % (2 * N);
		check(!ring_load(&r, 0), "is all right");
		while (ring_pop(&r, &c)) {
			chain_read(&c, rand() % 100, bytes, sizeof(bytes));
			chain_write(&c, rand() % 100, bytes, sizeof(bytes));
			ring_push(&r, c.head, c.in);
			ring_must_tell(&r);
			taken++;
		}
	}
	check(taken > 1000, "some make sense");
	done("nonsense");
}

/* In-flight memory */

static uint8_t inflight_memory[4096] __attribute__((aligned(64)));
static volatile struct inflight_queue *inflight = (void *)inflight_memory;

/*
 * One life of a back-end, which takes some and does them in any order, until it is killed.
 * What is done once more than it was given back would be done twice.
 */
static void life(void)
{
	struct ring r = { .size = N, .desc = DESC, .avail = AVAIL, .used = USED };
	struct chain taken[N] = {}, last;
	uint16_t again[N];
	uint64_t counter;
	int i, n, nr;

	until_killed = -1;
	check(!ring_load(&r, 0), "loads");
	nr = inflight_load(inflight, &r, again, &counter);
	check(nr >= 0, "in-flight memory");
	for (n = 0; n < nr; n++)
		check(ring_load_chain(&r, &taken[n], again[n]), "again");
	until_killed = rand() % 30;
	if (!setjmp(killed)) {
		for (;;) {
			while (n < (int)N && ring_pop(&r, &taken[n])) {
				inflight_take(inflight, taken[n].head, counter++);
				n++;
			}
			if (!n)
				break;
			i = rand() % n;
			check(inflight_push(inflight, &r, &taken[i], 0), "given back");
			last = taken[--n];
			taken[n] = taken[i];
			taken[i] = last;
		}
	}
	until_killed = -1;
	for (i = 0; i < (int)N; i++)
		free(taken[i].segments);
}

static void test_inflight(void)
{
	unsigned int i, round, out[N] = {}, total = 0, back = 0;
	uint16_t seen = 0;

	fresh(0);
	memset(inflight_memory, 0, sizeof(inflight_memory));
	for (i = 0; i < N; i++)
		set(&desc[i], BUFFERS + i * 64, 64, VRING_DESC_F_WRITE, 0);
	for (round = 0; round < 20000; round++) {
		/* The driver: takes back what was given, and makes some available that are free */
		for (; seen != used->idx; seen++, back++) {
			uint32_t id = used->ring[seen % N].id;

			check(id < N && out[id]--, "given back that was not taken, or twice");
		}
		for (i = 0; i < N; i++) {
			if (!out[i] && rand() % 2) {
				out[i] = 1;
				add(i);
				total++;
			}
		}
		life();
		if (failures)
			break;
	}
	/* A long life: all come back */
	for (i = 0; i < 1000 && back < total; i++) {
		life();
		for (; seen != used->idx; seen++, back++)
			check(out[used->ring[seen % N].id]--, "given back twice");
	}
	check(back == total, "none is lost");
	done("inflight");
}

static void test_inflight_order(void)
{
	struct ring r = fresh(0);
	struct chain c = {};
	uint16_t again[N];
	uint64_t counter;
	uint16_t i;

	memset(inflight_memory, 0, sizeof(inflight_memory));
	/* A fresh queue in memory with an old index: the index of the queue is what counts */
	used->idx = 5;
	check(!inflight_load(inflight, &r, again, &counter) && !r.next && !r.used_idx, "fresh");
	used->idx = 0;
	for (i = 0; i < 4; i++)
		set(&desc[i], BUFFERS, 4, VRING_DESC_F_WRITE, 0);
	for (i = 0; i < 4; i++) {
		add(3 - i);
		check(ring_pop(&r, &c), "taken");
		inflight_take(inflight, c.head, counter++);
	}
	ring_load_chain(&r, &c, 2);
	check(inflight_push(inflight, &r, &c, 4), "2 is given back first");
	check(!ring_load(&r, 1), "a new one");
	check(inflight_load(inflight, &r, again, &counter) == 3, "three are left");
	check(again[0] == 3 && again[1] == 1 && again[2] == 0, "in the order of before");
	check(r.next == 4 && r.used_idx == 1 && counter == 4, "and it goes on behind them");
	ring_load_chain(&r, &c, 3);
	hole = true;
	check(!inflight_push(inflight, &r, &c, 4), "not given back to a hole");
	hole = false;
	check(!ring_load(&r, 1), "one more");
	check(inflight_load(inflight, &r, again, &counter) == 3 && again[0] == 3, "to be done");
	inflight->desc_num = 2 * N;
	check(inflight_load(inflight, &r, again, &counter) < 0, "of another ring");
	done("inflight order");
}

/* What an earlier back-end has left there may be anything: it is refused, or names buffers */
static void test_inflight_nonsense(void)
{
	struct {
		uint16_t heads[N], canary;
	} again;
	unsigned int i, round, taken = 0;
	uint64_t counter;

	for (round = 0; round < 20000; round++) {
		struct ring r = fresh(rand());
		bool seen[N] = {};
		int n;

		for (i = 0; i < sizeof(inflight_memory); i++)
			inflight_memory[i] = rand();
		/* Else hardly anything would be looked at */
		if (rand() % 8)
			inflight->version = 1;
		if (rand() % 8)
			inflight->desc_num = N;
		if (rand() % 8)
			inflight->last_batch_head %= N;
		again.canary = 0xcafe;
		n = inflight_load(inflight, &r, again.heads, &counter);
		check(again.canary == 0xcafe && n <= (int)N, "no more than there are");
		for (i = 0; (int)i < n; i++) {
			check(again.heads[i] < N && !seen[again.heads[i]], "each once");
			if (again.heads[i] < N)
				seen[again.heads[i]] = true;
		}
		if (n >= 0) {
			taken++;
			check(r.next == (uint16_t)(r.used_idx + n), "it goes on behind them");
		}
	}
	check(taken > 1000, "some make sense");
	done("inflight nonsense");
}

int main(void)
{
	printf("1..9\n");
	srand(1);
	test_chains();
	test_hostile();
	test_hole();
	test_load();
	test_notifications();
	test_nonsense();
	test_inflight_order();
	test_inflight_nonsense();
	test_inflight();
	return 0;
}
