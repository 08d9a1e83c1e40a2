// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: what is refused, by which errno, and that nothing comes of it; and
 * the view as part of a vCPU's state.
 */
#include "apic.h"
#include "views.h"

#define ABI_SPAN	KVM_VM2VM_VIEW_SPAN

/* One thing is wrong with each of these; the first page of owner 0 is what they show. */
static const struct abi_link {
	const char *what;
	uint32_t flags;
	uint32_t view;
	uint64_t gpa;
	uint64_t size;
	int errno_;
} abi_links[] = {
	{ "view 0", KVM_VM2VM_LINK_TRANSIENT, 0, VIEW_GPA(9), 4096, EINVAL },
	{ "view 512", KVM_VM2VM_LINK_TRANSIENT, 512, VIEW_GPA(9), 4096, EINVAL },
	{ "view 513", KVM_VM2VM_LINK_TRANSIENT, 513, VIEW_GPA(9), 4096, EINVAL },
	{ "view 65537", KVM_VM2VM_LINK_TRANSIENT, 65537, VIEW_GPA(9), 4096, EINVAL },
	{ "view 2^31 + 1", KVM_VM2VM_LINK_TRANSIENT, 1u << 31 | 1, VIEW_GPA(9), 4096, EINVAL },
	{ "view 2^32 - 1", KVM_VM2VM_LINK_TRANSIENT, ~0u, VIEW_GPA(9), 4096, EINVAL },
	{ "a view, and not transient", 0, 9, VIEW_GPA(9), 4096, EINVAL },
	{ "a view, and WAIT", KVM_VM2VM_LINK_WAIT, 9, VIEW_GPA(9), 4096, EINVAL },
	{ "gpa 0", KVM_VM2VM_LINK_TRANSIENT, 9, 0, 4096, EINVAL },
	{ "low gpa", KVM_VM2VM_LINK_TRANSIENT, 9, 0x100000000ull, 4096, EINVAL },
	{ "gpa one page too low", KVM_VM2VM_LINK_TRANSIENT, 9, ABI_SPAN - 4096, 4096, EINVAL },
	{ "begins too low", KVM_VM2VM_LINK_TRANSIENT, 9, ABI_SPAN - 4096, 8192, EINVAL },
	{ "gpa 2^48", KVM_VM2VM_LINK_TRANSIENT, 9, 1ull << 48, 4096, EINVAL },
	{ "ends above 2^48", KVM_VM2VM_LINK_TRANSIENT, 9, (1ull << 48) - 4096, 8192, EINVAL },
	{ "gpa 2^57", KVM_VM2VM_LINK_TRANSIENT, 9, 1ull << 57, 4096, EINVAL },
	{ "not aligned", KVM_VM2VM_LINK_TRANSIENT, 9, VIEW_GPA(9) + 8, 4096, EINVAL },
	{ "no size", KVM_VM2VM_LINK_TRANSIENT, 9, VIEW_GPA(9), 0, EINVAL },
	{ "unknown flag", KVM_VM2VM_LINK_TRANSIENT | BIT(5), 9, VIEW_GPA(9), 4096, EINVAL },
	{ "unknown flag 2^31", KVM_VM2VM_LINK_TRANSIENT | 1u << 31, 9, VIEW_GPA(9), 4096, EINVAL },
	{ "EXIT and WAIT", KVM_VM2VM_LINK_TRANSIENT | KVM_VM2VM_LINK_EXIT | KVM_VM2VM_LINK_WAIT,
	  9, VIEW_GPA(9), 4096, EINVAL },
	{ "no misses to wait for", KVM_VM2VM_LINK_TRANSIENT | KVM_VM2VM_LINK_WAIT,
	  9, VIEW_GPA(9), 4096, EINVAL },
	{ "the view has a link", KVM_VM2VM_LINK_TRANSIENT, 1, VIEW_GPA(9), 4096, EEXIST },
	{ "a window is there", KVM_VM2VM_LINK_TRANSIENT, 9, VIEW_GPA(1), 4096, EEXIST },
	{ "reaches into a window", KVM_VM2VM_LINK_TRANSIENT, 9, VIEW_GPA(1) - 4096, 8192, EEXIST },
	{ "plain, in the span", 0, 0, VIEW_GPA(9), 4096, EEXIST },
	{ "plain, last page of the span", 0, 0, 2 * ABI_SPAN - 4096, 4096, EEXIST },
	{ "plain, ends in the span", 0, 0, ABI_SPAN - 4096, 8192, EEXIST },
	{ "plain, begins in the span", 0, 0, 2 * ABI_SPAN - 4096, 8192, EEXIST },
};

