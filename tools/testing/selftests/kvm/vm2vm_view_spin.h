/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_view_test: a vCPU that stays inside a view, without exits, while the test
 * takes away what it sees there.
 */
#ifndef SELFTEST_KVM_VM2VM_VIEW_SPIN_H
#define SELFTEST_KVM_VM2VM_VIEW_SPIN_H

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "vm2vm_view.h"

#define SPIN_OLD	0x01d01d01d01d01d0ull
#define SPIN_NEW	0x2222222222222222ull
#define SPIN_CANARY	0xdeadbeefdeadbeefull

/* Two words of the page: the guest reads one, and writes the other. */
#define SPIN_READ	0
#define SPIN_WRITE	1

#define SPIN_SYNC_VIEW	7	/* GUEST_SYNC(): look at the view */

/**
 * struct spin - between the guest and the test; in the guest's own memory
 * @count: passes of the loop
 * @last: what was read last
 * @canary: how often the canary was read
 * @stale: how often OLD was read after @gone
 * @holes: how often all-ones were read
 * @gone: OLD is not to be read any more
 * @enter: enter the view again; the guest clears it
 * @look: have the VMM look at the view; the guest clears it
 * @leave: leave the view and enter it in every pass
 * @stop: end
 */
struct spin {
	uint64_t count;
	uint64_t last;
	uint64_t canary;
	uint64_t stale;
	uint64_t holes;
	uint64_t gone;
	uint64_t enter;
	uint64_t look;
	uint64_t leave;
	uint64_t stop;
};

static struct spin spin;

static inline void spin_guest_pass(uint64_t *page)
{
	uint64_t gone, val;

	gone = READ_ONCE(spin.gone);
	WRITE_ONCE(page[SPIN_WRITE], spin.count);
	val = READ_ONCE(page[SPIN_READ]);
	if (val == SPIN_CANARY)
		spin.canary++;
	if (val == SPIN_OLD && gone)
		spin.stale++;
	if (val == VIEW_HOLE)
		spin.holes++;
	WRITE_ONCE(spin.last, val);
	WRITE_ONCE(spin.count, spin.count + 1);
}

static inline void spin_guest(void)
{
	uint64_t *page = (uint64_t *)VIEW_GPA(1);

	peer_guest_interruptible();
	while (!READ_ONCE(spin.stop)) {
		if (READ_ONCE(spin.enter)) {
			vm2vm_view_enter(1);
			WRITE_ONCE(spin.enter, 0);
		}
		if (READ_ONCE(spin.look)) {
			GUEST_SYNC(SPIN_SYNC_VIEW);
			WRITE_ONCE(spin.look, 0);
		}
		spin_guest_pass(page);
		if (READ_ONCE(spin.leave)) {
			vm2vm_view_leave();
			vm2vm_view_enter(1);
		}
	}
	GUEST_DONE();
}

/**
 * struct spinner - a vCPU of a backend that spins, and a page of an owner for it
 * @w: the backend; its owner 0 has the page @mem only
 * @spin: what the guest tells
 * @memfd: two pages
 * @page: them, in a mapping of the test's own
 * @mem: the owner's mapping of one of them
 * @thread: runs the vCPU
 * @tid: its thread ID
 * @view: the view that the vCPU was in when it was looked at last
 */
struct spinner {
	struct view w;
	struct spin *spin;
	int memfd;
	uint64_t *page[2];
	void *mem;
	pthread_t thread;
	pid_t tid;
	uint32_t view;
};

static inline void *spin_vcpu(void *arg)
{
	struct spinner *s = arg;
	struct kvm_vcpu *vcpu = s->w.cpu[0].vcpu;
	struct ucall uc;
	uint64_t cmd;

	WRITE_ONCE(s->tid, syscall(SYS_gettid));
	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			view_mmio(&s->w.cpu[0]);
			continue;
		}
		cmd = get_ucall(vcpu, &uc);
		if (cmd != UCALL_SYNC)
			break;
		WRITE_ONCE(s->view, view_get(&s->w.cpu[0]));
	}
	TEST_ASSERT(cmd == UCALL_DONE, "exit reason %u (%s)", vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
	return NULL;
}

