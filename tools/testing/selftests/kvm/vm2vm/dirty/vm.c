// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: what vm.h declares, VMs that write.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "processor.h"
#include "vm.h"

void dirty_nap(unsigned int us)
{
	uint64_t end = now_us() + us;

	do
		sched_yield();
	while (now_us() < end);
}

static void dirty_on_signal(int sig)
{
}

void dirty_template_init(void)
{
	struct sigaction sa = { .sa_handler = dirty_on_signal };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	TEST_ASSERT(!sigaction(SIGUSR1, &sa, NULL), "sigaction: %s", strerror(errno));
	vm = vm_create_with_one_vcpu(&vcpu, dirty_guest);
	virt_map(vm, DIRTY_CTL, DIRTY_CTL, 2 * DIRTY_CTL_SIZE / 4096);
	vcpu_args_set(vcpu, 1, DIRTY_CTL);
	virt_map(vm, DIRTY_OWN, DIRTY_OWN, DIRTY_MAX);
	virt_map(vm, DEV_GPA, DEV_GPA, DEV_SIZE / 4096);
	virt_map(vm, DIRTY_WINDOW(0), DIRTY_WINDOW(0), DIRTY_WINDOWS * DIRTY_MAX);
	node_template_take(vm, vcpu);
}

static int __dirty_enable_cap(int vm, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap args = { .cap = cap, .args = { arg } };

	return node_ioctl(vm, KVM_ENABLE_CAP, &args);
}

void dirty_enable_cap(int vm, uint32_t cap, uint64_t arg)
{
	int r = __dirty_enable_cap(vm, cap, arg);

	TEST_ASSERT(!r, "KVM_ENABLE_CAP %u: %s", cap, strerror(-r));
}

void dirty_enable_ring(int vm)
{
	uint32_t cap = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0 ?
		       KVM_CAP_DIRTY_LOG_RING_ACQ_REL : KVM_CAP_DIRTY_LOG_RING;

	dirty_enable_cap(vm, cap, DIRTY_RING * sizeof(struct kvm_dirty_gfn));
}

static void dirty_init_ctl(struct dirty_vm *v, unsigned int id)
{
	v->ctl = node_mmap(DIRTY_CTL_SIZE, MAP_SHARED | MAP_ANONYMOUS, -1);
	v->ctl->id = id;
	v->ctl->seed = (id + 1) * 0x9e3779b97f4a7c15ull;
}

void dirty_vm_begin(struct dirty_vm *v, unsigned int id)
{
	memset(v, 0, sizeof(*v));
	v->vm = NODE_IOCTL(node_template.kvm, KVM_CREATE_VM, NULL);
	dirty_init_ctl(v, id);
}

/* Its first or second vCPU, which has a control structure and a stack of its own. */
static void dirty_add_vcpu(struct dirty_vm *v, unsigned long n)
{
	struct kvm_regs regs = node_template.regs;

	node_set_memory(v->vm, n ? 50 : 1, DIRTY_CTL + n * DIRTY_CTL_SIZE, DIRTY_CTL_SIZE,
			v->ctl);
	regs.rdi += n * DIRTY_CTL_SIZE;
	regs.rsp -= n * 2 * 4096;
	v->vcpu = node_template_vcpu(v->vm, n, &regs, &v->run);
}

void dirty_vm_complete(struct dirty_vm *v, bool ring)
{
	v->ram = node_template_memory(v->vm);
	dirty_add_vcpu(v, 0);
	if (ring) {
		v->ring = mmap(NULL, DIRTY_RING * sizeof(*v->ring), PROT_READ | PROT_WRITE,
			       MAP_SHARED, v->vcpu, KVM_DIRTY_LOG_PAGE_OFFSET * 4096);
		TEST_ASSERT(v->ring != MAP_FAILED, "mmap of the ring: %s", strerror(errno));
	}
}

void dirty_vm_create(struct dirty_vm *v, unsigned int id)
{
	dirty_vm_begin(v, id);
	dirty_vm_complete(v, false);
}

void dirty_second_vcpu(struct dirty_vm *second, struct dirty_vm *v, unsigned int id)
{
	memset(second, 0, sizeof(*second));
	second->vm = v->vm;
	dirty_init_ctl(second, id);
	dirty_add_vcpu(second, 1);
}

