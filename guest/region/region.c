// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm-region: memory that one VM gives to others, and doorbells among all of them
 *
 * A program for each VM, which is told what to do by lines of its standard input.  What it can
 * do is what programs do that use ivshmem: messages, by a ring each way between any two VMs,
 * and one large part that all share.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "../vm2vm.h"
#include "../vm2vm_dev.h"
#include "channel.h"
#include "link.h"
#include "region.h"

#define BATCH	256
#define LATE_MS	20	/* until what could not be written is tried again */

static const char usage_text[] =
	"usage: vm2vm-region [-a IOVA] [-c BYTES] [-f FILE] ME VM=LINK...\n"
	"ME is the number of this VM, VM that of another one; 0 is the one with the region.  LINK is\n"
	"  pci:DEVICE   a virtio device of this VM's, which vfio-pci has: this VM is its owner\n"
	"  NODE         a vm2vm device, as vm2vm -d has it: this VM is the backend\n"
	"VM 0 has links to all the others, and is the owner of these.\n"
	"  -a IOVA      where the other VMs find it, a bus address; 0x10000000\n"
	"  -c BYTES     of the part that all VMs read and write; 1048576\n"
	"  -f FILE      the region is that file, for other programs of VM 0's\n"
	"Lines of its standard input:\n"
	"  send VM TEXT          a message\n"
	"  flood VM COUNT        so many messages, of different lengths, as fast as they are taken; 0:\n"
	"                        no more\n"
	"  put OFFSET TEXT       write to the common part\n"
	"  get OFFSET LENGTH     read from there\n"
	"  fill SEED, check SEED all of it, by a pattern\n"
	"  ring VM               a doorbell, without anything to tell\n"
	"  revoke VM, grant VM   take the region from it, and give it (VM 0)\n"
	"  status                one line for each VM\n"
	"  quit\n";

pthread_mutex_t region_lock = PTHREAD_MUTEX_INITIALIZER;

static struct link links[REGION_MAX_VMS];
static struct region region;
static int changed_fd;

/*
 * Of each VM: messages that are still to be sent; how many were heard that are patterns, and how
 * many of these are not what they should be; doorbells
 */
static struct count {
	uint64_t flood, heard, wrong, bells;
	bool was_reached, granted;
} counts[REGION_MAX_VMS];

/* What VM 0 has, and gives */
static volatile uint8_t *own;
static uint64_t own_iova = 0x10000000, own_common = 1 << 20, own_vms = 1;

static void __attribute__((noreturn)) usage(void)
{
	fputs(usage_text, stderr);
	exit(2);
}

void links_changed(void)
{
	uint64_t one = 1;

	if (write(changed_fd, &one, sizeof(one)) != sizeof(one))
		die("eventfd: %m");
}

static bool parse(const char *text, uint64_t most, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	return !errno && *text >= '0' && *text <= '9' && !*end && *value <= most;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* VM 0's region */

static void make_region(const char *file)
{
	uint64_t size = region_size(own_vms, own_common);
	struct region_header *header;
	int fd = -1;

	if (file) {
		fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, size))
			die("%s: %m", file);
	}
	own = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | (file ? 0 : MAP_ANONYMOUS), fd, 0);
	if (own == MAP_FAILED)
		die("0x%" PRIx64 " bytes for the region: %m", size);
	memset((void *)own, 0, size);
	header = (void *)own;
	header->vms = own_vms;
	header->common = own_common;
	header->magic = REGION_MAGIC;
}

/*
 * Each part with the rights that this VM has to it; parts that are side by side are not joined.
 * The header is the last to come and the first to go.
 */
static void grant(unsigned int vm)
{
	struct region_header *header = (void *)own;
	uint64_t iova = own_iova + REGION_HUGE, at;
	struct link *l = &links[vm];
	unsigned int i, j;

	for (i = 0; i < own_vms; i++) {
		for (j = 0; j < own_vms; j++) {
			if (i == j || (i != vm && j != vm))
				continue;
			at = region_channel_at(own_vms, i, j);
			link_map(l, iova + at, own + at, sizeof(struct region_channel), i == vm);
		}
	}
	at = region_common_at(own_vms);
	if (own_common)
		link_map(l, iova + at, own + at, own_common, true);
	header->grants++;
	link_map(l, iova, own, REGION_PAGE, false);
	counts[vm].granted = true;
}

/* The links */