static inline void *spin_map_page(int memfd, unsigned int page, void *where)
{
	void *p = mmap(where, 4096, PROT_READ | PROT_WRITE,
		       MAP_SHARED | (where ? MAP_FIXED : 0), memfd, page * 4096);

	TEST_ASSERT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

/* The owner's only page is in @s->mem; nothing is approved. */
static inline void spin_init(struct spinner *s)
{
	struct view_owner *o = &s->w.owner[0];
	struct userspace_mem_region *ram;
	unsigned int i;

	memset(s, 0, sizeof(*s));
	view_init(&s->w, 1);
	s->memfd = memfd_create("vm2vm", MFD_CLOEXEC);
	TEST_ASSERT(s->memfd >= 0 && !ftruncate(s->memfd, 2 * 4096), "memfd: %s",
		    strerror(errno));
	for (i = 0; i < 2; i++)
		s->page[i] = spin_map_page(s->memfd, i, NULL);
	s->mem = spin_map_page(s->memfd, 0, NULL);

	view_owner_free(o);
	o->vm = vm_create_barebones();
	vm_set_user_memory_region(o->vm, 0, 0, PEER_OWNER_GPA, 4096, s->mem);
	o->domain = vm2vm_create_domain(o->vm);
	o->mem = s->mem;

	vcpu_arch_set_entry_point(s->w.cpu[0].vcpu, spin_guest);
	view_map_window(&s->w, 1);
	/* As VMMs do: a fork is not to make the VM's memory copy-on-write. */
	ram = memslot2region(s->w.vm, 0);
	TEST_ASSERT(!madvise(ram->mmap_start, ram->mmap_size, MADV_DONTFORK),
		    "MADV_DONTFORK: %s", strerror(errno));
	s->spin = addr_gva2hva(s->w.vm, (uintptr_t)&spin);
}

static inline void spin_start(struct spinner *s)
{
	WRITE_ONCE(s->spin->enter, 1);
	pthread_create(&s->thread, NULL, spin_vcpu, s);
}

static inline void spin_free(struct spinner *s)
{
	if (s->thread) {
		WRITE_ONCE(s->spin->stop, 1);
		pthread_join(s->thread, NULL);
	}
	view_free(&s->w);
}

static inline void spin_map(struct spinner *s)
{
	vm2vm_map(s->w.owner[0].domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
}

static inline void spin_link(struct spinner *s, int domain)
{
	int r = __view_link(&s->w, 1, domain, PEER_IOVA, 4096, 0);

	TEST_ASSERT(!r, "KVM_VM2VM_LINK: %s", strerror(-r));
}

/* Fail if the guest does not get on in 20 seconds; to be called now and then. */
static inline void spin_patience(struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!start->tv_sec)
		*start = now;
	TEST_ASSERT(now.tv_sec - start->tv_sec < 20, "the guest does not go on");
}

/* Wait until the guest has been around its loop @n times from now on. */
static inline void spin_wait(struct spin *s, uint64_t n)
{
	uint64_t end = READ_ONCE(s->count) + n;
	struct timespec start = {};
	unsigned int i = 0;

	while (READ_ONCE(s->count) < end) {
		if (!(++i % 1024))
			spin_patience(&start);
	}
}

/* Wait until the guest has seen and cleared a word. */
static inline void spin_wait_clear(uint64_t *word)
{
	struct timespec start = {};
	unsigned int i = 0;

	while (READ_ONCE(*word)) {
		if (!(++i % 1024))
			spin_patience(&start);
	}
}

/* Wait until the guest reads @val. */
static inline void spin_wait_for(struct spin *s, uint64_t val)
{
	unsigned int i;

	for (i = 0; i < 100000; i++) {
		spin_wait(s, 2);
		if (READ_ONCE(s->last) == val)
			return;
	}
	TEST_FAIL("the guest reads 0x%lx, not 0x%lx", s->last, val);
}

/* The view that the spinning vCPU is in. */
static inline uint32_t spin_view(struct spinner *s)
{
	WRITE_ONCE(s->view, ~0u);
	WRITE_ONCE(s->spin->look, 1);
	spin_wait_clear(&s->spin->look);
	return READ_ONCE(s->view);
}

/* From the next pass on the guest may read OLD. */
static inline void spin_allow(struct spin *s)
{
	WRITE_ONCE(s->gone, 0);
	spin_wait(s, 2);
}

/* Let the guest reach a page that has the value OLD, inside the view, without exits. */
static inline void spin_begin(struct spinner *s, uint64_t *page)
{
	WRITE_ONCE(page[SPIN_READ], SPIN_OLD);
	WRITE_ONCE(s->spin->enter, 1);
	spin_wait_clear(&s->spin->enter);
	spin_wait_for(s->spin, SPIN_OLD);
	spin_wait(s->spin, 10);
}

/*
 * The page is revoked: put the canary into it, and nothing of the guest may come to it
 * or from it any more.  The guest reads @expect soon.
 */
static inline void spin_end(struct spinner *s, uint64_t *page, uint64_t expect,
			    unsigned int trial)
{
	WRITE_ONCE(s->spin->gone, 1);
	WRITE_ONCE(page[SPIN_READ], SPIN_CANARY);
	WRITE_ONCE(page[SPIN_WRITE], SPIN_CANARY);
	spin_wait(s->spin, 3);
	TEST_ASSERT(!READ_ONCE(s->spin->canary), "trial %u: the canary was seen", trial);
	TEST_ASSERT(READ_ONCE(page[SPIN_WRITE]) == SPIN_CANARY,
		    "trial %u: the canary was overwritten", trial);
	spin_wait_for(s->spin, expect);
	TEST_ASSERT(!READ_ONCE(s->spin->canary), "trial %u: the canary was seen", trial);
	TEST_ASSERT(!READ_ONCE(s->spin->stale), "trial %u: the page was seen", trial);
	/* The next trial may approve it before anything else. */
	spin_allow(s->spin);
	WRITE_ONCE(page[SPIN_READ], SPIN_OLD);
}

/* An owner in a process of its own, which does nothing but live; its domain comes here. */
static inline pid_t spin_start_owner(int memfd, int *domain)
{
	int *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_vm *vm;
	int pidfd, fd;
	pid_t pid;

	TEST_ASSERT(told != MAP_FAILED, "mmap: %s", strerror(errno));
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		vm = vm_create_barebones();
		vm_set_user_memory_region(vm, 0, 0, PEER_OWNER_GPA, 4096,
					  spin_map_page(memfd, 0, NULL));
		fd = vm2vm_create_domain(vm);
		vm2vm_map(fd, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
		WRITE_ONCE(*told, fd);
		for (;;)
			pause();
	}
	while (!READ_ONCE(*told))
		TEST_ASSERT(!waitpid(pid, NULL, WNOHANG), "the owner died too soon");
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	TEST_ASSERT(pidfd >= 0, "pidfd_open: %s", strerror(errno));
	*domain = syscall(SYS_pidfd_getfd, pidfd, *told, 0);
	TEST_ASSERT(*domain >= 0, "pidfd_getfd: %s", strerror(errno));
	close(pidfd);
	munmap(told, 4096);
	return pid;
}

#endif /* SELFTEST_KVM_VM2VM_VIEW_SPIN_H */