/* What a link must give: where the CPU has no addresses, that it has not comes first. */
static int abi_errno(const struct abi_link *l)
{
	uint64_t end = 1ull << this_cpu_property(X86_PROPERTY_MAX_PHY_ADDR);

	return l->gpa + l->size > end ? EINVAL : l->errno_;
}

/* The links before are as they were, and no other has come. */
static void abi_unchanged(struct view *w, const char *what)
{
	struct view_cpu *cpu = &w->cpu[0];

	view_enter(cpu, 1);
	TEST_ASSERT(view_read(cpu, 1, 0) == VIEW_VALUE(0, 0), "%s: the link is not there", what);
	TEST_ASSERT(view_vmfunc(cpu, 0, 9) == UD_VECTOR, "%s: there is a view", what);
	view_enter(cpu, 0);
}

static int abi_link(struct view *w, const struct abi_link *l)
{
	struct kvm_vm2vm_link args = {
		.domain_fd = w->owner[0].domain, .slot = VIEW_SLOT(9), .gpa = l->gpa,
		.iova = PEER_IOVA, .size = l->size, .flags = l->flags, .view = l->view,
	};

	return vm2vm_ioctl(w->vm->fd, KVM_VM2VM_LINK, &args);
}

TEST_F_TIMEOUT(views, abi, 300)
{
	struct abi_link good = { "good", KVM_VM2VM_LINK_TRANSIENT, 9, VIEW_GPA(9), 4096, 0 };
	struct view *w = &self->w;
	unsigned int i;
	int r;

	view_link(w, 1, 0, 0, 2, 0);
	view_map_window(w, 9);
	for (i = 0; i < ARRAY_SIZE(abi_links); i++) {
		r = abi_link(w, &abi_links[i]);
		EXPECT_EQ(-abi_errno(&abi_links[i]), r) {
			TH_LOG("%s: %d", abi_links[i].what, r);
		}
		abi_unchanged(w, abi_links[i].what);
	}
	EXPECT_EQ(-ENOENT, __vm2vm_unlink(w->vm, VIEW_SLOT(9)));
	EXPECT_EQ(-EINVAL, __vm2vm_unlink(w->vm, 0));

	/* What was good about them is so. */
	EXPECT_EQ(0, abi_link(w, &good));
	view_enter(&w->cpu[0], 9);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(&w->cpu[0], 9, 0));
	/* A number is free once its link is gone, and so is a place. */
	vm2vm_unlink(w->vm, VIEW_SLOT(9));
	good.view = 10;
	EXPECT_EQ(0, abi_link(w, &good));
	EXPECT_EQ(UD_VECTOR, view_vmfunc(&w->cpu[0], 0, 9));
	view_enter(&w->cpu[0], 10);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(&w->cpu[0], 9, 0));
}

static int abi_memslot(struct view *w, uint64_t gpa, void *mem, uint64_t size)
{
	return __vm_set_user_memory_region(w->vm, 50, 0, gpa, size, mem) ? -errno : 0;
}

/* A span has transient windows, or it has other memory: whichever comes first. */
TEST_F(views, spans)
{
	struct view *w = &self->w;
	void *mem = peer_mmap(PEER_SIZE_2M, 0);
	uint64_t far = 2 * ABI_SPAN - PEER_SIZE_2M;	/* in the first span, at its end */

	/* Memory first: no window in its span, wherever. */
	EXPECT_EQ(0, abi_memslot(w, far, mem, 4096));
	EXPECT_EQ(-EEXIST, __view_link(w, 1, w->owner[0].domain, PEER_IOVA, 4096, 0));
	EXPECT_EQ(0, abi_memslot(w, far, mem, 0));
	vm2vm_link(w->vm, w->owner[1].domain, 50, far, PEER_IOVA, 4096, 0);
	EXPECT_EQ(-EEXIST, __view_link(w, 1, w->owner[0].domain, PEER_IOVA, 4096, 0));
	vm2vm_unlink(w->vm, 50);

	/* The window first. */
	view_link(w, 1, 0, 0, 1, 0);
	EXPECT_EQ(-EEXIST, abi_memslot(w, far, mem, 4096));
	EXPECT_EQ(-EEXIST, abi_memslot(w, VIEW_GPA(1) + 4096, mem, 4096));
	EXPECT_EQ(-EEXIST, abi_memslot(w, VIEW_GPA(1), mem, 4096));
	EXPECT_EQ(-EEXIST, abi_memslot(w, ABI_SPAN - 4096, mem, 8192));
	EXPECT_EQ(-EEXIST, __vm2vm_link(w->vm, w->owner[1].domain, 50, far, PEER_IOVA, 4096, 0));
	/* Next to the span is another span. */
	EXPECT_EQ(0, abi_memslot(w, ABI_SPAN - PEER_SIZE_2M, mem, PEER_SIZE_2M));
	view_enter(&w->cpu[0], 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(&w->cpu[0], 1, 0));
	EXPECT_EQ(0, abi_memslot(w, ABI_SPAN - PEER_SIZE_2M, mem, 0));

	/* Of other windows there may be as many as there is room for. */
	view_link(w, 2, 1, 0, 1, 0);
	vm2vm_unlink(w->vm, VIEW_SLOT(1));
	EXPECT_EQ(-EEXIST, abi_memslot(w, far, mem, 4096));
	vm2vm_unlink(w->vm, VIEW_SLOT(2));
	EXPECT_EQ(0, abi_memslot(w, far, mem, 4096));
	EXPECT_EQ(-EEXIST, __view_link(w, 1, w->owner[0].domain, PEER_IOVA, 4096, 0));
}

