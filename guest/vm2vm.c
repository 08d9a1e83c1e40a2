// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: reach another VM's memory from a Linux guest, by QEMU's vm2vm-pci.
 *
 * Everything of the PCI device by hand: its registers, the window, the doorbells, and its
 * interrupts.  Also devices of the other VM's, which it serves.
 *
 * Exit status: 0 is yes, 1 is no (or failed, with a message), 2 is wrong usage.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm2vm.h"
#include "vm2vm_dev.h"
#include "vm2vm_pci.h"

#define PAGE		4096ULL
#define NONE		UINT64_MAX

static const char usage_text[] =
	"usage: vm2vm [-d DEVICE | -n NUMBER] COMMAND\n"
	"DEVICE is a node, what the host calls the link, or an address in PCI; or it is\n"
	"/dev/vm2vm/NUMBER, of which the first is 0\n"
	"  list [--json]               all devices, and what they do\n"
	"  info [--json]               registers and queues\n"
	"  read [-r] IOVA LEN          a hex dump, or the bytes as they are\n"
	"  write IOVA HEX|-            - reads the bytes from stdin\n"
	"  fill IOVA LEN SEED          write a pattern\n"
	"  check IOVA LEN SEED         is it there?\n"
	"  scan [IOVA LEN]             what is approved: START-END, end exclusive.  Behind pages\n"
	"                              that are holes which are filled, or have such data, it\n"
	"                              says all-ones (see 'unapproved' of info)\n"
	"  ring Q                      the doorbell of queue Q\n"
	"  wait VECTOR [SECONDS]       for an interrupt\n"
	"  watch SECONDS               all interrupts\n"
	"  queue Q                     a virtqueue, read through the window\n"
	"  net [-q PAIRS] TAP [SECONDS]\n"
	"                              be its network card, by the kernel's vhost-net; frames go\n"
	"                              to and come from a tap, which is made if there is none, or\n"
	"                              a macvtap, /dev/tapN.  0 seconds are for ever\n"
	"  vhost-user SOCKET [SECONDS]\n"
	"                              have its device served by a vhost-user back-end that\n"
	"                              listens there, and wait for it\n"
	"  rng [-s SEED] [SECONDS] [COUNT]\n"
	"                              be the device of the peer's virtio-rng, for so long,\n"
	"                              0 is for ever, or for COUNT buffers\n"
	"for tests, with -q QUEUES, of a card pairs of them:\n"
	"  test-net TAP [SECONDS]      be its network card; frames go to and come from a tap\n"
	"    --late                    one that does harm: vm2vm_net.c says which\n"
	"  test-blk FILE|ram:MIB [SECONDS]\n"
	"                              be its disk\n"
	"    --shuffle                 do requests in another order than they come in\n"
	"    --log FILE                write down what is done\n";

static void __attribute__((noreturn)) usage(void)
{
	fputs(usage_text, stderr);
	exit(2);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-') {
		fprintf(stderr, "vm2vm: '%s' is not a number\n", text);
		exit(2);
	}
	return value;
}

/* Commands without interrupts */

static int cmd_read(uint64_t iova, uint64_t len, bool raw)
{
	uint8_t bytes[PAGE];
	uint64_t n, i;

	need_window(iova, len);
	for (; len; iova += n, len -= n) {
		n = raw ? sizeof(bytes) : 16;
		if (n > len)
			n = len;
		window_read(iova, bytes, n);
		if (raw) {
			fwrite(bytes, 1, n, stdout);
			continue;
		}
		printf("%016" PRIx64 ":", iova);
		for (i = 0; i < n; i++)
			printf(" %02x", bytes[i]);
		putchar('\n');
	}
	return 0;
}

