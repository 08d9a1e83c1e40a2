// SPDX-License-Identifier: GPL-2.0
/*
 * VMs that ring each other and count: what include/vm2vm_doorbell.h declares.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "vm2vm_doorbell.h"

/* The guest's side */

static void bell_guest_write(struct bell_ctl *c, uint64_t val)
{
	switch (c->len + 16 * c->pio) {
	case 1:
		WRITE_ONCE(*(uint8_t *)c->addr, val);
		break;
	case 2:
		WRITE_ONCE(*(uint16_t *)c->addr, val);
		break;
	case 4:
		WRITE_ONCE(*(uint32_t *)c->addr, val);
		break;
	case 8:
		WRITE_ONCE(*(uint64_t *)c->addr, val);
		break;
	case 17:
		asm volatile("outb %b0, %w1" : : "a"(val), "d"(c->addr));
		break;
	case 18:
		asm volatile("outw %w0, %w1" : : "a"(val), "d"(c->addr));
		break;
	case 20:
		asm volatile("outl %k0, %w1" : : "a"(val), "d"(c->addr));
		break;
	}
}

static void bell_guest_ring(struct bell_ctl *c)
{
	WRITE_ONCE(c->seq, c->seq + 1);
	bell_guest_write(c, c->val & c->mask);
	c->val += c->step;
	WRITE_ONCE(c->sent, c->sent + 1);
}

/* Wait until @word is at least @val, if it ever is. */
static bool bell_guest_wait(struct bell_ctl *c, uint64_t *word, uint64_t val)
{
	uint64_t i;

	for (i = 0; i < BELL_PATIENCE; i++) {
		if (READ_ONCE(*word) >= val)
			return true;
		cpu_relax();
	}
	WRITE_ONCE(c->lost, 1);
	return false;
}

static void bell_guest_acked(struct bell_ctl *c, struct bell_ctl *peer)
{
	uint64_t *hits = &peer->hits[c->vector], base = READ_ONCE(*hits), i;

	for (i = 1; i <= READ_ONCE(c->count); i++) {
		bell_guest_ring(c);
		if (!bell_guest_wait(c, hits, base + i))
			break;
	}
}

static void bell_guest_burst(struct bell_ctl *c, struct bell_ctl *peer)
{
	uint64_t i, n, random = 1;

	for (i = 0; i < c->count; i++) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		for (n = 1 + (random >> 60); n; n--)
			bell_guest_ring(c);
		if (!bell_guest_wait(c, &peer->seen, c->seq))
			break;
	}
}

/* The next round begins when a handler has run that began after both have rung. */
static void bell_guest_together(struct bell_ctl *c, struct bell_ctl *peer)
{
	uint64_t i;

	for (i = 1; i <= c->count; i++) {
		WRITE_ONCE(peer->rung[c->id], i);
		bell_guest_write(c, c->val);
		WRITE_ONCE(c->sent, c->sent + 1);
		if (!bell_guest_wait(c, &peer->heard[0], i) ||
		    !bell_guest_wait(c, &peer->heard[1], i))
			break;
	}
}

static void bell_guest_string(struct bell_ctl *c)
{
	uint64_t n = c->count;
	void *p = c->string;

	if (c->len == 1)
		asm volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(c->addr) : "memory");
	else if (c->len == 2)
		asm volatile("rep outsw" : "+S"(p), "+c"(n) : "d"(c->addr) : "memory");
	else
		asm volatile("rep outsl" : "+S"(p), "+c"(n) : "d"(c->addr) : "memory");
}

static void bell_guest_time(struct bell_ctl *c)
{
	uint64_t i, start;

	for (i = 0; i < c->count; i++) {
		start = rdtsc();
		bell_guest_write(c, c->val);
		c->time[i] = rdtsc() - start;
	}
}

static void bell_guest_ping(struct bell_ctl *c, struct bell_ctl *peer)
{
	uint64_t i, start;

	asm volatile("cli");
	for (i = 0; i < c->count; i++) {
		c->total = 0;
		start = rdtsc();
		bell_guest_write(c, c->val);
		while (!READ_ONCE(c->total))
			asm volatile("sti; hlt; cli" : : : "memory");
		c->time[i] = peer->arrived - start;
	}
	asm volatile("sti");
}

static void bell_guest_halt(struct bell_ctl *c)
{
	asm volatile("cli");
	while (!READ_ONCE(c->stop))
		asm volatile("sti; hlt; cli" : : : "memory");
	asm volatile("sti");
}

static void bell_guest_sti(struct bell_ctl *c)
{
	uint64_t after;

	asm volatile("cli\n\t"
		     "lea 1f(%%rip), %0\n\t"
		     "mov %0, %1\n\t"
		     "sti\n\t"
		     "outw %w2, %w3\n"
		     "1: nop\n\t"
		     "nop"
		     : "=&r"(after), "=m"(c->after) : "a"(c->val), "d"(c->addr));
}

