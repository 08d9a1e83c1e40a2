// SPDX-License-Identifier: GPL-2.0-only
/*
 * exchange.c: packets that go back and forth between two VMs, in windows: one side sends so many,
 * and the next ones when all of them have come back. So the same is under way over whatever
 * carries them, nothing is lost, and what it costs can be told by counting packets.
 *
 *	exchange udp IP PORT SIZE WINDOW COUNT [REPLIES]	COUNT frames of SIZE bytes each way
 *	exchange echo PORT SIZE WINDOW [REPLIES]		the other side
 *	exchange ring FILE SIDE					both sides of a ring in shared memory,
 *								polling; side 0 begins when it is told
 *	exchange spin STATS					uses a CPU that nobody else wants
 *
 * SIZE is that of an Ethernet frame without its checksum. REPLIES is how many of a window come
 * back: all of them, if it is not given. FILE is what ivshmem's memory is mapped by: see struct
 * shared. STATS is a file of counters, for whoever looks at it meanwhile: see struct stats.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_WINDOW	256
#define MAX_SIZE	9216
/* Ethernet's, IP's and UDP's headers */
#define HEADERS		42
/* As many as DPDK's testpmd takes at a time */
#define BURST		32

struct stats {
	uint64_t polls;		/* looks at a ring, also those that find nothing; rounds of "spin" */
	uint64_t packets;	/* received */
	uint32_t begin;		/* so many packets are to be sent first, ... */
	uint32_t size;		/* ... of so many bytes */
};

static char buffers[MAX_WINDOW][MAX_SIZE];
static struct iovec iovecs[MAX_WINDOW];
static struct mmsghdr messages[MAX_WINDOW];

static unsigned long number(const char *s, unsigned long most)
{
	char *end;
	unsigned long n = strtoul(s, &end, 0);

	if (!*s || *end || n > most)
		errx(2, "%s: not a number up to %lu", s, most);
	return n;
}

static void *map(const char *path, size_t size)
{
	int fd = open(path, O_RDWR);
	void *p;

	if (fd < 0)
		err(1, "%s", path);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err(1, "%s", path);
	close(fd);
	return p;
}

static struct stats *stats_in(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(struct stats)))
		err(1, "%s", path);
	close(fd);
	return map(path, sizeof(struct stats));
}

/* ---- UDP */

static int udp_socket(in_port_t port)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), size = 16 << 20;
	struct timeval patience = { .tv_sec = 1 };

	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)))
		err(1, "UDP port %u", port);
	/* A whole window fits, whatever the kernel adds to each packet */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
		err(1, "SO_RCVBUFFORCE");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void send_some(int fd, unsigned int n)
{
	unsigned int done = 0;

	while (done < n) {
		int sent = sendmmsg(fd, messages + done, n - done, 0);

		if (sent < 0)
			err(1, "sendmmsg");
		done += sent;
	}
}

/* Wait until there is one, and take what has come, up to n. Returns how many; 0: none came in time */
static unsigned int receive_some(int fd, unsigned int n)
{
	int got = recvmmsg(fd, messages, n, MSG_WAITFORONE, NULL);

	return got < 0 ? 0 : got;
}

static void use_size(size_t size)
{
	for (int i = 0; i < MAX_WINDOW; i++) {
		iovecs[i] = (struct iovec){ buffers[i], size };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &iovecs[i], .msg_iovlen = 1 };
	}
}

static int udp(const char *ip, in_port_t port, size_t size, unsigned int window, unsigned long count, unsigned int replies)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = udp_socket(port);
	unsigned long sent, received = 0;

	if (!inet_aton(ip, &there.sin_addr) || connect(fd, (struct sockaddr *)&there, sizeof(there)))
		err(1, "%s", ip);
	use_size(size - HEADERS);
	for (sent = 0; sent < count; sent += window) {
		unsigned int left = replies, got;

		send_some(fd, window);
		for (; left; left -= got) {
			got = receive_some(fd, left);
			if (!got)
				errx(1, "of a window %u packets did not come back", left);
			received += got;
		}
	}
	printf("%lu sent, %lu received\n", sent, received);
	return 0;
}

static int echo(in_port_t port, size_t size, unsigned int window, unsigned int replies)
{
	int fd = udp_socket(port);
	unsigned int got, seen = 0;

	use_size(size - HEADERS);
	/* Where it comes from is asked once */
	for (;;) {
		struct sockaddr_in there;
		socklen_t length = sizeof(there);

		if (recvfrom(fd, buffers[0], 1, MSG_PEEK, (struct sockaddr *)&there, &length) < 0)
			continue;
		if (connect(fd, (struct sockaddr *)&there, length))
			err(1, "connect");
		break;
	}
	for (;;) {
		got = receive_some(fd, window);
		if (replies == window) {
			send_some(fd, got);
			continue;
		}
		for (seen += got; seen >= window; seen -= window)
			send_some(fd, replies);
	}
}

