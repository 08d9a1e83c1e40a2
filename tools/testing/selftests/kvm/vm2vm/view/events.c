// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: interrupts inside views, several vCPUs in several views, and views
 * of a guest in ring 3.
 */
#include <pthread.h>

#include "apic.h"
#include "vm2vm_user.h"
#include "views.h"

/* Interrupts by who causes them: the guest's timer, the guest (two), the VMM. */
enum event { EVENT_TIMER, EVENT_IPI, EVENT_NMI, EVENT_MSI, EVENTS };

#define EVENT_VECTOR(e)	(0x40 + (e))
#define EVENT_PERIOD	2000000		/* ns: emulators are slow to take an interrupt */
#define EVENT_LIMIT	100		/* passes for each that is wanted, then it gives up */

/**
 * struct events - what came to the guest; in its memory
 * @inside: the guest is in view 1, and its window is to be there
 * @want: how many of each are to come inside
 * @count: how many came
 * @within: and of these, inside
 * @bad: how often the window was not there
 * @passes: how often the guest was inside
 */
struct events {
	uint64_t inside;
	uint64_t want;
	uint64_t count[EVENTS];
	uint64_t within[EVENTS];
	uint64_t bad;
	uint64_t passes;
};

static struct events events;

static void events_look(void)
{
	if (READ_ONCE(*(uint64_t *)VIEW_GPA(1)) != VIEW_VALUE(0, 0))
		events.bad++;
}

/* The handlers run in the view, and in the guest's own memory. */
static void events_arrived(enum event e)
{
	WRITE_ONCE(events.count[e], events.count[e] + 1);
	if (READ_ONCE(events.inside)) {
		events_look();
		WRITE_ONCE(events.within[e], events.within[e] + 1);
	}
}

static void events_irq(struct ex_regs *regs)
{
	events_arrived(regs->vector - EVENT_VECTOR(0));
	x2apic_write_reg(APIC_EOI, 0);
}

static void events_nmi(struct ex_regs *regs)
{
	events_arrived(EVENT_NMI);
}

static bool events_enough(void)
{
	unsigned int e;

	for (e = 0; e < EVENTS; e++)
		if (READ_ONCE(events.within[e]) < events.want)
			return false;
	return true;
}

static void events_pass(uint64_t id)
{
	unsigned int i;

	vm2vm_view_enter(1);
	WRITE_ONCE(events.inside, 1);
	events_look();
	switch (events.passes++ % 4) {
	case 0:
		x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT | APIC_DM_FIXED |
				 EVENT_VECTOR(EVENT_IPI));
		break;
	case 1:
		x2apic_write_reg(APIC_ICR, id << 32 | APIC_INT_ASSERT | APIC_DM_NMI);
		break;
	}
	for (i = 0; i < 100; i++)
		events_look();
	WRITE_ONCE(events.inside, 0);
	vm2vm_view_leave();
}

static void events_guest(void)
{
	uint64_t id;

	x2apic_enable();
	id = x2apic_read_reg(APIC_ID);
	x2apic_write_reg(APIC_TDCR, 0xb);	/* divide by 1: KVM's bus has 1 GHz */
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | EVENT_VECTOR(EVENT_TIMER));
	x2apic_write_reg(APIC_TMICT, EVENT_PERIOD);
	peer_guest_interruptible();
	while (events.passes < events.want * EVENT_LIMIT && !events_enough())
		events_pass(id);
	x2apic_write_reg(APIC_TMICT, 0);

	/* The VMM's NMIs find the guest stopped inside. */
	vm2vm_view_enter(1);
	WRITE_ONCE(events.inside, 1);
	for (;;)
		GUEST_SYNC(0);
}

static void events_check(struct events *ev, enum event e, uint64_t want)
{
	TEST_ASSERT(READ_ONCE(ev->within[e]) >= want,
		    "of interrupt %u came %lu, inside %lu of %lu, in %lu passes", e,
		    READ_ONCE(ev->count[e]), READ_ONCE(ev->within[e]), want,
		    READ_ONCE(ev->passes));
}

