// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_stall_test: owners that do not have what a mapping approves.  That is what the
 * backend's guest finds, and no error of its VMM's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vm2vm_harness.h"
#include "vm2vm_knob.h"
#include "vm2vm_peer.h"
#include "vm2vm_trace.h"
#include "stall.h"

#define CGROUP		"/sys/fs/cgroup/vm2vm-stall"

/* An owner, and two backends of its domain. */
FIXTURE(lack)
{
	struct actor owner, a, b;
	int domain;
};

FIXTURE_SETUP(lack)
{
	actor_start(&self->owner, owner_process);
	actor_start(&self->a, backend_process);
	actor_start(&self->b, backend_process);
	actor_do(&self->owner, OWNER_SHARE, 0);
	self->domain = self->owner.fd;
	ASSERT_EQ(0, actor_do_fd(&self->a, BACKEND_LINK, 0, self->domain));
	ASSERT_EQ(0, actor_do_fd(&self->b, BACKEND_LINK, KVM_VM2VM_LINK_EXIT, self->domain));
}

FIXTURE_TEARDOWN(lack)
{
	actor_kill(&self->a);
	actor_kill(&self->b);
	actor_kill(&self->owner);
	close(self->domain);
	rmdir(CGROUP);
}

/* Put a process into a cgroup of its own, and keep it from being killed for its memory. */
static bool confine(pid_t pid)
{
	char path[64], number[16];

	snprintf(number, sizeof(number), "%d", pid);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
	knob_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	return !mkdir(CGROUP, 0755) && knob_write(CGROUP "/cgroup.procs", number) &&
	       knob_write(path, "-1000");
}

/* A hole for one backend, an exit for the other, and counted by both. */
static void expect_lack(struct __test_metadata *_metadata, struct _test_data_lack *self,
			unsigned int page, enum stall_stat stat)
{
	int64_t holes = actor_do(&self->a, BACKEND_STAT, STAT_HOLES);
	int64_t a = actor_do(&self->a, BACKEND_STAT, stat);
	int64_t b = actor_do(&self->b, BACKEND_STAT, stat);

	EXPECT_EQ(HOLE, actor_do(&self->a, BACKEND_READ, page));
	actor_do(&self->b, BACKEND_START, page);
	EXPECT_EQ(-EFAULT, actor_do(&self->b, BACKEND_WAIT, 0));
	EXPECT_EQ(holes + 1, actor_do(&self->a, BACKEND_STAT, STAT_HOLES));
	/* A fault, and the emulation of the access to the hole, look for it. */
	EXPECT_LT(a, actor_do(&self->a, BACKEND_STAT, stat));
	EXPECT_EQ(b + 1, actor_do(&self->b, BACKEND_STAT, stat));
	/* To find out may take long. */
	if (stat == STAT_NOMEM)
		return;
	EXPECT_EQ(-ENOENT, actor_do(&self->a, BACKEND_PREFAULT, page));
}

/* The owner's memory cgroup is full, and the kernel finds nobody in there to kill. */
TEST_F_TIMEOUT(lack, memory, 300)
{
	int file = memfd_create("vm2vm", MFD_CLOEXEC);

	TEST_ASSERT(file >= 0 && !ftruncate(file, (PAGES - STALLED) * 4096), "memfd: %s",
		    strerror(errno));
	ASSERT_EQ(0, actor_do_fd(&self->owner, OWNER_FILE, true, file));
	close(file);
	if (!confine(self->owner.pid))
		SKIP(return, "no memory cgroups");
	ASSERT_TRUE(knob_write(CGROUP "/memory.max", "0"));

	expect_lack(_metadata, self, STALLED, STAT_NOMEM);
	EXPECT_EQ(VALUE(1), actor_do(&self->a, BACKEND_READ, 1));

	/* With room again it is there. */
	ASSERT_TRUE(knob_write(CGROUP "/memory.max", "max"));
	EXPECT_EQ(0, actor_do(&self->a, BACKEND_READ, STALLED));
	actor_do(&self->b, BACKEND_CONTINUE, 0);
	EXPECT_EQ(0, actor_do(&self->b, BACKEND_WAIT, 0));
}

/* Whether a line of @trace has both words. */
static bool is_traced(const char *trace, const char *task, const char *event)
{
	char line[256];

	while (sscanf(trace, " %255[^\n]", line) == 1) {
		if (strstr(line, task) && strstr(line, event))
			return true;
		trace = strchrnul(trace + strspn(trace, "\n"), '\n');
	}
	return false;
}

/*
 * To make room in the owner's cgroup takes as long as the owner's memory is large, and as
 * its swap is slow: a worker does that, and no thread of the backend's.
 */
TEST_F_TIMEOUT(lack, reclaim, 300)
{
	const char *begin = "mm_vmscan_memcg_reclaim_begin";
	int64_t lacks;
	char *trace;

	if (!confine(self->owner.pid))
		SKIP(return, "no memory cgroups");
	ASSERT_EQ(0, actor_do(&self->owner, OWNER_ABSENT, STALLED));
	ASSERT_TRUE(knob_write(CGROUP "/memory.max", "0"));
	if (!trace_start("vmscan"))
		SKIP(return, "the kernel has no tracefs");
	lacks = actor_do(&self->a, BACKEND_STAT, STAT_NOMEM);
	actor_do(&self->a, BACKEND_WRITE, STALLED);
	EXPECT_EQ(VALUE(STALLED), actor_do(&self->a, BACKEND_WAIT, 0));
	trace = trace_stop("vmscan");
	EXPECT_LT(lacks, actor_do(&self->a, BACKEND_STAT, STAT_NOMEM));
	EXPECT_TRUE(is_traced(trace, "kworker", begin));
	/* The threads of this program have its name, as far as there is room for it. */
	EXPECT_FALSE(is_traced(trace, "vm2vm_stall_", begin));
	free(trace);
}

/* A file that ends before what is mapped of it. */
TEST_F_TIMEOUT(lack, file, 300)
{
	int file = memfd_create("vm2vm", MFD_CLOEXEC);

	TEST_ASSERT(file >= 0 && !ftruncate(file, 4096), "memfd: %s", strerror(errno));
	ASSERT_EQ(0, actor_do_fd(&self->owner, OWNER_FILE, true, file));
	EXPECT_EQ(0, actor_do(&self->a, BACKEND_READ, STALLED));
	expect_lack(_metadata, self, STALLED + 1, STAT_NOPAGE);
	TEST_ASSERT(!ftruncate(file, 8192), "ftruncate: %s", strerror(errno));
	EXPECT_EQ(0, actor_do(&self->a, BACKEND_READ, STALLED + 1));
	close(file);
}

/* A page that the hardware has lost. */
TEST_F_TIMEOUT(lack, poison, 300)
{
	int64_t r = actor_do(&self->owner, OWNER_POISON, STALLED);

	if (r)
		SKIP(return, "the kernel cannot take a page for lost");
	expect_lack(_metadata, self, STALLED, STAT_POISON);
	EXPECT_EQ(VALUE(1), actor_do(&self->a, BACKEND_READ, 1));
}
