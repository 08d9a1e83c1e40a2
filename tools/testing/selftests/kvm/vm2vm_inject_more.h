/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_inject_test: the calls that take many ranges, those that only ask, and
 * those about misses.
 */
#ifndef SELFTEST_KVM_VM2VM_INJECT_MORE_H
#define SELFTEST_KVM_VM2VM_INJECT_MORE_H

#include <poll.h>
#include <pthread.h>

#include "vm2vm_inject.h"

#define BATCH		4
#define MISS_PAGE	5

/*
 * KVM_VM2VM_MAP_BATCH and KVM_VM2VM_UNMAP_BATCH, of BATCH pages.  One that has
 * come to a part of them says so; it is called again then, and here it counts as
 * EAGAIN.
 */
static struct {
	int domain;
	struct kvm_vm2vm_map maps[BATCH];
	struct kvm_vm2vm_unmap unmaps[BATCH];
	struct kvm_vm2vm_batch args;
} batch;

static uint64_t batch_iova(unsigned int i)
{
	return PEER_IOVA + 2 * i * 4096;
}

static void batch_prepare(void *entries)
{
	unsigned int i;

	for (i = 0; i < BATCH; i++) {
		batch.maps[i] = (struct kvm_vm2vm_map) {
			.iova = batch_iova(i), .gpa = PEER_OWNER_GPA, .size = 4096,
			.flags = VM2VM_RW,
		};
		batch.unmaps[i] = (struct kvm_vm2vm_unmap) {
			.iova = batch_iova(i), .size = 4096,
		};
	}
	batch.args = (struct kvm_vm2vm_batch) { .entries = (uintptr_t)entries, .nr = BATCH };
}

static void map_batch_prepare(struct env *e)
{
	batch_prepare(batch.maps);
}

static void unmap_batch_prepare(struct env *e)
{
	batch_prepare(batch.unmaps);
}

static int batch_call(unsigned long nr)
{
	unsigned int before = batch.args.nr;
	int r = vm2vm_ioctl(batch.domain, nr, &batch.args);

	if (r || !batch.args.nr)
		return r;
	TEST_ASSERT(batch.args.nr < before, "nothing done, and no error");
	return -EAGAIN;
}

static int map_batch(struct env *e)
{
	return batch_call(KVM_VM2VM_MAP_BATCH);
}

static int unmap_batch(struct env *e)
{
	return batch_call(KVM_VM2VM_UNMAP_BATCH);
}

/* The first @done pages are as they should become, the others as they were. */
static void batch_check(unsigned int done, bool mapped)
{
	struct kvm_vm2vm_query q;
	unsigned int i;
	bool found;

	for (i = 0; i < BATCH; i++) {
		found = !__vm2vm_query(batch.domain, batch_iova(i), &q) && q.iova == batch_iova(i);
		TEST_ASSERT(found == (mapped == (i < done)), "%u of %u done, and %u is %s", done,
			    BATCH, i, found ? "mapped" : "not mapped");
	}
}

static void map_batch_check(struct env *e)
{
	batch_check(BATCH - batch.args.nr, true);
}

static void unmap_batch_check(struct env *e)
{
	batch_check(BATCH - batch.args.nr, false);
}

static void map_batch_undo(struct env *e)
{
	vm2vm_unmap(batch.domain, PEER_IOVA, 2 * BATCH * 4096);
}

static void unmap_batch_undo(struct env *e)
{
	unsigned int i;

	for (i = 0; i < BATCH; i++)
		vm2vm_map(batch.domain, batch_iova(i), PEER_OWNER_GPA, 4096, VM2VM_RW);
}

static const struct inject_op map_batch_op = {
	.name = "map-batch",
	.errs = ERR(ENOMEM) | ERR(EFAULT) | ERR(EAGAIN),
	.prepare = map_batch_prepare,
	.call = map_batch,
	.unchanged = map_batch_check,
	.changed = map_batch_check,
	.undo = map_batch_undo,
};

static const struct inject_op unmap_batch_op = {
	.name = "unmap-batch",
	.errs = ERR(ENOMEM) | ERR(EFAULT) | ERR(EAGAIN),
	.prepare = unmap_batch_prepare,
	.call = unmap_batch,
	.unchanged = unmap_batch_check,
	.changed = unmap_batch_check,
	.undo = unmap_batch_undo,
};

/* KVM_VM2VM_QUERY, of what unmap_batch_undo() maps. */
static struct kvm_vm2vm_query query;

static int query_call(struct env *e)
{
	return __vm2vm_query(batch.domain, batch_iova(1), &query);
}

static void query_unchanged(struct env *e)
{
	TEST_ASSERT(!query.size, "it has failed, and tells of a mapping");
}

static void query_done(struct env *e)
{
	TEST_ASSERT(query.iova == batch_iova(1) && query.gpa == PEER_OWNER_GPA &&
		    query.size == 4096 && query.flags == VM2VM_RW, "it is another mapping");
}

static const struct inject_op query_op = {
	.name = "query",
	.errs = ERR(EFAULT),
	.call = query_call,
	.unchanged = query_unchanged,
	.changed = query_done,
};

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
	ssize_t r = read(miss.domain, &miss.record, sizeof(miss.record));

	return r < 0 ? -errno : r;
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

#endif /* SELFTEST_KVM_VM2VM_INJECT_MORE_H */