/* ---- A ring in memory of both */

#define SLOTS	1024

/* Of one direction. Each index has a cache line of its own, and counts packets. */
struct ring {
	_Alignas(64) uint32_t filled;
	_Alignas(64) uint32_t emptied;
	_Alignas(64) struct {
		uint32_t size;
		char data[MAX_SIZE - 4];
	} slots[SLOTS];
};

struct shared {
	/* First, as it is looked at from outside: of either side */
	struct {
		_Alignas(64) struct stats stats;
	} sides[2];
	struct ring rings[2];
};

/* Copies in, and tells. There is room: no more is under way than there are slots. */
static void ring_send(struct ring *r, uint32_t *at, unsigned int n, size_t size)
{
	for (unsigned int i = 0; i < n; i++) {
		r->slots[(*at + i) % SLOTS].size = size;
		memcpy(r->slots[(*at + i) % SLOTS].data, buffers[i], size);
	}
	*at += n;
	__atomic_store_n(&r->filled, *at, __ATOMIC_RELEASE);
}

/* Copies out, up to a burst. Returns how many; their size is the same. */
static unsigned int ring_receive(struct ring *r, uint32_t *at, uint32_t *size)
{
	uint32_t n = __atomic_load_n(&r->filled, __ATOMIC_ACQUIRE) - *at;

	if (n > BURST)
		n = BURST;
	for (uint32_t i = 0; i < n; i++) {
		*size = r->slots[(*at + i) % SLOTS].size;
		if (*size > sizeof(r->slots[0].data))
			errx(1, "a packet of %u bytes", *size);
		memcpy(buffers[i], r->slots[(*at + i) % SLOTS].data, *size);
	}
	if (n) {
		*at += n;
		__atomic_store_n(&r->emptied, *at, __ATOMIC_RELEASE);
	}
	return n;
}

static void begin(struct ring *out, uint32_t *sent, struct stats *stats)
{
	uint32_t left = __atomic_exchange_n(&stats->begin, 0, __ATOMIC_ACQUIRE), n;

	for (; left; left -= n) {
		n = left < BURST ? left : BURST;
		ring_send(out, sent, n, stats->size);
	}
}

static void ring(const char *path, int side)
{
	struct shared *shared = map(path, sizeof(*shared));
	struct ring *out = &shared->rings[side], *in = &shared->rings[!side];
	struct stats *stats = &shared->sides[side].stats;
	uint32_t sent = out->filled, received = in->emptied, size = 0;

	for (;;) {
		unsigned int n = ring_receive(in, &received, &size);

		__atomic_store_n(&stats->polls, stats->polls + 1, __ATOMIC_RELAXED);
		if (n) {
			stats->packets += n;
			ring_send(out, &sent, n, size);
		} else if (__atomic_load_n(&stats->begin, __ATOMIC_RELAXED)) {
			begin(out, &sent, stats);
		}
	}
}

/* ---- What is left of a CPU */

/*
 * A round is two instructions, so those that others took meanwhile can be told from the time, where
 * one of its ticks is an instruction. It gives way to everybody.
 */
static void spin(struct stats *stats)
{
	struct sched_param none = { 0 };

	if (sched_setscheduler(0, SCHED_IDLE, &none))
		err(1, "SCHED_IDLE");
	asm volatile("1: incq %0\n\tjmp 1b" : "+m"(stats->polls));
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	size_t size;
	unsigned int window;

	if (!strcmp(how, "spin") && argc == 3) {
		spin(stats_in(argv[2]));
		return 0;
	}
	if (!strcmp(how, "udp") && (argc == 7 || argc == 8)) {
		size = number(argv[4], MAX_SIZE), window = number(argv[5], MAX_WINDOW);
		return udp(argv[2], number(argv[3], 65535), size, window, number(argv[6], -1UL),
			   argc == 8 ? number(argv[7], window) : window);
	}
	if (!strcmp(how, "echo") && (argc == 5 || argc == 6)) {
		size = number(argv[3], MAX_SIZE), window = number(argv[4], MAX_WINDOW);
		return echo(number(argv[2], 65535), size, window, argc == 6 ? number(argv[5], window) : window);
	}
	if (!strcmp(how, "ring") && argc == 4) {
		ring(argv[2], number(argv[3], 1));
		return 0;
	}
	errx(2, "how to use it is at the top of its source");
}
