// SPDX-License-Identifier: GPL-2.0
/* vm2vm_doorbell_test: what is behind an eventfd, as it comes, changes and goes. */
#include "doorbell.h"

static const struct bell_at route_ats[] = {
	{ true, BELL_PORT, 2 },
	{ false, BELL_MMIO, 4 },
};

/* No irqfd yet, one, none any more: what was rung meanwhile is not lost. */
TEST_F(bell, no_irqfd)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	unsigned int i, len;

	for (i = 0; i < 2 * ARRAY_SIZE(route_ats); i++) {
		struct bell_at at = route_ats[i / 2];
		uint64_t direct = peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct");
		uint64_t signalled = peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled");

		len = i % 2 ? at.len : 0;
		bell_doorbell(a, at, len, self->fd);
		bell_ring(a, at, 0, 0, 3);
		EXPECT_RANG(b, 0, 0, a, 0);
		EXPECT_EQ(3, bell_pending(self->fd));
		bell_ring(a, at, 0, 0, 2);
		EXPECT_EQ(signalled + 5, peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled"));

		/* What is pending is an interrupt, though by a work item. */
		bell_irqfd(b, self->fd, BELL_GSI);
		for (len = 0; len < 20000 && !b->ctl->total; len++) {
			bell_take(b);
			usleep(1000);
		}
		EXPECT_RANG(b, 0, 1, a, 0);
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 1, a, 0);
		EXPECT_EQ(direct + 1, peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct"));

		bell_irqfd_deassign(b, self->fd, BELL_GSI);
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 0);
		EXPECT_EQ(1, bell_pending(self->fd));
		EXPECT_EQ(signalled + 6, peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled"));
		bell_doorbell_deassign(a, at, i % 2 ? at.len : 0, self->fd);
		b->ctl->total = 0;
	}
}

/* Whether an interrupt comes within a while; a work item may have to bring it. */
static bool bell_comes(struct bell_vm *b)
{
	unsigned int i;

	for (i = 0; i < 300; i++) {
		usleep(1000);
		bell_take(b);
		if (b->ctl->total)
			return true;
	}
	return false;
}

/* The irqfd is there first; the eventfd is closed by all who had it. */
TEST_F(bell, closed)
{
	const struct bell_at at = route_ats[0];
	struct bell_vm *a = &self->a, *b = &self->b;
	int fd = bell_eventfd();
	unsigned int i;

	bell_irqfd(b, fd, BELL_GSI);
	bell_doorbell(a, at, 2, fd);
	bell_ring(a, at, 0, 0, 1);
	EXPECT_RANG(b, 0, 1, a, 0);
	/* The irqfd goes with its file, by a work item; the doorbell has nothing to ring. */
	close(fd);
	for (i = 0; i < 1000; i++) {
		b->ctl->total = 0;
		usleep(1000);
		bell_ring(a, at, 0, 0, 1);
		if (!bell_comes(b))
			break;
	}
	EXPECT_GT(1000, i);
	bell_ring(a, at, 0, 0, 1);
	EXPECT_RANG(b, 0, i, a, 0);
	EXPECT_EQ(i + 2, peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled"));
	EXPECT_EQ(1, peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct"));
}

/* Two irqfds have the same eventfd: the first one, until it goes; as if it were signalled. */
TEST_F(bell, two_irqfds)
{
	struct bell_vm *a = &self->a, *b = &self->b, other;
	const struct bell_at at = route_ats[0];
	unsigned int i;

	bell_vm_init(&other, true);
	bell_map_ctl(&other, 101, BELL_PEER, a->ctl);
	bell_take(&other);
	bell_doorbell(a, at, 2, self->fd);
	for (i = 0; i < 2; i++) {
		bell_irqfd(b, self->fd, BELL_GSI);
		bell_irqfd(&other, self->fd, BELL_GSI);
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 1, a, 0);
		EXPECT_RANG(&other, 0, 0, a, 0);
		ASSERT_EQ(0, eventfd_write(self->fd, 1));
		EXPECT_RANG(b, 0, 1, a, 0);
		EXPECT_RANG(&other, 0, 0, a, 0);
		if (i)
			bell_irqfd_deassign(&other, self->fd, BELL_GSI);
		else
			bell_irqfd_deassign(b, self->fd, BELL_GSI);
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, i, a, 0);
		EXPECT_RANG(&other, 0, !i, a, 0);
		ASSERT_EQ(0, eventfd_write(self->fd, 1));
		EXPECT_RANG(b, 0, i, a, 0);
		EXPECT_RANG(&other, 0, !i, a, 0);
		if (i)
			bell_irqfd_deassign(b, self->fd, BELL_GSI);
		else
			bell_irqfd_deassign(&other, self->fd, BELL_GSI);
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 0);
		EXPECT_RANG(&other, 0, 0, a, 0);
		EXPECT_EQ(1, bell_pending(self->fd));
	}
	EXPECT_EQ(4, peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct"));
	bell_vm_free(&other);
}

