// SPDX-License-Identifier: GPL-2.0
/* vm2vm_inject_test: the calls that take many ranges, and the one that only asks. */
#include "inject.h"

#define BATCH		4

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

static void batch_prepare(void *entries)
{
	unsigned int i;

	for (i = 0; i < BATCH; i++) {
		batch.maps[i] = (struct kvm_vm2vm_map) {
			.iova = mapping_iova(i), .gpa = PEER_OWNER_GPA, .size = 4096,
			.flags = VM2VM_RW,
		};
		batch.unmaps[i] = (struct kvm_vm2vm_unmap) {
			.iova = mapping_iova(i), .size = 4096,
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
		found = !__vm2vm_query(batch.domain, mapping_iova(i), &q) &&
			q.iova == mapping_iova(i);
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
		vm2vm_map(batch.domain, mapping_iova(i), PEER_OWNER_GPA, 4096, VM2VM_RW);
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
	.errs = ERR(EFAULT) | ERR(EAGAIN),
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
	return __vm2vm_query(batch.domain, mapping_iova(1), &query);
}

static void query_unchanged(struct env *e)
{
	TEST_ASSERT(!query.size, "it has failed, and tells of a mapping");
}

static void query_done(struct env *e)
{
	TEST_ASSERT(query.iova == mapping_iova(1) && query.gpa == PEER_OWNER_GPA &&
		    query.size == 4096 && query.flags == VM2VM_RW, "it is another mapping");
}

static const struct inject_op query_op = {
	.name = "query",
	.errs = ERR(EFAULT),
	.call = query_call,
	.unchanged = query_unchanged,
	.changed = query_done,
};

TEST_F_TIMEOUT(inject, batch_and_query, 300)
{
	struct env *e = &self->env;

	batch.domain = e->p.domain;
	inject(e, &map_batch_op);
	inject(e, &unmap_batch_op);
	unmap_batch_undo(e);
	inject(e, &query_op);
}
