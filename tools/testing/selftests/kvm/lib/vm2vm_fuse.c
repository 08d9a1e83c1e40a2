// SPDX-License-Identifier: GPL-2.0
/*
 * A file whose server can be told not to answer: what include/vm2vm_fuse.h declares.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/compiler.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test_util.h"
#include "vm2vm_fuse.h"

#define FUSE_FILE	2		/* its node; the directory is 1 */
#define FUSE_SIZE	(FUSE_PAGES * 4096ul)
#define FUSE_MAX_IO	(128ul << 10)
#define FUSE_KEPT	256

/* In memory of both processes. */
struct fuse_shared {
	bool keep_writes;
	bool release;
	unsigned int waiting;
};

/* A request that is not answered yet. */
struct fuse_kept {
	uint64_t unique;
	uint64_t offset;
	uint32_t size;
	bool write;
};

/* The server's.  What is static would be in the guests' memory, too, so not much is. */
static struct {
	int dev;
	struct fuse_shared *shared;
	uint64_t *data;		/* of an answer */
	struct fuse_kept kept[FUSE_KEPT];
	unsigned int nr;
} server;

static void fuse_reply(uint64_t unique, int error, void *data, size_t size)
{
	struct fuse_out_header out = {
		.len = sizeof(out) + size, .error = error, .unique = unique,
	};
	struct iovec iov[2] = { { &out, sizeof(out) }, { data, size } };

	/* Who asked may be gone. */
	if (writev(server.dev, iov, size ? 2 : 1) < 0 && errno != ENOENT)
		_exit(1);
}

static struct fuse_attr fuse_attr(uint64_t node)
{
	struct fuse_attr attr = { .ino = node, .nlink = 1, .blksize = 4096 };

	attr.mode = node == FUSE_FILE ? S_IFREG | 0666 : S_IFDIR | 0755;
	if (node == FUSE_FILE)
		attr.size = FUSE_SIZE;
	return attr;
}

static void fuse_init(struct fuse_in_header *in, struct fuse_init_in *arg)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = 4096,
		.max_write = FUSE_MAX_IO,
	};

	if (arg->minor < out.minor)
		out.minor = arg->minor;
	fuse_reply(in->unique, 0, &out, sizeof(out));
}

static void fuse_do_io(const struct fuse_kept *k)
{
	struct fuse_write_out out = { .size = k->size };
	uint32_t i;

	if (k->write) {
		fuse_reply(k->unique, 0, &out, sizeof(out));
		return;
	}
	memset(server.data, 0, k->size);
	for (i = 0; i < k->size / 4096; i++)
		server.data[i * 512] = FUSE_VALUE(k->offset / 4096 + i);
	fuse_reply(k->unique, 0, server.data, k->size);
}

static void fuse_io(struct fuse_kept k)
{
	bool keep = k.write ? server.shared->keep_writes :
			      (k.offset + k.size) / 4096 > FUSE_STUCK;

	if (!keep || server.shared->release || server.nr == FUSE_KEPT) {
		fuse_do_io(&k);
		return;
	}
	server.kept[server.nr++] = k;
	WRITE_ONCE(server.shared->waiting, server.nr);
}

static void fuse_serve(struct fuse_in_header *in)
{
	void *arg = in + 1;
	struct fuse_read_in *io = arg;		/* a write begins in the same way */
	struct fuse_entry_out entry = {
		.nodeid = FUSE_FILE, .generation = 1, .entry_valid = 1000,
		.attr_valid = 1000, .attr = fuse_attr(FUSE_FILE),
	};
	struct fuse_attr_out attr = {
		.attr_valid = 1000, .attr = fuse_attr(in->nodeid),
	};
	struct fuse_open_out open = { .fh = 1, .open_flags = FOPEN_KEEP_CACHE };

	switch (in->opcode) {
	case FUSE_INIT:
		fuse_init(in, arg);
		break;
	case FUSE_LOOKUP:
		fuse_reply(in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		fuse_reply(in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		fuse_reply(in->unique, 0, &open, sizeof(open));
		break;
	case FUSE_READ:
	case FUSE_WRITE:
		fuse_io((struct fuse_kept) {
			.unique = in->unique, .offset = io->offset, .size = io->size,
			.write = in->opcode == FUSE_WRITE,
		});
		break;
	case FUSE_RELEASE:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
		fuse_reply(in->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		/* These are not answered, and a kept one goes on being kept. */
		break;
	default:
		fuse_reply(in->unique, -EOPNOTSUPP, NULL, 0);
	}
}

static void fuse_server_process(void)
{
	const size_t size = FUSE_MAX_IO + 4096;
	void *buf = malloc(size);
	struct pollfd pfd = { .fd = server.dev, .events = POLLIN };
	ssize_t r;

	server.data = malloc(FUSE_MAX_IO);
	TEST_ASSERT(buf && server.data, "malloc");
	for (;;) {
		while (server.shared->release && server.nr)
			fuse_do_io(&server.kept[--server.nr]);
		WRITE_ONCE(server.shared->waiting, server.nr);
		if (poll(&pfd, 1, 10) <= 0)
			continue;
		r = read(server.dev, buf, size);
		if (r > 0)
			fuse_serve(buf);
		else if (r < 0 && errno == ENODEV)
			break;
	}
}

/* Mount it; the mount goes as soon as the file is open, and the file with its users. */
static int fuse_open_file(void)
{
	char dir[] = "/dev/shm/vm2vm-fuse-XXXXXX", options[128], path[64];
	int file;

	TEST_ASSERT(mkdtemp(dir), "mkdtemp: %s", strerror(errno));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 server.dev);
	TEST_ASSERT(!mount("vm2vm", dir, "fuse", 0, options), "mount: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/file", dir);
	file = open(path, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(file >= 0, "%s: %s", path, strerror(errno));
	TEST_ASSERT(!umount2(dir, MNT_DETACH) && !rmdir(dir), "umount: %s", strerror(errno));
	return file;
}

bool fuse_start(struct fuse_server *s)
{
	server.dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (server.dev < 0)
		return false;
	s->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(s->shared != MAP_FAILED, "mmap: %s", strerror(errno));
	server.shared = s->shared;
	fflush(stdout);
	s->pid = fork();
	TEST_ASSERT(s->pid >= 0, "fork: %s", strerror(errno));
	if (!s->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fuse_server_process();
		_exit(0);
	}
	s->file = fuse_open_file();
	close(server.dev);
	return true;
}

unsigned int fuse_waiting(struct fuse_server *s)
{
	return READ_ONCE(s->shared->waiting);
}

void fuse_wait_for(struct fuse_server *s, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < 6000 && fuse_waiting(s) < nr; i++)
		usleep(10000);
	TEST_ASSERT(fuse_waiting(s) >= nr, "%u requests wait, not %u", fuse_waiting(s), nr);
}

void fuse_keep_writes(struct fuse_server *s)
{
	WRITE_ONCE(s->shared->keep_writes, true);
}

void fuse_release(struct fuse_server *s)
{
	WRITE_ONCE(s->shared->release, true);
}

void fuse_kill(struct fuse_server *s)
{
	if (!s->pid)
		return;
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	close(s->file);
	munmap(s->shared, 4096);
	s->pid = 0;
}
