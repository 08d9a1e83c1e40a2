/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * vm2vm: the PCI device by which a guest serves another VM's device (QEMU's vm2vm-pci).
 *
 * QEMU is a vhost-user back-end towards the other VM's QEMU, the *peer*, and relays to the
 * guest, which is the back-end in fact.  The device has these regions, besides the
 * configuration space:
 *
 *	BAR 0	registers, below, and the doorbells
 *	BAR 1	the MSI-X table
 *	BAR 2	the window, 64-bit and prefetchable: the peer's memory
 *	BAR 4	the in-flight memory of the peer's device, 64-bit and prefetchable
 *
 * Registers are little-endian.  Each is read and written as one aligned access of 4
 * bytes; the 64-bit ones, of which the lower half comes first, also as one of 8.  All
 * are for reading unless said otherwise (rw: also for writing, wo: reads as 0); a write
 * to those has no effect, and what is not listed reads as 0.
 *
 * A bus address (iova) of the peer's device is at offset iova - VM2VM_PCI_BASE of the
 * window.  What the peer's IOMMU does not map there reads as all-ones, and what is
 * written to it nobody else gets to see.
 *
 * What a program does:
 *
 * 1. Register: write VM2VM_PCI_OFFER_*, the configuration space to VM2VM_PCI_CONFIG, and
 *    then VM2VM_PCI_CONTROL_READY to VM2VM_PCI_CONTROL.  QEMU answers what the peer asks
 *    from these.  Before, and whenever READY is cleared, it takes no peer.
 * 2. On an interrupt VM2VM_PCI_VECTOR_STATE, and once at the start: read VM2VM_PCI_EPOCH.
 *    If it is another one, end everything that has to do with the window and with queues
 *    of before, write the index at which each VM2VM_PCI_QUEUE_STOPPING queue has ended to
 *    its VM2VM_PCI_QUEUE_STOPPED, write the epoch to VM2VM_PCI_ACK, and only then read
 *    all other registers and start the queues that are enabled.  Read the epoch again
 *    after that: if it has changed meanwhile what was read is a mixture, so begin anew.
 *
 * A window, kicks and doorbells of an epoch appear with its ACK.  So what a program began
 * before never reaches the memory, or the driver, of after.
 */
#ifndef VM2VM_PCI_H
#define VM2VM_PCI_H

/* Provisional, until there are numbers of our own. */
#define VM2VM_PCI_VENDOR_ID		0x1234
#define VM2VM_PCI_DEVICE_ID		0x5632

#define VM2VM_PCI_REGISTERS_BAR		0
#define VM2VM_PCI_MSIX_BAR		1
#define VM2VM_PCI_WINDOW_BAR		2
#define VM2VM_PCI_INFLIGHT_BAR		4

#define VM2VM_PCI_REGISTERS_BAR_SIZE	0x8000
#define VM2VM_PCI_INFLIGHT_BAR_SIZE	0x400000

#define VM2VM_PCI_MAX_QUEUES		128

/* "V2VM", and the version of this layout. A later one only adds. */
#define VM2VM_PCI_MAGIC			0x00
#define   VM2VM_PCI_MAGIC_VALUE		0x4d563256
#define VM2VM_PCI_VERSION		0x04
#define   VM2VM_PCI_VERSION_VALUE	2
/*
 * What there is now.  VM2VM_PCI_VECTOR_STATE tells of changes, of this and of all other
 * registers but VM2VM_PCI_UNAPPROVED and the counters VM2VM_PCI_REFUSED_* and
 * VM2VM_PCI_QUEUE_KICKS.
 */
#define VM2VM_PCI_STATE			0x08
#define   VM2VM_PCI_STATE_CONNECTED	0x1	/* a peer, and we understand each other */
#define   VM2VM_PCI_STATE_WINDOW	0x2	/* the window shows what it approves */
#define   VM2VM_PCI_STATE_DOMAIN	0x4	/* its device runs: there is what to show */
#define   VM2VM_PCI_STATE_DRIVER_OK	0x8	/* its driver says so (VM2VM_PCI_DEVICE_STATUS) */
/*
 * Counts each domain that comes or goes, each peer that comes or goes, and each queue that
 * is stopped.  It goes on after a reset and is never 0.
 */
