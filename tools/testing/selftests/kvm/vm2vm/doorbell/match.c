// SPDX-License-Identifier: GPL-2.0
/* vm2vm_doorbell_test: which writes ring, and which doorbell. */
#include "doorbell.h"

static const struct bell_at ats[] = {
	{ true, BELL_PORT, 1 },
	{ true, BELL_PORT + 2, 2 },
	{ true, 0xfffc, 4 },
	{ true, BELL_PORT + 5, 4 },
	{ false, BELL_MMIO + 0x10, 1 },
	{ false, BELL_MMIO + 0x22, 2 },
	{ false, BELL_MMIO + 0x100, 4 },
	{ false, BELL_MMIO + 0x201, 4 },
	{ false, BELL_MMIO + 0x308, 8 },
};

/* A write of any value, by length, and only of that length. */
TEST_F(bell, length)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	unsigned int i, len;
	uint64_t direct;

	bell_irqfd(b, self->fd, BELL_GSI);
	for (i = 0; i < ARRAY_SIZE(ats); i++) {
		bell_doorbell(a, ats[i], ats[i].len, self->fd);
		direct = peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct");
		bell_ring(a, ats[i], 0x1122334455667788, 0, 1);
		EXPECT_RANG(b, 0, 1, a, 0);
		EXPECT_EQ(direct + 1, peer_vcpu_stat(a->vcpu, "vm2vm_rings_direct"));
		for (len = 1; len <= (ats[i].pio ? 4 : 8); len *= 2) {
			struct bell_at at = { ats[i].pio, ats[i].addr, len };

			if (len == ats[i].len)
				continue;
			bell_ring(a, at, 0, 0, 1);
			EXPECT_RANG(b, 0, 0, a, 1);
		}
		bell_doorbell_deassign(a, ats[i], ats[i].len, self->fd);
		bell_ring(a, ats[i], 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);
		EXPECT_EQ(ats[i].addr, a->exit_addr);
	}
	EXPECT_EQ(0, bell_pending(self->fd));
	EXPECT_EQ(0, peer_vcpu_stat(a->vcpu, "vm2vm_rings_signalled"));
}

/* A write over the end of a page comes in two, of lengths that no doorbell can have. */
TEST_F(bell, across_pages)
{
	const uint64_t end = BELL_MMIO + 4096;
	struct bell_vm *a = &self->a, *b = &self->b;
	struct bell_at at = { false, 0, 8 };
	unsigned int len;

	bell_irqfd(b, self->fd, BELL_GSI);
	for (at.addr = end - 7; at.addr < end; at.addr++) {
		/* 2 of 3 bytes, 4 of 5, 6 or 7; and those of the second page. */
		len = end - at.addr;
		if (len == 1 || len == 2 || len == 4)
			continue;
		bell_doorbell(a, at, len < 4 ? 2 : 4, self->fd);
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 2);
		bell_doorbell_deassign(a, at, len < 4 ? 2 : 4, self->fd);
	}
}

/* A port is all of its number, and nothing beside it: none that looks alike rings. */
TEST_F(bell, ports_apart)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	struct bell_at at = { true, BELL_PORT, 1 };
	unsigned int i;

	bell_irqfd(b, self->fd, BELL_GSI);
	for (i = 0; i < 32; i++, at.addr++)
		bell_doorbell(a, at, at.len, self->fd);
	at.addr = BELL_PORT >> 8;
	bell_ring(a, at, 0, 0, 1);
	EXPECT_RANG(b, 0, 0, a, 1);
	EXPECT_EQ(at.addr, a->exit_addr);
}

/* Length 0: any write at the address, and none beside it. */
TEST_F(bell, any_length)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	unsigned int i, len;

	bell_irqfd(b, self->fd, BELL_GSI);
	for (i = 0; i < ARRAY_SIZE(ats); i++) {
		struct bell_at at = ats[i];

		bell_doorbell(a, at, 0, self->fd);
		for (len = 1; len <= (at.pio ? 4 : 8); len *= 2) {
			at.len = len;
			bell_ring(a, at, -1, 0, 1);
			EXPECT_RANG(b, 0, 1, a, 0);
		}
		at.len = 1;
		at.addr++;
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);
		at.addr -= 2;
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);
		bell_doorbell_deassign(a, ats[i], 0, self->fd);
		bell_ring(a, ats[i], 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);
	}
}

