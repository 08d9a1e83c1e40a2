// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_demo: one VM reads another VM's approved pages, on a real file.
 *
 * The launcher starts two processes, each a small VMM with a VM of one vCPU:
 *
 *  - the owner: its guest holds the file, scattered over its memory page by
 *    page in random order; its VMM approves each page by itself, at consecutive
 *    bus addresses, and one more page that may also be written;
 *  - the backend: it has nothing but the descriptor of the owner's domain, sent
 *    over a UNIX socket.  Its guest reads the file through a window, computes
 *    SHA-256 and writes the digest into the writable page.
 *
 * The launcher has the owner's guest read the digest in its own memory, and
 * compares it with what sha256sum(1) says of the file.  Then every other page is
 * revoked, and at last the owner killed, and the backend's guest tells what it
 * finds.  Faults and exits are KVM's own counts of the backend's vCPU.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "vm2vm/demo/demo.h"
#include "vm2vm/demo/huge.h"
#include "vm2vm/demo/vmm.h"

#define FILE_MIN	(16ul << 20)
#define FILE_MAX	(256ul << 20)
#define READS		1000000ul
#define POKES		16ul		/* stores, about, to each kind of page */
#define ANSWER_SECONDS	180		/* that one step may take, emulated */
#define DEMO_SECONDS	600

/* One of the two processes that the launcher starts. */
struct peer {
	const char *name;
	pid_t pid;
	int sock;	/* the launcher's end */
};

static struct peer owner = { .name = "owner", .sock = -1 };
static struct peer backend = { .name = "backend", .sock = -1 };

static struct {
	const char *path;
	u32 seed;
} opt = { .seed = 1 };

/* What was measured, in the order of the table. */
static struct {
	struct demo_msg owner;
	struct sha256_digest digest;
	double hash_seconds;
	u64 refused;	/* of the backend's tries to change approvals */
	struct demo_msg first, put, access, huge;
	struct demo_msg revoke, odd, poke;
	struct demo_msg dead, dead_huge, self;
} got;

static int peer_reap(struct peer *p)
{
	int status = 0;

	while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
		;
	p->pid = 0;
	return status;
}

static int peer_kill(struct peer *p)
{
	kill(p->pid, SIGKILL);
	return peer_reap(p);
}

