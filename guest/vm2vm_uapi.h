/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * vm2vm: the driver of QEMU's vm2vm-pci in a Linux guest, /dev/vm2vm/N
 *
 * A program that opens the node gets at the registers, the window and the in-flight memory
 * by VM2VM_GET_REGION, and serves the peer's device once it has the device to itself
 * (VM2VM_CLAIM).  vm2vm_pci.h says what the registers are, and what a program has to do.
 *
 * read(2) waits for a change of the registers and gives a &struct vm2vm_state; a program that
 * has just opened the node need not wait the first time.  poll(2) says EPOLLIN when read(2)
 * would not wait, and EPOLLHUP | EPOLLERR when the device has gone; read(2) then fails with
 * ENODEV, and so does everything else.
 *
 * Who may open the node may do with the peer's device what a back-end may do, and no more:
 * there is no register by which this device reaches anything but its peer.
 *
 * Nothing is kept for a program that has ended: with the last reference to the open file the
 * device is nobody's, its registers say that nobody serves (VM2VM_PCI_CONTROL is 0), and
 * what is mapped of its regions anywhere, also by programs to which they were passed, does
 * not show the peer any more.
 */
#ifndef VM2VM_UAPI_H
#define VM2VM_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VM2VM_IOC	0xfa

/**
 * struct vm2vm_state - what read(2) gives
 * @changes: how often something in the registers has changed since the driver took the
 *	device, counted from an arbitrary number
 * @epoch: VM2VM_PCI_EPOCH
 * @state: VM2VM_PCI_STATE, bits VM2VM_PCI_STATE_*
 *
 * read(2) of fewer bytes fails with EINVAL, with O_NONBLOCK and nothing new with EAGAIN.
 */
struct vm2vm_state {
	__u64 changes;
	__u32 epoch;
	__u32 state;
};

/**
 * struct vm2vm_info - what VM2VM_GET_INFO gives
 * @registers: size of that region, in bytes
 * @window: likewise; the bus address of its first byte is VM2VM_PCI_BASE
 * @inflight: likewise
 * @queues: for how many queues there can be a kick; a call for as many
 * @flags: none yet, 0
 * @pci: the device's address, "0000:00:05.0", padded with NULs
 */
struct vm2vm_info {
	__u64 registers;
	__u64 window;
	__u64 inflight;
	__u32 queues;
	__u32 flags;
	char pci[32];
};

/**
 * enum vm2vm_region - what VM2VM_GET_REGION can give
 * @VM2VM_REGION_REGISTERS: BAR 0: registers and doorbells.  Mapped uncached.
 * @VM2VM_REGION_WINDOW: the peer's memory.  Mapped write-back, page by page as it is touched.
 * @VM2VM_REGION_INFLIGHT: the in-flight memory.  Mapped write-back.
 */
enum vm2vm_region {
	VM2VM_REGION_REGISTERS = 0,
	VM2VM_REGION_WINDOW = 1,
	VM2VM_REGION_INFLIGHT = 2,
};

/**
 * struct vm2vm_queue_fd - an eventfd of a queue, for VM2VM_SET_KICK and VM2VM_SET_CALL
 * @queue: index, less than the queues of &struct vm2vm_info
 * @fd: an eventfd, or -1 for none, which also ends what was set before
 */
struct vm2vm_queue_fd {
	__u32 queue;
	__s32 fd;
};

/*
 * Of all: ENODEV, the device has gone; ENOTTY, there is no such call; EFAULT, the argument
 * is not there.
 *
 * VM2VM_GET_INFO
 *	Fills in a &struct vm2vm_info.
 *
 * VM2VM_GET_REGION
 *	Returns a file of an &enum vm2vm_region that can be mapped, MAP_SHARED, from offset 0
 *	on, and that another program can be given; closed by exec.  It can be written to if the
 *	node was opened so.  fstat(2) says its size.  A page that is not the device's any more,
 *	because it was revoked or the device has gone, reads as all-ones at first, and what is
 *	written to it stays there.  Direct I/O and other things that want struct pages fail
 *	with EFAULT.
 *	EINVAL: there is no such region.  EMFILE, ENFILE, ENOMEM.
 *
 * VM2VM_REVOKE
 *	The region with this file descriptor shows the device no more, wherever it is mapped,
 *	when this returns: what a program does that was passed it and does not answer, never
 *	reaches the peer's memory.  Another one can be got after that.
 *	EBADF: there is no such descriptor.  EINVAL: it is no region that this open file has
 *	given.
 *
 * VM2VM_CLAIM
 *	The device is for this open file to serve, until it is closed.
 *	EBUSY: it is another one's.  EACCES: the node was not opened for writing.  EINVAL: the
 *	argument is not 0.
 *
 * VM2VM_SET_KICK
 *	The peer's driver has kicked a queue: it is added 1 to this eventfd, by the interrupt's
 *	handler.
 *
 * VM2VM_SET_CALL
 *	When this eventfd is written to, the driver takes it and rings the queue's doorbell, at
 *	once and in the writer's context.
 *
 *	Both: EACCES, it is not this file that has claimed the device.  EINVAL, there is no
 *	such queue, or it is no eventfd.  EBADF, there is no such descriptor.  ENOSPC, ENOMEM,
 *	the kernel has no interrupt, or no memory.  If it fails what was set before stays.
 */
#define VM2VM_GET_INFO		_IOR(VM2VM_IOC, 0, struct vm2vm_info)
#define VM2VM_GET_REGION	_IO(VM2VM_IOC, 1)
#define VM2VM_REVOKE		_IO(VM2VM_IOC, 2)
#define VM2VM_CLAIM		_IO(VM2VM_IOC, 3)
#define VM2VM_SET_KICK		_IOW(VM2VM_IOC, 4, struct vm2vm_queue_fd)
#define VM2VM_SET_CALL		_IOW(VM2VM_IOC, 5, struct vm2vm_queue_fd)

#endif /* VM2VM_UAPI_H */
