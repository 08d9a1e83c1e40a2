// SPDX-License-Identifier: GPL-2.0
/* vm2vm_inject_test: the calls about misses. */
#include <poll.h>
#include <pthread.h>

#include "inject.h"

#define MISS_PAGE	5

/*
 * A miss: the vCPU waits in a thread of its own until the owner refuses.  First
 * reading the record, then the refusal, has faults.
 */
static struct {
	int domain;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	struct kvm_vm2vm_miss record;
	bool waits;
	bool hole;
} miss;

static void *miss_vcpu(void *arg)
{
	struct kvm_run *run = miss.vcpu->run;

	inject_spare_thread();
	vcpu_run(miss.vcpu);
	miss.hole = run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write &&
		    run->mmio.phys_addr == PEER_WINDOW + MISS_PAGE * 4096;
	while (run->exit_reason == KVM_EXIT_MMIO)
		vcpu_run(miss.vcpu);
	WRITE_ONCE(miss.waits, false);
	return NULL;
}

static bool miss_pending(unsigned int ms)
{
	struct pollfd pfd = { .fd = miss.domain, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1;
}

static int miss_read(struct env *e)
{
	return __vm2vm_read_misses(miss.domain, &miss.record, sizeof(miss.record));
}

static int miss_refuse(struct env *e)
{
	return __vm2vm_refuse(miss.domain, PEER_IOVA + MISS_PAGE * 4096, 4096, NULL);
}

/* One vCPU waits, and its record is to be read. */
static void miss_start(void)
{
	miss.waits = true;
	miss.hole = false;
	TEST_ASSERT(!pthread_create(&miss.thread, NULL, miss_vcpu, NULL), "pthread_create");
	TEST_ASSERT(miss_pending(60000), "no miss");
}

static void miss_end(void)
{
	pthread_join(miss.thread, NULL);
	TEST_ASSERT(miss.hole, "the access was not one to a hole");
}

static void read_unchanged(struct env *e)
{
	TEST_ASSERT(miss_pending(0), "the record is lost");
}

static void read_done(struct env *e)
{
	TEST_ASSERT(miss.record.iova == PEER_IOVA + MISS_PAGE * 4096 && !miss_pending(0),
		    "it is not the record, or not all");
}

static void read_undo(struct env *e)
{
	TEST_ASSERT(!miss_refuse(e), "KVM_VM2VM_REFUSE");
	miss_end();
}

static void refuse_unchanged(struct env *e)
{
	TEST_ASSERT(READ_ONCE(miss.waits), "the vCPU does not wait");
}

static void refuse_done(struct env *e)
{
	miss_end();
}

/* The vCPU does the access again, which waits again. */
static void miss_prepare(struct env *e)
{
	e->offset = MISS_PAGE * 4096;
	set_cmd(e, PEER_READ, 0, 0);
	miss_start();
}

static void refuse_prepare(struct env *e)
{
	miss_prepare(e);
	TEST_ASSERT(miss_read(e) > 0, "no record");
}

TEST_F_TIMEOUT(inject, miss, 300)
{
	const struct inject_op read_op = {
		.name = "read a miss",
		.errs = ERR(EFAULT),
		.prepare = miss_prepare,
		.call = miss_read,
		.unchanged = read_unchanged,
		.changed = read_done,
		.undo = read_undo,
	};
	const struct inject_op refuse_op = {
		.name = "refuse",
		.errs = ERR(EFAULT),
		.prepare = refuse_prepare,
		.call = miss_refuse,
		.unchanged = refuse_unchanged,
		.changed = refuse_done,
	};
	struct env *e = &self->env;

	miss.domain = vm2vm_create_domain_flags(e->p.owner, KVM_VM2VM_DOMAIN_MISSES);
	miss.vcpu = e->p.vcpu;
	vm2vm_link(e->p.backend, miss.domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, WINDOW_SIZE,
		   KVM_VM2VM_LINK_WAIT);
	peer_map_window(&e->p, PEER_WINDOW, WINDOW_SIZE);
	inject(e, &read_op);
	read_undo(e);
	inject(e, &refuse_op);
	close(miss.domain);
}
