// SPDX-License-Identifier: GPL-2.0
/*
 * Plumbing of vm2vm_demo: what vmm.h declares.
 */
#include <sys/socket.h>

#include "vm2vm_peer.h"
#include "vmm.h"

static const char *const demo_stat_name[NR_STATS] = {
	[STAT_EXITS]	 = "exits",
	[STAT_IRQ_EXITS] = "irq_exits",
	[STAT_PF_TAKEN]	 = "pf_taken",
	[STAT_PF_FIXED]	 = "pf_fixed",
};

void demo_send(int sock, const struct demo_msg *msg, int fd)
{
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = sizeof(*msg) };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r;

	if (fd >= 0) {
		struct cmsghdr *cmsg = &control.align;

		hdr.msg_control = &control;
		hdr.msg_controllen = sizeof(control);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}

	r = sendmsg(sock, &hdr, MSG_NOSIGNAL);
	TEST_ASSERT(r == sizeof(*msg), "sendmsg: %s", strerror(errno));
}

bool demo_recv(int sock, struct demo_msg *msg, int *fd)
{
	struct iovec iov = { .iov_base = msg, .iov_len = sizeof(*msg) };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct msghdr hdr = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t r = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);

	if (r != sizeof(*msg))
		return false;
	if (fd) {
		*fd = -1;
		if (CMSG_FIRSTHDR(&hdr))
			memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&hdr)), sizeof(*fd));
	}
	return true;
}

/* As a PCI bus does where nothing answers: all-ones; a write goes nowhere. */
static void demo_answer_mmio(struct demo_vmm *vmm)
{
	struct kvm_run *run = vmm->vcpu->run;
	u64 gpa = run->mmio.phys_addr;
	bool odd;

	TEST_ASSERT(gpa >= DEMO_WINDOW && gpa < DEMO_HUGE_WINDOW + DEMO_HUGE_SIZE,
		    "MMIO at 0x%lx, outside the windows", gpa);
	TEST_ASSERT(run->mmio.len == 8, "MMIO of %u bytes at 0x%lx, wanted 8",
		    run->mmio.len, gpa);

	odd = (gpa / PAGE_SIZE) & 1;
	if (run->mmio.is_write) {
		vmm->mmio.writes[odd]++;
	} else {
		vmm->mmio.reads[odd]++;
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	}
}

static void demo_run_vcpu(struct demo_vmm *vmm)
{
	struct ucall uc;

	for (;;) {
		vcpu_run(vmm->vcpu);
		if (vmm->vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			demo_answer_mmio(vmm);
			continue;
		}

		TEST_ASSERT_KVM_EXIT_REASON(vmm->vcpu, KVM_EXIT_IO);
		switch (get_ucall(vmm->vcpu, &uc)) {
		case UCALL_SYNC:
			return;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		default:
			TEST_FAIL("unknown ucall %lu", uc.cmd);
		}
	}
}

void demo_run_job(struct demo_vmm *vmm, enum demo_op op)
{
	u64 before[NR_STATS];
	int i;

	demo_job.op = op;
	sync_global_to_guest(vmm->vm, demo_job);
	memset(&vmm->mmio, 0, sizeof(vmm->mmio));

	for (i = 0; i < NR_STATS; i++)
		before[i] = peer_vcpu_stat(vmm->vcpu, demo_stat_name[i]);
	demo_run_vcpu(vmm);
	for (i = 0; i < NR_STATS; i++)
		vmm->stat[i] = peer_vcpu_stat(vmm->vcpu, demo_stat_name[i]) - before[i];

	sync_global_from_guest(vmm->vm, demo_job);
}
