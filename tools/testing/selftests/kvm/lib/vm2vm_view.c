// SPDX-License-Identifier: GPL-2.0
/*
 * Owners and a backend that sees each of them in a view of its own: what
 * include/vm2vm_view.h declares.
 */
#include "apic.h"
#include "vm2vm_access.h"
#include "vm2vm_view.h"

/* What each vCPU is to do, in the guest's memory, and its own page. */
static struct view_cmd view_cmds[VIEW_CPUS];
static uint64_t view_guest_own[512];

/*
 * Into the view, some of its first page to own memory, changed and back, and out.
 * Word 0 has to be VAL and the others, which are all the same, one more every time.
 */
static void view_guest_trips(struct view_cmd *c)
{
	uint64_t *window = (uint64_t *)VIEW_GPA(c->view), words, i, k;

	for (i = 0; i < c->count; i++) {
		words = 8 + i * 8 % 512;
		words = words > 512 ? 512 : words;
		vm2vm_view_enter(c->view);
		view_guest_copy(view_guest_own, window, words);
		if (view_guest_own[0] != c->val || view_guest_own[1] != i ||
		    view_guest_own[7] != i)
			c->bad++;
		for (k = 1; k < 8; k++)
			view_guest_own[k]++;
		view_guest_copy(window, view_guest_own, words);
		vm2vm_view_leave();
	}
}

/* The windows are consecutive pages of owner 0, from its first on. */
static void view_guest_check(struct view_cmd *c)
{
	uint64_t v;

	for (v = c->view; v < c->view + c->count; v++) {
		vm2vm_view_enter(v);
		if (READ_ONCE(*(uint64_t *)VIEW_GPA(v)) != VIEW_VALUE(0, v - c->view))
			c->bad++;
		WRITE_ONCE(((uint64_t *)VIEW_GPA(v))[1], ~v);
	}
	vm2vm_view_leave();
}

static void view_guest_fill(struct view_cmd *c)
{
	uint64_t i;

	vm2vm_view_enter(c->view);
	for (i = 0; i < c->count; i++)
		WRITE_ONCE(*(uint64_t *)(c->gva + i * 4096), c->val);
	vm2vm_view_leave();
}

/* To disabled, xAPIC and x2APIC mode, and look at @gva in each. */
static void view_guest_apic(struct view_cmd *c)
{
	uint64_t base = rdmsr(MSR_IA32_APICBASE) & ~(MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE);
	const uint64_t modes[] = {
		0, MSR_IA32_APICBASE_ENABLE, MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE,
	};
	unsigned int i;

	vm2vm_view_enter(c->view);
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		wrmsr(MSR_IA32_APICBASE, base | modes[i]);
		if (READ_ONCE(*(uint64_t *)c->gva) != c->val)
			c->bad++;
	}
	vm2vm_view_leave();
}

static uint64_t view_guest_cpl(void)
{
	uint16_t cs;

	asm volatile("mov %%cs, %0" : "=r" (cs));
	return cs & 3;
}

void view_guest(struct view_cmd *c)
{
	peer_guest_interruptible();
	for (;;) {
		c->cpl = view_guest_cpl();
		switch (READ_ONCE(c->op)) {
		case VIEW_VMFUNC:
			c->vector = view_guest_vmfunc(c->function, c->view);
			break;
		case VIEW_READ:
			c->val = READ_ONCE(*(uint64_t *)c->gva);
			break;
		case VIEW_WRITE:
			WRITE_ONCE(*(uint64_t *)c->gva, c->val);
			break;
		case VIEW_TRIPS:
			view_guest_trips(c);
			break;
		case VIEW_CHECK:
			view_guest_check(c);
			break;
		case VIEW_FILL:
			view_guest_fill(c);
			break;
		case VIEW_ACCESS:
			guest_do(&access_cmd);
			break;
		case VIEW_APIC:
			view_guest_apic(c);
			break;
		}
		GUEST_SYNC(0);
	}
}

