// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_doorbell_test: a bell remembers which vCPU its interrupt goes to, and steps over
 * the OUT by itself.  Neither may show.
 */
#include "doorbell.h"

#define TARGET_LDR	0xd0	/* the APIC's register of its logical destination */

static const struct bell_at target_ats[] = {
	{ true, BELL_PORT, 2 },
	{ false, BELL_MMIO, 4 },
};

/**
 * struct target_state - a local APIC, an MSI, and whether this comes
 * @id: of the APIC
 * @ldr: its logical destination, in the flat model
 * @dest: of the MSI, its lowest 8 bits
 * @dest_hi: the others
 * @logical: that is a logical destination
 * @lowest: the one that is least busy is to have it
 * @comes: see above
 */
struct target_state {
	u8 id;
	u8 ldr;
	u8 dest;
	u8 dest_hi;
	bool logical;
	bool lowest;
	bool comes;
};

/* Each is one change from the one before. */
static const struct target_state target_states[] = {
	{ .comes = true },
	{ .id = 5 },
	{ .id = 5, .dest = 5, .comes = true },
	{ .dest = 5 },
	{ .comes = true },
	{ .ldr = 1, .comes = true },
	{ .ldr = 1, .logical = true, .dest = 1, .comes = true },
	{ .ldr = 2, .logical = true, .dest = 1 },
	{ .ldr = 2, .logical = true, .dest = 3, .comes = true },
	/* The vector says which of them, whether it is there or not: the first. */
	{ .ldr = 2, .logical = true, .dest = 3, .lowest = true },
	{ .ldr = 1, .logical = true, .dest = 3, .lowest = true, .comes = true },
	{ .ldr = 1, .dest = 0xff, .comes = true },
};

static void target_set_apic(struct bell_vm *v, const struct target_state *s)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(v->vcpu, KVM_GET_LAPIC, &lapic);
	lapic.regs[APIC_SPIV + 1] |= APIC_SPIV_APIC_ENABLED >> 8;
	lapic.regs[APIC_ID + 3] = s->id;
	lapic.regs[TARGET_LDR + 3] = s->ldr;
	memset(&lapic.regs[APIC_IRR], 0, 0x80);
	vcpu_ioctl(v->vcpu, KVM_SET_LAPIC, &lapic);
}

static void target_set_msi(struct bell_vm *v, const struct target_state *s)
{
	struct kvm_irq_routing_entry *e = &v->routing->entries[0];

	bell_msi(v, BELL_GSI, 0);
	e->u.msi.address_lo = APIC_DEFAULT_GPA | s->dest << 12 | s->logical << 2;
	e->u.msi.address_hi = s->dest_hi << 8;
	e->u.msi.data = BELL_VECTOR | s->lowest << 8;
	bell_set_routing(v);
}

static bool target_msi_differs(const struct target_state *a, const struct target_state *b)
{
	return a->dest != b->dest || a->dest_hi != b->dest_hi || a->logical != b->logical ||
	       a->lowest != b->lowest;
}

/* Whether the vector is pending in the APIC of a vCPU that does not run. */
static bool target_pending(struct bell_vm *v)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(v->vcpu, KVM_GET_LAPIC, &lapic);
	return lapic.regs[APIC_IRR + BELL_VECTOR / 32 * 16 + BELL_VECTOR % 32 / 8] &
	       1 << BELL_VECTOR % 8;
}

static void target_check(struct __test_metadata *_metadata, struct bell_vm *a,
			 struct bell_vm *fresh, struct bell_at at,
			 const struct target_state *s, const char *what)
{
	unsigned int again, ms;

	/* The second ring goes where the first one went. */
	for (again = 0; again < 2; again++) {
		target_set_apic(fresh, s);
		bell_ring(a, at, 0, 0, 1);
		/* What goes to all is left to the irqfd's work item. */
		for (ms = 0; s->comes && ms < 10000 && !target_pending(fresh); ms++)
			usleep(1000);
		EXPECT_EQ(s->comes, target_pending(fresh)) {
			TH_LOG("%s, %s, ring %u", what, at.pio ? "port" : "memory", again);
		}
	}
}

/* The APIC's ID, its logical destination, and the route change between rings. */
TEST_F(bell, target)
{
	struct bell_vm *a = &self->a, fresh;
	unsigned int i, j;
	char what[32];

	/* As its guest never runs, its APIC is not an x2APIC. */
	bell_vm_init(&fresh, true);
	bell_irqfd(&fresh, self->fd, BELL_GSI);
	for (i = 0; i < ARRAY_SIZE(target_ats); i++) {
		bell_doorbell(a, target_ats[i], 0, self->fd);
		for (j = 0; j < ARRAY_SIZE(target_states); j++) {
			snprintf(what, sizeof(what), "state %u", j);
			/* If the route stays as it is, only the APIC tells. */
			if (!j || target_msi_differs(&target_states[j], &target_states[j - 1]))
				target_set_msi(&fresh, &target_states[j]);
			target_check(_metadata, a, &fresh, target_ats[i], &target_states[j], what);
		}
		bell_doorbell_deassign(a, target_ats[i], 0, self->fd);
	}
	EXPECT_EQ(0, a->exits);
	EXPECT_EQ(0, bell_pending(self->fd));
	bell_vm_free(&fresh);
}

