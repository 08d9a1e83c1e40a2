// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_inject_test: KVM_VM2VM_DOORBELL.
 *
 * The last doorbell of an address is not removed here: KVM then makes a smaller bus,
 * and if it has no memory for that it gives up the whole bus.  So do ioeventfds.
 */
#include <sys/eventfd.h>

#include "inject.h"

#define BELL_ROUTES	8

static struct {
	int vm;
	struct kvm_vm2vm_doorbell args;
	int32_t fds[BELL_ROUTES];
} bell;

static int bell_call(uint32_t flags)
{
	struct kvm_vm2vm_doorbell args = bell.args;

	args.flags |= flags;
	return vm2vm_ioctl(bell.vm, KVM_VM2VM_DOORBELL, &args);
}

static int bell_assign(struct env *e)
{
	return bell_call(0);
}

static int bell_deassign(struct env *e)
{
	return bell_call(KVM_VM2VM_DOORBELL_DEASSIGN);
}

static void bell_is_there(struct env *e)
{
	TEST_ASSERT(bell_assign(e) == -EEXIST, "there is no doorbell");
}

static void bell_is_not_there(struct env *e)
{
	TEST_ASSERT(bell_deassign(e) == -ENOENT, "there is a doorbell");
}

static void bell_undo_assign(struct env *e)
{
	TEST_ASSERT(!bell_deassign(e), "KVM_VM2VM_DOORBELL, deassign");
}

static void bell_undo_deassign(struct env *e)
{
	TEST_ASSERT(!bell_assign(e), "KVM_VM2VM_DOORBELL");
}

static struct inject_op bell_assign_op = {
	.errs = ERR(ENOMEM) | ERR(EFAULT),
	.call = bell_assign,
	.unchanged = bell_is_not_there,
	.changed = bell_is_there,
	.undo = bell_undo_assign,
};

static const struct inject_op bell_deassign_op = {
	.name = "doorbell, one of two, deassign",
	.errs = ERR(ENOMEM) | ERR(EFAULT),
	.call = bell_deassign,
	.unchanged = bell_is_there,
	.changed = bell_is_not_there,
	.undo = bell_undo_deassign,
};

/* The doorbell is there in the end. */
static void bell_inject(struct env *e, const char *name, struct kvm_vm2vm_doorbell args)
{
	bell.args = args;
	bell_assign_op.name = name;
	inject(e, &bell_assign_op);
}

static void bell_inject_all(struct env *e)
{
	const uint32_t pio = KVM_VM2VM_DOORBELL_PIO, match = KVM_VM2VM_DOORBELL_DATAMATCH;
	struct kvm_vm2vm_doorbell one = {
		.addr = 0x2000, .len = 4, .fd = eventfd(0, EFD_CLOEXEC), .flags = pio,
	};
	struct kvm_vm2vm_doorbell two = one, any = one, many = one;
	unsigned int i;

	TEST_ASSERT(one.fd >= 0, "eventfd: %s", strerror(errno));
	for (i = 0; i < BELL_ROUTES; i++)
		bell.fds[i] = one.fd;
	bell_inject(e, "doorbell, port", one);
	bell_undo_assign(e);

	any.flags = 0;
	any.len = 0;
	any.addr = 0xd0000000;
	bell_inject(e, "doorbell, memory, any length", any);
	bell_undo_assign(e);

	many.flags |= KVM_VM2VM_DOORBELL_ARRAY;
	many.fd = 0;
	many.fds = (uintptr_t)bell.fds;
	many.nr_fds = BELL_ROUTES;
	bell_inject(e, "doorbell, array", many);
	bell_undo_assign(e);

	/* One that stays, and another value, which takes several nodes of a tree. */
	one.flags |= match;
	bell.args = one;
	bell_undo_deassign(e);
	two.flags |= match;
	two.datamatch = 0xffffffff;
	bell_inject(e, "doorbell, one of two", two);
	inject(e, &bell_deassign_op);
	bell.args = one;
	bell_is_there(e);
	close(one.fd);
}

TEST_F_TIMEOUT(inject, doorbell, 300)
{
	bell.vm = self->env.p.backend->fd;
	bell_inject_all(&self->env);
}
