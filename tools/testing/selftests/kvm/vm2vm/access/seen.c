// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_access_test: what is to be seen of vm2vm, statistics and tracepoints.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm2vm_harness.h"
#include "vm2vm_trace.h"
#include "access.h"
#include "mem.h"

/* The same statistic in debugfs, where a VM has the sums of its vCPUs; -1: none. */
static long stat_debugfs(struct kvm_vm *vm, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), vm->fd, name);
	return mem_knob_read(path);
}

/* What was traced. */
static char *seen_trace;

/* How many lines of the trace end in this. */
static unsigned int trace_count(const char *line)
{
	const char *at = seen_trace;
	unsigned int count = 0;

	while ((at = strstr(at, line))) {
		at += strlen(line);
		count += *at == '\n';
	}
	return count;
}

/* A vCPU that runs until it gets somewhere, in a thread of its own. */
static void *seen_vcpu(void *arg)
{
	struct peer *p = arg;

	vcpu_run(p->vcpu);
	return NULL;
}

/*
 * Three windows, one behind the other, for what is not approved: a hole, an exit, and
 * one that waits for the second domain's owner.
 */
#define SEEN_HOLE	PEER_WINDOW
#define SEEN_EXIT	(PEER_WINDOW + SIZE)
#define SEEN_WAIT	(PEER_WINDOW + 2 * SIZE)
#define SEEN_PORT	0x5000

FIXTURE(seen)
{
	struct peer p;
	int asked;	/* the second domain */
};

FIXTURE_SETUP(seen)
{
	struct peer *p = &self->p;

	peer_init(p, SIZE);
	memset(p->mem, 1, SIZE);
	peer_map_window(p, PEER_WINDOW, 3 * SIZE);
	/* What the guest itself faults on. */
	peer_run(p, PEER_READ, (uintptr_t)&peer_cmd, 0, 0, 0);
}

FIXTURE_TEARDOWN(seen)
{
	peer_free(&self->p);
}

/* Have the guest read what the owner is asked about, and answer. */
static void seen_ask(struct __test_metadata *_metadata, struct peer *p, int domain, uint64_t offset,
		     bool refuse)
{
	struct peer_cmd *cmd = addr_gva2hva(p->backend, (uintptr_t)&peer_cmd);
	struct kvm_vm2vm_refuse no = { .iova = PEER_IOVA + offset, .size = 4096 };
	struct kvm_vm2vm_miss miss = {};
	pthread_t thread;

	*cmd = (struct peer_cmd) { .op = PEER_READ, .gva = SEEN_WAIT + offset };
	pthread_create(&thread, NULL, seen_vcpu, p);
	EXPECT_EQ(sizeof(miss), read(domain, &miss, sizeof(miss)));
	EXPECT_EQ(PEER_IOVA + offset, miss.iova);
	if (refuse) {
		EXPECT_EQ(0, vm2vm_ioctl(domain, KVM_VM2VM_REFUSE, &no));
		EXPECT_EQ(1, no.refused);
	} else {
		vm2vm_map(domain, PEER_IOVA + offset, PEER_OWNER_GPA, 4096, VM2VM_RW);
	}
	pthread_join(thread, NULL);
	if (refuse) {
		EXPECT_EQ(KVM_EXIT_MMIO, p->vcpu->run->exit_reason);
		vcpu_run(p->vcpu);
	}
	EXPECT_EQ(UCALL_SYNC, get_ucall(p->vcpu, NULL));
}

/* The access fails, and is done again when it is approved. */
static void seen_exit(struct __test_metadata *_metadata, struct peer *p)
{
	struct peer_cmd *cmd = addr_gva2hva(p->backend, (uintptr_t)&peer_cmd);

	*cmd = (struct peer_cmd) { .op = PEER_WRITE, .gva = SEEN_EXIT + 4 * 4096 };
	EXPECT_EQ(-1, __vcpu_run(p->vcpu));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, p->vcpu->run->exit_reason);
	vm2vm_map(p->domain, PEER_IOVA + 4 * 4096, PEER_OWNER_GPA + 4096, 4096, VM2VM_RW);
	vcpu_run(p->vcpu);
	EXPECT_EQ(UCALL_SYNC, get_ucall(p->vcpu, NULL));
}