static void add_link(char *text)
{
	char *name = strchr(text, '=');
	struct link *l;
	uint64_t vm;

	if (!name)
		usage();
	*name++ = '\0';
	if (!parse(text, REGION_MAX_VMS - 1, &vm) || vm == region.me)
		die("'%s' is not the number of another VM, 0 to %u", text, REGION_MAX_VMS - 1);
	l = &links[vm];
	if (l->name)
		die("VM %u has two links", (unsigned int)vm);
	*l = (struct link){ .vm = vm, .name = name, .bell_in = -1 };
	if (own_vms <= vm)
		own_vms = vm + 1;
	if (!*name || !strcmp(name, "pci:"))
		die("VM %u: '%s' names no link", (unsigned int)vm, name);
	if (!region.me && strncmp(name, "pci:", 4))
		die("VM 0 is the owner of its links, but '%s' is none of pci:", name);
}

static void open_links(void)
{
	uint64_t size = region.me ? 0 : region_size(own_vms, own_common);
	unsigned int vm;

	for (vm = 0; vm < REGION_MAX_VMS; vm++) {
		struct link *l = &links[vm];

		if (!l->name)
			continue;
		if (strncmp(l->name, "pci:", 4)) {
			link_serve(l);
			continue;
		}
		l->name += 4;
		link_own(l, own_iova, size);
		if (!region.me)
			grant(vm);
	}
}

/* Messages */

static void hear(unsigned int vm, uint64_t index, const struct region_message *m)
{
	uint8_t text[REGION_TEXT];
	uint32_t i;

	if (m->kind == REGION_PATTERN_MESSAGE) {
		counts[vm].heard++;
		if (region_pattern(index, vm, text) != m->length ||
		    memcmp(text, m->text, m->length))
			counts[vm].wrong++;
		return;
	}
	printf("from %u: ", vm);
	for (i = 0; i < m->length; i++)
		putchar(m->text[i] < ' ' || m->text[i] > '~' ? '.' : m->text[i]);
	say("%s", "");
}

/* All that there is to do with one VM; true: there is more. */
static bool talk(unsigned int vm)
{
	struct peer *p = &region.peers[vm];
	struct count *c = &counts[vm];
	uint8_t text[REGION_TEXT];
	struct region_message m;
	unsigned int taken, sent;

	if (region_reach(&region, vm) != c->was_reached)
		say("VM %u is %s", vm, p->reached ? "reached" : "not reached");
	c->was_reached = p->reached;
	for (taken = 0; taken < BATCH && region_take(&region, vm, &m); taken++)
		hear(vm, p->taken - 1, &m);
	for (sent = 0; sent < BATCH && c->flood; sent++) {
		if (!region_send(&region, vm, REGION_PATTERN_MESSAGE, text,
				 region_pattern(p->sent, region.me, text)))
			break;
		if (!--c->flood)
			say("flooded %u", vm);
	}
	if (taken || sent || p->news)
		link_ring(&links[vm]);
	p->news = false;
	return taken == BATCH || sent == BATCH;
}

/* true: there is more to do at once */
static bool look(void)
{
	bool more = false;
	unsigned int vm;

	for (vm = 0; vm < REGION_MAX_VMS; vm++) {
		if (links[vm].owned)
			link_mend(&links[vm]);
	}
	if (region.me)
		region_look(&region, links[0].region, links[0].size, links[0].runs);
	else
		region_look(&region, own, region_size(own_vms, own_common), 0);
	for (vm = 0; vm < REGION_MAX_VMS; vm++) {
		if (vm != region.me && (links[vm].name || vm < region.vms))
			more |= talk(vm);
	}
	return more;
}

/* What is typed */

static volatile uint8_t *common(uint64_t offset, uint64_t length)
{
	if (!region_present(&region)) {
		say("the region is not there");
		return NULL;
	}
	if (offset > region.common || length > region.common - offset) {
		say("the common part has 0x%" PRIx64 " bytes", region.common);
		return NULL;
	}
	return region.at + region_common_at(region.vms) + offset;
}

/* What was typed: its numbers, or a number and a text */
struct typed {
	uint64_t n, m;
	const char *text;
};

static void do_put(const struct typed *t)
{
	uint64_t n = strlen(t->text), i;
	volatile uint8_t *at = common(t->n, n);

	for (i = 0; at && i < n; i++)
		at[i] = t->text[i];
	if (at)
		say("put");
}