static uint64_t bell_mask(uint32_t len)
{
	return len == 8 ? -1 : (1ull << 8 * len) - 1;
}

/* Several values of one address, the highest among them, each another doorbell. */
TEST_F(bell, datamatch)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	unsigned int i, j;
	int fds[4];

	for (j = 0; j < ARRAY_SIZE(fds); j++) {
		fds[j] = bell_eventfd();
		bell_irqfd(b, fds[j], BELL_GSI + j);
	}
	for (i = 0; i < ARRAY_SIZE(ats); i++) {
		struct bell_at at = ats[i];
		uint64_t top = bell_mask(at.len), vals[4] = { 0, 1, top / 2 + 1, top };
		uint32_t flags = bell_flags(at) | KVM_VM2VM_DOORBELL_DATAMATCH;

		for (j = 0; j < ARRAY_SIZE(fds); j++)
			ASSERT_EQ(0, __vm2vm_doorbell(a->vm, at.addr, at.len, vals[j], fds[j],
						      flags));
		for (j = 0; j < ARRAY_SIZE(fds); j++) {
			bell_ring(a, at, vals[j], 0, 1);
			EXPECT_RANG(b, j, 1, a, 0);
		}
		bell_ring(a, at, 2, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);
		EXPECT_EQ(2, a->exit_val);
		bell_ring(a, at, top - 1, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);

		/* One goes, the others stay. */
		ASSERT_EQ(0, __vm2vm_doorbell(a->vm, at.addr, at.len, 1, fds[1],
					      flags | KVM_VM2VM_DOORBELL_DEASSIGN));
		bell_ring(a, at, 1, 0, 1);
		EXPECT_RANG(b, 1, 0, a, 1);
		bell_ring(a, at, top, 0, 1);
		EXPECT_RANG(b, 3, 1, a, 0);
		for (j = 0; j < ARRAY_SIZE(fds); j++) {
			if (j == 1)
				continue;
			ASSERT_EQ(0, __vm2vm_doorbell(a->vm, at.addr, at.len, vals[j], fds[j],
						      flags | KVM_VM2VM_DOORBELL_DEASSIGN));
		}
		bell_ring(a, at, top, 0, 1);
		EXPECT_RANG(b, 3, 0, a, 1);
	}
	EXPECT_EQ(b->ctl->total, ARRAY_SIZE(ats) * 5);
	for (j = 0; j < ARRAY_SIZE(fds); j++)
		close(fds[j]);
}

#define ROUTES	BELL_VECTORS

/* The value picks the route, and one beyond them is the VMM's. */
TEST_F(bell, array)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	int32_t fds[ROUTES];
	unsigned int i, j;

	for (j = 0; j < ROUTES; j++) {
		fds[j] = bell_eventfd();
		bell_irqfd(b, fds[j], BELL_GSI + j);
	}
	for (i = 0; i < ARRAY_SIZE(ats); i++) {
		struct bell_at at = ats[i];
		uint32_t flags = bell_flags(at);

		ASSERT_EQ(0, __vm2vm_doorbell_array(a->vm, at.addr, at.len, fds, ROUTES, flags));
		bell_ring(a, at, 0, 1, ROUTES);
		bell_take(b);
		for (j = 0; j < ROUTES; j++) {
			EXPECT_EQ(1, b->ctl->hits[j]);
			b->ctl->hits[j] = 0;
		}
		EXPECT_EQ(0, a->exits);
		bell_ring(a, at, ROUTES, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);
		EXPECT_EQ(ROUTES, a->exit_val);
		bell_ring(a, at, -1, 0, 1);
		EXPECT_RANG(b, ROUTES - 1, 0, a, 1);

		ASSERT_EQ(0, __vm2vm_doorbell_array(a->vm, at.addr, at.len, fds, ROUTES,
						    flags | KVM_VM2VM_DOORBELL_DEASSIGN));
		bell_ring(a, at, 0, 0, 1);
		EXPECT_RANG(b, 0, 0, a, 1);
	}
	EXPECT_EQ(b->ctl->total, ARRAY_SIZE(ats) * ROUTES);
	for (j = 0; j < ROUTES; j++)
		close(fds[j]);
}