/* Fail if nothing comes to the guest for 20 seconds. */
static void events_patience(struct events *ev, struct timespec *start, uint64_t *then)
{
	struct timespec now;
	uint64_t total = 0;
	unsigned int e;

	for (e = 0; e < EVENTS; e++)
		total += READ_ONCE(ev->within[e]);
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (total != *then || !start->tv_sec) {
		*then = total;
		*start = now;
	}
	if (now.tv_sec - start->tv_sec < 20)
		return;
	for (e = 0; e < EVENTS; e++)
		events_check(ev, e, ev->want);
}

static void events_run(struct view *w, struct events *ev)
{
	struct kvm_msi msi = {
		.address_lo = APIC_DEFAULT_GPA, .data = EVENT_VECTOR(EVENT_MSI),
	};
	uint64_t count = 0, then = 0, passes = 0;
	struct timespec start = {};
	unsigned int i = 0;
	pthread_t thread;
	void *r = NULL;

	pthread_create(&thread, NULL, view_thread, &w->cpu[0]);
	while (pthread_tryjoin_np(thread, &r)) {
		if (!(++i % 1024))
			events_patience(ev, &start, &then);
		/* The APIC has no timer running before it is on. */
		if (!READ_ONCE(ev->count[EVENT_TIMER]) || READ_ONCE(ev->count[EVENT_MSI]) < count)
			continue;
		/* No more than one in a pass, or nothing else gets its turn. */
		if (READ_ONCE(ev->inside) && READ_ONCE(ev->passes) != passes) {
			passes = READ_ONCE(ev->passes);
			TEST_ASSERT(__vm_ioctl(w->vm, KVM_SIGNAL_MSI, &msi) > 0, "KVM_SIGNAL_MSI");
			count++;
		}
	}
	TEST_ASSERT(!r, "the guest ends: %ld", (long)r);
}

/* Interrupts and NMIs come inside the view, and go back into it. */
TEST_F_TIMEOUT(views, interrupts, 900)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	struct events *ev = addr_gva2hva(self->w.vm, (uintptr_t)&events);
	unsigned int i, e;
	uint64_t nmis;

	view_link(&self->w, 1, 0, 0, 1, 0);
	vcpu_arch_set_entry_point(cpu->vcpu, events_guest);
	for (e = 0; e < EVENTS; e++)
		vm_install_exception_handler(self->w.vm, EVENT_VECTOR(e), events_irq);
	vm_install_exception_handler(self->w.vm, NMI_VECTOR, events_nmi);
	ev->want = vm2vm_trials(20) * 50;
	events_run(&self->w, ev);
	for (e = 0; e < EVENTS; e++)
		events_check(ev, e, ev->want);
	EXPECT_EQ(0, ev->bad);

	for (i = 0; i < 50; i++) {
		nmis = ev->within[EVENT_NMI];
		ASSERT_EQ(1, view_get(cpu));
		vcpu_ioctl(cpu->vcpu, KVM_NMI, NULL);
		ASSERT_EQ(0, __view_run(cpu));
		ASSERT_EQ(nmis + 1, ev->within[EVENT_NMI]);
	}
	EXPECT_EQ(0, ev->bad);
	EXPECT_EQ(0, cpu->mmio);
}

/*
 * Each vCPU is in its own view, and after a while in the other's: view v is owner v-1.
 * In cmd->val is how many holes it has looked at.
 */