static int hex_digit(char c)
{
	if (!isxdigit((unsigned char)c))
		usage();
	return isdigit((unsigned char)c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

static int cmd_write(uint64_t iova, const char *what)
{
	size_t len = 0, size = 0, n, i;
	uint8_t *bytes = NULL;

	if (!strcmp(what, "-")) {
		do {
			size += 1 << 16;
			bytes = realloc(bytes, size);
			if (!bytes)
				die("%m");
			n = fread(bytes + len, 1, size - len, stdin);
			len += n;
		} while (n);
		if (ferror(stdin))
			die("stdin: %m");
	} else {
		len = strlen(what) / 2;
		if (!len || strlen(what) % 2)
			usage();
		bytes = malloc(len);
		if (!bytes)
			die("%m");
		for (i = 0; i < len; i++)
			bytes[i] = hex_digit(what[2 * i]) << 4 | hex_digit(what[2 * i + 1]);
	}
	need_window(iova, len);
	window_write(iova, bytes, len);
	fence();
	printf("wrote %zu bytes\n", len);
	free(bytes);
	return 0;
}

/* Up to the end of the page, at most @left bytes; returns how many. */
static uint64_t pattern_in_page(uint64_t seed, uint64_t iova, uint8_t *to, uint64_t left)
{
	uint64_t n = PAGE - iova % PAGE;

	if (n > left)
		n = left;
	pattern(seed, iova, to, n);
	return n;
}

static int cmd_fill(uint64_t iova, uint64_t len, uint64_t seed)
{
	uint64_t left, n;
	uint8_t bytes[PAGE];

	need_window(iova, len);
	for (left = len; left; iova += n, left -= n) {
		n = pattern_in_page(seed, iova, bytes, left);
		window_write(iova, bytes, n);
	}
	fence();
	printf("filled %" PRIu64 " bytes\n", len);
	return 0;
}

static int cmd_check(uint64_t iova, uint64_t len, uint64_t seed)
{
	uint64_t left, n, i, wrong = 0, first = 0;
	uint8_t want[PAGE], is[PAGE];

	need_window(iova, len);
	for (left = len; left; iova += n, left -= n) {
		n = pattern_in_page(seed, iova, want, left);
		window_read(iova, is, n);
		for (i = 0; i < n; i++) {
			if (is[i] != want[i] && !wrong++)
				first = iova + i;
		}
	}
	printf("checked %" PRIu64 " bytes\n", len);
	if (wrong)
		die("%" PRIu64 " bytes are wrong, the first at 0x%" PRIx64, wrong, first);
	return 0;
}

enum page_kind { HOLE, APPROVED, ONES };

struct run {
	enum page_kind kind;
	uint64_t start;
};

/* @iova goes on with pages of this kind. */
static void scan_page(struct run *run, uint64_t iova, enum page_kind kind)
{
	if (kind == run->kind)
		return;
	if (run->kind != HOLE) {
		printf("%" PRIx64 "-%" PRIx64 "%s\n", run->start, iova,
		       run->kind == ONES ? " all-ones" : "");
		fflush(stdout);
	}
	run->kind = kind;
	run->start = iova;
}

/*
 * A page that begins with ones, and was not counted as refused: it is approved, unless
 * nobody counts.  Then it is ones all over if it is a hole, or else in case its owner
 * wrote them.
 */
static enum page_kind kind_of_uncounted(uint64_t iova, bool filled)
{
	unsigned int i;

	for (i = 0; filled && i < PAGE; i += 8) {
		if (window64(iova + i) != UINT64_MAX)
			return APPROVED;
	}
	return filled ? ONES : APPROVED;
}

static enum page_kind page_kind(uint64_t iova, bool filled)
{
	uint64_t before = reg64(VM2VM_PCI_REFUSED_READS);

	if (window32(iova) != UINT32_MAX)
		return APPROVED;
	if (reg64(VM2VM_PCI_REFUSED_READS) != before)
		return HOLE;
	return kind_of_uncounted(iova, filled);
}

/* The counter costs an exit, as does each page that is counted: ask seldom. */
static void scan_pages(struct run *run, uint64_t iova, unsigned int n)
{
	uint64_t before = reg64(VM2VM_PCI_REFUSED_READS), refused = 0;
	unsigned int nr_ones = 0, i;
	enum page_kind kind;
	bool ones[64], filled = false;

	for (i = 0; i < n; i++) {
		ones[i] = window32(iova + i * PAGE) == UINT32_MAX;
		nr_ones += ones[i];
	}
	if (nr_ones) {
		refused = reg64(VM2VM_PCI_REFUSED_READS) - before;
		filled = reg32(VM2VM_PCI_UNAPPROVED) == VM2VM_PCI_UNAPPROVED_FILL;
	}
	for (i = 0; i < n; i++, iova += PAGE) {
		if (!ones[i])
			kind = APPROVED;
		else if (refused == nr_ones)
			kind = HOLE;
		else if (refused)
			kind = page_kind(iova, filled);
		else
			kind = kind_of_uncounted(iova, filled);
		scan_page(run, iova, kind);
	}
}

static int cmd_scan(uint64_t iova, uint64_t len)
{
	struct run run = { .kind = HOLE };
	uint64_t end, n;

	need_window(iova, len);
	end = iova + len;
	iova -= iova % PAGE;
	if (iova < dev.base)
		iova = dev.base;
	for (; iova < end; iova += n * PAGE) {
		n = (end - iova + PAGE - 1) / PAGE;
		if (n > 64)
			n = 64;
		scan_pages(&run, iova, n);
	}
	scan_page(&run, iova < end ? iova : end, HOLE);
	return 0;
}

static uint32_t queue_arg(const char *text)
{
	uint64_t q = number(text);

	if (q >= VM2VM_PCI_MAX_QUEUES) {
		fprintf(stderr, "vm2vm: there are %d queues at most\n", VM2VM_PCI_MAX_QUEUES);
		exit(2);
	}
	return q;
}

static int cmd_wait(uint64_t vector, uint64_t seconds)
{
	struct pollfd events[NR_VECTORS];
	bool wanted[NR_VECTORS] = {};

	if (vector >= NR_VECTORS) {
		fprintf(stderr, "vm2vm: there are %d vectors at most\n", NR_VECTORS);
		exit(2);
	}
	wanted[vector] = true;
	open_vectors(vector + 1, wanted, events);
	say_ready();
	if (!wait_events(events, vector + 1, deadline_in(seconds)))
		die("vector %" PRIu64 ": no interrupt in %" PRIu64 " s", vector, seconds);
	printf("vector %" PRIu64 " count %" PRIu64 "\n", vector, take_event(&events[vector]));
	return 0;
}

static int cmd_watch(uint64_t seconds)
{
	int64_t deadline = deadline_in(seconds);
	struct pollfd events[NR_VECTORS];
	unsigned int i, n;
	uint64_t count;

	n = open_vectors(NR_VECTORS, NULL, events);
	say_ready();
	while (wait_events(events, n, deadline)) {
		for (i = 0; i < n; i++) {
			count = take_event(&events[i]);
			if (count)
				printf("vector %u count %" PRIu64 "\n", i, count);
		}
		fflush(stdout);
	}
	return 0;
}

/* Options of the commands */

struct options {
	bool raw, seeded, late, shuffle, json;
	uint64_t seed, queues;
	const char *log;
};

static const struct option long_options[] = {
	{ "late", no_argument, NULL, 'L' },
	{ "shuffle", no_argument, NULL, 'S' },
	{ "log", required_argument, NULL, 'l' },
	{ "json", no_argument, NULL, 'J' },
	{}
};

static int parse(int argc, char **argv, struct options *o)
{
	const char *command = argv[0], *takes = "";
	int opt;

	if (!strcmp(command, "list") || !strcmp(command, "info"))
		takes = "J";
	else if (!strcmp(command, "read"))
		takes = "r";
	else if (!strcmp(command, "rng"))
		takes = "s";
	else if (!strcmp(command, "net"))
		takes = "q";
	else if (!strcmp(command, "test-net"))
		takes = "qL";
	else if (!strcmp(command, "test-blk"))
		takes = "qSl";
	optind = 1;
	while ((opt = getopt_long(argc, argv, "+rs:q:", long_options, NULL)) != -1) {
		if (!strchr(takes, opt))
			usage();
		if (opt == 's')
			o->seed = number(optarg);
		else if (opt == 'q')
			o->queues = number(optarg);
		else if (opt == 'l')
			o->log = optarg;
		o->raw |= opt == 'r';
		o->seeded |= opt == 's';
		o->late |= opt == 'L';
		o->shuffle |= opt == 'S';
		o->json |= opt == 'J';
	}
	return optind;
}

static int serve(const char *command, char **argv, int n, const struct options *o)
{
	if (!strcmp(command, "rng") && n <= 2)
		return cmd_rng(n > 0 ? number(argv[0]) : 0, n > 1 ? number(argv[1]) : 0,
			       o->seeded, o->seed);
	if (!strcmp(command, "net") && (n == 1 || n == 2))
		return cmd_net(argv[0], o->queues, n == 2 ? number(argv[1]) : 0);
	if (!strcmp(command, "vhost-user") && (n == 1 || n == 2))
		return cmd_vhost_user(argv[0], n == 2 ? number(argv[1]) : 0);
	if (!strcmp(command, "test-net") && (n == 1 || n == 2))
		return cmd_test_net(argv[0], o->queues ?: 1, n == 2 ? number(argv[1]) : 0,
				    o->late);
	if (!strcmp(command, "test-blk") && (n == 1 || n == 2))
		return cmd_test_blk(argv[0], o->queues ?: 1, n == 2 ? number(argv[1]) : 0,
				    o->shuffle, o->log);
	usage();
}

static int look(const char *command, char **argv, int n, const struct options *o)
{
	if (!strcmp(command, "info") && n == 0)
		return cmd_info(o->json);
	if (!strcmp(command, "read") && n == 2)
		return cmd_read(number(argv[0]), number(argv[1]), o->raw);
	if (!strcmp(command, "write") && n == 2)
		return cmd_write(number(argv[0]), argv[1]);
	if (!strcmp(command, "fill") && n == 3)
		return cmd_fill(number(argv[0]), number(argv[1]), number(argv[2]));
	if (!strcmp(command, "check") && n == 3)
		return cmd_check(number(argv[0]), number(argv[1]), number(argv[2]));
	if (!strcmp(command, "scan") && n == 0)
		return cmd_scan(dev.base, dev.size);
	if (!strcmp(command, "scan") && n == 2)
		return cmd_scan(number(argv[0]), number(argv[1]));
	if (!strcmp(command, "ring") && n == 1) {
		ring_doorbell(queue_arg(argv[0]));
		return 0;
	}
	if (!strcmp(command, "wait") && (n == 1 || n == 2))
		return cmd_wait(number(argv[0]), n == 2 ? number(argv[1]) : 0);
	if (!strcmp(command, "watch") && n == 1)
		return cmd_watch(number(argv[0]));
	if (!strcmp(command, "queue") && n == 1)
		return cmd_queue(queue_arg(argv[0]));
	return serve(command, argv, n, o);
}

int main(int argc, char **argv)
{
	struct options options = {};
	const char *wanted = NULL, *command;
	uint64_t index = 0;
	int opt, n;

	while ((opt = getopt(argc, argv, "+d:n:")) != -1) {
		switch (opt) {
		case 'd':
			wanted = optarg;
			break;
		case 'n':
			index = number(optarg);
			break;
		default:
			usage();
		}
	}
	if (optind == argc)
		usage();
	argc -= optind;
	argv += optind;
	command = argv[0];
	n = parse(argc, argv, &options);
	if (!strcmp(command, "list") && n == argc)
		return cmd_list(options.json);
	find_device(wanted, index);
	open_device();
	return look(command, argv + n, argc - n, &options);
}