/* A hole of a window, or the device. */
static void dirty_mmio(struct dirty_vm *v)
{
	struct kvm_run *run = v->run;
	bool dev = run->mmio.phys_addr >= DEV_GPA && run->mmio.phys_addr < DEV_GPA + DEV_SIZE;

	if (!dev)
		WRITE_ONCE(v->mmio, v->mmio + run->mmio.len);
	if (dev && run->mmio.is_write)
		memcpy(&v->dev_val, run->mmio.data, run->mmio.len);
	else if (dev)
		memcpy(run->mmio.data, &v->dev_val, run->mmio.len);
	else if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, run->mmio.len);
}

/* Answer an exit as a VMM does.  Returns false if the guest is done. */
static bool dirty_exit(struct dirty_vm *v)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		dirty_mmio(v);
		return true;
	case KVM_EXIT_DIRTY_RING_FULL:
		/* Somebody is about to harvest. */
		dirty_nap(100);
		return true;
	case KVM_EXIT_IO:
		if (run->io.port == NODE_PORT_DONE)
			return false;
		dirty_nap(v->nap);
		return true;
	default:
		TEST_FAIL("VM %lu: exit reason %u (%s)", v->ctl->id, run->exit_reason,
			  exit_reason_str(run->exit_reason));
	}
}

void dirty_run(struct dirty_vm *v)
{
	int r;

	do {
		r = node_ioctl(v->vcpu, KVM_RUN, NULL);
		WRITE_ONCE(v->exits, v->exits + 1);
		TEST_ASSERT(!r || r == -EINTR, "VM %lu: KVM_RUN: %s", v->ctl->id, strerror(-r));
	} while (r || dirty_exit(v));
}

void dirty_low_priority(void)
{
	setpriority(PRIO_PROCESS, syscall(SYS_gettid), 10);
}

/* A thread that is not to be in the way of those that harvest. */
static void *dirty_thread(void *arg)
{
	dirty_low_priority();
	dirty_run(arg);
	return NULL;
}

void dirty_go(struct dirty_vm *v, enum dirty_op op, uint64_t addr, uint64_t count)
{
	v->ctl->addr[0] = addr;
	v->ctl->count[0] = count;
	WRITE_ONCE(v->ctl->op, op);
	TEST_ASSERT(!pthread_create(&v->thread, NULL, dirty_thread, v), "pthread_create");
	v->running = true;
}

void dirty_stop(struct dirty_vm *v)
{
	if (!v->running)
		return;
	dirty_ask_stop(v);
	pthread_join(v->thread, NULL);
	v->running = false;
}

void dirty_kick(struct dirty_vm *v)
{
	uint64_t exits = READ_ONCE(v->exits), end = now_us() + 60 * 1000000ull;

	while (v->running && READ_ONCE(v->exits) == exits &&
	       READ_ONCE(v->ctl->op) != DIRTY_STOP) {
		TEST_ASSERT(now_us() < end, "VM %lu does not leave its guest for 60 s",
			    v->ctl->id);
		pthread_kill(v->thread, SIGUSR1);
		dirty_nap(50);
	}
}

void dirty_wait_passes(struct dirty_vm *v, uint64_t n)
{
	uint64_t end = READ_ONCE(v->ctl->passes) + n + 1;
	uint64_t limit = now_us() + 60 * 1000000ull;
	unsigned int i;

	for (i = 1; READ_ONCE(v->ctl->passes) < end; i++) {
		if (i % 1024)
			continue;
		TEST_ASSERT(now_us() < limit, "VM %lu does not go on", v->ctl->id);
		sched_yield();
	}
}

void dirty_do(struct dirty_vm *v, enum dirty_op op, uint64_t addr, uint64_t count, uint64_t val)
{
	v->ctl->op = op;
	v->ctl->addr[0] = addr;
	v->ctl->count[0] = count;
	v->ctl->val = val;
	dirty_run(v);
}

void dirty_vcpu_destroy(struct dirty_vm *v)
{
	dirty_stop(v);
	if (v->ring)
		munmap(v->ring, DIRTY_RING * sizeof(*v->ring));
	munmap(v->run, node_template.run_size);
	node_close(&v->vcpu);
	munmap(v->ctl, DIRTY_CTL_SIZE);
}

void dirty_vm_destroy(struct dirty_vm *v)
{
	dirty_stop(v);
	node_close(&v->vm);
	dirty_vcpu_destroy(v);
	munmap(v->ram, node_template.size);
}
