/*
 * vhost-user: a back-end that is another VM: what the parts of it share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VHOST_USER_VM2VM_INTERNAL_H
#define VHOST_USER_VM2VM_INTERNAL_H

#include "backends/vm2vm-dma.h"
#include "hw/virtio/vhost-user-vm2vm.h"

/* As many as the back-end's VMM has registers for */
#define VHOST_USER_VM2VM_QUEUES 128

/* One for each VhostUserState that needed it; it outlives connections */
typedef struct VhostUserVm2vm {
    VhostUserState *user;
    const char *id;             /* of the chardev */

    /* The socket */
    bool timed;                 /* nothing is waited for without a deadline */
    int64_t budget;             /* how long may be waited, in microseconds */
    int64_t budget_at;          /* as of then */
    unsigned int failures;      /* since it last took a domain */
    uint32_t request;           /* that was sent last */
    uint32_t payload;           /* bytes that come after the header */
    bool listens;               /* in place of the device, which does not */
    int msgfd;                  /* what came along first, or -1 */

    /* The back-end's channel: what has come of a message */
    uint8_t channel[12];
    unsigned int channel_got;

    /* What the driver is offered before there is a back-end */
    bool minimal;
    uint64_t requested;         /* what the device has by its properties */

    /* A run of the device */
    int domain;                 /* -1: there is none */
    unsigned int users;         /* vhost_devs that are started */
    int nr_queues;              /* of the back-end's */
    VirtIODevice *vdev;
    Vm2vmDma dma;
    DECLARE_BITMAP(wanted, VHOST_USER_VM2VM_QUEUES);    /* enabled, or to be */
    DECLARE_BITMAP(called, VHOST_USER_VM2VM_QUEUES);    /* have their eventfd */
} VhostUserVm2vm;

VhostUserVm2vm *vhost_user_vm2vm_get(VhostUserState *user);
/* Send a whole message, and wait for the answer if there is to be one: a u64 */
int vhost_user_vm2vm_tell(VhostUserVm2vm *v, uint32_t request,
                          const void *payload, uint32_t size, int fd,
                          bool answer);
/* End the domain, if there is one */
void vhost_user_vm2vm_end(VhostUserVm2vm *v);
/* Whose descriptors are closed: see qemu/vm2vm-fd.h */
const void *vhost_user_vm2vm_peer(VhostUserVm2vm *v);
/* A back-end has come: the next one is to wait a little */
void vhost_user_vm2vm_connected(VhostUserVm2vm *v);
/* Hang up, and take nobody for a while */
void vhost_user_vm2vm_give_up(VhostUserVm2vm *v, const char *why);

#endif