#define LISTENERS	5

/* Of many irqfds with the same eventfd the one that was made first, whichever have gone. */
TEST_F(bell, order_of_irqfds)
{
	static const unsigned int gone[] = { 2, 0, 4, 1, 3 };
	struct bell_vm others[LISTENERS], *a = &self->a;
	const struct bell_at at = route_ats[0];
	unsigned int i, j, first;
	bool here[LISTENERS];

	for (i = 0; i < LISTENERS; i++) {
		bell_vm_init(&others[i], true);
		bell_map_ctl(&others[i], 101, BELL_PEER, a->ctl);
		bell_take(&others[i]);
		bell_irqfd(&others[i], self->fd, BELL_GSI);
		here[i] = true;
	}
	for (i = 0; i < LISTENERS; i++) {
		/* Found anew each time, and known from before */
		for (first = 0; !here[first]; first++)
			;
		bell_doorbell(a, at, 2, self->fd);
		bell_ring(a, at, 0, 0, 1);
		for (j = 0; j < LISTENERS; j++)
			EXPECT_RANG(&others[j], 0, j == first, a, 0);
		bell_irqfd_deassign(&others[gone[i]], self->fd, BELL_GSI);
		here[gone[i]] = false;
		for (first = 0; first < LISTENERS && !here[first]; first++)
			;
		bell_ring(a, at, 0, 0, 1);
		for (j = 0; j < LISTENERS; j++)
			EXPECT_RANG(&others[j], 0, j == first, a, 0);
		bell_doorbell_deassign(a, at, 2, self->fd);
	}
	EXPECT_EQ(1, bell_pending(self->fd));
	for (i = 0; i < LISTENERS; i++)
		bell_vm_free(&others[i]);
}

/* A GSI's route changes, is not one, and is cleared. */
TEST_F(bell, routing)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	struct kvm_irq_routing none = {};
	unsigned int i;

	bell_irqfd(b, self->fd, BELL_GSI);
	for (i = 0; i < ARRAY_SIZE(route_ats); i++) {
		bell_doorbell(a, route_ats[i], 0, self->fd);
		bell_msi(b, BELL_GSI, 1);
		bell_set_routing(b);
		bell_ring(a, route_ats[i], 0, 0, 1);
		EXPECT_RANG(b, 1, 1, a, 0);
		bell_msi(b, BELL_GSI, 2);
		bell_set_routing(b);
		bell_ring(a, route_ats[i], 0, 0, 1);
		EXPECT_RANG(b, 2, 1, a, 0);
		vm_ioctl(b->vm, KVM_SET_GSI_ROUTING, &none);
		bell_ring(a, route_ats[i], 0, 0, 1);
		EXPECT_RANG(b, 2, 0, a, 0);
		EXPECT_EQ(2 * (i + 1), b->ctl->total);
	}
	/* As an ioeventfd's, a ring that goes nowhere is gone. */
	EXPECT_EQ(0, bell_pending(self->fd));
}

/*
 * The route changes while the guest rings: once the call has returned, nothing comes
 * by the old one, but what was pending then.
 */
TEST_F_TIMEOUT(bell, routing_while_ringing, 300)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	unsigned int trials = vm2vm_trials(1000), i, v;
	uint64_t before;

	bell_irqfd(b, self->fd, BELL_GSI);
	bell_doorbell(a, route_ats[0], 0, self->fd);
	bell_tell(a, BELL_RING, route_ats[0], 0, 0, -1ull);
	bell_msi(b, BELL_GSI, 0);
	bell_set_routing(b);
	bell_start(a);
	for (i = 0; i < trials; i++) {
		v = i % 2;
		bell_msi(b, BELL_GSI, !v);
		bell_set_routing(b);
		bell_take(b);
		before = b->ctl->hits[v];
		while (b->ctl->hits[!v] < i / 2 + 1)
			bell_take(b);
		bell_take(b);
		ASSERT_EQ(before, b->ctl->hits[v]) {
			TH_LOG("trial %u: an interrupt by the old route", i);
		}
	}
	/* It goes on after the last change, or this does not end. */
	while (b->ctl->total <= trials)
		bell_take(b);
	WRITE_ONCE(a->ctl->count, 0);
	bell_join(a);
	EXPECT_LT(trials, b->ctl->total);
}

/* A pin is left to the irqfd's work item: soon there are so many interrupts of @vector. */
static bool bell_rang_soon(struct bell_vm *b, unsigned int vector, uint64_t hits,
			   struct bell_vm *a, uint64_t exits)
{
	unsigned int i;

