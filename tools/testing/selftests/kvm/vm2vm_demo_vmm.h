/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Plumbing of vm2vm_demo: the messages between its three processes, and what
 * its two VMMs have in common: running a job in the guest, answering MMIO, and
 * reading the vCPU's statistics.
 */
#ifndef SELFTEST_KVM_VM2VM_DEMO_VMM_H
#define SELFTEST_KVM_VM2VM_DEMO_VMM_H

#include <sys/socket.h>

#include "vm2vm.h"
#include "vm2vm_demo_guest.h"

/* Counters of a vCPU, as KVM keeps them. */
enum demo_stat {
	STAT_EXITS,
	STAT_IRQ_EXITS,
	STAT_PF_TAKEN,
	STAT_PF_FIXED,
	NR_STATS,
};

static const char *const demo_stat_name[NR_STATS] = {
	[STAT_EXITS]	 = "exits",
	[STAT_IRQ_EXITS] = "irq_exits",
	[STAT_PF_TAKEN]	 = "pf_taken",
	[STAT_PF_FIXED]	 = "pf_fixed",
};

/* MMIO exits of one job; [1]: to pages with an odd number in their window. */
struct demo_mmio {
	u64 reads[2];
	u64 writes[2];
};

enum demo_cmd {
	CMD_START,
	/* To the owner */
	CMD_DIGEST,
	CMD_REVOKE,
	CMD_CHECK,
	/* To the backend */
	CMD_HASH,
	CMD_PUT_DIGEST,
	CMD_ACCESS,
	CMD_READ_HUGE,
	CMD_SCAN,
	CMD_SCAN_HUGE,
	CMD_POKE,
	CMD_HASH_EVEN,
	CMD_SELF,
	CMD_QUIT,
};

/*
 * A request to the owner or the backend, and its answer; the owner also
 * describes its domain to the backend with one.
 */
struct demo_msg {
	u64 cmd;
	u64 pages;
	u64 bytes;
	u64 pool;		/* owner: pages over which the file is scattered */
	u64 neighbours;	/* owner: pages that stayed behind their predecessor */
	u64 maps;		/* owner: calls of KVM_VM2VM_MAP or UNMAP */
	u64 huge_bytes;	/* owner: memory that really is huge pages */
	u64 refused;	/* backend: tries to change the domain, all EPERM */
	u64 first, step;	/* pages to walk over */
	u64 result;
	u64 stat[NR_STATS];	/* what the job added */
	struct demo_mmio mmio;
	struct sha256_digest digest;
};

/* fd -1: no descriptor goes along. */
static inline void demo_send(int sock, const struct demo_msg *msg, int fd)
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

/*
 * False: the other side is gone.  *fd is the descriptor that came along, or -1;
 * fd may be NULL.
 */
static inline bool demo_recv(int sock, struct demo_msg *msg, int *fd)
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

/* A VM with one vCPU, and what the last job did. */
struct demo_vmm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int stats_fd;
	struct kvm_stats_header stats_header;
	struct kvm_stats_desc *stats_desc;
	u64 stat[NR_STATS];
	struct demo_mmio mmio;
};

static inline u64 demo_read_stat(struct demo_vmm *vmm, const char *name)
{
	u64 value;
	u32 i;

	for (i = 0; i < vmm->stats_header.num_desc; i++) {
		struct kvm_stats_desc *desc;

		desc = get_stats_descriptor(vmm->stats_desc, i, &vmm->stats_header);
		if (strcmp(desc->name, name))
			continue;
		read_stat_data(vmm->stats_fd, &vmm->stats_header, desc, &value, 1);
		return value;
	}
	TEST_FAIL("KVM has no statistic '%s' of a vCPU", name);
}

/* @extra_pages: mapped in the guest besides the program, for page tables. */
static inline void demo_create_vm(struct demo_vmm *vmm, u64 extra_pages,
				  void *guest)
{
	vmm->vm = __vm_create_with_one_vcpu(&vmm->vcpu, extra_pages, guest);
	vmm->stats_fd = vcpu_get_stats_fd(vmm->vcpu);
	read_stats_header(vmm->stats_fd, &vmm->stats_header);
	vmm->stats_desc = read_stats_descriptors(vmm->stats_fd,
						 &vmm->stats_header);
}

static inline void demo_free_vm(struct demo_vmm *vmm)
{
	free(vmm->stats_desc);
	close(vmm->stats_fd);
	kvm_vm_free(vmm->vm);
}

/* As a PCI bus does where nothing answers: all-ones; a write goes nowhere. */
static inline void demo_answer_mmio(struct demo_vmm *vmm)
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

static inline void demo_run_vcpu(struct demo_vmm *vmm)
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

/* Does demo_job in the guest; demo_job, vmm->stat and vmm->mmio are the result. */
static inline void demo_run_job(struct demo_vmm *vmm, enum demo_op op)
{
	u64 before[NR_STATS];
	int i;

	demo_job.op = op;
	sync_global_to_guest(vmm->vm, demo_job);
	memset(&vmm->mmio, 0, sizeof(vmm->mmio));

	for (i = 0; i < NR_STATS; i++)
		before[i] = demo_read_stat(vmm, demo_stat_name[i]);
	demo_run_vcpu(vmm);
	for (i = 0; i < NR_STATS; i++)
		vmm->stat[i] = demo_read_stat(vmm, demo_stat_name[i]) - before[i];

	sync_global_from_guest(vmm->vm, demo_job);
}

#endif /* SELFTEST_KVM_VM2VM_DEMO_VMM_H */
