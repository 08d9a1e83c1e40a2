// SPDX-License-Identifier: GPL-2.0
/*
 * The backend of vm2vm_demo.  It has no access to the file: all that it gets is
 * the descriptor of the owner's domain, of which it links two windows.
 */
#include "demo.h"
#include "vmm.h"

#define BACKEND_FILE_SLOT	1
#define BACKEND_HUGE_SLOT	2

/* Only the owner may change what is approved, whoever holds the descriptor. */
static u64 backend_try_to_approve(int domain)
{
	const u64 unused = DEMO_HUGE_IOVA + DEMO_HUGE_SIZE;
	int r;

	r = __vm2vm_map(domain, unused, 0, PAGE_SIZE, KVM_VM2VM_MAP_READ);
	TEST_ASSERT(r == -EPERM, "KVM_VM2VM_MAP by the backend: %d", r);
	r = __vm2vm_unmap(domain, DEMO_FILE_IOVA, PAGE_SIZE, NULL);
	TEST_ASSERT(r == -EPERM, "KVM_VM2VM_UNMAP by the backend: %d", r);
	return 2;
}

static void backend_start(struct demo_vmm *vmm, struct demo_msg *msg, int owner)
{
	u64 window_pages;
	int domain;

	TEST_ASSERT(demo_recv(owner, msg, &domain) && domain >= 0,
		    "no descriptor from the owner");
	demo_job.pages = msg->pages;
	demo_job.bytes = msg->bytes;
	window_pages = msg->pages + 1;

	vmm->vm = __vm_create_with_one_vcpu(&vmm->vcpu, 2 * window_pages, demo_backend_guest);
	TEST_ASSERT((DEMO_HUGE_WINDOW + DEMO_HUGE_SIZE) / PAGE_SIZE <=
		    vmm->vm->max_gfn, "too few physical address bits");

	vm2vm_link(vmm->vm, domain, BACKEND_FILE_SLOT, DEMO_WINDOW,
		   DEMO_FILE_IOVA, window_pages * PAGE_SIZE, 0);
	vm2vm_link(vmm->vm, domain, BACKEND_HUGE_SLOT, DEMO_HUGE_WINDOW,
		   DEMO_HUGE_IOVA, DEMO_HUGE_SIZE, KVM_VM2VM_LINK_READONLY);
	msg->refused = backend_try_to_approve(domain);

	/*
	 * The domain stays open, and this is the stronger case: the descriptor
	 * must not keep anything approved when the owner dies.
	 */
	virt_map(vmm->vm, DEMO_WINDOW, DEMO_WINDOW, window_pages);
	virt_map_level(vmm->vm, DEMO_HUGE_WINDOW, DEMO_HUGE_WINDOW,
		       DEMO_HUGE_SIZE, PG_LEVEL_2M);

	demo_job.own_pages = memslot2region(vmm->vm, 0)->region.memory_size / PAGE_SIZE;
	virt_map(vmm->vm, DEMO_OWN, 0, demo_job.own_pages);
	demo_run_job(vmm, DEMO_TOUCH_OWN);
}

/*
 * The run itself exits once, at its end: what a run of nothing costs is taken
 * off.  So are the exits for the host's own interrupts, in both.
 */
static void backend_access(struct demo_vmm *vmm, struct demo_msg *msg)
{
	u64 idle;

	demo_run_job(vmm, DEMO_NOP);
	idle = vmm->stat[STAT_EXITS] - vmm->stat[STAT_IRQ_EXITS];

	demo_job.accesses = msg->first;
	demo_run_job(vmm, DEMO_ACCESS);
	vmm->stat[STAT_EXITS] -= vmm->stat[STAT_IRQ_EXITS] + idle;
	msg->result = demo_job.result;
}

static void backend_walk(struct demo_vmm *vmm, struct demo_msg *msg, enum demo_op op, u64 base,
			 u64 pages)
{
	demo_job.base = base;
	demo_job.first = msg->first;
	demo_job.step = msg->step;
	demo_job.end = pages;
	demo_run_job(vmm, op);
	msg->result = demo_job.result;
}

static void backend_digest(struct demo_vmm *vmm, struct demo_msg *msg, enum demo_op op)
{
	demo_run_job(vmm, op);
	msg->digest = demo_job.digest;
}

static void backend_command(struct demo_vmm *vmm, struct demo_msg *msg)
{
	switch (msg->cmd) {
	case CMD_HASH:
		backend_digest(vmm, msg, DEMO_HASH);
		break;
	case CMD_HASH_EVEN:
		backend_digest(vmm, msg, DEMO_HASH_EVEN);
		break;
	case CMD_SELF:
		backend_digest(vmm, msg, DEMO_SELF);
		break;
	case CMD_PUT_DIGEST:
		/* Still in demo_job, from CMD_HASH. */
		demo_run_job(vmm, DEMO_PUT_DIGEST);
		break;
	case CMD_ACCESS:
		backend_access(vmm, msg);
		break;
	case CMD_READ_HUGE:
		demo_run_job(vmm, DEMO_READ_HUGE);
		msg->result = demo_job.result;
		break;
	case CMD_SCAN:
		backend_walk(vmm, msg, DEMO_SCAN, DEMO_WINDOW, demo_job.pages + 1);
		break;
	case CMD_SCAN_HUGE:
		backend_walk(vmm, msg, DEMO_SCAN, DEMO_HUGE_WINDOW,
			     DEMO_HUGE_PAGES);
		break;
	case CMD_POKE:
		backend_walk(vmm, msg, DEMO_POKE, DEMO_WINDOW, demo_job.pages);
		break;
	default:
		TEST_FAIL("backend: unknown command %lu", msg->cmd);
	}
}

void demo_backend_main(int launcher, int owner)
{
	struct demo_vmm vmm = {};
	struct demo_msg msg;

	while (demo_recv(launcher, &msg, NULL)) {
		if (msg.cmd == CMD_QUIT) {
			kvm_vm_free(vmm.vm);
			exit(0);
		}
		if (msg.cmd == CMD_START)
			backend_start(&vmm, &msg, owner);
		else
			backend_command(&vmm, &msg);
		msg.mmio = vmm.mmio;
		memcpy(msg.stat, vmm.stat, sizeof(msg.stat));
		demo_send(launcher, &msg, -1);
	}
}
