// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_miss_test: an owner, and backends whose vCPUs access their windows; see
 * access.h.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "access.h"

/* The guest's own; the host finds it by addr_gva2hva(). */
static struct miss_cmd miss_cmds[MAX_VCPUS];

static void miss_guest(struct miss_cmd *cmd)
{
	void *from, *to;

	peer_guest_interruptible();
	for (;;) {
		switch (READ_ONCE(cmd->op)) {
		case MISS_READ:
			cmd->val = READ_ONCE(*(uint64_t *)cmd->gva);
			break;
		case MISS_WRITE:
			WRITE_ONCE(*(uint64_t *)cmd->gva, cmd->val);
			break;
		case MISS_EXEC:
			((void (*)(void))cmd->gva)();
			break;
		case MISS_MOVE:
			/* KVM emulates it, as nothing is there to read from. */
			from = (void *)NO_MEMORY;
			to = (void *)cmd->gva;
			asm volatile("movsq" : "+S"(from), "+D"(to) : : "memory");
			break;
		}
		GUEST_SYNC(0);
	}
}

static void on_signal(int sig)
{
}

void catch_signal(int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	TEST_ASSERT(!sigaction(SIGUSR1, &sa, NULL), "sigaction: %s", strerror(errno));
}

void join_thread(pthread_t thread, const char *what)
{
	struct timespec ts;
	int r;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += LIMIT;
	r = pthread_timedjoin_np(thread, NULL, &ts);
	TEST_ASSERT(!r, "%s: not over after %u s", what, LIMIT);
}

void backend_make(struct backend *b, unsigned int nr)
{
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	unsigned int i;

	memset(b, 0, sizeof(*b));
	b->nr = nr;
	b->vm = vm_create_with_vcpus(nr, miss_guest, vcpus);
	virt_map(b->vm, PEER_WINDOW, PEER_WINDOW, PAGES);
	virt_map(b->vm, WINDOW2, WINDOW2, PAGES);
	virt_map(b->vm, NO_MEMORY, NO_MEMORY, 1);
	for (i = 0; i < nr; i++) {
		vcpu_args_set(vcpus[i], 1, &miss_cmds[i]);
		b->r[i].vcpu = vcpus[i];
		b->r[i].cmd = addr_gva2hva(b->vm, (uintptr_t)&miss_cmds[i]);
		b->r[i].stats = vcpu_get_stats_fd(vcpus[i]);
	}
}

void *runner_thread(void *arg)
{
	struct runner *r = arg;
	struct kvm_run *run = r->vcpu->run;

	for (;;) {
		r->err = __vcpu_run(r->vcpu) ? errno : 0;
		if (r->err || run->exit_reason != KVM_EXIT_MMIO)
			break;
		r->mmio++;
		r->mmio_gpa = run->mmio.phys_addr;
		r->mmio_write = run->mmio.is_write;
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, run->mmio.len);
	}
	WRITE_ONCE(r->running, false);
	return NULL;
}

int access_end(struct runner *r)
{
	join_thread(r->thread, "access");
	if (r->err)
		return -r->err;
	return get_ucall(r->vcpu, NULL) == UCALL_SYNC ? 0 : r->vcpu->run->exit_reason;
}

uint64_t access_val(struct runner *r)
{
	int err = access_end(r);

	TEST_ASSERT(!err, "access: %d", err);
	return READ_ONCE(r->cmd->val);
}

void until_waits(struct runner *r, uint64_t n)
{
	unsigned int i;

	for (i = 0; waits(r) < n; i++) {
		TEST_ASSERT(i < LIMIT * 1000, "the vCPU does not wait");
		usleep(1000);
	}
	TEST_ASSERT(waits(r) == n, "the vCPU has waited %lu times, not %lu", waits(r), n);
}

void still_waits(struct runner *r, uint64_t n)
{
	until_waits(r, n);
	usleep(20000);
	TEST_ASSERT(READ_ONCE(r->running), "the access is over: %d", r->err);
	until_waits(r, n);
}

int poll_for(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	TEST_ASSERT(poll(&pfd, 1, ms) >= 0, "poll: %s", strerror(errno));
	return pfd.revents;
}

struct kvm_vm2vm_miss next_miss(int domain)
{
	struct kvm_vm2vm_miss miss;
	int events = poll_for(domain, LIMIT * 1000);

	TEST_ASSERT(events == POLLIN, "poll: %x", events);
	TEST_ASSERT(read(domain, &miss, sizeof(miss)) == sizeof(miss), "read: %s",
		    strerror(errno));
	return miss;
}

void expect_miss(int domain, unsigned int page, uint32_t flags)
{
	struct kvm_vm2vm_miss miss = next_miss(domain);

	TEST_ASSERT(miss.iova == IOVA(page) && miss.flags == flags && !miss.pad,
		    "missed iova %llx with %x (%x), should be %lx with %x", miss.iova, miss.flags,
		    miss.pad, IOVA(page), flags);
}

void *make_memory(void)
{
	void *mem = peer_mmap(PAGES * 4096, 0);
	unsigned int i;

	TEST_ASSERT(mem && !madvise(mem, PAGES * 4096, MADV_NOHUGEPAGE), "mmap: %s",
		    strerror(errno));
	for (i = 0; i < PAGES; i++)
		*(uint64_t *)(mem + i * 4096) = VALUE(i);
	return mem;
}

struct kvm_vm *make_owner(void *mem, int *domain)
{
	struct kvm_vm *vm = vm_create_barebones();

	vm_set_user_memory_region(vm, 0, 0, GPA(0), PAGES * 4096, mem);
	*domain = vm2vm_create_domain_flags(vm, KVM_VM2VM_DOMAIN_MISSES);
	return vm;
}