void view_owner_init(struct view_owner *o, unsigned int nr, unsigned int pages, uint32_t flags)
{
	unsigned int i;

	o->size = pages * 4096ul;
	o->mem = peer_mmap(o->size, 0);
	TEST_ASSERT(o->mem, "mmap: %s", strerror(errno));
	TEST_ASSERT(!madvise(o->mem, o->size, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
	for (i = 0; i < pages; i++)
		*(uint64_t *)(o->mem + i * 4096) = VIEW_VALUE(nr, i);
	o->vm = vm_create_barebones();
	vm_set_user_memory_region(o->vm, 0, 0, PEER_OWNER_GPA, o->size, o->mem);
	o->domain = vm2vm_create_domain_flags(o->vm, flags);
	vm2vm_map(o->domain, PEER_IOVA, PEER_OWNER_GPA, o->size, VM2VM_RW);
}

void view_owner_free(struct view_owner *o)
{
	if (o->domain >= 0)
		close(o->domain);
	if (o->vm)
		kvm_vm_free(o->vm);
	o->domain = -1;
	o->vm = NULL;
}

void view_add_cpu(struct view *w, void *guest)
{
	struct view_cpu *cpu = &w->cpu[w->cpus];

	memset(cpu, 0, sizeof(*cpu));
	cpu->vcpu = vm_vcpu_add(w->vm, w->cpus, guest);
	cpu->cmd = addr_gva2hva(w->vm, (uintptr_t)&view_cmds[w->cpus]);
	vcpu_args_set(cpu->vcpu, 1, &view_cmds[w->cpus]);
	w->cpus++;
}

void view_init(struct view *w, unsigned int pages)
{
	unsigned int i;

	memset(w, 0, sizeof(*w));
	for (i = 0; i < VIEW_OWNERS; i++)
		view_owner_init(&w->owner[i], i, pages, 0);
	w->vm = vm_create(VIEW_CPUS);
	TEST_ASSERT(w->vm->max_gfn >= VIEW_GPA(KVM_VM2VM_NR_VIEWS) / 4096,
		    "the guest has no physical addresses for windows, only to page 0x%lx",
		    w->vm->max_gfn);
	virt_map(w->vm, DEV_GPA, DEV_GPA, 1);
	view_add_cpu(w, view_guest);
}

void view_free(struct view *w)
{
	unsigned int i;

	for (i = 0; i < VIEW_OWNERS; i++)
		view_owner_free(&w->owner[i]);
	if (w->vm)
		kvm_vm_free(w->vm);
}

int __view_link(struct view *w, unsigned int view, int domain, uint64_t iova, uint64_t size,
		uint32_t flags)
{
	struct kvm_vm2vm_link args = {
		.domain_fd = domain, .slot = VIEW_SLOT(view), .gpa = VIEW_GPA(view),
		.iova = iova, .size = size, .view = view,
		.flags = flags | KVM_VM2VM_LINK_TRANSIENT,
	};

	return vm2vm_ioctl(w->vm->fd, KVM_VM2VM_LINK, &args);
}

void view_map_window(struct view *w, unsigned int view)
{
	virt_map_level(w->vm, VIEW_GPA(view), VIEW_GPA(view), PEER_SIZE_2M, PG_LEVEL_2M);
}

void view_link(struct view *w, unsigned int view, unsigned int owner, unsigned int page,
	       unsigned int pages, uint32_t flags)
{
	int r = __view_link(w, view, w->owner[owner].domain, PEER_IOVA + page * 4096ul,
			    pages * 4096ul, flags);

	TEST_ASSERT(!r, "KVM_VM2VM_LINK view %u: %s", view, strerror(-r));
	view_map_window(w, view);
}

uint32_t view_get(struct view_cpu *cpu)
{
	struct kvm_vm2vm_view args = {};
	int r = __view_get(cpu, &args);

	TEST_ASSERT(!r, "KVM_VM2VM_GET_VIEW: %s", strerror(-r));
	TEST_ASSERT(!args.flags && !args.reserved[0] && !args.reserved[1] && !args.reserved[2],
		    "KVM_VM2VM_GET_VIEW leaves something behind");
	return args.view;
}

void view_set(struct view_cpu *cpu, uint32_t view)
{
	int r = __view_set(cpu, view);

	TEST_ASSERT(!r, "KVM_VM2VM_SET_VIEW %u: %s", view, strerror(-r));
}

void view_mmio(struct view_cpu *cpu)
{
	struct kvm_run *run = cpu->vcpu->run;

	if (run->mmio.phys_addr / 4096 == DEV_GPA / 4096) {
		if (run->mmio.is_write)
			memcpy(&cpu->dev, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, &cpu->dev, run->mmio.len);
		return;
	}
	cpu->mmio++;
	cpu->mmio_gpa = run->mmio.phys_addr;
	cpu->mmio_write = run->mmio.is_write;
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, run->mmio.len);
}

int __view_run(struct view_cpu *cpu)
{
	struct kvm_run *run = cpu->vcpu->run;
	struct ucall uc;

	do {
		if (__vcpu_run(cpu->vcpu))
			return -errno;
		if (run->exit_reason == KVM_EXIT_MMIO)
			view_mmio(cpu);
	} while (run->exit_reason == KVM_EXIT_MMIO);
	switch (get_ucall(cpu->vcpu, &uc)) {
	case UCALL_SYNC:
		return 0;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	}
	return run->exit_reason;
}

void *view_thread(void *cpu)
{
	return (void *)(long)__view_run(cpu);
}

void view_do(struct view_cpu *cpu, enum view_op op)
{
	int r;

	cpu->cmd->op = op;
	r = __view_run(cpu);
	TEST_ASSERT(!r, "command %u of the guest: %d", op, r);
}

uint8_t view_vmfunc(struct view_cpu *cpu, uint64_t function, uint64_t view)
{
	cpu->cmd->function = function;
	cpu->cmd->view = view;
	cpu->cmd->vector = 0xff;
	view_do(cpu, VIEW_VMFUNC);
	return cpu->cmd->vector;
}

void view_enter(struct view_cpu *cpu, unsigned int view)
{
	uint8_t vector = view_vmfunc(cpu, 0, view);

	TEST_ASSERT(!vector, "VMFUNC to view %u: exception %u", view, vector);
}

uint64_t view_read(struct view_cpu *cpu, unsigned int view, uint64_t offset)
{
	cpu->cmd->gva = VIEW_GPA(view) + offset;
	cpu->cmd->val = 0xbad;
	view_do(cpu, VIEW_READ);
	return cpu->cmd->val;
}

void view_write(struct view_cpu *cpu, unsigned int view, uint64_t offset, uint64_t val)
{
	cpu->cmd->gva = VIEW_GPA(view) + offset;
	cpu->cmd->val = val;
	view_do(cpu, VIEW_WRITE);
}

void view_do_trips(struct view_cpu *cpu, unsigned int view, uint64_t *page, uint64_t count)
{
	memset(page + 1, 0, 4096 - 8);
	cpu->cmd->view = view;
	cpu->cmd->val = page[0];
	cpu->cmd->count = count;
	cpu->cmd->bad = 0;
	view_do(cpu, VIEW_TRIPS);
}

uint64_t view_exits(struct view_cpu *cpu)
{
	return peer_vcpu_stat(cpu->vcpu, "exits") - peer_vcpu_stat(cpu->vcpu, "irq_exits");
}

struct access_cmd *view_access(struct view *w)
{
	return addr_gva2hva(w->vm, (uintptr_t)&access_cmd);
}