	bell_take(b);
	for (i = 0; i < 20000 && b->ctl->hits[vector] < hits; i++) {
		usleep(1000);
		bell_take(b);
	}
	return bell_rang(b, vector, hits, a, exits);
}

#define EXPECT_RANG_SOON(...)	EXPECT_TRUE(bell_rang_soon(__VA_ARGS__))

/* Pins: edge, one that is the PIC's too, masked, and level with a resamplefd. */
TEST_F(bell, pins)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	int resample = bell_eventfd();
	unsigned int i;

	bell_add_pin(b, 20, KVM_IRQCHIP_IOAPIC, 20);
	bell_add_pin(b, 5, KVM_IRQCHIP_IOAPIC, 5);
	bell_add_pin(b, 5, KVM_IRQCHIP_PIC_MASTER, 5);
	bell_set_routing(b);
	bell_set_pin(b, 20, 3, false, false);
	bell_set_pin(b, 5, 4, false, false);
	for (i = 0; i < ARRAY_SIZE(route_ats); i++) {
		bell_doorbell(a, route_ats[i], 0, self->fd);

		bell_irqfd(b, self->fd, 20);
		bell_ring(a, route_ats[i], 0, 0, 1);
		EXPECT_RANG_SOON(b, 3, 1, a, 0);
		/* An edge at a masked pin is lost, and nothing comes once the irqfd is gone. */
		bell_set_pin(b, 20, 3, false, true);
		bell_ring(a, route_ats[i], 0, 0, 1);
		bell_irqfd_deassign(b, self->fd, 20);
		bell_set_pin(b, 20, 3, false, false);
		EXPECT_RANG(b, 3, 0, a, 0);

		bell_irqfd(b, self->fd, 5);
		bell_ring(a, route_ats[i], 0, 0, 1);
		EXPECT_RANG_SOON(b, 4, 1, a, 0);
		bell_irqfd_deassign(b, self->fd, 5);

		/* By level: low again with the EOI, of which the VMM is told. */
		bell_set_pin(b, 20, 5, true, false);
		ASSERT_EQ(0, __bell_irqfd(b, self->fd, 20, KVM_IRQFD_FLAG_RESAMPLE, resample));
		bell_ring(a, route_ats[i], 0, 0, 1);
		EXPECT_EQ(0, bell_pending(resample));
		EXPECT_RANG_SOON(b, 5, 1, a, 0);
		EXPECT_EQ(1, bell_pending(resample));
		/* The later ones may find the pin high, or low again. */
		bell_ring(a, route_ats[i], 0, 0, 3);
		while (!b->ctl->hits[5])
			bell_take(b);
		usleep(50000);
		bell_take(b);
		EXPECT_GE(3, b->ctl->hits[5]);
		EXPECT_EQ(b->ctl->hits[5], bell_pending(resample));
		b->ctl->hits[5] = 0;
		bell_take(b);
		EXPECT_RANG(b, 5, 0, a, 0);
		bell_irqfd_deassign(b, self->fd, 20);
		bell_set_pin(b, 20, 3, false, false);
	}
	EXPECT_EQ(0, peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct"));
	EXPECT_LT(0, peer_vcpu_stat(a->vcpu, "vm2vm_rings_deferred"));
	EXPECT_EQ(0, peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled"));
	EXPECT_EQ(0, bell_pending(self->fd));
	close(resample);
}

/* A peer that has not run yet, whose APIC the VMM has set up; and one without vCPU. */
TEST_F(bell, not_yet_run)
{
	const struct bell_at at = route_ats[0];
	struct bell_vm *a = &self->a, fresh;
	struct kvm_irq_routing *r = kvm_gsi_routing_create();
	struct kvm_lapic_state lapic;
	struct kvm_vm *empty = vm_create_barebones();
	int fd = bell_eventfd();
	struct kvm_irqfd irqfd = { .fd = fd, .gsi = BELL_GSI };

	bell_vm_init(&fresh, true);
	bell_map_ctl(&fresh, 101, BELL_PEER, a->ctl);
	vcpu_ioctl(fresh.vcpu, KVM_GET_LAPIC, &lapic);
	lapic.regs[APIC_SPIV + 1] |= APIC_SPIV_APIC_ENABLED >> 8;
	vcpu_ioctl(fresh.vcpu, KVM_SET_LAPIC, &lapic);
	bell_irqfd(&fresh, self->fd, BELL_GSI);
	bell_doorbell(a, at, 2, self->fd);
	bell_ring(a, at, 0, 0, 2);
	EXPECT_RANG(&fresh, 0, 1, a, 0);
	bell_vm_free(&fresh);
	bell_ring(a, at, 0, 0, 1);
	EXPECT_EQ(1, bell_pending(self->fd));
	bell_doorbell_deassign(a, at, 2, self->fd);

	vm_create_irqchip(empty);
	memcpy(r, self->b.routing, sizeof(*r) + self->b.routing->nr * sizeof(r->entries[0]));
	vm_ioctl(empty, KVM_SET_GSI_ROUTING, r);
	vm_ioctl(empty, KVM_IRQFD, &irqfd);
	bell_doorbell(a, at, 2, fd);
	bell_ring(a, at, 0, 0, 2);
	EXPECT_EQ(0, bell_pending(fd));
	kvm_vm_free(empty);
	bell_ring(a, at, 0, 0, 2);
	EXPECT_EQ(2, bell_pending(fd));
	free(r);
	close(fd);
}

/* Where KVM has the local APICs it would never ring; without them it does. */
TEST_F(bell, local_apic)
{
	static const uint64_t inside[] = { 0, 0xb0, 0x300, 0xfff };
	struct kvm_vm *none = vm_create_barebones();
	uint64_t apic = APIC_DEFAULT_GPA;
	struct bell_vm *a = &self->a;
	unsigned int i, len;

	for (i = 0; i < ARRAY_SIZE(inside); i++) {
		for (len = 0; len <= 4; len += 4)
			EXPECT_EQ(-EEXIST, __vm2vm_doorbell(a->vm, apic + inside[i], len, 0,
							    self->fd, 0));
		EXPECT_EQ(0, __vm2vm_doorbell(none, apic + inside[i], 4, 0, self->fd, 0));
	}
	EXPECT_EQ(0, __vm2vm_doorbell(a->vm, apic - 1, 1, 0, self->fd, 0));
	EXPECT_EQ(0, __vm2vm_doorbell(a->vm, apic + 4096, 0, 0, self->fd, 0));
	kvm_vm_free(none);
}

/*
 * Nobody has the eventfd any more but the doorbell: the irqfd goes, as ever, and the
 * ring is heard by nobody, but is not the VMM's.  The doorbell has lost its name.
 */
TEST_F(bell, eventfd_closed)
{
	const struct bell_at at = route_ats[0];
	struct bell_vm *a = &self->a, *b = &self->b;
	int fd = bell_eventfd(), copy = dup(fd);

	bell_irqfd(b, fd, BELL_GSI);
	bell_doorbell(a, at, 2, fd);
	close(fd);
	bell_ring(a, at, 0, 0, 1);
	EXPECT_RANG(b, 0, 1, a, 0);
	close(copy);
	/* KVM has a work item for that, for which it waits as it takes away any other one. */
	bell_irqfd(b, self->fd, BELL_GSI + 1);
	bell_irqfd_deassign(b, self->fd, BELL_GSI + 1);
	bell_ring(a, at, 0, 0, 2);
	EXPECT_RANG(b, 0, 0, a, 0);
	EXPECT_EQ(-EBADF, __vm2vm_doorbell(a->vm, at.addr, 2, 0, fd,
					   bell_flags(at) | KVM_VM2VM_DOORBELL_DEASSIGN));
	EXPECT_EQ(-EEXIST, __vm2vm_doorbell(a->vm, at.addr, 2, 0, self->fd, bell_flags(at)));
}

/*
 * A peer with its I/O APIC in user space, where all routes are MSIs.  It never runs:
 * its local APIC tells what has come.
 */
TEST_F(bell, split_irqchip)
{
	struct bell_vm *a = &self->a;
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_lapic_state lapic;
	struct kvm_irqfd irqfd = { .fd = self->fd, .gsi = BELL_GSI + 1 };
	struct kvm_vcpu *vcpu;
	unsigned int i, vector = BELL_VECTOR + 1;
	uint8_t *irr = (uint8_t *)&lapic.regs[APIC_IRR + vector / 32 * 0x10 + vector % 32 / 8];

	vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 24);
	vcpu = __vm_vcpu_add(vm, 0);
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	lapic.regs[APIC_SPIV + 1] |= APIC_SPIV_APIC_ENABLED >> 8;
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
	vm_ioctl(vm, KVM_SET_GSI_ROUTING, self->b.routing);
	vm_ioctl(vm, KVM_IRQFD, &irqfd);
	for (i = 0; i < ARRAY_SIZE(route_ats); i++) {
		bell_doorbell(a, route_ats[i], 0, self->fd);
		vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
		EXPECT_EQ(0, *irr & 1 << vector % 8);
		bell_ring(a, route_ats[i], 0, 0, 1);
		vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
		EXPECT_EQ(1 << vector % 8, *irr & 1 << vector % 8);
		*irr = 0;
		vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
	}
	EXPECT_EQ(2, peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct"));
	EXPECT_EQ(0, bell_pending(self->fd));
	kvm_vm_free(vm);
}
