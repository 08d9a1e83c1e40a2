// SPDX-License-Identifier: GPL-2.0
/* vm2vm_doorbell_test: many rings, none lost, and none that nobody rang. */
#include <poll.h>

#include "vm2vm_doorbell.h"
#include "vm2vm_harness.h"

FIXTURE(traffic)
{
	struct bell_vm vms[2];
	int fds[2];
};

FIXTURE_VARIANT(traffic)
{
	struct bell_at at;
	uint32_t len;		/* of the doorbell */
	enum bell_op listen;
	bool pin;		/* not an MSI, but a pin of the I/O APIC */
	unsigned int rings;	/* for each trial */
};

FIXTURE_VARIANT_ADD(traffic, port_halted)
{
	{ true, BELL_PORT, 4 }, 4, BELL_HALT, false, 1000,
};

FIXTURE_VARIANT_ADD(traffic, port_running)
{
	{ true, BELL_PORT, 4 }, 4, BELL_SPIN, false, 1000,
};

FIXTURE_VARIANT_ADD(traffic, memory_halted)
{
	{ false, BELL_MMIO, 4 }, 4, BELL_HALT, false, 100,
};

FIXTURE_VARIANT_ADD(traffic, memory_running)
{
	{ false, BELL_MMIO, 4 }, 4, BELL_SPIN, false, 100,
};

FIXTURE_VARIANT_ADD(traffic, memory_any)
{
	{ false, BELL_MMIO, 2 }, 0, BELL_SPIN, false, 100,
};

FIXTURE_VARIANT_ADD(traffic, pin)
{
	{ true, BELL_PORT, 4 }, 4, BELL_HALT, true, 100,
};

FIXTURE_SETUP(traffic)
{
	unsigned int i;

	for (i = 0; i < 2; i++)
		bell_vm_init(&self->vms[i], true);
	bell_pair(&self->vms[0], &self->vms[1]);
	for (i = 0; i < 2; i++) {
		self->fds[i] = bell_eventfd();
		if (variant->pin) {
			bell_add_pin(&self->vms[i], 20, KVM_IRQCHIP_IOAPIC, 20);
			bell_set_routing(&self->vms[i]);
			bell_set_pin(&self->vms[i], 20, 0, false, false);
		}
		bell_irqfd(&self->vms[i], self->fds[i], variant->pin ? 20 : BELL_GSI);
		bell_doorbell(&self->vms[!i], variant->at, variant->len, self->fds[i]);
		bell_take(&self->vms[i]);
	}
}

FIXTURE_TEARDOWN(traffic)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		bell_vm_free(&self->vms[i]);
		close(self->fds[i]);
	}
}

/* Each ring is heard before the next: as many interrupts as rings. */
TEST_F_TIMEOUT(traffic, exact, 900)
{
	uint64_t n = (uint64_t)vm2vm_trials(1000) * variant->rings / 2;
	struct bell_vm *a, *b;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		a = &self->vms[i];
		b = &self->vms[!i];
		bell_listen(b, variant->listen);
		bell_tell(a, BELL_ACKED, variant->at, 0, 1, n);
		bell_run(a);
		bell_stop(b);
		bell_take(b);
		EXPECT_FALSE(a->ctl->lost);
		EXPECT_EQ(n, a->ctl->sent);
		EXPECT_EQ(n, b->ctl->hits[0]);
		EXPECT_EQ(n, b->ctl->total);
		EXPECT_EQ(0, a->exits);
		EXPECT_EQ(n, peer_vcpu_stat(a->vcpu, variant->pin ? "vm2vm_rings_deferred" :
						     "vm2vm_rings_direct"));
	}
	TH_LOG("%lu rings each way", n);
}