static void two_guest(struct view_cmd *c)
{
	uint64_t i, v, *own, *other;

	peer_guest_interruptible();
	for (i = 0; i < c->count; i++) {
		v = 1 + (c->view + i / 64) % 2;
		own = (uint64_t *)VIEW_GPA(v);
		other = (uint64_t *)VIEW_GPA(3 - v);
		vm2vm_view_enter(v);
		if (READ_ONCE(own[0]) != VIEW_VALUE(v - 1, 0))
			c->bad++;
		WRITE_ONCE(own[8 + c->view], i);
		if (i % 16 == 0) {
			c->val++;
			if (READ_ONCE(other[0]) != VIEW_HOLE)
				c->bad++;
		}
		if (READ_ONCE(own[8 + c->view]) != i)
			c->bad++;
		vm2vm_view_leave();
		if (i % 16 == 8) {
			c->val += 2;
			if (READ_ONCE(own[0]) != VIEW_HOLE || READ_ONCE(other[0]) != VIEW_HOLE)
				c->bad++;
		}
	}
	GUEST_SYNC(0);
}

TEST_F_TIMEOUT(views, two, 900)
{
	struct view *w = &self->w;
	unsigned int count = vm2vm_trials(20) * 256, i;
	pthread_t threads[VIEW_CPUS];
	void *r;

	view_link(w, 1, 0, 0, 1, 0);
	view_link(w, 2, 1, 0, 1, 0);
	vcpu_arch_set_entry_point(w->cpu[0].vcpu, two_guest);
	view_add_cpu(w, two_guest);
	for (i = 0; i < VIEW_CPUS; i++) {
		w->cpu[i].cmd->view = i;
		w->cpu[i].cmd->count = count;
		pthread_create(&threads[i], NULL, view_thread, &w->cpu[i]);
	}
	for (i = 0; i < VIEW_CPUS; i++) {
		pthread_join(threads[i], &r);
		EXPECT_EQ(NULL, r);
		EXPECT_EQ(0, w->cpu[i].cmd->bad);
		/* Each look at a hole is an exit, and nothing else is. */
		EXPECT_EQ(count / 16 * 3, w->cpu[i].cmd->val);
		EXPECT_EQ(w->cpu[i].cmd->val, w->cpu[i].mmio);
		/* The last turn of the vCPU in its own view. */
		EXPECT_EQ(count - 65, *view_word(&w->owner[i], (8 + i) * 8));
		EXPECT_EQ(count - 1, *view_word(&w->owner[!i], (8 + i) * 8));
	}
}

/* Ring 3 does what ring 0 does, and goes where that does not go, neither. */
TEST_F_TIMEOUT(views, user, 300)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	uint64_t exits, idle, *page = view_word(&self->w.owner[0], 0);

	view_link(&self->w, 1, 0, 0, 1, 0);
	view_link(&self->w, 2, 1, 0, 1, 0);
	guest_user_mode(self->w.vm, cpu->vcpu);
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	EXPECT_EQ(3, cpu->cmd->cpl);
	view_enter(cpu, 1);
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 2, 0));
	view_write(cpu, 1, 8, 77);
	EXPECT_EQ(77, page[1]);

	EXPECT_EQ(UD_VECTOR, view_vmfunc(cpu, 1, 0));
	EXPECT_EQ(UD_VECTOR, view_vmfunc(cpu, 0, 3));
	EXPECT_EQ(UD_VECTOR, view_vmfunc(cpu, 0, KVM_VM2VM_NR_VIEWS));
	EXPECT_EQ(1, view_get(cpu));
	EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
	view_enter(cpu, 2);
	EXPECT_EQ(VIEW_VALUE(1, 0), view_read(cpu, 2, 0));
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	view_enter(cpu, 0);
	EXPECT_EQ(VIEW_HOLE, view_read(cpu, 2, 0));
	EXPECT_EQ(4, cpu->mmio);

	view_do_trips(cpu, 1, page, 200);
	exits = view_exits(cpu);
	view_do_trips(cpu, 1, page, 0);
	idle = view_exits(cpu) - exits;
	exits = view_exits(cpu);
	view_do_trips(cpu, 1, page, 1000);
	EXPECT_EQ(idle, view_exits(cpu) - exits);
	EXPECT_EQ(0, cpu->cmd->bad);
	EXPECT_EQ(1000, page[1]);
	EXPECT_EQ(4, cpu->mmio);
	EXPECT_EQ(3, cpu->cmd->cpl);
}