/* One of each of what there is to be seen. */
static void seen_do_all(struct __test_metadata *_metadata, struct _test_data_seen *self)
{
	struct peer *p = &self->p;

	self->asked = __vm2vm_create_domain_flags(p->owner, KVM_VM2VM_DOMAIN_MISSES);
	ASSERT_LE(0, self->asked);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, SEEN_HOLE, PEER_IOVA, SIZE, 0);
	vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, SEEN_EXIT, PEER_IOVA, SIZE,
		   KVM_VM2VM_LINK_EXIT);
	vm2vm_link(p->backend, self->asked, PEER_SLOT + 2, SEEN_WAIT, PEER_IOVA, SIZE,
		   KVM_VM2VM_LINK_WAIT);

	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, 2 * 4096, VM2VM_RW);
	vm2vm_map(p->domain, PEER_IOVA + 2 * 4096, PEER_OWNER_GPA, 4096, KVM_VM2VM_MAP_READ);
	peer_read(p, 0);
	peer_read(p, 2 * 4096);
	EXPECT_EQ(0, p->mmio);
	peer_read(p, 5 * 4096);
	peer_write(p, 5 * 4096, 0);
	EXPECT_EQ(2, p->mmio);
	seen_exit(_metadata, p);
	seen_ask(_metadata, p, self->asked, 0, false);
	seen_ask(_metadata, p, self->asked, 4096, true);

	EXPECT_EQ(2 * 4096, vm2vm_unmap(p->domain, PEER_IOVA, 2 * 4096));
	EXPECT_EQ(0, vm2vm_unmap(p->domain, PEER_IOVA, 2 * 4096));
	TEST_ASSERT(!madvise(p->mem + 7 * 4096, 4096, MADV_DONTNEED), "MADV_DONTNEED");
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	vm2vm_unlink(p->backend, PEER_SLOT + 1);
}

/* Two doorbells, and one at the place of the first, which is refused. */
static void seen_doorbell(struct __test_metadata *_metadata, struct kvm_vm *vm)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, __vm2vm_doorbell(vm, SEEN_PORT, 2, 0, fd, KVM_VM2VM_DOORBELL_PIO));
	EXPECT_EQ(-EEXIST, __vm2vm_doorbell(vm, SEEN_PORT, 2, 0, fd, KVM_VM2VM_DOORBELL_PIO));
	EXPECT_EQ(0, __vm2vm_doorbell(vm, SEEN_PORT + 4, 4, 0, fd, KVM_VM2VM_DOORBELL_PIO));
	close(fd);
}

static void expect_stat(struct __test_metadata *_metadata, struct kvm_vm *vm, const char *name,
			long want)
{
	EXPECT_EQ(want, vm_get_stat(vm, name)) {
		TH_LOG("%s", name);
	}
	EXPECT_EQ(want, stat_debugfs(vm, name));
}

TEST_F(seen, statistics)
{
	struct peer *p = &self->p;

	expect_stat(_metadata, p->owner, "vm2vm_domains", 1);
	expect_stat(_metadata, p->owner, "vm2vm_mappings", 0);
	expect_stat(_metadata, p->owner, "vm2vm_revokes", 0);
	expect_stat(_metadata, p->backend, "vm2vm_links", 0);

	seen_do_all(_metadata, self);
	expect_stat(_metadata, p->owner, "vm2vm_domains", 2);
	expect_stat(_metadata, p->owner, "vm2vm_mappings", 3);
	expect_stat(_metadata, p->owner, "vm2vm_mapped", 4);
	expect_stat(_metadata, p->owner, "vm2vm_unmapped", 1);
	expect_stat(_metadata, p->owner, "vm2vm_revokes", 3);
	expect_stat(_metadata, p->owner, "vm2vm_links", 0);
	expect_stat(_metadata, p->backend, "vm2vm_domains", 0);
	expect_stat(_metadata, p->backend, "vm2vm_mappings", 0);
	expect_stat(_metadata, p->backend, "vm2vm_revokes", 0);
	expect_stat(_metadata, p->backend, "vm2vm_links", 2);
	EXPECT_EQ(4, peer_vcpu_stat(p->vcpu, "vm2vm_faults"));
	EXPECT_EQ(4, stat_debugfs(p->backend, "vm2vm_faults"));
	EXPECT_EQ(3, peer_vcpu_stat(p->vcpu, "vm2vm_holes"));
	EXPECT_EQ(3, stat_debugfs(p->backend, "vm2vm_holes"));
	EXPECT_EQ(1, peer_vcpu_stat(p->vcpu, "vm2vm_exits"));
	EXPECT_EQ(1, stat_debugfs(p->backend, "vm2vm_exits"));
	EXPECT_EQ(2, peer_vcpu_stat(p->vcpu, "vm2vm_waits"));
	EXPECT_EQ(2, stat_debugfs(p->backend, "vm2vm_waits"));

	close(self->asked);
	expect_stat(_metadata, p->owner, "vm2vm_domains", 1);
	expect_stat(_metadata, p->owner, "vm2vm_mappings", 2);
	expect_stat(_metadata, p->owner, "vm2vm_mapped", 4);
	expect_stat(_metadata, p->owner, "vm2vm_unmapped", 1);
	expect_stat(_metadata, p->owner, "vm2vm_revokes", 4);
}