#define VM2VM_PCI_EPOCH			0x0c
/* Bytes of the window, and the bus address that its first byte shows: 64 bits each. */
#define VM2VM_PCI_SIZE			0x10
#define VM2VM_PCI_BASE			0x18
/*
 * rw: the epoch that the program has seen, and has ended all that was before.  A value
 * that is no epoch since the last peer came is none.  Reset: 0.
 */
#define VM2VM_PCI_ACK			0x20
/* rw: to clear READY ends the connection, as a reset does.  Reset: 0. */
#define VM2VM_PCI_CONTROL		0x24
#define   VM2VM_PCI_CONTROL_READY	0x1	/* take peers; offers are fixed meanwhile */
/* The status of the peer's device, as its driver has written it. */
#define VM2VM_PCI_DEVICE_STATUS		0x28
/* Offset of the doorbells in this BAR. */
#define VM2VM_PCI_DOORBELL_OFFSET	0x2c
#define   VM2VM_PCI_DOORBELL_OFFSET_VALUE	0x4000
/*
 * 64 bits each: the features that the peer's driver has taken, and the vhost-user protocol
 * features that the peer has.
 */
#define VM2VM_PCI_FEATURES		0x30
#define VM2VM_PCI_PROTOCOL_FEATURES	0x38
/*
 * Accesses to the window that were not approved, since reset, 64 bits each, as far as they
 * reach the VMM: see VM2VM_PCI_UNAPPROVED.  By default KVM completes them, and these stay 0.
 */
#define VM2VM_PCI_REFUSED_READS		0x40
#define VM2VM_PCI_REFUSED_WRITES	0x48

/*
 * What the program registers: rw while READY is 0.  Reset: 0, and OFFER_QUEUES 1.
 *
 * FEATURES	64 bits: of virtio and of the kind of device.  Those of them that QEMU does
 *		not carry are not offered: VM2VM_PCI_FEATURES has what became of it.
 * PROTOCOL	64 bits: vhost-user's protocol features that are the program's choice.
 * DEVICE_ID	the kind of virtio device; a peer of another kind is dropped.  0: any.
 * QUEUES	how many virtqueues the program serves, 1 to VM2VM_PCI_MAX_QUEUES; those of a
 *		network card are two for each pair.  A peer that has more is dropped.
 * CONFIG_SIZE	bytes of VM2VM_PCI_CONFIG that are configuration space: 0 to 256.
 */
#define VM2VM_PCI_OFFER_FEATURES	0x50
#define VM2VM_PCI_OFFER_PROTOCOL	0x58
#define   VM2VM_PCI_PROTOCOL_RARP		(1ULL << 2)	/* RARP_COUNT, RARP_MAC */
#define   VM2VM_PCI_PROTOCOL_MTU		(1ULL << 4)	/* MTU */
#define   VM2VM_PCI_PROTOCOL_CONFIG		(1ULL << 9)	/* CONFIG */
#define   VM2VM_PCI_PROTOCOL_INFLIGHT_SHMFD	(1ULL << 12)	/* INFLIGHT_*, and BAR 4 */
#define   VM2VM_PCI_PROTOCOL_RESET_DEVICE	(1ULL << 13)	/* a reset is DEVICE_STATUS 0 */
#define VM2VM_PCI_OFFER_DEVICE_ID	0x60
#define VM2VM_PCI_OFFER_QUEUES		0x64
#define VM2VM_PCI_OFFER_CONFIG_SIZE	0x68
/* Counts the times that the peer has written to VM2VM_PCI_CONFIG (VHOST_USER_SET_CONFIG). */
#define VM2VM_PCI_CONFIG_GENERATION	0x6c
/* wo: any value tells the peer's driver that VM2VM_PCI_CONFIG has changed. */
#define VM2VM_PCI_CONFIG_CHANGED	0x70

/* Of the peer's device: number of queues, and virtio device ID (0: it is none). */
#define VM2VM_PCI_NR_QUEUES		0x74
#define VM2VM_PCI_DEVICE_TYPE		0x78
/*
 * The in-flight memory: for how many queues of how many descriptors it is, and its bytes in
 * BAR 4 (64 bits; 0: there is none).  The layout is that of vhost-user's specification,
 * "Inflight I/O tracking".  BAR 4 shows it whenever the window shows something.  It goes with
 * the peer, who brings it again.
 */