/* GET_VIEW and SET_VIEW. */
TEST_F(views, get_set)
{
	struct view *w = &self->w;
	struct view_cpu *cpu = &w->cpu[0];
	struct kvm_vm2vm_view args = {};
	unsigned int i;

	/* Before there is any view. */
	EXPECT_EQ(0, view_get(cpu));
	EXPECT_EQ(0, __view_set(cpu, 0));
	EXPECT_EQ(-ENOENT, __view_set(cpu, 1));
	view_link(w, 1, 0, 0, 1, 0);
	view_link(w, 2, 1, 0, 1, 0);

	EXPECT_EQ(0, __view_set(cpu, 2));
	EXPECT_EQ(-ENOENT, __view_set(cpu, 3));
	EXPECT_EQ(-ENOENT, __view_set(cpu, KVM_VM2VM_NR_VIEWS - 1));
	EXPECT_EQ(-EINVAL, __view_set(cpu, KVM_VM2VM_NR_VIEWS));
	EXPECT_EQ(-EINVAL, __view_set(cpu, KVM_VM2VM_NR_VIEWS + 1));
	EXPECT_EQ(-EINVAL, __view_set(cpu, 0x10001));
	EXPECT_EQ(-EINVAL, __view_set(cpu, ~0u));
	args.view = 1;
	for (i = 0; i < 32; i++) {
		args.flags = 1u << i;
		EXPECT_EQ(-EINVAL, vm2vm_ioctl(cpu->vcpu->fd, KVM_VM2VM_SET_VIEW, &args));
	}
	/* GET_VIEW reads nothing, and says all. */
	memset(&args, 0xff, sizeof(args));
	EXPECT_EQ(0, __view_get(cpu, &args));
	EXPECT_EQ(2, args.view);
	EXPECT_EQ(0, args.flags);
	for (i = 0; i < ARRAY_SIZE(args.reserved); i++)
		EXPECT_EQ(0, args.reserved[i]);
	args.view = 1;
	for (i = 0; i < ARRAY_SIZE(args.reserved); i++) {
		args.reserved[i] = 1ull << 63 >> i;
		EXPECT_EQ(-EINVAL, vm2vm_ioctl(cpu->vcpu->fd, KVM_VM2VM_SET_VIEW, &args));
		args.reserved[i] = 0;
	}
	EXPECT_EQ(-EFAULT, vm2vm_ioctl(cpu->vcpu->fd, KVM_VM2VM_SET_VIEW, (void *)8));
	EXPECT_EQ(-EFAULT, vm2vm_ioctl(cpu->vcpu->fd, KVM_VM2VM_GET_VIEW, (void *)8));
	EXPECT_GT(0, vm2vm_ioctl(w->vm->fd, KVM_VM2VM_GET_VIEW, &args));

	/* Nothing of that has moved it, and it has not run yet. */
	EXPECT_EQ(2, view_get(cpu));
	EXPECT_EQ(VIEW_VALUE(1, 0), view_read(cpu, 2, 0));
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	EXPECT_EQ(1, cpu->mmio);
}