/* Doorbells and ioeventfds share the buses: each rings what it says, none is double. */
TEST_F(bell, with_ioeventfds)
{
	const struct bell_at at = { true, BELL_PORT, 2 }, mmio = { false, BELL_MMIO, 4 };
	struct kvm_ioeventfd io = {
		.addr = at.addr, .len = 2, .fd = self->stranger, .datamatch = 7,
		.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	uint32_t flags = KVM_VM2VM_DOORBELL_PIO | KVM_VM2VM_DOORBELL_DATAMATCH;
	struct bell_vm *a = &self->a, *b = &self->b;
	int fd = bell_eventfd();

	bell_irqfd(b, self->fd, BELL_GSI);
	io.fd = fd;
	ASSERT_EQ(0, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
	EXPECT_EQ(-EEXIST, __vm2vm_doorbell(a->vm, at.addr, 2, 7, self->fd, flags));
	EXPECT_EQ(-EEXIST, __vm2vm_doorbell(a->vm, at.addr, 2, 0, self->fd, bell_flags(at)));
	EXPECT_EQ(-EEXIST, __vm2vm_doorbell(a->vm, at.addr, 0, 0, self->fd, bell_flags(at)));
	ASSERT_EQ(0, __vm2vm_doorbell(a->vm, at.addr, 2, 8, self->fd, flags));
	io.datamatch = 8;
	EXPECT_EQ(-EEXIST, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
	io.datamatch = 9;
	ASSERT_EQ(0, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));

	bell_ring(a, at, 7, 0, 1);
	EXPECT_RANG(b, 0, 0, a, 0);
	EXPECT_EQ(1, bell_pending(fd));
	bell_ring(a, at, 8, 0, 1);
	EXPECT_RANG(b, 0, 1, a, 0);
	EXPECT_EQ(0, bell_pending(fd));
	bell_ring(a, at, 9, 0, 1);
	EXPECT_RANG(b, 0, 0, a, 0);
	EXPECT_EQ(1, bell_pending(fd));
	bell_ring(a, at, 10, 0, 1);
	EXPECT_RANG(b, 0, 0, a, 1);

	/* The same in memory, where length 0 is on a second bus. */
	bell_doorbell(a, mmio, 0, self->fd);
	io = (struct kvm_ioeventfd) { .addr = mmio.addr, .fd = fd };
	EXPECT_EQ(-EEXIST, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
	io.len = 4;
	EXPECT_EQ(-EEXIST, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
	bell_doorbell_deassign(a, mmio, 0, self->fd);
	io.len = 0;
	ASSERT_EQ(0, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
	EXPECT_EQ(-EEXIST, __vm2vm_doorbell(a->vm, mmio.addr, 0, 0, self->fd, 0));
	EXPECT_EQ(-EEXIST, __vm2vm_doorbell(a->vm, mmio.addr, 4, 0, self->fd, 0));
	io.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
	ASSERT_EQ(0, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
	bell_doorbell(a, mmio, 0, self->fd);
	bell_ring(a, mmio, 0, 0, 1);
	EXPECT_RANG(b, 0, 1, a, 0);
	EXPECT_EQ(0, bell_pending(fd));
	close(fd);
}

static const uint8_t string_vals[] = { 7, 8, 7, 7, 9, 0, 7 };

/* Have the guest write them all by one REP OUTS. */
static void string_ring(struct bell_vm *a, struct bell_at at)
{
	unsigned int i;

	memset(a->ctl->string, 0, sizeof(a->ctl->string));
	for (i = 0; i < ARRAY_SIZE(string_vals); i++)
		a->ctl->string[i * at.len] = string_vals[i];
	a->exits = 0;
	bell_tell(a, BELL_STRING, at, 0, 0, ARRAY_SIZE(string_vals));
	bell_run(a);
}

/* Each value of a string rings, or is the VMM's, as at an ioeventfd. */
TEST_F(bell, strings)
{
	struct kvm_ioeventfd io = {
		.addr = BELL_PORT, .fd = self->fd, .datamatch = 7,
		.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	const uint32_t match = KVM_VM2VM_DOORBELL_PIO | KVM_VM2VM_DOORBELL_DATAMATCH;
	struct bell_at at = { true, BELL_PORT, 1 };
	struct bell_vm *a = &self->a;
	int32_t fds[8] = {};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = self->fd;
	for (; at.len <= 4; at.len *= 2) {
		io.len = at.len;
		ASSERT_EQ(0, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
		string_ring(a, at);
		EXPECT_EQ(4, bell_pending(self->fd));
		EXPECT_EQ(3, a->exits);
		io.flags ^= KVM_IOEVENTFD_FLAG_DEASSIGN;
		ASSERT_EQ(0, vm2vm_ioctl(a->vm->fd, KVM_IOEVENTFD, &io));
		io.flags ^= KVM_IOEVENTFD_FLAG_DEASSIGN;

		ASSERT_EQ(0, __vm2vm_doorbell(a->vm, at.addr, at.len, 7, self->fd, match));
		string_ring(a, at);
		EXPECT_EQ(4, bell_pending(self->fd));
		EXPECT_EQ(3, a->exits);
		EXPECT_EQ(0, a->exit_val);
		ASSERT_EQ(0, __vm2vm_doorbell(a->vm, at.addr, at.len, 7, self->fd,
					      match | KVM_VM2VM_DOORBELL_DEASSIGN));

		ASSERT_EQ(0, __vm2vm_doorbell_array(a->vm, at.addr, at.len, fds, 8,
						    bell_flags(at)));
		string_ring(a, at);
		EXPECT_EQ(5, bell_pending(self->fd));
		EXPECT_EQ(2, a->exits);
		EXPECT_EQ(9, a->exit_val);
		ASSERT_EQ(0, __vm2vm_doorbell_array(a->vm, at.addr, at.len, fds, 8,
						    bell_flags(at) | KVM_VM2VM_DOORBELL_DEASSIGN));

		bell_doorbell(a, at, 0, self->fd);
		string_ring(a, at);
		EXPECT_EQ(7, bell_pending(self->fd));
		EXPECT_EQ(0, a->exits);
		bell_doorbell_deassign(a, at, 0, self->fd);
	}
}

#define MANY	1000

/* As many doorbells as a virtual switch has queues, at as many addresses, and at one. */
TEST_F(bell, many)
{
	struct bell_vm *a = &self->a, *b = &self->b;
	struct bell_at at = { true, BELL_PORT, 2 };
	uint32_t match = KVM_VM2VM_DOORBELL_PIO | KVM_VM2VM_DOORBELL_DATAMATCH;
	int *fds = calloc(MANY, sizeof(*fds));
	unsigned int i;

	ASSERT_NE(NULL, fds);
	for (i = 0; i < MANY; i++) {
		fds[i] = bell_eventfd();
		bell_irqfd(b, fds[i], BELL_GSI + i);
		at.addr = BELL_PORT + 0x1000 + 2 * i;
		bell_doorbell(a, at, 2, fds[i]);
		ASSERT_EQ(0, __vm2vm_doorbell(a->vm, BELL_PORT, 2, i, fds[i], match));
	}
	at.addr = BELL_PORT;
	for (i = 0; i < MANY; i += 37) {
		at.addr = BELL_PORT;
		bell_ring(a, at, i, 0, 1);
		EXPECT_RANG(b, i % BELL_VECTORS, 1, a, 0);
		at.addr = BELL_PORT + 0x1000 + 2 * i;
		bell_ring(a, at, i, 0, 1);
		EXPECT_RANG(b, i % BELL_VECTORS, 1, a, 0);
	}
	EXPECT_EQ(b->ctl->total, 2 * ((MANY + 36) / 37));
	for (i = 0; i < MANY; i++)
		close(fds[i]);
	free(fds);
}