#define VM2VM_PCI_INFLIGHT_QUEUES	0x7c
#define VM2VM_PCI_INFLIGHT_QUEUE_SIZE	0x80
#define VM2VM_PCI_INFLIGHT_SIZE		0x88

/* The MTU that the peer's device has, 0: not told. */
#define VM2VM_PCI_MTU			0x90
/* Counts VHOST_USER_SEND_RARP: announce this MAC address (64 bits, first byte lowest). */
#define VM2VM_PCI_RARP_COUNT		0x94
#define VM2VM_PCI_RARP_MAC		0x98
/* How many peers there have been; one that has gone and come again counts anew. */
#define VM2VM_PCI_PEERS			0xa0
/*
 * What an access to the window does that is not approved.  FILL: KVM completes it, and nobody
 * counts it.  REPORT: it is counted in VM2VM_PCI_REFUSED_*.  STOP: that, too, and the VM stops.
 * The host can change it at any time, and there is no interrupt for that.
 */
#define VM2VM_PCI_UNAPPROVED		0xa4
#define   VM2VM_PCI_UNAPPROVED_FILL	0
#define   VM2VM_PCI_UNAPPROVED_REPORT	1
#define   VM2VM_PCI_UNAPPROVED_STOP	2

/* What the host calls the link: text, padded with NULs. */
#define VM2VM_PCI_ID			0xc0
#define VM2VM_PCI_ID_SIZE		0x40

/*
 * rw, accesses of 1, 2, 4 and 8 bytes: the configuration space of the device, as far as
 * OFFER_CONFIG_SIZE.  While READY is 1, too: then tell by VM2VM_PCI_CONFIG_CHANGED.
 */
#define VM2VM_PCI_CONFIG		0x100
#define VM2VM_PCI_CONFIG_MAX_SIZE	0x100

/*
 * The queues of the peer's device, by index.  All is 0 for one that is neither enabled nor
 * stopping.
 *
 * STATE	ENABLED: serve it.  STOPPING: the peer wants it to end, and to know where: end
 *		it, and write to STOPPED.  The window shows the queue until then, but not
 *		longer than about 100 ms, then the peer goes on without.
 * NEXT		where to start: index of the available ring; with packed rings 32 bits, as
 *		VHOST_USER_SET_VRING_BASE has them.
 * STOPPED	wo: the index, likewise, at which the program has stopped.
 * KICKS	counts kicks that no interrupt has told of: the vector is masked.
 */
#define VM2VM_PCI_QUEUE(q)		(0x1000 + (q) * 0x40)
#define   VM2VM_PCI_QUEUE_STATE		0x00
#define     VM2VM_PCI_QUEUE_ENABLED	0x1
#define     VM2VM_PCI_QUEUE_STOPPING	0x2
#define   VM2VM_PCI_QUEUE_SIZE		0x04	/* descriptors */
#define   VM2VM_PCI_QUEUE_NEXT		0x08
#define   VM2VM_PCI_QUEUE_STOPPED	0x0c
#define   VM2VM_PCI_QUEUE_DESC		0x10	/* 64 bits each, bus addresses */
#define   VM2VM_PCI_QUEUE_AVAIL		0x18
#define   VM2VM_PCI_QUEUE_USED		0x20
#define   VM2VM_PCI_QUEUE_KICKS		0x28

/*
 * The doorbells: write the queue's index, 4 bytes, at VM2VM_PCI_DOORBELL_OFFSET, and the
 * peer's driver gets the queue's interrupt ("used buffer notification").  KVM does it,
 * without an exit to the VMM.
 */

/* MSI-X vectors: something in the registers has changed; queue q was kicked. */
#define VM2VM_PCI_VECTOR_STATE		0
#define VM2VM_PCI_VECTOR_QUEUE(q)	(1 + (q))
#define VM2VM_PCI_NR_VECTORS		VM2VM_PCI_VECTOR_QUEUE(VM2VM_PCI_MAX_QUEUES)

#endif /* VM2VM_PCI_H */
