// SPDX-License-Identifier: GPL-2.0
/* vm2vm_inject_test: transient links, and to be in their view. */
#include "inject.h"

#define VIEW_NR		300	/* takes several nodes of a tree */
#define VIEW_LINK_SLOT	200

/* A backend, a vCPU of it, and what it links. */
static struct {
	struct kvm_vm *vm;
	int vcpu;
	int domain;
} view;

static int view_link_call(struct env *e)
{
	struct kvm_vm2vm_link args = {
		.domain_fd = view.domain, .slot = VIEW_LINK_SLOT, .gpa = KVM_VM2VM_VIEW_SPAN,
		.iova = PEER_IOVA, .size = PG_SIZE_4K, .view = VIEW_NR,
		.flags = KVM_VM2VM_LINK_TRANSIENT,
	};

	return vm2vm_ioctl(view.vm->fd, KVM_VM2VM_LINK, &args);
}

static int view_set_to(struct env *e, unsigned int nr)
{
	struct kvm_vm2vm_view args = { .view = nr };

	return vm2vm_ioctl(view.vcpu, KVM_VM2VM_SET_VIEW, &args);
}

static int view_set_call(struct env *e)
{
	return view_set_to(e, VIEW_NR);
}

static unsigned int view_now(struct env *e)
{
	struct kvm_vm2vm_view args = {};

	TEST_ASSERT(!vm2vm_ioctl(view.vcpu, KVM_VM2VM_GET_VIEW, &args),
		    "KVM_VM2VM_GET_VIEW");
	return args.view;
}

static void view_unlink(struct env *e)
{
	vm2vm_unlink(view.vm, VIEW_LINK_SLOT);
}

static void view_has_no_link(struct env *e)
{
	TEST_ASSERT(view_set_call(e) == -ENOENT, "the view has a link");
}

static void view_has_link(struct env *e)
{
	TEST_ASSERT(view_link_call(e) == -EEXIST, "the view has no link");
}

static void view_is_0(struct env *e)
{
	TEST_ASSERT(!view_now(e), "the vCPU is in view %u", view_now(e));
}

static void view_is_set(struct env *e)
{
	TEST_ASSERT(view_now(e) == VIEW_NR, "the vCPU is in view %u", view_now(e));
}

static void view_set_0(struct env *e)
{
	TEST_ASSERT(!view_set_to(e, 0), "KVM_VM2VM_SET_VIEW 0");
}

static const struct inject_op view_link_op = {
	.name = "transient link",
	.errs = ERR(ENOMEM) | ERR(EFAULT),
	.call = view_link_call,
	.unchanged = view_has_no_link,
	.changed = view_has_link,
	.undo = view_unlink,
};

/* What it allocates stays until the vCPU runs, so only the first time it has to. */
static const struct inject_op view_set_op = {
	.name = "set view",
	.errs = ERR(EFAULT),
	.more_errs = ERR(ENOMEM),
	.call = view_set_call,
	.unchanged = view_is_0,
	.changed = view_is_set,
	.undo = view_set_0,
};

static void view_inject_all(struct env *e)
{
	inject(e, &view_link_op);
	view_unlink(e);
	TEST_ASSERT(!view_link_call(e), "KVM_VM2VM_LINK");
	inject(e, &view_set_op);
	view_set_0(e);
	view_unlink(e);
}

TEST_F_TIMEOUT(inject, views, 300)
{
	if (!(kvm_check_cap(KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_VIEW))
		SKIP(return, "no views here");
	view.vm = self->env.p.backend;
	view.vcpu = self->env.p.vcpu->fd;
	view.domain = self->env.p.domain;
	view_inject_all(&self->env);
}