static void do_get(const struct typed *t)
{
	volatile uint8_t *at = common(t->n, t->m);
	uint64_t i;

	for (i = 0; at && i < t->m; i++)
		putchar(at[i] < ' ' || at[i] > '~' ? '.' : at[i]);
	if (at)
		say("%s", "");
}

static void fill_or_check(uint64_t seed, bool fill)
{
	volatile uint64_t *at = (volatile uint64_t *)common(0, 0);
	uint64_t wrong = 0, words = region.common / 8, i, want;

	for (i = 0; at && i < words; i++) {
		pattern(seed, i * 8, (uint8_t *)&want, 8);
		if (fill)
			at[i] = want;
		else
			wrong += at[i] != want;
	}
	if (!at)
		return;
	if (fill)
		say("filled");
	else
		say("checked: %" PRIu64 " of %" PRIu64 " words are others", wrong, words);
}

static void do_fill(const struct typed *t)
{
	fill_or_check(t->n, true);
}

static void do_check(const struct typed *t)
{
	fill_or_check(t->n, false);
}

static void do_status(void)
{
	unsigned int vm;

	if (region.me)
		say("the region is %sthere", region_present(&region) ? "" : "not ");
	for (vm = 0; vm < REGION_MAX_VMS; vm++) {
		struct peer *p = &region.peers[vm];
		struct count *c = &counts[vm];

		if (vm == region.me || (!links[vm].name && vm >= region.vms))
			continue;
		printf("VM %u: %s, runs %" PRIu64 ", sent %" PRIu64 ", to send %" PRIu64, vm,
		       p->reached ? "reached" : "not reached", p->runs, p->sent, c->flood);
		printf(", taken %" PRIu64 ", heard %" PRIu64 ", wrong %" PRIu64 ", again %" PRIu64,
		       p->taken, c->heard, c->wrong, p->again);
		say(", bells %" PRIu64 "%s", c->bells, region.me ? "" :
		    c->granted ? ", granted" : ", revoked");
	}
}

/* Of VM 0: what the other VM does meanwhile lands before this returns, or nowhere */
static void grant_or_revoke(unsigned int vm, bool give)
{
	struct count *c = &counts[vm];

	if (region.me || !links[vm].name) {
		say("it is VM 0 that gives the region to a VM to which it has a link");
		return;
	}
	if (give && !c->granted)
		grant(vm);
	if (!give && c->granted) {
		link_unmap(&links[vm]);
		c->granted = false;
	}
	link_ring(&links[vm]);
	say("%s", give ? "granted" : "revoked");
}

static void do_grant(const struct typed *t)
{
	grant_or_revoke(t->n, true);
}

static void do_revoke(const struct typed *t)
{
	grant_or_revoke(t->n, false);
}

static void do_ring(const struct typed *t)
{
	link_ring(&links[t->n]);
}

static void do_flood(const struct typed *t)
{
	struct count *c = &counts[t->n];

	c->flood = t->m ? c->flood + t->m : 0;
}

static void do_send(const struct typed *t)
{
	uint32_t n = strlen(t->text);

	if (n > REGION_TEXT)
		say("a message has at most %u bytes", REGION_TEXT);
	else if (!region_send(&region, t->n, REGION_TEXT_MESSAGE, t->text, n))
		say("not sent: VM %" PRIu64 " is not reached, or does not take more", t->n);
	else
		say("sent");
	link_ring(&links[t->n]);
}

/* A command has a number, a VM's or another one, and may have a second one or a text */
static const struct {
	const char *name;
	bool vm;
	enum { ALONE, NUMBER, TEXT } more;
	void (*run)(const struct typed *t);
} commands[] = {
	{ "send", true, TEXT, do_send },
	{ "flood", true, NUMBER, do_flood },
	{ "put", false, TEXT, do_put },
	{ "get", false, NUMBER, do_get },
	{ "fill", false, ALONE, do_fill },
	{ "check", false, ALONE, do_check },
	{ "ring", true, ALONE, do_ring },
	{ "revoke", true, ALONE, do_revoke },
	{ "grant", true, ALONE, do_grant },
};