/* Both at once. */
TEST_F_TIMEOUT(traffic, both, 900)
{
	uint64_t n = (uint64_t)vm2vm_trials(1000) * variant->rings / 4;
	struct bell_vm *v;
	unsigned int i;

	for (i = 0; i < 2; i++)
		bell_tell(&self->vms[i], BELL_TALK, variant->at, 0, 1, n);
	for (i = 0; i < 2; i++)
		bell_start(&self->vms[i]);
	for (i = 0; i < 2; i++) {
		v = &self->vms[i];
		while (READ_ONCE(v->ctl->sent) < n && !READ_ONCE(v->ctl->lost))
			usleep(1000);
	}
	for (i = 0; i < 2; i++) {
		v = &self->vms[i];
		bell_stop(v);
		bell_take(v);
		EXPECT_FALSE(v->ctl->lost);
		EXPECT_EQ(n, v->ctl->sent);
		EXPECT_EQ(n, v->ctl->total);
		EXPECT_EQ(0, v->exits);
	}
	TH_LOG("%lu rings each way", n);
}

/*
 * In bursts: the last ring is heard, after what was written before it is seen.
 * Interrupts may be fewer than rings, but not more, and none is late.
 */
TEST_F_TIMEOUT(traffic, bursts, 900)
{
	uint64_t n = (uint64_t)vm2vm_trials(1000) * variant->rings / 40 + 1, total;
	struct bell_vm *a = &self->vms[0], *b = &self->vms[1];

	bell_listen(b, variant->listen);
	bell_tell(a, BELL_BURST, variant->at, 0, 1, n);
	bell_run(a);
	EXPECT_FALSE(a->ctl->lost);
	EXPECT_EQ(a->ctl->seq, READ_ONCE(b->ctl->seen));
	bell_stop(b);
	bell_take(b);
	total = b->ctl->total;
	EXPECT_LE(n, total);
	EXPECT_LE(total, a->ctl->sent);
	usleep(10000);
	bell_take(b);
	EXPECT_EQ(total, b->ctl->total);
	TH_LOG("%lu bursts, %lu rings, %lu interrupts", n, a->ctl->sent, total);
}

/*
 * The VMM masks and unmasks the interrupt as for MSI-X: it takes the irqfd away, and
 * puts it back.  What is rung meanwhile is heard then.
 */
TEST_F_TIMEOUT(traffic, masked, 900)
{
	unsigned int i, trials = vm2vm_trials(1000), gsi = variant->pin ? 20 : BELL_GSI;
	struct bell_vm *a = &self->vms[0], *b = &self->vms[1];
	struct pollfd unheard = { .fd = self->fds[1], .events = POLLIN };
	uint64_t sent;

	bell_listen(b, variant->listen);
	bell_tell(a, BELL_ACKED, variant->at, 0, 1, -1ull);
	bell_start(a);
	for (i = 0; i < trials && !READ_ONCE(a->ctl->lost); i++) {
		bell_irqfd_deassign(b, self->fds[1], gsi);
		/* One ring is for nobody, at the least. */
		if (!i)
			poll(&unheard, 1, 60000);
		if (i % 4)
			usleep(i % 4 * 50);
		bell_irqfd(b, self->fds[1], gsi);
		/* It is heard by now, or will be, but still in the eventfd. */
		bell_pending(self->fds[1]);
		usleep(i % 8 * 20);
	}
	/* On a slow machine, all until now may have been signalled. */
	sent = READ_ONCE(a->ctl->sent);
	while (READ_ONCE(a->ctl->sent) < sent + 3 && !READ_ONCE(a->ctl->lost))
		usleep(1000);
	EXPECT_FALSE(READ_ONCE(a->ctl->lost));
	WRITE_ONCE(a->ctl->count, 0);
	bell_join(a);
	bell_stop(b);
	EXPECT_FALSE(a->ctl->lost);
	/* KVM may deliver twice what is signalled just when an irqfd is made. */
	EXPECT_LE(a->ctl->sent, b->ctl->total);
	EXPECT_LE(b->ctl->total, a->ctl->sent + trials / 2);
	EXPECT_LT(0, peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled"));
	EXPECT_LT(0, peer_vcpu_stat(a->vcpu, variant->pin ? "vm2vm_rings_deferred" :
						     "vm2vm_rings_direct"));
	TH_LOG("%lu rings, %lu of them signalled, %lu interrupts", a->ctl->sent,
	       peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled"), b->ctl->total);
}
