// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: wrong use of VMFUNC, and windows seen from the wrong view.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>

#include "views.h"
#include "vm2vm_access.h"

/* Functions other than 0, beside 1 to 63; those above do not even exit. */
static const uint64_t wrong_functions[] = {
	64, 65, 127, 255, 256, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
};

/* Views that there are not, if 1 is the only one. */
static const uint64_t wrong_views[] = {
	2, 3, 7, 64, 255, 256, 257, 510, 511,
	512, 513, 1023, 1024, 1025, 0x8001, 0x10000, 0x10001, 0x7fffffff, 0x80000000, 0x80000001,
	0xfffffe00, 0xfffffe01, 0xffffffff,
};

/* Nothing has come of a wrong VMFUNC: the guest is where it was, and goes on. */
static void wrong_check(struct view_cpu *cpu, uint64_t function, uint64_t view, unsigned int now)
{
	uint8_t vector = view_vmfunc(cpu, function, view);

	TEST_ASSERT(vector == UD_VECTOR, "in view %u VMFUNC 0x%lx of view 0x%lx: exception %u",
		    now, function, view, vector);
	TEST_ASSERT(view_get(cpu) == now, "VMFUNC 0x%lx of view 0x%lx goes to view %u",
		    function, view, view_get(cpu));
}

static void wrong_all(struct view_cpu *cpu, unsigned int now)
{
	unsigned int i, view;

	for (view = 0; view < 2; view++) {
		for (i = 1; i < 64; i++)
			wrong_check(cpu, i, view, now);
		for (i = 0; i < ARRAY_SIZE(wrong_functions); i++)
			wrong_check(cpu, wrong_functions[i], view, now);
	}
	for (i = 0; i < ARRAY_SIZE(wrong_views); i++) {
		wrong_check(cpu, 0, wrong_views[i], now);
		wrong_check(cpu, 1, wrong_views[i], now);
	}
}

TEST_F_TIMEOUT(views, wrong, 300)
{
	struct view_cpu *cpu = &self->w.cpu[0];

	/* Before the first transient link there are no views; a plain link makes none. */
	wrong_all(cpu, 0);
	wrong_check(cpu, 0, 0, 0);
	wrong_check(cpu, 0, 1, 0);
	vm2vm_link(self->w.vm, self->w.owner[1].domain, 10, PEER_WINDOW, PEER_IOVA, 4096, 0);
	wrong_check(cpu, 0, 0, 0);
	wrong_check(cpu, 0, 1, 0);

	view_link(&self->w, 1, 0, 0, 1, 0);
	wrong_all(cpu, 0);
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	view_enter(cpu, 1);
	wrong_all(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	EXPECT_EQ(1, cpu->mmio);

	/* A view whose link is gone is none any more; view 0 stays. */
	vm2vm_unlink(self->w.vm, VIEW_SLOT(1));
	view_enter(cpu, 0);
	wrong_all(cpu, 0);
	wrong_check(cpu, 0, 1, 0);
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
}

/* Only the lower halves of the registers count, where VMFUNC exits and where not. */
TEST_F(views, registers)
{
	const uint64_t high = 0xfedcba9800000000;
	struct view_cpu *cpu = &self->w.cpu[0];
	unsigned int i;

	view_link(&self->w, 1, 0, 0, 1, 0);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, view_vmfunc(cpu, high, high + 1));
		EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
		EXPECT_EQ(0, view_vmfunc(cpu, high, high));
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
		wrong_check(cpu, high + 1, high + 1, 0);
		wrong_check(cpu, high, high + 2, 0);
		EXPECT_EQ(0, cpu->cmd->bad);
	}
}

/* An unapproved access to a link with EXIT tells the VMM, inside and outside. */
static void wrong_exit(struct view_cpu *cpu, uint64_t page)
{
	struct kvm_run *run = cpu->vcpu->run;

	cpu->cmd->op = VIEW_READ;
	cpu->cmd->gva = VIEW_GPA(1) + page * 4096;
	TEST_ASSERT_EQ(__view_run(cpu), -EFAULT);
	TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ((uint64_t)run->memory_fault.gpa, VIEW_GPA(1) + page * 4096);
	TEST_ASSERT_EQ((uint64_t)run->memory_fault.size, 4096ul);
	/* Again it is the same. */
	TEST_ASSERT_EQ(__view_run(cpu), -EFAULT);
	TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_MEMORY_FAULT);
}