/* From some time on, the VM's MSIs have destinations of 32 bits. */
TEST_F(bell, target_format)
{
	const struct target_state s = { .dest_hi = 1 };
	struct bell_vm *a = &self->a, *b = &self->b;
	unsigned int i, later;

	target_set_msi(b, &s);
	bell_irqfd(b, self->fd, BELL_GSI);
	for (i = 0; i < ARRAY_SIZE(target_ats); i++)
		bell_doorbell(a, target_ats[i], 0, self->fd);
	for (later = 0; later < 2; later++) {
		if (later)
			vm_enable_cap(b->vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS);
		for (i = 0; i < ARRAY_SIZE(target_ats); i++) {
			bell_ring(a, target_ats[i], 0, 0, 1);
			EXPECT_RANG(b, 0, !later, a, 0);
		}
	}
}

/* The irqfd's VM is another one, whose numbers are the same. */
TEST_F(bell, target_moves)
{
	struct bell_vm *a = &self->a, others[2];
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(others); i++)
		bell_vm_init(&others[i], true);
	for (i = 0; i < ARRAY_SIZE(target_ats); i++) {
		bell_doorbell(a, target_ats[i], 0, self->fd);
		for (j = 0; j < 4; j++) {
			struct bell_vm *there = &others[j % 2], *not = &others[!(j % 2)];
			struct target_state s = { .comes = true };

			target_set_apic(not, &s);
			bell_irqfd(there, self->fd, BELL_GSI);
			target_check(_metadata, a, there, target_ats[i], &s, "moved");
			EXPECT_FALSE(target_pending(not));
			bell_irqfd_deassign(there, self->fd, BELL_GSI);
		}
		bell_doorbell_deassign(a, target_ats[i], 0, self->fd);
	}
	for (i = 0; i < ARRAY_SIZE(others); i++)
		bell_vm_free(&others[i]);
}

/* Whether there is an OUT to DX at @rip, and how long it is. */
static unsigned int target_out(struct bell_vm *v, uint64_t rip)
{
	uint8_t *p = addr_gva2hva(v->vm, rip);

	if (p[0] == 0x66 && p[1] == 0xef)
		return 2;
	return p[0] == 0xee || p[0] == 0xef;
}

/* Who steps through a guest sees the instruction after an OUT that rings. */
TEST_F(bell, stepped)
{
	struct kvm_guest_debug on = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	}, off = {};
	struct bell_vm *a = &self->a;
	struct kvm_run *run = a->vcpu->run;
	unsigned int steps, out = 0, outs = 0;
	uint64_t rip = 0;

	bell_irqfd(&self->b, self->fd, BELL_GSI);
	bell_doorbell(a, target_ats[0], 2, self->fd);
	bell_tell(a, BELL_RING, target_ats[0], 0, 0, 3);
	vcpu_guest_debug_set(a->vcpu, &on);
	for (steps = 0; steps < 10000; steps++) {
		vcpu_run(a->vcpu);
		if (run->exit_reason == KVM_EXIT_IO)
			break;
		ASSERT_EQ(KVM_EXIT_DEBUG, run->exit_reason);
		if (out) {
			outs++;
			EXPECT_EQ(rip + out, run->debug.arch.pc);
		}
		rip = run->debug.arch.pc;
		out = target_out(a, rip);
	}
	EXPECT_EQ(KVM_EXIT_IO, run->exit_reason);
	EXPECT_EQ(BELL_DONE, run->io.port);
	EXPECT_EQ(3, outs);
	vcpu_guest_debug_set(a->vcpu, &off);
	EXPECT_RANG(&self->b, 0, 1, a, 0);
}

/* An OUT after STI rings the VM's own bell: after it, interrupts are open. */
TEST_F(bell, after_sti)
{
	struct bell_vm *a = &self->a;
	uint64_t windows = peer_vcpu_stat(a->vcpu, "irq_window_exits");
	unsigned int i;

	bell_irqfd(a, self->fd, BELL_GSI);
	bell_doorbell(a, target_ats[0], 2, self->fd);
	/* A vCPU's first ring is handled as any exit. */
	for (i = 1; i <= 2; i++) {
		bell_tell(a, BELL_STI, target_ats[0], 0, 0, 1);
		bell_run(a);
		EXPECT_EQ(i, a->ctl->total);
		EXPECT_NE(0, a->ctl->after);
		EXPECT_EQ(a->ctl->after, a->ctl->interrupted);
		/* Nobody had to wait for them to be. */
		EXPECT_EQ(windows, peer_vcpu_stat(a->vcpu, "irq_window_exits"));
	}
	EXPECT_EQ(0, a->exits);
}