/* The vCPU stops and goes on inside; its view is what the VMM says. */
TEST_F(views, state)
{
	struct view *w = &self->w;
	struct view_cpu *cpu = &w->cpu[0];
	unsigned int i, v;

	view_link(w, 1, 0, 0, 1, 0);
	view_link(w, 2, 1, 0, 1, 0);
	/* From its first instruction on. */
	view_set(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	for (i = 0; i < 9; i++) {
		v = i % 3;
		view_set(cpu, v);
		EXPECT_EQ(v, view_get(cpu));
		EXPECT_EQ(v == 1 ? VIEW_VALUE(0, 0) : VIEW_HOLE, view_read(cpu, 1, 0));
		EXPECT_EQ(v == 2 ? VIEW_VALUE(1, 0) : VIEW_HOLE, view_read(cpu, 2, 0));
		EXPECT_EQ(v, view_get(cpu));
		/* The guest's own way is as good. */
		view_enter(cpu, 2);
		EXPECT_EQ(VIEW_VALUE(1, 0), view_read(cpu, 2, 0));
	}
	/* Several in a row: the last counts. */
	view_set(cpu, 1);
	view_set(cpu, 2);
	view_set(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
}

/* A link goes while the vCPU is stopped inside; a new one does not take its place. */
TEST_F(views, stopped_unlink)
{
	struct view *w = &self->w;
	struct view_cpu *cpu = &w->cpu[0];

	view_link(w, 1, 0, 0, 1, 0);
	view_enter(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	vm2vm_unlink(w->vm, VIEW_SLOT(1));
	EXPECT_EQ(0, view_get(cpu));
	ASSERT_EQ(0, __view_link(w, 1, w->owner[1].domain, PEER_IOVA, 4096, 0));
	EXPECT_EQ(0, view_get(cpu));
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	EXPECT_EQ(1, cpu->mmio);
	view_enter(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(1, 0), view_read(cpu, 1, 0));

	/* Of one whose view was set, and that has not run since, either. */
	view_set(cpu, 0);
	view_set(cpu, 1);
	vm2vm_unlink(w->vm, VIEW_SLOT(1));
	EXPECT_EQ(0, view_get(cpu));
	EXPECT_EQ(-ENOENT, __view_set(cpu, 1));
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
}

static void abi_init_guest(uint64_t id)
{
	x2apic_enable();
	x2apic_write_reg(APIC_ICR, id << 32 | APIC_INT_ASSERT | APIC_DM_INIT);
	GUEST_SYNC(0);
}

/* INIT, which another vCPU sends, takes a vCPU out of its view. */
TEST_F(views, init)
{
	struct view *w = &self->w;
	struct kvm_mp_state state;

	view_link(w, 1, 0, 0, 1, 0);
	view_add_cpu(w, view_guest);
	view_enter(&w->cpu[0], 1);
	view_enter(&w->cpu[1], 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(&w->cpu[1], 1, 0));
	vcpu_run_complete_io(w->cpu[0].vcpu);
	vcpu_run_complete_io(w->cpu[1].vcpu);

	vcpu_arch_set_entry_point(w->cpu[0].vcpu, abi_init_guest);
	vcpu_args_set(w->cpu[0].vcpu, 1, 1ul);
	EXPECT_EQ(0, __view_run(&w->cpu[0]));
	/* It is KVM_GET_MP_STATE that has it look at what came. */
	vcpu_mp_state_get(w->cpu[1].vcpu, &state);
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, state.mp_state);
	EXPECT_EQ(0, view_get(&w->cpu[1]));
	EXPECT_EQ(1, view_get(&w->cpu[0]));
}

#define MEMORY_ROUNDS	5
#define MEMORY_TIMES	300u

/*
 * What a vCPU has of a view, a page of page tables, goes with the link: kmemleak does not know of
 * it.  Others use memory, too, so not one round says that it does not, but all of them.
 */
TEST_F_TIMEOUT(views, memory, 600)
{
	struct view *w = &self->w;
	unsigned int i, round;
	uint64_t before;

	view_map_window(w, 1);
	for (round = 0; round < MEMORY_ROUNDS; round++) {
		before = vm2vm_free_memory();
		for (i = 0; i < MEMORY_TIMES; i++) {
			ASSERT_EQ(0, __view_link(w, 1, w->owner[0].domain, PEER_IOVA, 4096, 0));
			view_enter(&w->cpu[0], 1);
			vm2vm_unlink(w->vm, VIEW_SLOT(1));
		}
		if (vm2vm_free_memory() + MEMORY_TIMES * 4096 / 2 > before)
			break;
	}
	EXPECT_LT(round, MEMORY_ROUNDS);
}
