// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: the worked example of Documentation/virt/kvm/vm2vm.rst, whole.
 *
 * The parent is the owner's VMM, the child the backend's.  The domain goes over a
 * UNIX socket, as it would between two programs that do not know each other.  The
 * backend's guest reads a word, writes another, and finds a hole after the owner
 * has revoked.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include <linux/kvm_vm2vm.h>

#define OWNER_GPA	0x10000000ul
#define IOVA		0x100000ul
#define WINDOW		0x100000000ul
#define WINDOW_SIZE	BIT(32)
#define PAGE		(WINDOW + IOVA)		/* where the guest finds it */
#define GREETING	0x6f6c6c6568ul
#define REPLY		0x7962646f6f67ul

#define MUST(call) TEST_ASSERT((call) >= 0, "%s: %s", #call, strerror(errno))

static void send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	MUST(sendmsg(socket, &msg, 0));
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd;

	MUST(recvmsg(socket, &msg, 0));
	TEST_ASSERT(CMSG_FIRSTHDR(&msg), "no descriptor came");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* Each end waits for the other by a byte. */
static void tell(int socket)
{
	TEST_ASSERT(write(socket, "", 1) == 1, "write: %s", strerror(errno));
}

static void hear(int socket)
{
	char byte;

	TEST_ASSERT(read(socket, &byte, 1) == 1, "the peer has died");
}

static void guest(void)
{
	GUEST_SYNC(READ_ONCE(*(uint64_t *)PAGE));
	WRITE_ONCE(*(uint64_t *)(PAGE + 8), REPLY);
	GUEST_SYNC(0);
	GUEST_SYNC(READ_ONCE(*(uint64_t *)PAGE));
}

/* Run the guest to its next GUEST_SYNC(), be a bus with nothing on it meanwhile. */
static uint64_t run(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
			break;
		if (!vcpu->run->mmio.is_write)
			memset(vcpu->run->mmio.data, 0xff, vcpu->run->mmio.len);
	}
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "the guest is lost");
	return uc.args[1];
}

static void backend(int socket)
{
	struct kvm_vm2vm_link link = {
		.slot = 5, .gpa = WINDOW, .iova = 0, .size = WINDOW_SIZE,
	};
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest);

	link.domain_fd = receive_fd(socket);
	MUST(ioctl(vm->fd, KVM_VM2VM_LINK, &link));
	virt_map(vm, PAGE, PAGE, 1);

	TEST_ASSERT_EQ(run(vcpu), GREETING);
	run(vcpu);
	tell(socket);

	hear(socket);
	TEST_ASSERT_EQ(run(vcpu), ~0ul);
	kvm_vm_free(vm);
}

static void owner(int socket)
{
	struct kvm_vm2vm_create_domain create = {};
	struct kvm_vm2vm_map map = {
		.iova = IOVA, .gpa = OWNER_GPA, .size = 4096,
		.flags = KVM_VM2VM_MAP_READ | KVM_VM2VM_MAP_WRITE,
	};
	struct kvm_vm2vm_unmap unmap = { .iova = IOVA, .size = 4096 };
	uint64_t *mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_vm *vm = vm_create_barebones();
	int domain;

	TEST_ASSERT(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	mem[0] = GREETING;
	vm_set_user_memory_region(vm, 0, 0, OWNER_GPA, 4096, mem);

	domain = ioctl(vm->fd, KVM_VM2VM_CREATE_DOMAIN, &create);
	MUST(domain);
	MUST(ioctl(domain, KVM_VM2VM_MAP, &map));
	send_fd(socket, domain);

	hear(socket);
	TEST_ASSERT_EQ(mem[1], REPLY);

	MUST(ioctl(domain, KVM_VM2VM_UNMAP, &unmap));
	TEST_ASSERT_EQ((uint64_t)unmap.unmapped, 4096ul);
	tell(socket);
	kvm_vm_free(vm);
}

int main(void)
{
	int sockets[2], status;
	pid_t pid;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VM2VM));

	ksft_print_header();
	ksft_set_plan(1);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork();
	MUST(pid);
	if (!pid) {
		close(sockets[0]);
		backend(sockets[1]);
		_exit(0);
	}
	close(sockets[1]);
	owner(sockets[0]);
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ksft_test_result(!status, "example\n");
	ksft_finished();
}
