// SPDX-License-Identifier: GPL-2.0
/*
 * Revocation with the backend's vCPU in its guest: what include/vm2vm_spin.h declares.
 */
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "vm2vm_spin.h"

unsigned int spinner_patience = 20;

/* The guest has it in its own memory. */
static struct spinner_loop spinner_loop;

void spinner_guest(void)
{
	uint64_t *page = (uint64_t *)PEER_WINDOW;
	uint64_t val;

	peer_guest_interruptible();
	while (!READ_ONCE(spinner_loop.stop)) {
		if (!READ_ONCE(spinner_loop.readonly))
			WRITE_ONCE(page[SPINNER_WRITE], spinner_loop.count);
		val = READ_ONCE(page[SPINNER_READ]);
		if (val == SPINNER_CANARY)
			spinner_loop.canary++;
		WRITE_ONCE(spinner_loop.last, val);
		WRITE_ONCE(spinner_loop.count, spinner_loop.count + 1);
	}
	GUEST_DONE();
}

/* Fail if the guest does not get on; to be called now and then. */
static void spinner_be_patient(struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!start->tv_sec)
		*start = now;
	TEST_ASSERT(now.tv_sec - start->tv_sec < spinner_patience, "the guest does not go on");
}

void spinner_wait(struct spinner_loop *loop, uint64_t n)
{
	uint64_t end = READ_ONCE(loop->count) + n;
	struct timespec start = {};
	unsigned int i = 0;

	while (READ_ONCE(loop->count) < end) {
		if (!(++i % 1024))
			spinner_be_patient(&start);
	}
}

void spinner_wait_clear(uint64_t *word)
{
	struct timespec start = {};
	unsigned int i = 0;

	while (READ_ONCE(*word)) {
		if (!(++i % 1024))
			spinner_be_patient(&start);
	}
}

void spinner_wait_for(struct spinner_loop *loop, uint64_t val)
{
	unsigned int i;

	for (i = 0; i < 100000; i++) {
		spinner_wait(loop, 2);
		if (READ_ONCE(loop->last) == val)
			return;
	}
	TEST_FAIL("the guest reads 0x%lx, not 0x%lx", loop->last, val);
}

void spinner_begin(struct spinner_loop *loop, uint64_t *page)
{
	WRITE_ONCE(page[SPINNER_READ], SPINNER_OLD);
	spinner_wait_for(loop, SPINNER_OLD);
	spinner_wait(loop, 10);
}

void spinner_check(struct spinner_loop *loop, uint64_t *page, uint64_t expect,
		   unsigned int trial)
{
	WRITE_ONCE(page[SPINNER_READ], SPINNER_CANARY);
	WRITE_ONCE(page[SPINNER_WRITE], SPINNER_CANARY);
	spinner_wait(loop, 3);
	TEST_ASSERT(!READ_ONCE(loop->canary), "trial %u: the canary was seen", trial);
	TEST_ASSERT(READ_ONCE(page[SPINNER_WRITE]) == SPINNER_CANARY,
		    "trial %u: the canary was overwritten", trial);
	spinner_wait_for(loop, expect);
	TEST_ASSERT(!READ_ONCE(loop->canary), "trial %u: the canary was seen", trial);
}

void spinner_end(struct spinner_loop *loop, uint64_t *page, uint64_t expect,
		 unsigned int trial)
{
	spinner_check(loop, page, expect, trial);
	WRITE_ONCE(page[SPINNER_READ], SPINNER_OLD);
}

void *spinner_map_page(int memfd, unsigned int page, void *where)
{
	void *p = mmap(where, 4096, PROT_READ | PROT_WRITE,
		       MAP_SHARED | (where ? MAP_FIXED : 0), memfd, page * 4096);

	TEST_ASSERT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

int spinner_memfd(uint64_t *page[2])
{
	int memfd = memfd_create("vm2vm", MFD_CLOEXEC);
	unsigned int i;

	TEST_ASSERT(memfd >= 0 && !ftruncate(memfd, 2 * 4096), "memfd: %s", strerror(errno));
	for (i = 0; i < 2; i++)
		page[i] = spinner_map_page(memfd, i, NULL);
	return memfd;
}

void spinner_no_fork(struct kvm_vm *vm)
{
	struct userspace_mem_region *ram = memslot2region(vm, 0);

	TEST_ASSERT(!madvise(ram->mmap_start, ram->mmap_size, MADV_DONTFORK),
		    "MADV_DONTFORK: %s", strerror(errno));
}

static void spinner_send_fd(int sock, int fd)
{
	char buf[CMSG_SPACE(sizeof(fd))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	TEST_ASSERT(sendmsg(sock, &msg, 0) == 1, "sendmsg: %s", strerror(errno));
}

static int spinner_receive_fd(int sock)
{
	char buf[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	int fd;

	TEST_ASSERT(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&msg),
		    "recvmsg: %s", strerror(errno));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

pid_t spinner_start_owner(int memfd, int *domain)
{
	struct kvm_vm *vm;
	int socks[2], fd;
	pid_t pid;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, socks), "socketpair");
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		vm = vm_create_barebones();
		vm_set_user_memory_region(vm, 0, 0, PEER_OWNER_GPA, 4096,
					  spinner_map_page(memfd, 0, NULL));
		fd = vm2vm_create_domain(vm);
		vm2vm_map(fd, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
		spinner_send_fd(socks[1], fd);
		for (;;)
			pause();
	}
	close(socks[1]);
	*domain = spinner_receive_fd(socks[0]);
	close(socks[0]);
	return pid;
}

void spinner_kill_owner(pid_t pid)
{
	int status;

	TEST_ASSERT(!kill(pid, SIGKILL), "kill");
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
}

static void *spinner_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, run->mmio.len);
	}
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_DONE, "exit reason %u (%s), ucall %lu %lu",
		    run->exit_reason, exit_reason_str(run->exit_reason), uc.cmd, uc.args[1]);
	return NULL;
}

