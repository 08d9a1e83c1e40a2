/*
 * vm2vm: file descriptors that come from a peer
 *
 * Whatever is behind one, QEMU must not wait for it: a socket may linger as it
 * closes, a FUSE file system answers when it likes to, and O_NONBLOCK is the
 * peer's to change.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_VM2VM_FD_H
#define QEMU_VM2VM_FD_H

typedef enum Vm2vmFdKind {
    VM2VM_FD_EVENTFD,
    VM2VM_FD_DOMAIN,            /* of KVM */
    VM2VM_FD_SOCKET,            /* AF_UNIX, a stream */
    VM2VM_FD_MEMORY,            /* a memfd whose size stays what it is */
} Vm2vmFdKind;

/* All that can come with one message */
#define VM2VM_FD_MAX 253

#ifdef CONFIG_LINUX

/*
 * Close it, where that may take its time. -1 is nothing. @peer, a chardev, is
 * whoever gets no more of them if they do not close, see vm2vm_fd_congested();
 * or NULL.
 */
void vm2vm_fd_close_of(const void *peer, int fd);
void vm2vm_fd_close(int fd);
/*
 * Is it of that kind? Nothing is asked of the file itself before it is known
 * that the kernel answers by itself.
 */
bool vm2vm_fd_is(int fd, Vm2vmFdKind kind);
/*
 * Add 1 to an eventfd, which stays the caller's. If there is no room nothing
 * has to be done: who reads it has enough to read.
 */
void vm2vm_fd_signal(const void *peer, int fd);
/* So many of this peer's do not close that it is better to take no more */
bool vm2vm_fd_congested(const void *peer);

#else

static inline bool vm2vm_fd_congested(const void *peer)
{
    return false;
}

#endif

#endif