static void bell_guest(void)
{
	struct bell_ctl *c = (void *)BELL_CTL, *peer = (void *)BELL_PEER;
	uint64_t i;

	x2apic_enable();
	asm volatile("sti");
	for (;;) {
		switch (READ_ONCE(c->op)) {
		case BELL_RING:
			for (i = 0; i < READ_ONCE(c->count); i++)
				bell_guest_ring(c);
			break;
		case BELL_ACKED:
			bell_guest_acked(c, peer);
			break;
		case BELL_TALK:
			bell_guest_acked(c, peer);
			bell_guest_halt(c);
			break;
		case BELL_BURST:
			bell_guest_burst(c, peer);
			break;
		case BELL_TOGETHER:
			bell_guest_together(c, peer);
			break;
		case BELL_STRING:
			bell_guest_string(c);
			break;
		case BELL_TIME:
			bell_guest_time(c);
			break;
		case BELL_PING:
			bell_guest_ping(c, peer);
			break;
		case BELL_HALT:
			bell_guest_halt(c);
			break;
		case BELL_SPIN:
			while (!READ_ONCE(c->stop))
				cpu_relax();
			break;
		case BELL_STI:
			bell_guest_sti(c);
			break;
		}
		asm volatile("outl %k0, %w1" : : "a"(0), "d"(BELL_DONE));
	}
}

static void bell_handler(struct ex_regs *regs)
{
	struct bell_ctl *c = (void *)BELL_CTL, *peer = (void *)BELL_PEER;

	WRITE_ONCE(c->arrived, rdtsc());
	WRITE_ONCE(c->interrupted, regs->rip);
	WRITE_ONCE(c->seen, READ_ONCE(peer->seq));
	WRITE_ONCE(c->heard[0], READ_ONCE(c->rung[0]));
	WRITE_ONCE(c->heard[1], READ_ONCE(c->rung[1]));
	WRITE_ONCE(c->total, c->total + 1);
	WRITE_ONCE(c->hits[regs->vector - BELL_VECTOR],
		   c->hits[regs->vector - BELL_VECTOR] + 1);
	x2apic_write_reg(APIC_EOI, 0);
	if (c->answer)
		bell_guest_write(c, 0);
}

static void bell_wake_handler(struct ex_regs *regs)
{
	x2apic_write_reg(APIC_EOI, 0);
}

/* The VMM's side */

static struct kvm_irq_routing_entry *bell_entry(struct bell_vm *v, unsigned int gsi)
{
	struct kvm_irq_routing *r = v->routing;
	unsigned int i;

	for (i = 0; i < r->nr && r->entries[i].gsi != gsi; i++)
		;
	if (i == r->nr) {
		r->nr++;
		r->entries[i].gsi = gsi;
	}
	return &r->entries[i];
}

void bell_msi(struct bell_vm *v, unsigned int gsi, unsigned int n)
{
	struct kvm_irq_routing_entry *e = bell_entry(v, gsi);

	e->type = KVM_IRQ_ROUTING_MSI;
	e->u.msi.address_lo = APIC_DEFAULT_GPA;
	e->u.msi.data = BELL_VECTOR + n;
}

void bell_set_pin(struct bell_vm *v, unsigned int pin, unsigned int n, bool level, bool masked)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	vm_ioctl(v->vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[pin].bits = BELL_VECTOR + n;
	chip.chip.ioapic.redirtbl[pin].fields.trig_mode = level;
	chip.chip.ioapic.redirtbl[pin].fields.mask = masked;
	vm_ioctl(v->vm, KVM_SET_IRQCHIP, &chip);
}

void bell_add_pin(struct bell_vm *v, unsigned int gsi, unsigned int chip, unsigned int pin)
{
	struct kvm_irq_routing_entry *e = &v->routing->entries[v->routing->nr++];

	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_IRQCHIP;
	e->u.irqchip.irqchip = chip;
	e->u.irqchip.pin = pin;
}