void spinner_start(struct spinner *s, struct peer *p, uint64_t link, unsigned int trials)
{
	s->p = p;
	s->link = link;
	s->trials = trials;
	s->memfd = spinner_memfd(s->page);
	spinner_map_page(s->memfd, 0, p->mem);
	s->loop = addr_gva2hva(p->backend, (uintptr_t)&spinner_loop);
	pthread_create(&s->thread, NULL, spinner_vcpu, p->vcpu);
}

void spinner_stop(struct spinner *s)
{
	WRITE_ONCE(s->loop->stop, 1);
	pthread_join(s->thread, NULL);
}

void spinner_map(struct spinner *s)
{
	vm2vm_map(s->p->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
}

static void spinner_unmap(struct spinner *s)
{
	vm2vm_unmap(s->p->domain, PEER_IOVA, 4096);
}

void spinner_link(struct spinner *s)
{
	vm2vm_link(s->p->backend, s->p->domain, PEER_SLOT, s->link, PEER_IOVA, 4096, 0);
}

static void spinner_unlink(struct spinner *s)
{
	vm2vm_unlink(s->p->backend, PEER_SLOT);
}

static void spinner_close(struct spinner *s)
{
	close(s->p->domain);
}

/* What is linked is a domain that is closed. */
static void spinner_reopen(struct spinner *s)
{
	spinner_unlink(s);
	s->p->domain = vm2vm_create_domain(s->p->owner);
	spinner_map(s);
	spinner_link(s);
}

/* Somebody has the descriptor yet. */
static void spinner_end_domain(struct spinner *s)
{
	vm2vm_end(s->p->domain);
}

static void spinner_new_domain(struct spinner *s)
{
	spinner_close(s);
	spinner_reopen(s);
}

static void spinner_munmap(struct spinner *s)
{
	TEST_ASSERT(!munmap(s->p->mem, 4096), "munmap");
}

static void spinner_mmap(struct spinner *s)
{
	spinner_map_page(s->memfd, 0, s->p->mem);
}

static void spinner_delete(struct spinner *s)
{
	vm_set_user_memory_region(s->p->owner, 0, 0, PEER_OWNER_GPA, 0, s->p->mem);
}

static void spinner_move(struct spinner *s)
{
	vm_set_user_memory_region(s->p->owner, 0, 0, PEER_OWNER_GPA + 0x100000, 4096,
				  s->p->mem);
}

static void spinner_put_back(struct spinner *s)
{
	vm_set_user_memory_region(s->p->owner, 0, 0, PEER_OWNER_GPA, 4096, s->p->mem);
}

/* @take takes the page away, and @give is to undo it. */
static void spinner_try(struct spinner *s, void (*take)(struct spinner *s),
			void (*give)(struct spinner *s))
{
	unsigned int i;

	spinner_map(s);
	spinner_link(s);
	for (i = 0; i < s->trials; i++) {
		spinner_begin(s->loop, s->page[0]);
		take(s);
		spinner_end(s->loop, s->page[0], SPINNER_HOLE, i);
		give(s);
	}
}

void spinner_try_unmap(struct spinner *s)
{
	spinner_try(s, spinner_unmap, spinner_map);
}

void spinner_try_unlink(struct spinner *s)
{
	spinner_try(s, spinner_unlink, spinner_link);
}

void spinner_try_close(struct spinner *s)
{
	spinner_try(s, spinner_close, spinner_reopen);
}

void spinner_try_end(struct spinner *s)
{
	spinner_try(s, spinner_end_domain, spinner_new_domain);
}

void spinner_try_munmap(struct spinner *s)
{
	spinner_try(s, spinner_munmap, spinner_mmap);
}

void spinner_try_memslot_delete(struct spinner *s)
{
	spinner_try(s, spinner_delete, spinner_put_back);
}

void spinner_try_memslot_move(struct spinner *s)
{
	spinner_try(s, spinner_move, spinner_put_back);
}

void spinner_try_mmap(struct spinner *s)
{
	unsigned int i, now = 0;

	spinner_map(s);
	spinner_link(s);
	for (i = 0; i < s->trials; i++) {
		spinner_begin(s->loop, s->page[now]);
		WRITE_ONCE(s->page[!now][SPINNER_READ], SPINNER_NEW);
		spinner_map_page(s->memfd, !now, s->p->mem);
		spinner_end(s->loop, s->page[now], SPINNER_NEW, i);
		now = !now;
	}
}

void spinner_try_unmap_races_fault(struct spinner *s)
{
	unsigned int i;

	spinner_link(s);
	for (i = 0; i < s->trials; i++) {
		spinner_map(s);
		if (i % 4)
			spinner_wait(s->loop, i % 4 - 1);
		spinner_unmap(s);
		spinner_end(s->loop, s->page[0], SPINNER_HOLE, i);
	}
}