static void __printf(1, 2) __noreturn die(const char *fmt, ...)
{
	bool owner_ended = false;
	va_list ap;

	if (owner.pid && waitpid(owner.pid, NULL, WNOHANG) == owner.pid)
		owner_ended = true;
	else if (owner.pid)
		peer_kill(&owner);
	if (backend.pid)
		peer_kill(&backend);
	demo_return_huge_pages();

	printf("demo: FAILED: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	/* Likely why: its end makes a hole of all that the backend looks at. */
	printf("%s\n", owner_ended ? "; the owner had ended before" : "");
	exit(1);
}

static void on_alarm(int sig)
{
	static const char text[] = "demo: FAILED: it takes too long\n";

	/* The two die with the launcher, see peer_start(). */
	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* The launcher's socket to a process of which it expects more is at its end. */
static void __noreturn peer_gone(struct peer *p)
{
	int status = peer_reap(p);

	if (WIFSIGNALED(status))
		die("the %s was killed by signal %d", p->name, WTERMSIG(status));
	die("the %s gave up, see above (exit status %d)", p->name,
	    WEXITSTATUS(status));
}

/* A command to one of the processes, and its answer; both in *msg. */
static void ask(struct peer *p, enum demo_cmd cmd, struct demo_msg *msg)
{
	struct pollfd pfd = { .fd = p->sock, .events = POLLIN };
	int r;

	msg->cmd = cmd;
	if (send(p->sock, msg, sizeof(*msg), MSG_NOSIGNAL) != sizeof(*msg))
		peer_gone(p);
	do {
		r = poll(&pfd, 1, ANSWER_SECONDS * 1000);
	} while (r < 0 && errno == EINTR);
	if (!r)
		die("the %s does not answer for %d s", p->name, ANSWER_SECONDS);
	if (!demo_recv(p->sock, msg, NULL))
		peer_gone(p);
}

/* The ends of the socket between the two, of which each child keeps its own. */
static void peer_start(struct peer *p, int ends[2], int mine)
{
	pid_t launcher = getpid();
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		die("socketpair: %s", strerror(errno));
	p->pid = fork();
	if (p->pid < 0) {
		p->pid = 0;
		die("fork: %s", strerror(errno));
	}
	if (p->pid) {
		p->sock = sv[0];
		close(sv[1]);
		return;
	}

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != launcher)
		_exit(1);
	/* Else nobody would notice the end of whom these belong to. */
	close(sv[0]);
	close(ends[!mine]);
	if (owner.sock >= 0)
		close(owner.sock);

	if (p == &owner)
		demo_owner_main(sv[1], ends[mine], opt.path, opt.seed);
	else
		demo_backend_main(sv[1], ends[mine]);
	exit(0);
}

static void start_both(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		die("socketpair: %s", strerror(errno));
	peer_start(&owner, ends, 0);
	peer_start(&backend, ends, 1);
	close(ends[0]);
	close(ends[1]);
}

static const char *hex(const struct sha256_digest *digest)
{
	static char text[2 * sizeof(digest->byte) + 1];
	size_t i;

	for (i = 0; i < sizeof(digest->byte); i++)
		sprintf(text + 2 * i, "%02x", digest->byte[i]);
	return text;
}

static bool same(const struct sha256_digest *a, const struct sha256_digest *b)
{
	return !memcmp(a->byte, b->byte, sizeof(a->byte));
}

/* The path goes through the environment, so that no character in it matters. */
static void check_with_sha256sum(const struct sha256_digest *digest)
{
	char line[2 * sizeof(digest->byte) + 1] = "";
	FILE *f;

	setenv("VM2VM_DEMO_FILE", opt.path, 1);
	f = popen("sha256sum <\"$VM2VM_DEMO_FILE\"", "r");
	if (!f || !fgets(line, sizeof(line), f) || pclose(f))
		die("sha256sum %s does not work", opt.path);
	if (strcmp(line, hex(digest)))
		die("the digest is %s, but sha256sum says %s", hex(digest), line);
}

/* What the backend must find in the pages 0, 2, 4, ...: the file's own bytes. */
static void hash_even_pages(struct sha256_digest *digest)
{
	u64 page[PAGE_SIZE / sizeof(u64)];
	int fd = open(opt.path, O_RDONLY | O_CLOEXEC);
	struct sha256 s;
	u64 i;

	if (fd < 0)
		die("cannot open %s: %s", opt.path, strerror(errno));
	sha256_init(&s);
	for (i = 0; i < got.owner.pages; i += 2) {
		memset(page, 0, sizeof(page));
		if (pread(fd, page, sizeof(page), i * PAGE_SIZE) <= 0)
			die("cannot read %s: %s", opt.path, strerror(errno));
		sha256_blocks(&s, page, sizeof(page));
	}
	sha256_end(&s, NULL, 0, digest);
	close(fd);
}

static void share(u64 bytes)
{
	struct demo_msg msg = {};

	printf("demo: file %s: %lu bytes\n", opt.path, bytes);
	if (demo_huge_source != VM_MEM_SRC_ANONYMOUS_THP)
		printf("demo: no transparent huge pages here, hugetlbfs instead\n");

	got.owner.bytes = bytes;
	got.owner.pages = DIV_ROUND_UP(bytes, PAGE_SIZE);
	ask(&owner, CMD_START, &got.owner);
	if (got.owner.huge_bytes < DEMO_HUGE_SIZE)
		die("the owner has %lu bytes of huge pages, wants %lu",
		    got.owner.huge_bytes, DEMO_HUGE_SIZE);
	printf("demo: owner: file in %lu of %lu pages in random order (seed %u),\n",
	       got.owner.pages, got.owner.pool, opt.seed);
	printf("demo: owner: %lu of them by chance behind their predecessor\n",
	       got.owner.neighbours);
	printf("demo: owner: %lu approvals, descriptor sent\n", got.owner.maps);

	ask(&backend, CMD_START, &msg);
	got.refused = msg.refused;
	printf("demo: backend: two windows linked\n");
}

static void read_file(void)
{
	struct demo_msg msg = {};
	u64 *stat;

	printf("demo: backend: SHA-256 in the guest, through the window\n");
	got.hash_seconds = now();
	ask(&backend, CMD_HASH, &got.first);
	got.hash_seconds = now() - got.hash_seconds;
	stat = got.first.stat;
	if (stat[STAT_PF_FIXED] != got.owner.pages ||
	    stat[STAT_PF_TAKEN] != got.owner.pages)
		die("%lu faults taken and %lu fixed in the first pass over %lu pages",
		    stat[STAT_PF_TAKEN], stat[STAT_PF_FIXED], got.owner.pages);

	ask(&backend, CMD_PUT_DIGEST, &got.put);
	if (got.put.stat[STAT_PF_FIXED] != 1)
		die("%lu faults to write the digest into one page",
		    got.put.stat[STAT_PF_FIXED]);

	ask(&owner, CMD_DIGEST, &msg);
	got.digest = msg.digest;
	if (!same(&got.digest, &got.first.digest))
		die("the owner's guest does not see the digest that the backend wrote");
	check_with_sha256sum(&got.digest);
}

static void count_exits(void)
{
	printf("demo: backend: a million reads and some writes, again through the window\n");
	got.access.first = READS;
	ask(&backend, CMD_ACCESS, &got.access);
	if (got.access.result < READS)
		die("%lu accesses done, wanted %lu", got.access.result, READS);
	if (got.access.stat[STAT_EXITS] || got.access.stat[STAT_PF_TAKEN])
		die("%lu accesses to known pages made %lu exits, %lu faults",
		    got.access.result, got.access.stat[STAT_EXITS],
		    got.access.stat[STAT_PF_TAKEN]);

	printf("demo: backend: %lu MiB of huge pages through the second window\n",
	       DEMO_HUGE_SIZE >> 20);
	ask(&backend, CMD_READ_HUGE, &got.huge);
	if (got.huge.result != DEMO_HUGE_PAGES)
		die("%lu of %lu pages in huge pages have the right mark",
		    got.huge.result, DEMO_HUGE_PAGES);
	if (got.huge.stat[STAT_PF_FIXED] != DEMO_HUGE_SIZE / DEMO_BLOCK)
		die("%lu faults in %lu huge pages", got.huge.stat[STAT_PF_FIXED],
		    DEMO_HUGE_SIZE / DEMO_BLOCK);
}

/* Holes: so many reads of all-ones, from MMIO exits at the right pages. */
static void expect_holes(const struct demo_msg *msg, u64 even, u64 odd)
{
	if (msg->result != even + odd || msg->mmio.reads[0] != even ||
	    msg->mmio.reads[1] != odd)
		die("%lu pages read all-ones, with %lu + %lu MMIO exits; wanted %lu + %lu",
		    msg->result, msg->mmio.reads[0], msg->mmio.reads[1], even, odd);
}

static void revoke_half(void)
{
	u64 pages = got.owner.pages, pokes;
	struct demo_msg even = {}, check = {};
	struct sha256_digest digest;

	printf("demo: owner: revokes every other page\n");
	ask(&owner, CMD_REVOKE, &got.revoke);
	if (got.revoke.maps != pages / 2)
		die("%lu pages revoked, wanted %lu", got.revoke.maps, pages / 2);

	got.odd = (struct demo_msg){ .first = 1, .step = 2 };
	ask(&backend, CMD_SCAN, &got.odd);
	/* The digest's page is behind the last one and was not revoked. */
	expect_holes(&got.odd, 0, pages / 2);

	/* Odd steps: to revoked pages, and to those that may only be read. */
	got.poke = (struct demo_msg){ .step = (pages / (2 * POKES)) | 1 };
	pokes = DIV_ROUND_UP(pages, got.poke.step);
	ask(&backend, CMD_POKE, &got.poke);
	if (got.poke.mmio.writes[0] != DIV_ROUND_UP(pokes, 2) ||
	    got.poke.mmio.writes[1] != pokes / 2)
		die("%lu stores where only reads or nothing is approved: %lu + %lu MMIO exits",
		    pokes, got.poke.mmio.writes[0], got.poke.mmio.writes[1]);

	ask(&backend, CMD_HASH_EVEN, &even);
	hash_even_pages(&digest);
	if (!same(&even.digest, &digest) || even.mmio.reads[0] || even.mmio.reads[1])
		die("the pages that stayed approved have wrong bytes");
	ask(&owner, CMD_CHECK, &check);
}

static void kill_owner(void)
{
	struct sha256_digest digest;
	u64 places = got.owner.pages + 1;
	int status = peer_kill(&owner);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		die("the owner ended before it was killed");
	printf("demo: owner: killed\n");

	got.dead = (struct demo_msg){ .step = 1 };
	ask(&backend, CMD_SCAN, &got.dead);
	expect_holes(&got.dead, DIV_ROUND_UP(places, 2), places / 2);
	got.dead_huge = (struct demo_msg){ .step = DEMO_BLOCK / PAGE_SIZE };
	ask(&backend, CMD_SCAN_HUGE, &got.dead_huge);
	expect_holes(&got.dead_huge, DEMO_HUGE_SIZE / DEMO_BLOCK, 0);

	ask(&backend, CMD_SELF, &got.self);
	demo_self(&digest);
	if (!same(&got.self.digest, &digest))
		die("the backend computes nonsense after the owner's death");
	printf("demo: backend: alive\n");
}

static void stop_backend(void)
{
	struct demo_msg msg = { .cmd = CMD_QUIT };
	int status;

	demo_send(backend.sock, &msg, -1);
	status = peer_reap(&backend);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("the backend did not end cleanly (status 0x%x)", status);
}

static void __printf(2, 3) row(const char *what, const char *fmt, ...)
{
	va_list ap;

	printf("  %-38s", what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

static void print_table(void)
{
	const u64 blocks = DEMO_HUGE_SIZE / DEMO_BLOCK;
	const u64 *first = got.first.stat, *huge = got.huge.stat;
	u64 pages = got.owner.pages;

	printf("\n");
	row("pages of the file", "%lu of 4 KiB, approved one by one", pages);
	row("bytes", "%lu", got.owner.bytes);
	row("SHA-256 by the backend's guest", "%.16s... = sha256sum", hex(&got.digest));
	row("  time, emulated CPUs in the lab", "%.1f s", got.hash_seconds);
	row("faults in the first pass, 4 KiB pages", "%lu, %.3f a page",
	    first[STAT_PF_FIXED], (double)first[STAT_PF_FIXED] / pages);
	row("faults in 16 MiB of huge pages", "%lu, %.3f per 2 MiB",
	    huge[STAT_PF_FIXED], (double)huge[STAT_PF_FIXED] / blocks);
	row("accesses after that", "%lu", got.access.result);
	row("  exits per million", "%.1f (not counted: %lu for the host's interrupts)",
	    got.access.stat[STAT_EXITS] * 1e6 / got.access.result,
	    got.access.stat[STAT_IRQ_EXITS]);
	row("approvals by the backend itself", "%lu tries, all EPERM", got.refused);
	row("half revoked: holes", "%lu of %lu pages read all-ones",
	    got.odd.result, got.revoke.maps);
	row("half revoked: right bytes", "in the other %lu, by their SHA-256",
	    pages - got.revoke.maps);
	row("stores to read-only pages", "%lu, all dropped", got.poke.mmio.writes[0]);
	row("stores to revoked pages", "%lu, all dropped", got.poke.mmio.writes[1]);
	row("owner killed: holes", "%lu of %lu pages read all-ones",
	    got.dead.result + got.dead_huge.result, pages + 1 + blocks);
	row("owner killed: backend", "alive, computes right in its own memory");
	printf("\n");
}

static u64 check_file(void)
{
	struct stat st;

	if (stat(opt.path, &st))
		die("cannot open %s: %s", opt.path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		die("%s is not a regular file", opt.path);
	if ((u64)st.st_size < FILE_MIN || (u64)st.st_size > FILE_MAX)
		die("%s has %lu bytes, wanted %lu to %lu MiB", opt.path,
		    (u64)st.st_size, FILE_MIN >> 20, FILE_MAX >> 20);
	if (access(opt.path, R_OK))
		die("cannot read %s: %s", opt.path, strerror(errno));
	return st.st_size;
}

static void __noreturn show_usage(const char *name, int status)
{
	FILE *f = status ? stderr : stdout;

	fprintf(f,
		"usage: %s --file PATH [--seed N]\n"
		"One VM reads a file in another VM's memory, page by page approved.\n"
		"  --file PATH  the file, %lu to %lu MiB\n"
		"  --seed N     for the random order of its pages (%u)\n"
		"Ends with 'demo: passed' and 0, or with 'demo: FAILED: why' and 1.\n",
		name, FILE_MIN >> 20, FILE_MAX >> 20, opt.seed);
	exit(status);
}

static void parse(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "file", required_argument, NULL, 'f' },
		{ "seed", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "f:s:h", longopts, NULL)) >= 0) {
		switch (c) {
		case 'f':
			opt.path = optarg;
			break;
		case 's':
			opt.seed = strtoul(optarg, &end, 0);
			if (!*optarg || *end)
				show_usage(argv[0], 1);
			break;
		case 'h':
			show_usage(argv[0], 0);
		default:
			show_usage(argv[0], 1);
		}
	}
	if (!opt.path || optind != argc)
		show_usage(argv[0], 1);
}

/*
 * Before the constructor of the selftest library, which gives up without KVM
 * and with a message of its own, even if asked for --help only.
 */
static void __attribute__((constructor(101))) parse_and_check_kvm(int argc,
								  char **argv)
{
	int fd, features;

	parse(argc, argv);
	fd = open(KVM_DEV_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("no KVM: cannot open %s: %s", KVM_DEV_PATH, strerror(errno));
	features = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_VM2VM);
	close(fd);
	if (features < 0 || !(features & KVM_VM2VM_FEATURE_LINK))
		die("the KVM of this kernel has no vm2vm (KVM_CAP_VM2VM)");
}

int main(void)
{
	u64 bytes = check_file();

	signal(SIGALRM, on_alarm);
	alarm(DEMO_SECONDS);
	if (!demo_find_huge_pages())
		die("no huge pages here: neither transparent ones nor hugetlbfs");
	start_both();

	share(bytes);
	read_file();
	count_exits();
	revoke_half();
	kill_owner();
	stop_backend();
	demo_return_huge_pages();

	print_table();
	printf("demo: passed\n");
	return 0;
}