/* There is one such event. */
__printf(3, 4)
static void expect_trace(struct __test_metadata *_metadata, const char *event,
			 const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int len;

	len = snprintf(line, sizeof(line), "kvm_vm2vm_%s: ", event);
	va_start(ap, fmt);
	vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	va_end(ap);
	EXPECT_EQ(1, trace_count(line)) {
		TH_LOG("%s", line);
	}
}

#define SEEN_EVENT(event, fmt, args...)	expect_trace(_metadata, event, fmt, ##args)

TEST_F(seen, tracepoints)
{
	const uint64_t iova = PEER_IOVA, gpa = PEER_OWNER_GPA, gfn = gpa / 4096;
	const int pid = getpid(), slot = PEER_SLOT;

	if (!trace_start("kvm_vm2vm"))
		SKIP(return, "the kernel has no tracefs");
	seen_do_all(_metadata, self);
	close(self->asked);
	seen_doorbell(_metadata, self->p.backend);
	seen_trace = trace_stop("kvm_vm2vm");

	SEEN_EVENT("map", "owner %d iova 0x%lx gpa 0x%lx size 0x2000 flags 0x3", pid, iova, gpa);
	SEEN_EVENT("map", "owner %d iova 0x%lx gpa 0x%lx size 0x1000 flags 0x1", pid,
		   iova + 0x2000, gpa);
	SEEN_EVENT("unmap", "owner %d iova 0x%lx size 0x2000 unmapped 0x2000", pid, iova);
	SEEN_EVENT("link", "backend %d slot %d gpa 0x%lx iova 0x%lx size 0x8000 flags 0x0", pid,
		   slot, SEEN_HOLE, iova);
	SEEN_EVENT("link", "backend %d slot %d gpa 0x%lx iova 0x%lx size 0x8000 flags 0x4", pid,
		   slot + 2, SEEN_WAIT, iova);
	SEEN_EVENT("unlink", "backend %d slot %d gpa 0x%lx iova 0x%lx size 0x8000 flags 0x2", pid,
		   slot + 1, SEEN_EXIT, iova);

	SEEN_EVENT("fault", "backend %d gpa 0x%lx owner gpa 0x%lx read writable 1 order 0", pid,
		   SEEN_HOLE, gpa);
	SEEN_EVENT("fault", "backend %d gpa 0x%lx owner gpa 0x%lx read writable 0 order 0", pid,
		   SEEN_HOLE + 0x2000, gpa);
	SEEN_EVENT("fault", "backend %d gpa 0x%lx owner gpa 0x%lx write writable 1 order 0", pid,
		   SEEN_EXIT + 0x4000, gpa + 0x1000);

	SEEN_EVENT("miss", "backend %d gpa 0x%lx read hole", pid, SEEN_HOLE + 0x5000);
	SEEN_EVENT("miss", "backend %d gpa 0x%lx write hole", pid, SEEN_HOLE + 0x5000);
	SEEN_EVENT("miss", "backend %d gpa 0x%lx write exit", pid, SEEN_EXIT + 0x4000);
	SEEN_EVENT("miss", "backend %d gpa 0x%lx read wait", pid, SEEN_WAIT);
	SEEN_EVENT("miss", "backend %d gpa 0x%lx read again", pid, SEEN_WAIT);
	SEEN_EVENT("miss", "backend %d gpa 0x%lx read wait", pid, SEEN_WAIT + 0x1000);
	SEEN_EVENT("miss", "backend %d gpa 0x%lx read refused", pid, SEEN_WAIT + 0x1000);
	SEEN_EVENT("miss", "backend %d gpa 0x%lx read hole", pid, SEEN_WAIT + 0x1000);

	SEEN_EVENT("revoke", "owner %d iova pages 0x%lx to 0x%lx", pid, iova / 4096,
		   iova / 4096 + 1);
	SEEN_EVENT("revoke", "owner %d gfn pages 0x%lx to 0x%lx", pid, gfn + 7, gfn + 7);
	SEEN_EVENT("revoke", "owner %d gfn pages 0x%lx to 0x%lx", pid, gfn, gfn + PAGES - 1);
	SEEN_EVENT("revoke", "owner %d iova pages 0x0 to 0xffffffffffffffff", pid);

	/* Not the one that was refused. */
	SEEN_EVENT("doorbell", "vm %d addr 0x%x len 2 datamatch 0x0 fds 0 flags 0x%lx", pid,
		   SEEN_PORT, KVM_VM2VM_DOORBELL_PIO);
	SEEN_EVENT("doorbell", "vm %d addr 0x%x len 4 datamatch 0x0 fds 0 flags 0x%lx", pid,
		   SEEN_PORT + 4, KVM_VM2VM_DOORBELL_PIO);
	free(seen_trace);
}