struct bell_ctl *bell_new_ctl(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static void bell_signal(int sig)
{
}

void bell_vm_init_ctl(struct bell_vm *v, bool msis, struct bell_ctl *ctl)
{
	struct sigaction sa = { .sa_handler = bell_signal };
	unsigned int i;

	memset(v, 0, sizeof(*v));
	TEST_ASSERT(!sigaction(SIGUSR1, &sa, NULL), "sigaction: %s", strerror(errno));
	v->vm = vm_create_with_one_vcpu(&v->vcpu, bell_guest);
	v->ctl = ctl;
	bell_map_ctl(v, 100, BELL_CTL, v->ctl);
	virt_map(v->vm, BELL_CTL, BELL_CTL, 1);
	virt_map(v->vm, BELL_PEER, BELL_PEER, 1);
	virt_map(v->vm, BELL_MMIO, BELL_MMIO, BELL_MMIO_SIZE / 4096);
	vm_install_exception_handler(v->vm, BELL_WAKE, bell_wake_handler);
	for (i = 0; i < BELL_VECTORS; i++)
		vm_install_exception_handler(v->vm, BELL_VECTOR + i, bell_handler);

	v->routing = kvm_gsi_routing_create();
	if (!msis)
		return;
	for (i = 0; i < BELL_GSIS; i++)
		bell_msi(v, BELL_GSI + i, i % BELL_VECTORS);
	bell_set_routing(v);
}

void *bell_run(void *arg)
{
	struct bell_vm *v = arg;
	struct kvm_run *run = v->vcpu->run;

	for (;;) {
		if (__vcpu_run(v->vcpu)) {
			TEST_ASSERT(errno == EINTR, "KVM_RUN: %s", strerror(errno));
			continue;
		}
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == BELL_DONE) {
			WRITE_ONCE(v->done, true);
			return NULL;
		}
		if (run->exit_reason == KVM_EXIT_IO) {
			v->exit_addr = run->io.port;
			v->exit_val = 0;
			memcpy(&v->exit_val, (void *)run + run->io.data_offset, run->io.size);
		} else {
			TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write,
				    "exit reason %u", run->exit_reason);
			v->exit_addr = run->mmio.phys_addr;
			v->exit_val = 0;
			memcpy(&v->exit_val, run->mmio.data, run->mmio.len);
		}
		v->exits++;
	}
}

void bell_tell(struct bell_vm *v, enum bell_op op, struct bell_at at, uint64_t val, uint64_t step,
	       uint64_t count)
{
	struct bell_ctl *c = v->ctl;

	c->op = op;
	c->pio = at.pio;
	c->addr = at.addr;
	c->len = at.len;
	c->val = val;
	c->step = step;
	c->mask = -1;
	c->count = count;
	c->stop = 0;
	c->lost = 0;
}

void bell_start(struct bell_vm *v)
{
	int r;

	v->done = false;
	r = pthread_create(&v->thread, NULL, bell_run, v);

	TEST_ASSERT(!r, "pthread_create: %s", strerror(r));
	v->running = true;
}

void bell_join(struct bell_vm *v)
{
	if (v->running)
		pthread_join(v->thread, NULL);
	v->running = false;
}

/* Whether the guest has stopped within @ms. */
static bool bell_done(struct bell_vm *v, unsigned int ms)
{
	unsigned int i;

	for (i = 0; i < ms * 10 && !READ_ONCE(v->done); i++)
		usleep(100);
	return READ_ONCE(v->done);
}

/*
 * QEMU 7.2 enters a guest without the interrupt shadow that it has left it with.  So a
 * guest may take the interrupt between its STI and its HLT, and halt then: wake it again.
 */
void bell_stop(struct bell_vm *v)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA, .data = BELL_WAKE };
	unsigned int n = 0;

	if (!v->running)
		return;
	WRITE_ONCE(v->ctl->stop, 1);
	do {
		/* A guest that has not got to its APIC yet has not halted either. */
		while (__vm_ioctl(v->vm, KVM_SIGNAL_MSI, &msi) != 1 && !READ_ONCE(v->done))
			usleep(100);
		if (n++)
			printf("# a guest has halted all the same: woken again\n");
	} while (!bell_done(v, 1000));
	bell_join(v);
}

void bell_vm_free(struct bell_vm *v)
{
	bell_stop(v);
	if (v->vm)
		kvm_vm_free(v->vm);
	if (v->ctl)
		munmap(v->ctl, 4096);
	free(v->routing);
}

int bell_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	TEST_ASSERT(fd >= 0, "eventfd: %s", strerror(errno));
	return fd;
}

int __bell_irqfd(struct bell_vm *v, int fd, unsigned int gsi, uint32_t flags, int resamplefd)
{
	struct kvm_irqfd args = {
		.fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resamplefd,
	};

	return vm2vm_ioctl(v->vm->fd, KVM_IRQFD, &args);
}

void bell_doorbell_deassign(struct bell_vm *v, struct bell_at at, uint32_t len, int fd)
{
	int r = __vm2vm_doorbell(v->vm, at.addr, len, 0, fd,
				 bell_flags(at) | KVM_VM2VM_DOORBELL_DEASSIGN);

	TEST_ASSERT(!r, "KVM_VM2VM_DOORBELL, deassign: %s", strerror(-r));
}