static void run(char *line)
{
	char *name = strsep(&line, " "), *first = strsep(&line, " ");
	struct typed t = { .text = line };
	unsigned int i;

	if (!strcmp(name, "quit"))
		exit(0);
	if (!strcmp(name, "status")) {
		do_status();
		return;
	}
	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (!strcmp(name, commands[i].name))
			break;
	}
	if (i == sizeof(commands) / sizeof(*commands)) {
		say("there is no command '%s'", name);
		return;
	}
	if (!first || !parse(first, commands[i].vm ? REGION_MAX_VMS - 1 : UINT64_MAX, &t.n) ||
	    (commands[i].vm && t.n == region.me) || !line != !commands[i].more) {
		say("%s: see vm2vm-region without arguments", name);
		return;
	}
	if (commands[i].more == NUMBER && !parse(line, UINT64_MAX, &t.m)) {
		say("'%s' is not a number", line);
		return;
	}
	commands[i].run(&t);
}

/* Lines, which need not come in one piece; false: there are no more */
static bool read_commands(void)
{
	static char text[4096];
	static size_t have;
	static bool too_long;
	ssize_t n = read(STDIN_FILENO, text + have, sizeof(text) - 1 - have);
	char *end;

	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	have += n;
	/* The last one may have no end */
	if (!n && have)
		text[have++] = '\n';
	while ((end = memchr(text, '\n', have))) {
		*end = '\0';
		if (!too_long)
			run(text);
		too_long = false;
		have -= end + 1 - text;
		memmove(text, end + 1, have);
	}
	if (have == sizeof(text) - 1) {
		if (!too_long)
			say("a line has at most %zu bytes", sizeof(text) - 2);
		too_long = true;
		have = 0;
	}
	return n;
}

static void serve(void)
{
	/* Those of the links, and what is typed, and what is new */
	struct pollfd files[REGION_MAX_VMS + 2];
	bool typed = true, more = false, late = false;
	unsigned int vm;
	uint64_t count;

	for (;;) {
		pthread_mutex_lock(&region_lock);
		for (vm = 0; vm < REGION_MAX_VMS; vm++)
			files[vm] = (struct pollfd){
				.fd = links[vm].name ? links[vm].bell_in : -1,
				.events = POLLIN,
			};
		pthread_mutex_unlock(&region_lock);
		files[vm] = (struct pollfd){ .fd = changed_fd, .events = POLLIN };
		files[vm + 1] = (struct pollfd){
			.fd = typed ? STDIN_FILENO : -1,
			.events = POLLIN,
		};
		if (poll(files, REGION_MAX_VMS + 2, more ? 0 : late ? LATE_MS : -1) < 0 &&
		    errno != EINTR)
			die("poll: %m");
		for (vm = 0; vm < REGION_MAX_VMS + 1; vm++) {
			if (files[vm].fd < 0 || !(files[vm].revents & POLLIN) ||
			    read(files[vm].fd, &count, sizeof(count)) != sizeof(count))
				continue;
			if (vm < REGION_MAX_VMS)
				counts[vm].bells += count;
		}
		pthread_mutex_lock(&region_lock);
		more = look();
		if (files[REGION_MAX_VMS + 1].revents)
			typed = read_commands();
		if (files[REGION_MAX_VMS + 1].revents)
			more |= look();
		late = region_late(&region);
		pthread_mutex_unlock(&region_lock);
	}
}

int main(int argc, char **argv)
{
	const char *file = NULL;
	uint64_t me;
	int option;

	while ((option = getopt(argc, argv, "a:c:f:")) >= 0) {
		if (option == 'f')
			file = optarg;
		else if (option != 'a' && option != 'c')
			usage();
		else if (!parse(optarg, UINT64_MAX, option == 'a' ? &own_iova : &own_common))
			usage();
	}
	if (argc - optind < 2 || !parse(argv[optind], REGION_MAX_VMS - 1, &me))
		usage();
	/* A queue at 0 is none */
	if (!own_iova || own_iova % REGION_PAGE || own_common % REGION_PAGE ||
	    own_common > 1ULL << 40)
		die("an address or a size is no multiple of %llu, or makes no sense",
		    REGION_PAGE);
	region.me = me;
	changed_fd = new_eventfd();
	/* Never 0, and never all-ones */
	if (getrandom(&region.run, sizeof(region.run), 0) != sizeof(region.run))
		die("getrandom: %m");
	region.run = (region.run >> 1) | 1;
	for (optind++; optind < argc; optind++)
		add_link(argv[optind]);
	if (!region.me)
		make_region(file);
	else if (!links[0].name || !strncmp(links[0].name, "pci:", 4))
		die("VM %u has to have a link to VM 0, as its backend", region.me);
	open_links();
	/* Those that serve a device say so when that is registered */
	if (!region.me)
		say_ready();
	serve();
}