TEST_F(views, exit)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	int domain = self->w.owner[0].domain;

	view_link(&self->w, 1, 0, 0, 2, KVM_VM2VM_LINK_EXIT);
	wrong_exit(cpu, 0);
	/* What helps is to be in the view. */
	view_set(cpu, 1);
	EXPECT_EQ(0, __view_run(cpu));
	EXPECT_EQ(VIEW_VALUE(0, 0), cpu->cmd->val);

	vm2vm_unmap(domain, PEER_IOVA, self->w.owner[0].size);
	wrong_exit(cpu, 1);
	EXPECT_EQ(1, view_get(cpu));
	vm2vm_map(domain, PEER_IOVA + 4096, PEER_OWNER_GPA + 5 * 4096, 4096, VM2VM_RW);
	EXPECT_EQ(0, __view_run(cpu));
	EXPECT_EQ(VIEW_VALUE(0, 5), cpu->cmd->val);
	view_enter(cpu, 0);
	wrong_exit(cpu, 1);
	EXPECT_EQ(0, cpu->mmio);
}

/* Start the guest's read of a page, which misses. */
static void wrong_miss(struct view_cpu *cpu, int domain, uint64_t page, pthread_t *thread)
{
	struct pollfd poll_domain = { .fd = domain, .events = POLLIN };
	struct kvm_vm2vm_miss miss;

	cpu->cmd->op = VIEW_READ;
	cpu->cmd->gva = VIEW_GPA(1) + page * 4096;
	pthread_create(thread, NULL, view_thread, cpu);
	TEST_ASSERT(poll(&poll_domain, 1, 20000) == 1, "no miss");
	TEST_ASSERT_EQ(read(domain, &miss, sizeof(miss)), (ssize_t)sizeof(miss));
	TEST_ASSERT_EQ((uint64_t)miss.iova, PEER_IOVA + page * 4096);
	TEST_ASSERT_EQ(miss.flags, (uint32_t)KVM_VM2VM_MAP_READ);
}

/* Inside the view a miss waits; outside there is nothing to wait for. */
TEST_F(views, wait)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	struct view_owner *o = &self->w.owner[0];
	struct kvm_vm2vm_miss miss;
	pthread_t thread;
	void *r;

	view_owner_free(o);
	view_owner_init(o, 0, VIEW_PAGES, KVM_VM2VM_DOMAIN_MISSES);
	TEST_ASSERT(!fcntl(o->domain, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
	view_link(&self->w, 1, 0, 0, VIEW_PAGES, KVM_VM2VM_LINK_WAIT);
	vm2vm_unmap(o->domain, PEER_IOVA, o->size);

	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	EXPECT_EQ(1, cpu->mmio);
	EXPECT_EQ(-1, read(o->domain, &miss, sizeof(miss)));
	EXPECT_EQ(EAGAIN, errno);

	view_enter(cpu, 1);
	wrong_miss(cpu, o->domain, 3, &thread);
	EXPECT_EQ(1, vm2vm_refuse(o->domain, PEER_IOVA, o->size));
	pthread_join(thread, &r);
	EXPECT_EQ(NULL, r);
	EXPECT_EQ(VIEW_HOLE, cpu->cmd->val);
	EXPECT_EQ(2, cpu->mmio);

	wrong_miss(cpu, o->domain, 3, &thread);
	vm2vm_map(o->domain, PEER_IOVA, PEER_OWNER_GPA, o->size, VM2VM_RW);
	pthread_join(thread, &r);
	EXPECT_EQ(NULL, r);
	EXPECT_EQ(VIEW_VALUE(0, 3), cpu->cmd->val);
	EXPECT_EQ(1, view_get(cpu));

	/* To a page that is approved, from the wrong view. */
	view_enter(cpu, 0);
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 3 * 4096));
	EXPECT_EQ(3, cpu->mmio);
	EXPECT_EQ(-1, read(o->domain, &miss, sizeof(miss)));
}

/* A read-only link, and code: no view gives more than the link does. */
TEST_F(views, readonly)
{
	struct view_cpu *cpu = &self->w.cpu[0];

	view_link(&self->w, 1, 0, 0, 1, KVM_VM2VM_LINK_READONLY);
	view_enter(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	EXPECT_EQ(0, cpu->mmio);
	view_write(cpu, 1, 0, 1);
	EXPECT_EQ(1, cpu->mmio);
	EXPECT_TRUE(cpu->mmio_write);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	EXPECT_EQ(VIEW_VALUE(0, 0), *view_word(&self->w.owner[0], 0));

	/* The page has a RET, and that is not executed. */
	*(uint8_t *)self->w.owner[0].mem = 0xc3;
	view_access(&self->w)->op = ACCESS_RUN;
	view_access(&self->w)->dst = VIEW_GPA(1);
	cpu->cmd->op = VIEW_ACCESS;
	EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR, __view_run(cpu));
}
